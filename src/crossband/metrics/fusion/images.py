"""A fused picture with its two sources: checked, grey, on the scale 0..255.

All that the metrics share is here: which inputs are taken, how colour becomes grey, and the place where a
statistic that several metrics need is kept once it was computed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from crossband.colour import LUMA_THOUSANDTHS, weighted_sum
from crossband.errors import OptionError

Image = np.ndarray | Tensor
Reduction = Literal["sum", "mean", "none"]
Precision = Literal["float64", "float32"]
Kept = TypeVar("Kept")

PEAK = 255.0
CENTRE = PEAK / 2
LEVELS = 256
# Variances below this, on 0..255, are the rounding of a flat picture's mean.
FLAT_VARIANCE = 1e-18
_DTYPES = {"float64": torch.float64, "float32": torch.float32}


class FusedPair:
    """A fused picture, or a batch of them, and the pair that it was made from.

    fused, visible, infrared: pictures of one height and width. An array is one picture, (H, W) or
        (H, W, 3). A tensor has its channels first: (H, W), (C, H, W) or (B, C, H, W) with C 1 or 3. The
        sources may be left out where a metric needs the fused picture alone.
    data_range: what the values lie in, 0..data_range, usually 1 or 255. uint8 is always 0..255; for
        anything else it must be given.
    eight_bit: round every value to the 8-bit level (half to even) that a PNG would hold, first.
    stretch: stretch the fused grey picture to the whole of 0..255 by its minimum and maximum. Some published
        code does so before it saves; it moves most scores. A flat picture stays as it is.
    precision: of windows and spectra. float64 is what the golden values are tested in; float32 is quicker
        and differs by up to 1e-5 (relative; Qcb 1e-4), VIF by up to 2e-4 (absolute).
    device: where to compute; by default where the fused picture is. Arrays are on the CPU.

    Colour becomes grey as 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601). Grey of 8-bit pictures (uint8, or
    ``eight_bit``) is rounded, half to even; of others it is not.

    Attributes: fused, visible, infrared, each (B, H, W) on 0..255; batched, whether a batch was given, which
    decides if results have the shape (B,) or ().

    Raises OptionError for other shapes, for a data_range that is missing, and for values outside of it.
    """

    def __init__(
        self,
        fused: Image,
        visible: Image | None = None,
        infrared: Image | None = None,
        *,
        data_range: float | None = None,
        eight_bit: bool = False,
        stretch: bool = False,
        precision: Precision = "float64",
        device: str | torch.device | None = None,
    ):
        if precision not in _DTYPES:
            raise OptionError(f"unknown precision {precision!r}: use one of {', '.join(_DTYPES)}")
        if (visible is None) != (infrared is None):
            missing = "visible" if visible is None else "infrared"
            raise OptionError(f"the {missing} source is missing: give both sources, or none")
        fused = fused if isinstance(fused, Tensor) else np.asarray(fused)
        if device is None:
            device = fused.device if isinstance(fused, Tensor) else "cpu"
        self.batched = fused.ndim == 4
        self._kept: dict[Hashable, Any] = {}
        self._sources: tuple[Tensor, Tensor] | None = None

        def grey(image: Image, name: str) -> Tensor:
            return _grey(image, name, data_range, eight_bit, _DTYPES[precision], torch.device(device))

        self.fused = grey(fused, "fused picture")
        if visible is not None and infrared is not None:
            self._sources = grey(visible, "visible image"), grey(infrared, "infrared image")
            for source, name in zip(self._sources, ("visible", "infrared"), strict=True):
                if source.shape != self.fused.shape:
                    raise OptionError(
                        f"the {name} image and the fused picture differ in their (batch, height, width): "
                        f"{tuple(source.shape)} and {tuple(self.fused.shape)}; scores need equal ones"
                    )
        if stretch:
            self.fused = stretched(self.fused)
            if eight_bit or fused.dtype in (np.uint8, torch.uint8):
                self.fused = self.fused.round()

    @property
    def sources(self) -> tuple[Tensor, Tensor]:
        """(visible, infrared), each (B, H, W). Raises OptionError if they were not given."""
        if self._sources is None:
            raise OptionError("this metric compares with the sources: give visible and infrared as well")
        return self._sources

    @property
    def visible(self) -> Tensor:
        return self.sources[0]

    @property
    def infrared(self) -> Tensor:
        return self.sources[1]

    @property
    def flat(self) -> Tensor:
        """Which of fused, visible, infrared are of one value only: bool (B, 3)."""
        return self.once("flat", lambda: torch.stack([_is_flat(m) for m in (self.fused, *self.sources)], 1))

    @property
    def centred(self) -> tuple[Tensor, ...]:
        """Fused, visible and infrared less 127.5: their variances then lose less to rounding."""
        return self.once("centred", lambda: tuple(grey - CENTRE for grey in (self.fused, *self.sources)))

    def once(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        """What compute returns, computed at the first call with this key and kept for the next."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def result(self, values: Tensor) -> Tensor:
        """Values per picture, (B, ...), as a metric returns them: float64, without B for a single picture."""
        values = values.double()
        return values if self.batched else values[0]

    def reduced(self, values: Tensor, reduction: Reduction) -> Tensor:
        """Values per picture and source, (B, 2), summed or averaged over the sources, or as they are.

        Raises OptionError for another reduction.
        """
        match reduction:
            case "sum":
                values = values.sum(-1)
            case "mean":
                values = values.mean(-1)
            case "none":
                pass
            case _:
                raise OptionError(f"unknown reduction {reduction!r}: use sum, mean or none")
        return self.result(values)


