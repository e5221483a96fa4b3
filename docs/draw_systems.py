"""Draw docs/images/systems/NAME.svg: how data flows through each system, from both bands to what comes out.

    python docs/draw_systems.py

Nothing is drawn by hand. A small system is run on a pair; which of its parts are called is seen by hooks, and
what reaches a part from which others by following the gradients' graph back from its inputs. So a picture
shows what is computed, also what is done between modules. Where maps get smaller, a part says to what share
of the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import torch
from torch import Tensor, nn

from crossband.systems import create, network_options, system_class
from crossband.systems.base import System

FOLDER = Path(__file__).parent / "images" / "systems"
SYSTEMS = (
    *("amdanet", "cddfuse", "cen", "csknet", "deeplabv3plus", "disoptnet", "learned", "mmanet", "mrfs"),
    "segmif",
)
SMALL: dict[str, Any] = {
    "encoder": "mobilenetv3_small_050",
    "decoder_channels": 16,
    "fusion_width": 8,
    "heads": 2,
}
"""Of the options that make a system small, those that it has; the flow is that of the large one."""
OPENED = {
    "amdanet": ("enc",),
    "cddfuse": ("fusion",),
    "disoptnet": ("student",),
    "learned": ("network",),
    "segmif": ("segmenter",),
}
"""Parts that are looked into, in place of being one part."""
PASSED = ("band_input",)
"""Parts that every band goes through by itself, and that would tie what has nothing to do with each other."""
_LANES = ({"visible", "rgb"}, set(), {"infrared", "ir"})
"""Words in the names of parts that belong to a band, also after an exchange: left, middle, right."""
_STAGE = re.compile(r"(.*?)\.(?:encoder\.)?(?:model\.)?(?:blocks\.|stage|embed|layer)(\d+)\b")
_STEM = re.compile(r"(.*?)\.(?:encoder\.)?model\.(?:conv_stem|bn1|act1)\b")
_SIZE = (64, 96)
_COLOURS = {"visible": "#2f6fbf", "infrared": "#c2571a", "both": "#5b4a8a"}
_BOX, _HIGH, _GAP, _STEP, _EDGE = 168, 38, 26, 66, 20


@dataclass
class Part:
    """A box: its place in the order of calls, what reaches it, and the bands that do."""

    name: str
    order: int
    sources: set[str] = field(default_factory=set)
    scale: str = ""
    bands: set[str] = field(default_factory=set)


def part_name(module: str, system: str) -> str:
    """The box that a module belongs to: an encoder's stage, or its place in the system, at most two deep."""
    for opened in OPENED.get(system, ()):
        module = module.removeprefix(f"{opened}.")
    if match := _STAGE.match(module):
        return f"{match[1]} stage {match[2]}"
    if match := _STEM.match(module):
        return f"{match[1]} stem"
    return " ".join(module.split(".")[:2])


def small(name: str) -> System:
    torch.manual_seed(0)
    options = {key: value for key, value in SMALL.items() if key in network_options(name)}
    classes = 5 if system_class(name).segments else None
    return create(name, classes, **options).eval()


