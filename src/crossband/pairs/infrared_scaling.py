"""How stored infrared values become numbers in [0, 1]: a named rule, kept in the weights' card."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import Literal, cast, get_args

import numpy as np

from crossband.errors import OptionError, PairError, quoted
from crossband.pairs.radiometric.temperature import ZERO_CELSIUS, Conditions

Rule = Literal["full-range", "minmax", "percentile", "fixed", "celsius"]
_FORMS = '"full-range", "minmax", "percentile(1, 99)", "fixed(low, high)" or "celsius(low, high)"'
_CALL = re.compile(
    r"(?P<rule>[a-z-]+)\s*(?:\(\s*(?P<low>[^,()=]+?)\s*,\s*(?P<high>[^,()=]+?)\s*"
    r"(?P<conditions>(?:,\s*[a-z]+\s*=\s*[^,()=]+?\s*)*)\))?"
)
_CONDITIONS = tuple(field.name for field in fields(Conditions))


@dataclass(frozen=True)
class InfraredScaling:
    """A rule that maps stored infrared values onto [0, 1]; ``str(rule)`` is what `parse` reads.

    full-range: 0 and the largest value of the stored type, 255 or 65535, become 0 and 1, so equal stored
        values stay equal across images. A float file must already lie in [0, 1].
    minmax: the smallest and largest value of each image become 0 and 1.
    percentile(low, high): two percentiles of each image (0..100, linear interpolation) become 0 and 1.
    fixed(low, high): two values in the file's own units, such as counts or kelvin, become 0 and 1.
    celsius(low, high): two temperatures become 0 and 1: those of a radiometric file, or the floats of any
        other, taken as degrees Celsius. ``celsius(0, 40, emissivity=0.97, reflected=12, distance=30)``
        measures under other conditions than the camera was set to (`Conditions`).

    Whatever falls outside is clipped. An image whose two limits coincide, such as a constant one under
    minmax, becomes all zeros.

    Raises OptionError for limits that the rule cannot have.
    """

    rule: Rule = "full-range"
    limits: tuple[float, float] | None = None
    conditions: Conditions | None = None

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise OptionError(f"there is no infrared scaling {quoted(self.rule)}; use {_FORMS}")
        if self.limits is None:
            if self.rule in ("percentile", "fixed", "celsius"):
                raise OptionError(f"infrared scaling {self.rule!r} needs two limits: {self.rule}(low, high)")
            return
        if self.rule in ("full-range", "minmax"):
            raise OptionError(f"infrared scaling {self.rule!r} takes no limits")
        low, high = self.limits
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise OptionError(f"infrared scaling {self}: the first limit must be less than the second")
        if self.rule == "percentile" and (low < 0 or high > 100):
            raise OptionError(f"infrared scaling {self}: percentiles lie between 0 and 100")
        if self.conditions is not None:
            self._check_conditions(self.conditions)

    @property
    def of_each_image(self) -> bool:
        """Whether the limits are those of each image: then the rule undoes what else changes its values."""
        return self.rule in ("minmax", "percentile")

    @classmethod
    def parse(cls, text: str) -> InfraredScaling:
        """The rule that a text names. Raises OptionError if it names none."""
        match = _CALL.fullmatch(text.strip())
        if match is None:
            raise OptionError(f"there is no infrared scaling {quoted(text)}; use {_FORMS}")
        rule = cast(Rule, match["rule"])
        if match["low"] is None:
            return cls(rule)
        try:
            limits = float(match["low"]), float(match["high"])
        except ValueError:
            raise OptionError(f"infrared scaling {quoted(text)}: the limits must be numbers") from None
        return cls(rule, limits, _read_conditions(text, match["conditions"]))

    def __str__(self) -> str:
        if self.limits is None:
            return self.rule
        parts = [*map(_shortest, self.limits)]
        if self.conditions is not None:
            given = {name: getattr(self.conditions, name) for name in _CONDITIONS}
            parts += [f"{name}={_shortest(value)}" for name, value in given.items() if value is not None]
        return f"{self.rule}({', '.join(parts)})"

    @property
    def degrees(self) -> Conditions | None:
        """The conditions that the rule wants temperatures under; None for a rule of stored values."""
        return (self.conditions or Conditions()) if self.rule == "celsius" else None

    def _check_conditions(self, conditions: Conditions) -> None:
        emissivity, reflected, distance = conditions.emissivity, conditions.reflected, conditions.distance
        if self.rule != "celsius":
            raise OptionError(f"infrared scaling {self.rule!r} takes no conditions; celsius(low, high) does")
        if emissivity is not None and not 0 < emissivity <= 1:
            raise OptionError(f"infrared scaling {self}: the emissivity lies above 0, and up to 1")
        if reflected is not None and not -ZERO_CELSIUS < reflected < math.inf:
            raise OptionError(f"infrared scaling {self}: reflected is a temperature in degrees Celsius")
        if distance is not None and not 0 <= distance <= 1e5:
            raise OptionError(f"infrared scaling {self}: the distance lies between 0 and 100000 metres")

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Scale one image: (H, W) of any integer or float type, as stored, to float32 in [0, 1].

        Raises PairError if a value is NaN or infinite, or if the rule does not fit the stored type; the
        message does not know the file's name.
        """
        if raw.dtype.kind not in "uif":
            raise PairError(f"infrared values of type {raw.dtype} are not integers or floats")
        if self.rule == "celsius" and raw.dtype.kind != "f":
            raise PairError(
                f"infrared values of type {raw.dtype} are no temperatures; give floats in degrees Celsius, "
                "or use fixed(low, high)"
            )
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            count = raw.size - np.count_nonzero(np.isfinite(raw))
            raise PairError(f"{count} infrared values are NaN or infinite; fill them, or leave the image out")
        low, high = self.limits_of(raw)
        if low >= high:
            return np.zeros(raw.shape, np.float32)
        if raw.dtype == np.uint8:
            # One quotient for each of the 256 levels rather than for each pixel; the same ones.
            import cv2  # late, since naming a rule needs no OpenCV

            return cv2.LUT(raw, _scaled(np.arange(256, dtype=np.uint8), low, high)).reshape(raw.shape)
        return _scaled(raw, low, high)

    def limits_of(self, raw: np.ndarray) -> tuple[float, float]:
        """The two stored values of an image that become 0 and 1. Raises PairError as a call does."""
        if self.limits is None:
            return _full_range(raw) if self.rule == "full-range" else (float(raw.min()), float(raw.max()))
        if self.rule in ("fixed", "celsius"):
            return self.limits
        low, high = np.percentile(raw, self.limits)
        return float(low), float(high)


