"""Radiometric files: what a thermal camera measured, stored beside or behind the picture that it shows."""

from crossband.pairs.radiometric.measured import Alignment, Radiometric
from crossband.pairs.radiometric.opening import measured_size, radiometric_size, read_radiometric
from crossband.pairs.radiometric.temperature import Conditions, Radiometry

__all__ = [
    "Alignment",
    "Conditions",
    "Radiometric",
    "Radiometry",
    "measured_size",
    "radiometric_size",
    "read_radiometric",
]
