"""Draw docs/images/fusions.jpg: the fusions that need no training, on generated streets by day and by night.

Run it from the repository's root: ``python docs/draw_fusions.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crossband.loading import load
from crossband.pairs.scenes import render_scene
from crossband.pictures import to_uint8
from crossband.systems.registry import ready_systems

SIZE = (192, 256)
SHOWN = (("day", 3), ("night", 12))
"""Conditions, and the index of the scene that shows each."""
COLUMNS = 4
TITLE, GAP = 18, 10


def main() -> None:
    blocks = [pictures(condition, index) for condition, index in SHOWN]
    height, width = SIZE
    rows = -(-len(blocks[0]) // COLUMNS)
    high = rows * (TITLE + height) + GAP
    sheet = Image.new("RGB", (COLUMNS * width, len(blocks) * high - GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for block, shown in enumerate(blocks):
        for place, (name, picture) in enumerate(shown.items()):
            left, top = place % COLUMNS * width, block * high + place // COLUMNS * (TITLE + height)
            draw.text((left + 4, top + 1), name, "black", font)
            sheet.paste(Image.fromarray(picture), (left, top + TITLE))
    target = Path(__file__).parent / "images" / "fusions.jpg"
    sheet.save(target, quality=85)
    print(f"written: {target}")


def pictures(condition: str, index: int) -> dict[str, np.ndarray]:
    """Both bands and every fusion of a scene, (H, W, 3) uint8, by name."""
    pair = render_scene(seed=0, index=index, size=SIZE, condition=condition)
    assert pair.visible is not None
    assert pair.infrared is not None
    visible, infrared = to_uint8(pair.visible), to_uint8(pair.infrared)
    made = {"visible": visible, "infrared": np.repeat(infrared[..., None], 3, axis=2)}
    for name in ready_systems():
        fused = load(name, device="cpu")(visible, infrared).fused
        assert fused is not None
        made[name] = fused
    return made


if __name__ == "__main__":
    main()
