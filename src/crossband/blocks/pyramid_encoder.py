"""An encoder as a pyramid of four maps that can be entered between a level's embedding and its blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from torch import Tensor, nn

from crossband.errors import OptionError

Padding = Literal["edge", "none"]
LEVELS = (1, 2, 3, 4)
REDUCTIONS = (8, 4, 2, 1)
SMALLEST_SIDE = 29
"""Of an image, in pixels: with less, the first level does not hold one square of 8 x 8."""


def check_side(system: str, image: Tensor) -> None:
    """Raises OptionError for an image (B, C, H, W) that is too small for attention on all levels."""
    if min(image.shape[-2:]) < SMALLEST_SIDE:
        raise OptionError(
            f"{system}: without padding, as published, an image must have {SMALLEST_SIDE} pixels a side or "
            f"more, not {image.shape[-2]} x {image.shape[-1]}; make it larger, or set padding to edge"
        )


class PyramidEncoder(nn.Module, ABC):
    """Four levels, of strides 4, 8, 16 and 32; each is an embedding, which makes the map smaller, and blocks.

    Two pyramids that work on two bands can so be made to meet at either place of every level.

    channels: of the four maps.
    embed_channels: of the maps between embedding and blocks; some convolutional encoders widen them again.
    ends_in_norm: whether each level ends in a norm of its map at every position, so that all maps have one
        scale. A batch norm before a residual sum or an activation is none: it does not normalise the map.
    heads: how many an attention on the four maps should have; it divides the channels.
    reductions: the factor by which an attention on the four maps should shrink the map that keys and
        values are taken from, so that all four have about as many.
    """

    channels: tuple[int, ...]
    embed_channels: tuple[int, ...]
    heads: tuple[int, ...]
    reductions: tuple[int, ...] = REDUCTIONS
    ends_in_norm: ClassVar[bool] = False

    @abstractmethod
    def embed(self, level: int, features: Tensor) -> Tensor:
        """Start a level, from 1: the image (B, 3, H, W), or the map of the level before -> (B, C', h, w)."""

    @abstractmethod
    def blocks(self, level: int, features: Tensor) -> Tensor:
        """Finish a level that was started: (B, C', h, w) -> (B, C, h, w)."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """The maps (B, C, h, w) of all levels of an image (B, 3, H, W), normalised as the weights expect."""
        maps, features = [], image
        for level in LEVELS:
            features = self.blocks(level, self.embed(level, features))
            maps.append(features)
        return maps
