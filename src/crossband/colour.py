"""sRGB in numbers: how bright a colour is, and what light it stands for. For arrays and tensors alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Plane = TypeVar("Plane", np.ndarray, Tensor)

LUMA_THOUSANDTHS = (299.0, 587.0, 114.0)
LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue; in thousandths, they add up without rounding."""


def weighted_sum(red: Plane, green: Plane, blue: Plane, weights: tuple[float, float, float] = LUMA) -> Plane:
    """The sum of three planes of one shape, each times its weight; Y' of ITU-R BT.601 by default."""
    return weights[0] * red + weights[1] * green + weights[2] * blue


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """The light, in [0, 1], that sRGB values in [0, 1] stand for; type and shape stay (IEC 61966-2-1)."""
    import numpy as np

    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(light: np.ndarray) -> np.ndarray:
    """The sRGB values of linear light of 0 or more, of its type and shape; 1 is 1 (IEC 61966-2-1)."""
    import numpy as np

    curve = 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, curve)
