"""The infrared scaling ``auto``: one rule for a whole set of images, chosen by looking at some of them."""

from __future__ import annotations

from collections.abc import Sequence

from crossband.errors import PairError
from crossband.pairs.band_summary import BandSummary, summarise_files
from crossband.pairs.base import PairFiles
from crossband.pairs.false_colour import REFUSE
from crossband.pairs.infrared_scaling import InfraredScaling

AUTO = "auto"


def resolve_scaling(text: str, files: Sequence[PairFiles], false_colour: str = REFUSE) -> InfraredScaling:
    """The rule that a text names; for "auto", the one that suits a sample of the files (`automatic_scaling`).

    Raises OptionError for a text that names none, PairError as `automatic_scaling` does.
    """
    if text != AUTO:
        return InfraredScaling.parse(text)
    return automatic_scaling(summarise_files(files, false_colour=false_colour).infrared)


def automatic_scaling(infrared: BandSummary | None) -> InfraredScaling:
    """``full-range`` for 8-bit images, else ``fixed`` between the percentiles 0.1 and 99.9 of the whole set.

    One pair of limits for all images keeps equal values equal from image to image. infrared: None, where
    there is no image, gives ``full-range``. Images of one value become zeros.

    Raises PairError for images of several types, which no one pair of limits suits.
    """
    if infrared is None:
        return InfraredScaling()
    if len(infrared.types) > 1:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(infrared.types.items()))
        raise PairError(
            f"infrared images of several types ({kinds}) have no scaling in common; save them in one "
            "type, take them apart, or name a rule by --infrared_scaling"
        )
    if infrared.type == "uint8":
        return InfraredScaling()
    low, high = (float(f"{value:.6g}") for value in (infrared.low, infrared.high))
    return InfraredScaling("fixed", (low, high)) if low < high else InfraredScaling("minmax")
