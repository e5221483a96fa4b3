"""How the images of a folder of pairs lie: in which folders, under which names, and what makes two a pair."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from crossband.errors import OptionError, quoted
from crossband.pairs.time_stamps import parse_gap
from crossband.words import BANDS, Missing, PairBy

ID = "{id}"
"""What stands in a pattern for the part of a name that the images of a pair share."""

PARTS = (*BANDS, "label")
_ALSO_CALLED = {
    "visible": ("visible", "vis", "vi", "rgb", "color", "colour", "eo", "img", "image", "images"),
    "infrared": ("infrared", "ir", "thermal", "ther", "lwir", "mwir", "swir", "nir", "tir", "modal"),
    "label": ("label", "labels", "mask", "masks", "gt", "segmentation", "segmentation_labels"),
}


@dataclass(frozen=True)
class Arrangement:
    """How the images of a folder of pairs lie.

    visible, infrared, label: the folder of each, or a pattern of paths with ``{id}``, such as
        ``rgb_{id}.png``; both as seen from the folder of a recording or split.
    by: what makes images a pair: "name", or "time", the nearest time that a name or ``{id}`` holds.
    max_gap: for "time", how far two images of a pair may be apart at most, in nanoseconds.
    missing: what becomes of an image without a partner.
    """

    visible: str = "visible"
    infrared: str = "infrared"
    label: str = "label"
    by: PairBy = "name"
    max_gap: int | None = None
    missing: Missing = "error"

    def __post_init__(self) -> None:
        for part in PARTS:
            text = getattr(self, part)
            if not text or os.path.isabs(text) or ".." in text.split("/"):
                raise OptionError(
                    f"{part}={quoted(text)}: name a folder within that of the pairs, or a pattern such as "
                    f"{part}_{ID}.png"
                )
        if (self.by == "time") != (self.max_gap is not None):
            raise OptionError("pair=time and max_gap, such as max_gap=20ms, are given together")

    def place(self, folder: Path, part: str) -> Path:
        """The folder or pattern of a band or of the labels."""
        return folder / getattr(self, part)


def arrangement_of(options: Mapping[str, str], missing: Missing | None = None) -> Arrangement:
    """What the options ``visible``, ``infrared``, ``label``, ``pair`` and ``max_gap`` of a source say.

    missing: None leaves single images out where pairs go by time, and refuses them where they go by name.
    Raises OptionError for values that make no sense.
    """
    by = options.get("pair", "name")
    if by not in get_args(PairBy):
        raise OptionError(f"pair={quoted(by)}: write one of {', '.join(get_args(PairBy))}")
    gap = options.get("max_gap")
    return Arrangement(
        **{part: options[part] for part in PARTS if part in options},
        by=cast(PairBy, by),
        max_gap=None if gap is None else parse_gap(gap),
        missing=missing or ("skip" if by == "time" else "error"),
    )


def likely_names(folders: Iterable[Path], parts: Iterable[str] = BANDS) -> dict[str, str]:
    """The names of folders in some folders that bands or labels usually have, such as RGB and Thermal."""
    found: dict[str, str] = {}
    for folder in folders:
        for entry in sorted(folder.iterdir()):
            for part in parts:
                if entry.is_dir() and entry.name.lower() in _ALSO_CALLED[part] and entry.name != part:
                    found.setdefault(part, entry.name)
    return {part: found[part] for part in parts if part in found}
