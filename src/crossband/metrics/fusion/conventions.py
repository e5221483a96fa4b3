"""The metrics in their order, and the conventions in which published tables were computed, as data.

A metric is one declaration in `METRICS`, a convention one in `CONVENTIONS`; every table, file and choice of
the command line follows from these. Nothing heavy is imported here.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """A metric as a table shows it: short name, what it is, which direction is better, unit, decimals.

    source: its function, as ``module.function`` within `crossband.metrics.fusion`.
    """

    name: str
    title: str
    source: str
    better: Literal["higher", "lower"] = "higher"
    unit: str = ""
    digits: int = 3

    @property
    def function(self) -> Callable[..., Tensor]:
        """The function that computes it; its file is imported on first use."""
        module, name = self.source.split(".")
        return getattr(importlib.import_module(f"{__package__}.{module}"), name)


METRICS: tuple[Metric, ...] = (
    Metric("EN", "entropy", "information.entropy", unit="bits"),
    Metric("SD", "standard deviation", "pixelwise.standard_deviation", digits=2),
    Metric("SF", "spatial frequency", "pixelwise.spatial_frequency", digits=2),
    Metric("AG", "average gradient", "pixelwise.average_gradient", digits=2),
    Metric("MI", "mutual information", "information.mutual_information", unit="bits"),
    Metric("NMI", "normalised mutual information", "information.normalised_mutual_information"),
    Metric("SCD", "sum of the correlations of differences", "pixelwise.sum_of_correlations_of_differences"),
    Metric("CC", "correlation coefficient", "pixelwise.correlation_coefficient"),
    Metric("MSE", "mean squared error", "pixelwise.mean_squared_error", better="lower", digits=1),
    Metric("PSNR", "peak signal-to-noise ratio", "pixelwise.peak_signal_to_noise_ratio", unit="dB", digits=2),
    Metric("VIF", "visual information fidelity", "fidelity.visual_information_fidelity"),
    Metric(
        "VIFF", "visual information fidelity for fusion", "fidelity.visual_information_fidelity_for_fusion"
    ),
    Metric("Qabf", "gradient preservation (Xydeas, Petrovic)", "gradients.gradient_preservation"),
    Metric("Qcb", "contrast preservation (Chen, Blum)", "perceptual.chen_blum_quality"),
    Metric(
        "Qcv",
        "visible difference (Chen, Varshney)",
        "perceptual.chen_varshney_quality",
        better="lower",
        digits=1,
    ),
    Metric("SSIM", "structural similarity", "structure.structural_similarity"),
    Metric("MS-SSIM", "multi-scale structural similarity", "structure.multi_scale_structural_similarity"),
    Metric("FMI", "feature mutual information", "feature_information.feature_mutual_information"),
)
"""In the order of every table. Units are those of the convention ``standard``."""


@dataclass(frozen=True)
class Convention:
    """How somebody's code computes metrics: those that it has, each with the arguments of its function.

    log_unit: of MI. changes: how its values differ from ``standard``, one sentence for each difference.
    """

    name: str
    summary: str
    metrics: Mapping[str, Mapping[str, Any]]
    log_unit: Literal["bits", "nats"] = "bits"
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [metric.name for metric in METRICS if metric.name in self.metrics]
        # In the order of every table, and out of reach of changes.
        ordered = {name: MappingProxyType(dict(self.metrics[name])) for name in names}
        object.__setattr__(self, "metrics", MappingProxyType(ordered))

    def unit(self, metric: Metric) -> str:
        """The unit of a metric's values under this convention."""
        return self.log_unit if metric.name == "MI" else metric.unit


# 20 log10(255): what a peak of 255 adds to the PSNR of values in 0..1.
_PEAK_GAIN = 20 * math.log10(255)

_LINFENG: Mapping[str, Mapping[str, Any]] = {
    **{name: {} for name in ("EN", "SD", "SF", "SCD", "CC", "VIF", "Qabf")},
    "AG": {"over": "inner"},
    "MI": {"merge_top_levels": True},
    "MSE": {"peak": 1},
    "PSNR": {"offset": _PEAK_GAIN},
}
"""What both versions of that toolbox share."""

_CONVENTIONS = (
    Convention(
        "standard",
        "the published formulas on 0..255; the default, and the one to report",
        {metric.name: {} for metric in METRICS},
    ),
    Convention(
        "cddfuse",
        "the evaluation code of CDDFuse",
        {name: {} for name in ("EN", "SD", "SF", "AG", "SCD", "CC", "MSE", "VIF", "Qabf")}
        | {
            "MI": {"log_base": math.e},
            "PSNR": {"peak": "fused"},
            "SSIM": {"dynamic_range": 2, "window": "uniform"},
        },
        log_unit="nats",
        changes=(
            "MI is in nats.",
            "PSNR has the maximum of the fused picture for its peak.",
            "SSIM has L = 2 for values on 0..255, and uniform windows: near 1 per source for any picture.",
        ),
    ),
    Convention(
        "linfeng2022",
        "the MATLAB toolbox of Linfeng Tang before March 2023, with its 8-bit saturation; for audits alone",
        {
            **_LINFENG,
            "SD": {"saturating": True},
            "SF": {"peak": 1},
            "VIF": {"saturating": True},
            "Qabf": {"peak": 1},
        },
        changes=(
            "SD is computed in 8-bit arithmetic: never above 16, and not a standard deviation.",
            "VIF has the products of its first scale cut at 255.",
            "SF and MSE are on 0..1, PSNR 48.13 dB higher.",
            "AG is divided by (H - 1)(W - 1).",
            "MI counts levels 254 and 255 as one in the joint histogram: up to 0.04 bits too high.",
            "Qabf is on 0..1, where rounding decides; published values are matched to some thousandths only.",
        ),
    ),
    Convention(
        "linfeng2023",
        "the MATLAB toolbox of Linfeng Tang since March 2023",
        {**_LINFENG, "SSIM": {"dynamic_range": 1, "border": "replicate", "reduction": "mean"}},
        changes=(
            "AG is divided by (H - 1)(W - 1).",
            "MI counts levels 254 and 255 as one in the joint histogram: up to 0.04 bits too high.",
            "MSE is on 0..1, PSNR 48.13 dB higher.",
            "SSIM has L = 1 for values on 0..255, and is the mean of the sources.",
        ),
    ),
    Convention(
        "vifb",
        "the benchmark VIFB, on grey pictures",
        {name: {} for name in ("EN", "SD", "Qabf", "Qcb", "Qcv", "SSIM")}
        | {
            "SF": {"over": "pixels"},
            "AG": {"over": "inner"},
            "MI": {"log_base": math.e},
            "PSNR": {"error": "root-over-pixels"},
        },
        log_unit="nats",
        changes=(
            "SF is divided by H W, AG by (H - 1)(W - 1).",
            "MI is in nats.",
            "PSNR takes sqrt(sum d^2) / (H W) for the mean squared error: some 40 dB higher.",
            "VIFB itself averages the scores of the colour channels; here pictures are grey.",
        ),
    ),
)

CONVENTIONS: Mapping[str, Convention] = MappingProxyType({c.name: c for c in _CONVENTIONS})
"""By name. Values of two conventions must never stand in one column."""

DEFAULT_CONVENTION = "standard"
