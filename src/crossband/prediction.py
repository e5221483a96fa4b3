"""What a system sees in one pair."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from crossband.display import Display
from crossband.errors import OptionError
from crossband.pairs.base import Classes, Pair
from crossband.pictures import overlay, to_uint8
from crossband.words import Band, Bands, Fault, Support


@dataclass
class Prediction:
    """What a system sees in one pair.

    labels: uint8 (H, W), class ids. confidence: float32 (H, W) in [0, 1], the softmax of the predicted class.
        Both are None for a system that only fuses, and so is ``classes``.
    fused: uint8 (H, W, 3), or None for a system that does not fuse.
    reliability: float32 (H, W) in [0, 1] per band, how far the system trusted it; empty if it does not say.
    bands: the combination that the system was run on. support: whether it was designed for it.
    faults: what a band monitor found broken (`Predictor`); empty without one. Such a band is dropped, and
        then not among ``bands``, unless the system cannot do without it.
    pair: the images as they were read, of all bands that were given. classes: names and palette of the ids.
    """

    labels: np.ndarray | None
    confidence: np.ndarray | None
    fused: np.ndarray | None
    bands: Bands
    support: Support
    pair: Pair
    classes: Classes | None
    reliability: dict[Band, np.ndarray] = field(default_factory=dict)
    faults: dict[Band, Fault] = field(default_factory=dict)

    def overlay(self, opacity: float = 0.5, *, display: Display | None = None) -> Image.Image:
        """The labels' colours over the visible image, or over the infrared one if that is all that was used.

        display: how the infrared one is shown; None shows it as it was scaled.
        Raises OptionError where the system gave no labels.
        """
        if self.labels is None or self.classes is None:
            raise OptionError("there are no labels to lay over the image: this system only fuses")
        visible, infrared = self.pair.visible if self.bands != "infrared" else None, self.pair.infrared
        shown = None if visible is None else to_uint8(visible)
        if shown is None and infrared is not None and display is not None:
            shown = display(infrared)
        return Image.fromarray(
            overlay(
                shown,
                None if infrared is None else to_uint8(infrared),
                self.labels,
                self.classes.palette,
                opacity,
            )
        )