def follow(name: str) -> dict[str, Part]:
    """The parts of a system by name, in the order of their first calls, with ``visible``, ``infrared`` and
    what comes out."""
    system = small(name)
    images = {"visible": torch.rand(1, 3, *_SIZE), "infrared": torch.rand(1, 1, *_SIZE)}
    bands = {band: image.requires_grad_() for band, image in images.items() if _reads(system, band)}
    parts = {band: Part(band, 0, bands={band}) for band in bands}
    made: dict[Any, str] = {}
    active: list[nn.Module] = []
    names = {module: path for path, module in system.named_modules() if path}
    unseen = {
        module
        for module, path in names.items()
        if path in OPENED.get(name, ()) or any(part in PASSED for part in path.split("."))
    }

    def enter(module: nn.Module, given: Any, more: Any) -> None:
        active.append(module)
        if len(active) > 1:
            return
        box = part_name(names[module], name)
        part = parts.setdefault(box, Part(box, len(parts)))
        for tensor in _tensors((given, more)):
            part.sources |= set(_origins(tensor, made, bands)) - {box}

    def leave(module: nn.Module, given: Any, output: Any) -> None:
        active.pop()
        if active:
            return
        box = part_name(names[module], name)
        for tensor in _tensors(output):
            if tensor.grad_fn is not None:
                made[tensor.grad_fn] = box
                parts[box].scale = _scale(tensor) or parts[box].scale

    # Without hooks, what such a part calls counts as called by nobody.
    for module in names:
        if module not in unseen:
            module.register_forward_pre_hook(enter, with_kwargs=True)
            module.register_forward_hook(leave)
    output = system.run(bands.get("visible"), bands.get("infrared"), features=False)
    for title, tensor in (("classes", output.logits), ("fused picture", output.fused)):
        if tensor is not None:
            parts[title] = Part(title, len(parts) + 1, set(_origins(tensor, made, bands)))
    for part in sorted(parts.values(), key=lambda part: part.order):
        part.bands |= {band for source in part.sources for band in parts[source].bands}
        if not part.bands:
            part.scale, part.bands = "no gradient reaches it", set(bands)
    return parts


def _scale(tensor: Tensor) -> str:
    """A map's size as a share of the image's, channels first or last; empty for the whole size, and for what
    is no map."""
    height, width = _SIZE
    for rows, columns in (tensor.shape[2:4], tensor.shape[1:3]) if tensor.ndim == 4 else ():
        if rows and rows * width == columns * height and rows < height:
            return f"1/{height // rows} of the size"
    return ""


def _reads(system: System, band: str) -> bool:
    return any(band == bands or bands == "both" for bands in system.supports)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested lists, mappings and the fields of dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (tensor for inner in value.values() for tensor in _tensors(inner))
    elif isinstance(value, list | tuple):
        yield from (tensor for inner in value for tensor in _tensors(inner))
    elif hasattr(value, "__dataclass_fields__"):
        yield from _tensors([getattr(value, key) for key in value.__dataclass_fields__])


def _origins(tensor: Tensor, made: dict[Any, str], bands: dict[str, Tensor]) -> Iterable[str]:
    """The parts, and the bands, that a tensor was made of last."""
    found = {band for band, image in bands.items() if image is tensor}
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        step = waiting.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        if step in made:
            found.add(made[step])
            continue
        variable = getattr(step, "variable", None)
        found |= {band for band, image in bands.items() if image is variable}
        waiting += [following for following, _ in step.next_functions]
    return found


def levels(parts: dict[str, Part]) -> dict[str, int]:
    """The row of each part: below everything that reaches it, but for what exchanges with it."""
    rows: dict[str, int] = {}
    for part in sorted(parts.values(), key=lambda part: part.order):
        before = [rows[source] for source in part.sources if source in rows]
        rows[part.name] = max(before, default=-1) + 1
    return rows


def draw(name: str) -> str:
    """The picture, as SVG: visible alone to the left, infrared alone to the right, what sees both between."""
    parts = follow(name)
    rows = levels(parts)
    # Two that exchange stand beside each other.
    for part in parts.values():
        for source in part.sources:
            if part.name in parts[source].sources:
                rows[part.name] = rows[source] = max(rows[part.name], rows[source])
    lanes = {part.name: _lane(part) for part in parts.values()}
    first, last = min(lanes.values()), max(lanes.values())
    places: dict[str, tuple[float, float]] = {}
    taken: dict[tuple[int, int], int] = {}
    for part in sorted(parts.values(), key=lambda part: part.order):
        row, lane = rows[part.name], lanes[part.name]
        while (row, lane) in taken:
            row += 1
        taken[row, lane] = 1
        places[part.name] = (_EDGE + (lane - first) * (_BOX + _GAP), _EDGE + row * _STEP)
    width = 2 * _EDGE + (last - first + 1) * _BOX + (last - first) * _GAP
    height = 2 * _EDGE + _HIGH + round(max(y for _, y in places.values())) - _EDGE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="Data flow of {name}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for part in parts.values():
        for source in sorted(part.sources):
            lines.append(_arrow(places[source], places[part.name], _colour(parts[source])))
    for part in parts.values():
        lines += _box(part, places[part.name])
    return "\n".join([*lines, "</svg>", ""])


