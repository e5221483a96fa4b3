"""A batch of pairs, as the loader gives it and every loss takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from crossband.pairs.base import bands_of
from crossband.words import Bands


@dataclass
class Batch:
    """A batch of pairs. A band that is missing is None for the whole batch.

    visible: float (B, 3, H, W), sRGB in [0, 1]. infrared: float (B, 1, H, W) in [0, 1].
    label: int64 (B, H, W), ``IGNORE_INDEX`` where nothing counts, or None where there are no labels.
    valid: bool (B, H, W), False on pixels that augmentation or joining added around an image, and on those
        that only one camera of a rig saw, or None where there are none.
    names, conditions: one per pair, where the batch comes from a loader.
    """

    visible: Tensor | None = None
    infrared: Tensor | None = None
    label: Tensor | None = None
    valid: Tensor | None = None
    names: list[str] = field(default_factory=list)
    conditions: list[str | None] = field(default_factory=list)

    @property
    def bands(self) -> Bands:
        """The combination of bands that is there. Raises BandError if there is none."""
        return bands_of(self.visible, self.infrared)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width). Raises BandError if no band is there."""
        bands_of(self.visible, self.infrared)
        image = self.visible if self.visible is not None else self.infrared
        assert image is not None
        return image.shape[-2], image.shape[-1]

    def to(self, device: str | torch.device, *, non_blocking: bool = False) -> Self:
        """The batch with its tensors on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The batch in page-locked memory, from which copies to a GPU are quicker; PyTorch's loader asks."""
        return self._each(Tensor.pin_memory)

    def only(self, bands: Bands) -> Self:
        """The batch with only the named bands left; the other is None."""
        return replace(
            self,
            visible=self.visible if bands != "infrared" else None,
            infrared=self.infrared if bands != "visible" else None,
        )

    def at(self, places: Sequence[int]) -> Self:
        """The pairs of the batch at these places."""
        cut = self._each(lambda tensor: tensor[list(places)])
        pick = range(len(self.names))
        there = [place for place in places if place in pick]
        return replace(
            cut,
            names=[self.names[place] for place in there],
            conditions=[self.conditions[place] for place in there],
        )

    def first(self, count: int) -> Self:
        """The first pairs of the batch."""
        cut = self._each(lambda tensor: tensor[:count])
        return replace(cut, names=self.names[:count], conditions=self.conditions[:count])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        def of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else change(tensor)

        return replace(
            self,
            visible=of(self.visible),
            infrared=of(self.infrared),
            label=of(self.label),
            valid=of(self.valid),
        )
