"""The page of an alignment: both bands on each other, before and after, as squares and by their edges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from crossband.report.page import Page
from crossband.rig.features import Picture
from crossband.rig.rig import Rig
from crossband.rig.warping import warp_of, warped

_SHOWN = 3
_SQUARES = 8
"""Of the checkerboard, along the longer side."""
_VISIBLE_EDGES, _INFRARED_EDGES = (40, 170, 255), (255, 110, 40)


def write_alignment_page(
    path: Path, rig: Rig, pairs: Sequence[tuple[str, tuple[Picture, Picture]]], *, command: str
) -> None:
    """Write the page of a rig. pairs: by name, visible and infrared pictures of the rig's sizes; a few are
    shown. Raises OptionError if it cannot be written."""
    page = Page("Two cameras, one geometry")
    page.paragraph(
        f"A {rig.model} brings both bands together. It was found by {rig.count} {rig.found_by}, with a "
        f"residual "
        f"of {rig.residual:.2f} infrared pixels (95 %: {rig.interval[0]:.2f} to {rig.interval[1]:.2f}), and "
        f"the "
        f"corners are known to {rig.uncertainty:.1f}. One plane is aligned: what is nearer or farther is "
        f"shifted."
    )
    shown = [pairs[index] for index in np.unique(np.linspace(0, len(pairs) - 1, _SHOWN).round().astype(int))]
    page.heading("Before and after")
    page.paragraph(
        "All in the infrared camera's frame; before, the visible picture is merely made as large. Squares "
        "show "
        "the bands in turn: lines should run on from one into the next. Edges of the visible picture are "
        "blue, "
        "those of the infrared one orange, and white where both are."
    )
    page.image_grid(
        ["squares, before", "squares, after", "edges, before", "edges, after"],
        [(name, alignment_pictures(rig, *pair)) for name, pair in shown],
        max_side=520,
    )
    page.heading("Where it comes from")
    page.outline(
        {
            "command": command,
            "homography": "\n".join(" ".join(f"{value:.6g}" for value in row) for row in rig.homography),
            "visible size": f"{rig.visible_size[0]} x {rig.visible_size[1]} (height x width)",
            "infrared size": f"{rig.infrared_size[0]} x {rig.infrared_size[1]} (height x width)",
            "crossband": rig.crossband,
        }
    )
    page.write(path)


def alignment_pictures(rig: Rig, visible: Picture, infrared: Picture) -> list[np.ndarray]:
    """Checkerboard before and after, and edges before and after, uint8 (H, W, 3) in the infrared frame."""
    plain = cv2.resize(visible.levels, infrared.size[::-1], interpolation=cv2.INTER_AREA)
    moved = warped(visible.levels, warp_of(rig, "visible"))
    return [
        *(checkerboard(image, infrared.levels) for image in (plain, moved)),
        *(edge_overlay(image, infrared.levels) for image in (plain, moved)),
    ]


def checkerboard(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two grey images of one size in turn, square by square: uint8 (H, W, 3)."""
    side = max(first.shape) / _SQUARES
    rows, columns = np.indices(first.shape)
    turn = ((rows // side + columns // side) % 2).astype(bool)
    tinted = np.stack([first, first, first], -1), np.stack([second, 0.93 * second, 0.8 * second], -1)
    return np.where(turn[..., None], *tinted).clip(0, 255).astype(np.uint8)


def edge_overlay(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """The edges of two grey images (0..255) of one size in their colours on black: uint8 (H, W, 3)."""
    drawn = np.zeros((*visible.shape, 3), np.float32)
    for image, colour in ((visible, _VISIBLE_EDGES), (infrared, _INFRARED_EDGES)):
        smooth = cv2.GaussianBlur(image, (0, 0), 1.2)
        strength = cv2.magnitude(
            cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3)
        )
        around = cv2.GaussianBlur(strength, (0, 0), 12) + 0.25 * float(strength.mean()) + 1e-6
        drawn += np.clip(strength / around / 2.5 - 0.25, 0, 1)[..., None] * colour
    return drawn.clip(0, 255).astype(np.uint8)
