"""Pages as a Chromium lays them out, and what it made of them; Playwright is not needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("CROSSBAND_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium in the path (or set CROSSBAND_CHROMIUM)"
)
WIDTHS = (1400, 420)
SCHEMES = ("light", "dark")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_MEASURING = """
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, window = frame.contentWindow, root = page.documentElement;
    return {
      width: window.innerWidth, wide: root.scrollWidth, right: root.clientWidth,
      dark: window.matchMedia("(prefers-color-scheme: dark)").matches,
      boxes: [...page.querySelectorAll("table, svg.chart")].map(one => {
        const box = one.getBoundingClientRect(), around = one.closest(".scroll");
        return {
          tag: one.tagName.toLowerCase(), left: box.left, right: box.right,
          cut: around.scrollWidth > around.clientWidth,
          ink: window.getComputedStyle(one.querySelector("td, text")).color,
        };
      }),
      swatches: [...page.querySelectorAll("th .swatch")].map(
        one => Math.round(one.parentElement.getBoundingClientRect().height)),
      paper: window.getComputedStyle(page.body).backgroundColor,
    };
  });
  document.body.textContent = JSON.stringify(found);
});
"""


@dataclass(frozen=True)
class Box:
    """A table or a chart: where it begins and ends across, whether it scrolls, the colour of its text."""

    tag: str
    left: float
    right: float
    cut: bool
    ink: str


@dataclass(frozen=True)
class Screen:
    """A page on a screen. wide: of all that is on it; right: where a bar for scrolling begins.

    swatches: the heights of the cells that have a swatch of colour.
    """

    width: int
    wide: int
    right: int
    dark: bool
    boxes: tuple[Box, ...]
    swatches: tuple[int, ...]
    paper: str


def laid_out(folder: Path, pages: Mapping[str, str]) -> dict[tuple[str, int, str], Screen]:
    """Pages by name, as HTML, on screens of all `WIDTHS` in all `SCHEMES`; from one start of the browser."""
    keys = [(name, width, scheme) for name in pages for width in WIDTHS for scheme in SCHEMES]
    # A frame is a screen of its own: its width is what the page's rules go by.
    frames = "".join(
        f'<iframe style="width:{width}px; height:800px; border:0; color-scheme:{scheme}" '
        f'srcdoc="{escape(pages[name])}"></iframe>'
        for name, width, scheme in keys
    )
    outer = folder / "screens.html"
    outer.write_text(f'<!doctype html><meta charset="utf-8">{frames}<script>{_MEASURING}</script>', "utf-8")
    assert CHROMIUM is not None
    command = [CHROMIUM, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", outer.as_uri()]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    body = re.search(r"<body>(.*)</body>", said, re.DOTALL)
    assert body is not None, said[-500:]
    return dict(zip(keys, map(_screen, json.loads(unescape(body[1]))), strict=True))


def _screen(found: dict[str, Any]) -> Screen:
    boxes, swatches = tuple(Box(**box) for box in found["boxes"]), tuple(found["swatches"])
    return Screen(**{**found, "boxes": boxes, "swatches": swatches})


def contrast(first: str, second: str) -> float:
    """Of two colours as ``rgb(R, G, B)``: from 1 to 21, as WCAG 2 has it."""
    light = []
    for colour in (first, second):
        shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


def assert_fits(screen: Screen, scheme: str) -> None:
    """The page is in the scheme and no wider than the screen."""
    assert screen.wide <= screen.right <= screen.width
    assert screen.dark is (scheme == "dark")
    assert (contrast(screen.paper, "rgb(0, 0, 0)") < 3) is screen.dark


def assert_in_sight(box: Box, screen: Screen) -> None:
    """It is there without scrolling sideways, and can be read."""
    assert 0 <= box.left < box.right <= screen.right
    assert not box.cut
    assert contrast(box.ink, screen.paper) > 7
