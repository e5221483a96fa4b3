"""The metrics in their order, and the conventions in which published tables were computed, as data.

Nothing heavy is imported here: the command line takes the names from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal


@dataclass(frozen=True)
class Metric:
    """A metric as a table shows it: short name, what it is, which direction is better, unit, decimals."""

    name: str
    title: str
    better: Literal["higher", "lower"] = "higher"
    unit: str = ""
    digits: int = 3


METRICS: tuple[Metric, ...] = (
    Metric("EN", "entropy", unit="bits"),
    Metric("SD", "standard deviation", digits=2),
    Metric("SF", "spatial frequency", digits=2),
    Metric("AG", "average gradient", digits=2),
    Metric("MI", "mutual information", unit="bits"),
    Metric("NMI", "normalised mutual information"),
    Metric("SCD", "sum of the correlations of differences"),
    Metric("CC", "correlation coefficient"),
    Metric("MSE", "mean squared error", better="lower", digits=1),
    Metric("PSNR", "peak signal-to-noise ratio", unit="dB", digits=2),
    Metric("VIF", "visual information fidelity"),
    Metric("VIFF", "visual information fidelity for fusion"),
    Metric("Qabf", "gradient preservation (Xydeas, Petrovic)"),
    Metric("Qcb", "contrast preservation (Chen, Blum)"),
    Metric("Qcv", "visible difference (Chen, Varshney)", better="lower", digits=1),
    Metric("SSIM", "structural similarity"),
    Metric("MS-SSIM", "multi-scale structural similarity"),
    Metric("FMI", "feature mutual information"),
)
"""In the order of every table. Units are those of the preset ``standard``."""


@dataclass(frozen=True)
class Preset:
    """A convention: the metrics that it has, each with the arguments of its function.

    log_unit: of MI. changes: how its values differ from ``standard``, one sentence for each difference.
    """

    name: str
    summary: str
    metrics: Mapping[str, Mapping[str, Any]]
    log_unit: Literal["bits", "nats"] = "bits"
    changes: tuple[str, ...] = ()

    def unit(self, metric: Metric) -> str:
        """The unit of a metric's values under this preset."""
        return self.log_unit if metric.name == "MI" else metric.unit


def _preset(name: str, summary: str, options: Mapping[str, Mapping[str, Any]], **fields: Any) -> Preset:
    metrics = {m.name: MappingProxyType(dict(options[m.name])) for m in METRICS if m.name in options}
    return Preset(name, summary, MappingProxyType(metrics), **fields)


# 20 log10(255): what a peak of 255 adds to the PSNR of values in 0..1.
_PEAK_GAIN = 20 * math.log10(255)

_STANDARD = _preset(
    "standard",
    "the published formulas on 0..255; the default, and the one to report",
    {metric.name: {} for metric in METRICS},
)
_CDDFUSE = _preset(
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
)
_LINFENG_2023 = _preset(
    "linfeng2023",
    "the MATLAB toolbox of Linfeng Tang since March 2023",
    {name: {} for name in ("EN", "SD", "SF", "SCD", "CC", "VIF", "Qabf")}
    | {
        "AG": {"over": "inner"},
        "MI": {"merge_top_levels": True},
        "MSE": {"peak": 1},
        "PSNR": {"offset": _PEAK_GAIN},
        "SSIM": {"dynamic_range": 1, "border": "replicate", "reduction": "mean"},
    },
    changes=(
        "AG is divided by (H - 1)(W - 1).",
        "MI counts levels 254 and 255 as one in the joint histogram: up to 0.04 bits too high.",
        "MSE is on 0..1, PSNR 48.13 dB higher.",
        "SSIM has L = 1 for values on 0..255, and is the mean of the sources.",
    ),
)
_LINFENG_2022 = _preset(
    "linfeng2022",
    "the MATLAB toolbox of Linfeng Tang before March 2023, with its 8-bit saturation; for audits alone",
    {name: options for name, options in _LINFENG_2023.metrics.items() if name != "SSIM"}
    | {
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
)
_VIFB = _preset(
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
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {preset.name: preset for preset in (_STANDARD, _CDDFUSE, _LINFENG_2022, _LINFENG_2023, _VIFB)}
)
"""By name. Values of two presets must never stand in one column."""
