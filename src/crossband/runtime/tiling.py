"""Large images in tiles: each is run alone, and what comes out is blended where tiles overlap.

Memory is that of one row of tiles, whatever the height of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from crossband.errors import OptionError
from crossband.systems.base import Output, System
from crossband.words import Band

_GRID = 32
"""Tiles begin at multiples of this, so that networks that halve an image five times see the same pixels."""
_SMALLEST = 128
_ROWS = 128
"""Rows that are given at once: what is made of them, such as probabilities, takes memory too."""


@dataclass(frozen=True)
class Tiling:
    """How images are cut. side: of a tile. overlap: of neighbouring tiles. All in pixels.

    An image that fits into a tile is taken whole.
    Raises OptionError for a tile below 128 pixels, and for an overlap of more than half a tile.
    """

    side: int = 1024
    overlap: int = 128

    def __post_init__(self) -> None:
        if self.side < _SMALLEST:
            raise OptionError(f"a tile has {_SMALLEST} pixels a side or more, not {self.side}")
        if not 0 < self.overlap <= self.side // 2:
            raise OptionError(
                f"tiles of {self.side} overlap by 1 to {self.side // 2} pixels, not {self.overlap}"
            )

    def __str__(self) -> str:
        return f"{self.side} pixels, overlap {self.overlap}"

    def cuts(self, height: int, width: int) -> bool:
        """Whether an image of that size is cut."""
        return max(height, width) > self.side


def blended(
    run: Callable[[np.ndarray | None, np.ndarray | None], Output],
    visible: np.ndarray | None,
    infrared: np.ndarray | None,
    tiling: Tiling,
) -> Iterator[tuple[int, Output]]:
    """The output for a batch of images, strip by strip from the top: (first row, what is there).

    run: what gives the output of a tile. visible: (B, H, W, 3), infrared: (B, H, W); one may be None. In an
    overlap, logits, pictures and reliabilities are means, weighted by the distance from the tile's edge.
    """
    image = visible if visible is not None else infrared
    assert image is not None
    rows, columns = (_places(size, tiling) for size in image.shape[1:3])
    down, across = _weights(rows, tiling.overlap), _weights(columns, tiling.overlap)
    left_over: dict[str, Tensor] = {}
    for number, (top, bottom) in enumerate(rows):
        strip: dict[str, Tensor] = {}
        for (left, right), weight in zip(columns, across, strict=True):
            output = run(_part(visible, top, bottom, left, right), _part(infrared, top, bottom, left, right))
            for name, values in _parts(output).items():
                shares = torch.from_numpy(down[number][:, None] * weight).to(values.device)
                if name not in strip:
                    whole = (*values.shape[:2], bottom - top, image.shape[2])
                    strip[name] = torch.zeros(whole, device=values.device)
                strip[name][..., left:right] += values * shares
            del output
        for name, values in left_over.items():
            strip[name][..., : values.shape[-2], :] += values
        ready = (rows[number + 1][0] if number + 1 < len(rows) else bottom) - top
        for row in range(0, ready, _ROWS):
            end = min(row + _ROWS, ready)
            yield top + row, _joined({name: values[..., row:end, :] for name, values in strip.items()})
        left_over = {name: values[..., ready:, :].clone() for name, values in strip.items()}


def joined_maps(
    system: System, visible: Tensor | None, infrared: Tensor | None, tiling: Tiling
) -> list[Tensor] | None:
    """What `System.nearby` makes of images, tile by tile: the maps of the whole; None where there is none.

    Each tile gives what lies nearer to its middle than to the next one's. Images as of `System.run`: of sides
    that are the system's multiples.
    """
    image = visible if visible is not None else infrared
    assert image is not None
    size = (image.shape[-2], image.shape[-1])
    rows, columns = ([(begin, _up(end, side)) for begin, end in _places(side, tiling)] for side in size)
    wholes: list[Tensor] = []
    for (top, bottom), (first, last) in zip(rows, _kept(rows), strict=True):
        for (left, right), (start, stop) in zip(columns, _kept(columns), strict=True):
            parts = (
                None if band is None else band[..., top:bottom, left:right] for band in (visible, infrared)
            )
            maps = system.nearby(*parts)
            if maps is None:
                return None
            strides = [(bottom - top) // part.shape[-2] for part in maps]
            if not wholes:
                wholes = [
                    part.new_empty((*part.shape[:2], *(side // stride for side in size)))
                    for part, stride in zip(maps, strides, strict=True)
                ]
            for whole, part, stride in zip(wholes, maps, strides, strict=True):
                whole[..., first // stride : last // stride, start // stride : stop // stride] = part[
                    ...,
                    (first - top) // stride : (last - top) // stride,
                    (start - left) // stride : (stop - left) // stride,
                ]
    return wholes


def _up(end: int, size: int) -> int:
    """Where a tile ends: on the grid, or with the image."""
    return min(size, -(-end // _GRID) * _GRID)


def _kept(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(begin, end) of what of each tile is kept: to the middle of each overlap, on the grid."""
    middles = [
        (begin + end) // 2 // _GRID * _GRID for (begin, _), (_, end) in zip(places[1:], places, strict=False)
    ]
    ends = [0, *middles, places[-1][1]]
    return list(pairwise(ends))


def strips(output: Output) -> Iterator[tuple[int, Output]]:
    """A whole output strip by strip from the top: (first row, what is there)."""
    parts = _parts(output)
    height = next(iter(parts.values())).shape[-2]
    for row in range(0, height, _ROWS):
        yield row, _joined({name: values[..., row : row + _ROWS, :] for name, values in parts.items()})


def _places(size: int, tiling: Tiling) -> list[tuple[int, int]]:
    """(begin, end) of the tiles along one side of an image. The last may be longer than the others."""
    if size <= tiling.side:
        return [(0, size)]
    step = max(_GRID, (tiling.side - tiling.overlap) // _GRID * _GRID)
    last = (size - tiling.side) // _GRID * _GRID
    begins = [*range(0, last, step), last]
    return [(begin, begin + tiling.side) for begin in begins[:-1]] + [(last, size)]


def _weights(places: list[tuple[int, int]], overlap: int) -> list[np.ndarray]:
    """What each tile counts for in each of its rows or columns, float32; those of all tiles add up to 1."""
    total = np.zeros(places[-1][1])
    ramps = []
    for begin, end in places:
        place = np.arange(end - begin)
        ramps.append(np.minimum(np.minimum(place, place[::-1]) + 1, overlap) / overlap)
        total[begin:end] += ramps[-1]
    return [
        (ramp / total[begin:end]).astype(np.float32) for ramp, (begin, end) in zip(ramps, places, strict=True)
    ]


def _part(image: np.ndarray | None, top: int, bottom: int, left: int, right: int) -> np.ndarray | None:
    return None if image is None else image[:, top:bottom, left:right]


def _parts(output: Output) -> dict[str, Tensor]:
    """What an output has of the image's size, by name, in float32."""
    parts: dict[str, Tensor | None] = {"logits": output.logits, "fused": output.fused}
    parts |= {str(band): weight for band, weight in output.reliability.items()}
    return {name: values.float() for name, values in parts.items() if values is not None}


def _joined(parts: dict[str, Tensor]) -> Output:
    bands: tuple[Band, ...] = ("visible", "infrared")
    return Output(
        logits=parts.get("logits"),
        fused=parts.get("fused"),
        reliability={band: parts[band] for band in bands if band in parts},
    )