def _lane(part: Part) -> int:
    """By the bands that reach it, or, where bands are exchanged, by the one in its name."""
    words = set(re.split(r"[ ._]", part.name))
    for lane, band in ((0, "visible"), (2, "infrared")):
        if words & _LANES[lane] or (part.bands == {band} and part.sources):
            return lane
    return 1


def _colour(part: Part) -> str:
    return _COLOURS[next(iter(part.bands)) if len(part.bands) == 1 else "both"]


def _arrow(start: tuple[float, float], end: tuple[float, float], colour: str) -> str:
    (x1, y1), (x2, y2) = start, end
    if y1 == y2:
        # Beside each other: from side to side.
        ends = (x1 + _BOX, x2) if x1 < x2 else (x1, x2 + _BOX)
        shift = 6 if x1 < x2 else -6
        path = f"M{ends[0]} {y1 + _HIGH / 2 + shift}L{ends[1]} {y2 + _HIGH / 2 + shift}"
        tip = (ends[1], y2 + _HIGH / 2 + shift, 1 if x1 < x2 else -1, 0)
    elif x1 == x2 and y2 - y1 > _STEP:
        # Past what stands between: along the side.
        side = x1 + _BOX + 14
        path = (
            f"M{x1 + _BOX} {y1 + _HIGH / 2}C{side} {y1 + _HIGH / 2} {side} {y2 + _HIGH / 2} {x2 + _BOX} "
            f"{y2 + _HIGH / 2}"
        )
        tip = (x2 + _BOX, y2 + _HIGH / 2, -1, 0)
    else:
        a, b, top = x1 + _BOX / 2, x2 + _BOX / 2, y2 if y2 > y1 else y2 + _HIGH
        low = y1 + _HIGH if y2 > y1 else y1
        bend = (top - low) / 2
        path = f"M{a} {low}C{a} {low + bend} {b} {top - bend} {b} {top}"
        tip = (b, top, 0, 1 if y2 > y1 else -1)
    x, y, right, down = tip
    head = (
        f"M{x} {y}L{x - 6 * right - 4 * down} {y - 6 * down - 4 * right}"
        f"L{x - 6 * right + 4 * down} {y - 6 * down + 4 * right}Z"
    )
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-opacity=".7"/>'
        f'<path d="{head}" fill="{colour}"/>'
    )


def _box(part: Part, place: tuple[float, float]) -> list[str]:
    x, y = place
    colour = _colour(part)
    given = part.name in (*_COLOURS, "classes", "fused picture")
    title = part.name.replace("_", " ")
    texts = [
        f'<rect x="{x}" y="{y}" width="{_BOX}" height="{_HIGH}" rx="7" '
        f'fill="{colour if given else "#ffffff"}" stroke="{colour}" stroke-width="1.5"/>',
        _text(x, y + (18 if part.scale else 24), 13 if len(title) < 23 else 11, title, given),
    ]
    if part.scale:
        texts.append(_text(x, y + 32, 11, part.scale, given))
    return texts


def _text(x: float, y: float, size: int, text: str, given: bool) -> str:
    return (
        f'<text x="{x + _BOX / 2}" y="{y}" font-size="{size}" text-anchor="middle" '
        f'fill="{"#ffffff" if given else "#243b53"}">{escape(text)}</text>'
    )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for system in SYSTEMS:
        (FOLDER / f"{system}.svg").write_text(draw(system), encoding="utf-8")
    print(f"written: {FOLDER}")