def as_fused_pair(
    fused: Image | FusedPair,
    visible: Image | None = None,
    infrared: Image | None = None,
    data_range: float | None = None,
) -> FusedPair:
    """The arguments of a metric as a `FusedPair`, which may be given as it is in place of all of them."""
    if isinstance(fused, FusedPair):
        if visible is not None or infrared is not None or data_range is not None:
            raise OptionError("a FusedPair holds its sources and its scale: give nothing else with it")
        return fused
    return FusedPair(fused, visible, infrared, data_range=data_range)


def stretched(maps: Tensor) -> Tensor:
    """Every map of (..., H, W) stretched to 0..255 by its minimum and maximum; a flat one as it is."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low) * PEAK, maps)


def _is_flat(maps: Tensor) -> Tensor:
    return (maps.amax((-2, -1)) - maps.amin((-2, -1))) ** 2 <= FLAT_VARIANCE


def _grey(
    image: Image,
    name: str,
    data_range: float | None,
    eight_bit: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """An image as (B, H, W) on 0..255."""
    planes = _planes(image, name).to(device)
    if planes.dtype == torch.uint8:
        scale, eight_bit = 1.0, True
        planes = planes.to(dtype)
    else:
        # Some integers, such as uint16, have no minimum in PyTorch.
        planes = planes if planes.is_floating_point() else planes.to(torch.float64)
        scale = PEAK / _checked_range(planes, name, data_range)
        planes = planes.to(dtype)
        planes = planes * scale if scale != 1 else planes
        planes = planes.round() if eight_bit else planes
    if planes.shape[1] == 1:
        return planes[:, 0].contiguous()
    # In thousandths, a tie between two levels is seen as the tie it is.
    red, green, blue = planes.unbind(1)
    grey = weighted_sum(red, green, blue, LUMA_THOUSANDTHS) / 1000
    return grey.round() if eight_bit else grey


def _planes(image: Image, name: str) -> Tensor:
    """An image as (B, C, H, W) with C 1 or 3, in the type it had."""
    if isinstance(image, Tensor):
        planes = image.detach()
        if planes.ndim == 2:
            planes = planes[None]
        if planes.ndim == 3:
            planes = planes[None]
        layout = "tensors are (H, W), (C, H, W) or (B, C, H, W) with C 1 or 3"
    else:
        array = np.asarray(image)
        if array.ndim == 2:
            array = array[..., None]
        # Writable, or PyTorch warns; nothing is written.
        planes = torch.from_numpy(np.require(array, requirements=["C", "W"])).movedim(-1, 0)[None]
        layout = "arrays are (H, W) or (H, W, 3), one picture"
    if planes.ndim != 4 or planes.shape[1] not in (1, 3) or planes.numel() == 0:
        raise OptionError(f"the {name} has the shape {tuple(image.shape)}: {layout}")
    return planes


def _checked_range(planes: Tensor, name: str, data_range: float | None) -> float:
    if data_range is None:
        raise OptionError(
            f"the {name} is not uint8: say what its values lie in, data_range=1 or data_range=255 (or other)"
        )
    if not data_range > 0:
        raise OptionError(f"data_range is {data_range}, but it must be positive")
    low, high = (float(bound) for bound in planes.aminmax())
    # Written so that NaN is refused too.
    if not (low >= 0 and high <= data_range):
        raise OptionError(
            f"the {name} has values in {low:g}..{high:g}, outside of 0..{data_range:g}: "
            "give the data_range that it has, or clamp it"
        )
    if data_range > 1 and 0 < high <= 1 and bool((planes != planes.round()).any()):
        raise OptionError(
            f"the {name} has fractions in {low:g}..{high:g}, but data_range={data_range:g}: "
            "if its values lie in 0..1, give data_range=1"
        )
    return float(data_range)
