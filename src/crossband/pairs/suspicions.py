"""What looks wrong with the pixels of a set of pairs, before anything is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from crossband.pairs.auto_scaling import automatic_scaling
from crossband.pairs.band_summary import UNKNOWN, BandSummary, PairsSummary
from crossband.pairs.false_colour import MEAN, REFUSE, refusal
from crossband.pairs.infrared_scaling import InfraredScaling

Kind = Literal["small range", "unlike training", "constant", "false colour", "exchanged", "degrees"]

_SMALL_SHARE = {"uint8": 0.1}
"""The least share of [0, 1] that infrared should fill. 8-bit images come out of a camera's own contrast
control, and a dull scene may leave little; deeper ones are stored raw."""
_SMALL_SHARE_DEEP = 0.25
_OVERLAP, _OVERLAP_OF_OTHER_TYPE = 0.1, 0.5
"""The least overlap of two ranges in [0, 1], as a share of what they span together. Seasons move a raw range,
and a single dull image fills a fifth of what its set does; another type that means the same moves hardly."""
_SHOWN = 3
_FOLLOWS_EACH = "percentile(1, 99)"
"""The rule for images that no two limits suit, such as those of several types."""


@dataclass(frozen=True)
class Suspicion:
    """One thing that looks wrong. message: what, and how often. mend: the rule or option that mends it."""

    kind: Kind
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.message}; {self.mend}"


def suspicions(
    summary: PairsSummary,
    trained_on: PairsSummary | None = None,
    *,
    scaling: InfraredScaling | None = None,
    false_colour: str = MEAN,
) -> list[Suspicion]:
    """What looks wrong with some pairs, each kind once.

    trained_on: what a run's card says of its training pairs. scaling: the rule that reads infrared (None:
    ``full-range``). false_colour: what is done with false colours (`false_colour_rule`).
    """
    scaling = scaling or InfraredScaling()
    found: list[Suspicion] = []
    if summary.infrared is not None:
        found += _exchanged(summary) or _false_colour(summary.infrared, false_colour)
        found += _range(summary.infrared, None if trained_on is None else trained_on.infrared, scaling)
    for band in ("visible", "infrared"):
        one: BandSummary | None = getattr(summary, band)
        if one is not None and one.constant:
            found.append(
                Suspicion(
                    "constant",
                    f"{len(one.constant)} of {one.images} {band} images hold one value only: "
                    f"{_some(one.constant)}",
                    "a closed shutter or a dead camera: leave the band out of these pairs, or the pairs",
                )
            )
    if summary.visible is not None and trained_on is not None and trained_on.visible is not None:
        found += _colours_unlike(summary.visible, trained_on.visible)
    return found


def clearer_scaling(infrared: BandSummary | None, scaling: InfraredScaling) -> InfraredScaling | None:
    """The rule that shows infrared to people where ``scaling`` leaves it a small range; None elsewhere.

    infrared: what some pairs store; None, where there is none, gives None.
    """
    here = None if infrared is None else _scaled(infrared, scaling)
    if infrared is None or here is None or infrared.low >= infrared.high or not _is_small(infrared, here):
        return None
    return InfraredScaling.parse(_suggestion(infrared))


def _exchanged(summary: PairsSummary) -> list[Suspicion]:
    """Signs that hardly occur by chance.

    A grey visible band beside a coloured infrared one; a thermal palette, or a raw thermal range, in the
    visible band.
    """
    visible, infrared = summary.visible, summary.infrared
    if visible is None or infrared is None:
        return []
    unknown = (infrared.palettes or {}).get(UNKNOWN, 0)
    grey = not visible.channels.get("colour")
    if grey and 2 * unknown > infrared.images:
        sign = "visible is grey and infrared in natural colours"
    elif 2 * visible.false_coloured > visible.images and not infrared.channels.get("colour"):
        sign = f"visible has the thermal palette {_commonest(visible)}"
    elif (
        grey
        and visible.type == "uint16"
        and infrared.type == "uint8"
        and (visible.used or 0) < _SMALL_SHARE_DEEP
    ):
        sign = f"visible is 16-bit grey within {visible.low:g} to {visible.high:g}, as raw infrared is"
    else:
        return []
    return [Suspicion("exchanged", f"the bands look exchanged: {sign}", "check --visible and --infrared")]


def _false_colour(infrared: BandSummary, false_colour: str) -> list[Suspicion]:
    if not infrared.false_coloured:
        return []
    commonest = _commonest(infrared)
    known = None if commonest == UNKNOWN else commonest
    message, _, mend = refusal(known).partition(": ")
    if false_colour != REFUSE:
        mend = f"are the bands exchanged? If not, --infrared_palette {known or 'NAME'} turns them into heat"
    number = f"{infrared.false_coloured} of {infrared.images} infrared images"
    return [Suspicion("false colour", f"{number}: {message}", mend)]


def _range(infrared: BandSummary, trained: BandSummary | None, scaling: InfraredScaling) -> list[Suspicion]:
    """Whether the rule spreads the values over [0, 1], as it did in training."""
    if (
        infrared.type.startswith("float")
        and not 0 <= infrared.low <= infrared.high <= 1
        and scaling.rule not in ("fixed", "celsius")
    ):
        return [
            Suspicion(
                "degrees",
                f"infrared floats go from {infrared.low:g} to {infrared.high:g}: degrees or kelvin?",
                f"keep them comparable by --infrared_scaling '{_suggestion(infrared)}'",
            )
        ]
    here = _scaled(infrared, scaling)
    if here is None or infrared.low >= infrared.high:
        return []
    if trained is not None:
        there = _scaled(trained, scaling)
        least = _OVERLAP if infrared.type == trained.type else _OVERLAP_OF_OTHER_TYPE
        if there is not None and _overlap(here, there) < least:
            return [
                Suspicion(
                    "unlike training",
                    f"infrared is {_told(infrared)}, but the run was trained on {_told(trained)} "
                    f"under {scaling}",
                    "store it as in training, or train a run with --infrared_scaling "
                    f"'{_suggestion(infrared)}'",
                )
            ]
        if there is not None and infrared.type == trained.type:
            # The run knows such images, small range or not.
            return []
    if _is_small(infrared, here):
        share = f"{100 * (here[1] - here[0]):.2g} %"
        rules = dict.fromkeys((_suggestion(infrared), _FOLLOWS_EACH))
        return [
            Suspicion(
                "small range",
                f"infrared is {_told(infrared)}: {share} of what {scaling} spreads over [0, 1]",
                f"use --infrared_scaling {' or '.join(map(repr, rules))}; a run keeps its own rule: train "
                "one with it",
            )
        ]
    return []


def _colours_unlike(visible: BandSummary, trained: BandSummary) -> list[Suspicion]:
    here, there = (2 * band.channels.get("colour", 0) > band.images for band in (visible, trained))
    if here == there:
        return []
    words = {True: "in colour", False: "grey"}
    return [
        Suspicion(
            "unlike training",
            f"visible is {words[here]}, but the run was trained on visible {words[there]}",
            f"expect worse results, or train a run on visible {words[here]}",
        )
    ]


def _scaled(band: BandSummary, scaling: InfraredScaling) -> tuple[float, float] | None:
    """Where low and high come to lie in [0, 1]; None where the rule follows each image or has no limits."""
    limits = scaling.limits
    if scaling.rule == "full-range":
        full = {"uint8": 255.0, "uint16": 65535.0}.get(
            band.type, 1.0 if band.type.startswith("float") else None
        )
        limits = None if full is None else (0.0, full)
    elif scaling.rule != "fixed":
        return None
    if limits is None:
        return None
    low, high = (min(max((v - limits[0]) / (limits[1] - limits[0]), 0.0), 1.0) for v in (band.low, band.high))
    return low, high


def _is_small(band: BandSummary, filled: tuple[float, float]) -> bool:
    """Whether a band fills less of [0, 1] than it should."""
    return filled[1] - filled[0] < _SMALL_SHARE.get(band.type, _SMALL_SHARE_DEEP)


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Intersection over union of two ranges; 1 for two equal points."""
    union = max(one[1], other[1]) - min(one[0], other[0])
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0])) / union if union > 0 else 1.0


def _commonest(band: BandSummary) -> str:
    """The palette of most images in false colours."""
    palettes = band.palettes or {}
    return max(palettes, key=lambda name: palettes[name])


def _told(band: BandSummary) -> str:
    digits = 6 if band.type.startswith("float") else 0
    low, high = (f"{round(value, digits):.10g}" for value in (band.low, band.high))
    return f"{band.type} from {low} to {high}"


def _suggestion(infrared: BandSummary) -> str:
    if len(infrared.types) > 1:
        return _FOLLOWS_EACH
    if infrared.type == "uint8":
        return f"fixed({infrared.low:g}, {infrared.high:g})"
    return str(automatic_scaling(infrared))


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
