"""From the counts of a thermal camera to degrees Celsius.

The model is that of the manuals of FLIR's cameras ("Theory of thermography", "The measurement formula"): what
reaches the camera is radiated by the object, reflected by it, and radiated by the air and by a window in
front of the lens. Counts are turned into a signal that is proportional to radiance by Planck's law over the
camera's band, whose constants R1, R2, B, F and O the camera writes into its files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np

ZERO_CELSIUS = 273.15
"""In kelvin."""

_COUNTS = 1 << 16


@dataclass(frozen=True)
class Conditions:
    """What a measurement assumes of the scene; None leaves what the camera was set to.

    emissivity: of the objects, in (0, 1]. reflected: the temperature that they reflect, in degrees Celsius.
    distance: to them, in metres.
    """

    emissivity: float | None = None
    reflected: float | None = None
    distance: float | None = None


@dataclass(frozen=True)
class Radiometry:
    """What turns the counts of one image into temperatures. Temperatures are in kelvin.

    r1, r2, b, f, o: the constants of Planck's law for this camera. emissivity, reflected, distance (m): of
    the object. atmosphere, humidity (0..1): of the air. window, window_transmission: of external optics.
    alpha1, alpha2, beta1, beta2, x: the constants of the air's transmission.
    """

    r1: float
    r2: float
    b: float
    f: float
    o: float
    emissivity: float
    reflected: float
    distance: float
    atmosphere: float
    humidity: float
    window: float
    window_transmission: float
    alpha1: float
    alpha2: float
    beta1: float
    beta2: float
    x: float

    @property
    def plausible(self) -> bool:
        """Whether these are the numbers of a camera: finite, and within what the formula can be given."""
        if not all(math.isfinite(getattr(self, field.name)) for field in fields(self)):
            return False
        positive = (self.r1, self.r2, self.b, self.reflected, self.atmosphere, self.window)
        return (
            all(value > 0 for value in positive)
            and 0 < self.emissivity <= 1
            and 0 < self.window_transmission <= 1
            and 0 <= self.humidity <= 1
            and 0 <= self.distance <= 1e5
            and 0.01 < self.transmission <= 1.5
        )

    def under(self, conditions: Conditions) -> Radiometry:
        """The same camera under other conditions."""
        given = {name: value for name, value in vars(conditions).items() if value is not None}
        if "reflected" in given:
            given["reflected"] += ZERO_CELSIUS
        return replace(self, **given)

    @property
    def transmission(self) -> float:
        """Of the air between object and camera, about 0..1."""
        celsius = self.atmosphere - ZERO_CELSIUS
        try:
            # Water in the air, in g/m3, for a humidity at this temperature.
            water = self.humidity * math.exp(
                1.5587 + 6.939e-2 * celsius - 2.7816e-4 * celsius**2 + 6.8455e-7 * celsius**3
            )
            root, damp = math.sqrt(self.distance), math.sqrt(water)
            return self.x * math.exp(-root * (self.alpha1 + self.beta1 * damp)) + (1 - self.x) * math.exp(
                -root * (self.alpha2 + self.beta2 * damp)
            )
        except OverflowError:
            return math.inf

    def signal(self, kelvin: float) -> float:
        """The counts that a black body of this temperature gives, close to the lens."""
        try:
            return self.r1 / (self.r2 * (math.exp(self.b / kelvin) - self.f)) - self.o
        except (OverflowError, ZeroDivisionError):
            return -self.o

    def celsius(self, counts: np.ndarray) -> np.ndarray:
        """Counts, uint16 of any shape, as degrees Celsius: float32 of the same shape.

        Counts below all that the formula knows become absolute zero.
        """
        through = self.emissivity * self.transmission
        other = (1 - self.emissivity) / self.emissivity * self.signal(self.reflected)
        other += (1 - self.transmission) / through * self.signal(self.atmosphere)
        window = self.window_transmission
        other += (1 - window) / (through * window) * self.signal(self.window)
        # There are few enough counts to look the temperatures up.
        signal = np.arange(_COUNTS) / (through * window) - other + self.o
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            kelvin = self.b / np.log(self.r1 / (self.r2 * signal) + self.f)
        kelvin[~(np.isfinite(kelvin) & (signal > 0) & (kelvin > 0))] = 0
        table: np.ndarray = (kelvin - ZERO_CELSIUS).astype(np.float32)
        return table[counts]
