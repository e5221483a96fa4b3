"""Draw docs/images/corruptions.jpg: every corruption of `crossband.pairs.corruption` in its five severities,
and the band states below them.

Run it from the repository's root: ``python docs/draw_corruptions.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crossband.pairs.base import Pair
from crossband.pairs.corruption import (
    BAND_STATES,
    CORRUPTIONS,
    SEVERITIES,
    Corruption,
    InState,
    NamedCorruption,
)
from crossband.pairs.opening import open_pairs
from crossband.pictures import to_uint8
from crossband.words import BANDS

SOURCE = "scenes,seed=4,test=12,size=120x160"
PLACE = 5
MARGIN, TITLE = 130, 18


def shown(pair: Pair, corruption: Corruption) -> np.ndarray:
    """The band that is broken; of what lies between the cameras, infrared laid over visible."""
    assert pair.visible is not None
    assert pair.infrared is not None
    if corruption.kind == "visible":
        return to_uint8(pair.visible)
    infrared = np.repeat(pair.infrared[..., None], 3, axis=2)
    return to_uint8(infrared if corruption.kind == "infrared" else 0.5 * (infrared + pair.visible))


def main() -> None:
    pairs = open_pairs(SOURCE, "test")
    height, width = pairs[PLACE].size
    below = TITLE + height * len(CORRUPTIONS)
    columns = 1 + max(len(SEVERITIES), len(BAND_STATES))
    sheet = Image.new("RGB", (MARGIN + width * columns, below + TITLE + height * len(BANDS)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)

    def title(top: int, words: Iterable[str]) -> None:
        for column, word in enumerate(words):
            draw.text((MARGIN + column * width + 4, top + 1), word, "black", font)

    title(0, ["as it is", *(f"severity {severity}" for severity in SEVERITIES)])
    for row, (name, corruption) in enumerate(CORRUPTIONS.items()):
        top = TITLE + row * height
        draw.text((4, top + height // 2 - 16), name, "black", font)
        draw.text((4, top + height // 2), corruption.kind, "grey", font)
        broken = [NamedCorruption(pairs, name, severity)[PLACE] for severity in SEVERITIES]
        for column, pair in enumerate([pairs[PLACE], *broken]):
            sheet.paste(Image.fromarray(shown(pair, corruption)), (MARGIN + column * width, top))
    title(below, ["as it is", *BAND_STATES])
    for row, band in enumerate(BANDS):
        top = below + TITLE + row * height
        draw.text((4, top + height // 2 - 16), "band states", "black", font)
        draw.text((4, top + height // 2), band, "grey", font)
        for column, pair in enumerate(
            [pairs[PLACE], *(InState(pairs, state)[PLACE] for state in BAND_STATES)]
        ):
            image = pair.visible if band == "visible" else pair.infrared
            assert image is not None
            picture = Image.fromarray(to_uint8(image)).convert("RGB")
            sheet.paste(picture, (MARGIN + column * width, top))
    target = Path(__file__).parent / "images" / "corruptions.jpg"
    sheet.save(target, quality=85)
    print(f"written: {target}")


if __name__ == "__main__":
    main()