def _scaled(raw: np.ndarray, low: float, high: float) -> np.ndarray:
    # float32 holds every 16-bit integer exactly; wider types would lose bits before the subtraction.
    values: np.ndarray = raw.astype(np.float32 if raw.dtype.itemsize <= 2 else np.float64)
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def _read_conditions(text: str, given: str) -> Conditions | None:
    """The conditions after the limits in a rule's text, None where there are none."""
    values: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in given.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in _CONDITIONS or name in values:
            raise OptionError(
                f"infrared scaling {quoted(text)}: after the limits come, once each, {', '.join(_CONDITIONS)}"
            )
        try:
            values[name] = float(value)
        except ValueError:
            raise OptionError(f"infrared scaling {quoted(text)}: {name} must be a number") from None
    return Conditions(**values) if values else None


def _full_range(raw: np.ndarray) -> tuple[float, float]:
    if raw.dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(raw.dtype).max)
    others = 'use "minmax", "percentile(1, 99)" or "fixed(low, high)"'
    if raw.dtype.kind != "f":
        raise PairError(f'"full-range" is not defined for infrared values of type {raw.dtype}; {others}')
    low, high = float(raw.min()), float(raw.max())
    if low < 0 or high > 1:
        raise PairError(
            f'"full-range" needs floats in [0, 1], but these go from {low:g} to {high:g} (degrees?); {others}'
        )
    return 0.0, 1.0


def _shortest(value: float) -> str:
    """The shortest text that reads back as the same float: 1 for 1.0."""
    return repr(float(value)).removesuffix(".0")
