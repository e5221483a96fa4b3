"""A system on PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossband.devices import autocast, find_device
from crossband.errors import OptionError, first_line
from crossband.pairs.base import bands_of
from crossband.pictures import to_uint8
from crossband.runtime.answer import Answer
from crossband.runtime.tiling import Tiling, blended, joined_maps, strips
from crossband.systems.base import Output, System
from crossband.words import Band, Precision


class PyTorchRuntime:
    """A system in eval mode on a device. Raises OptionError for a device that is not there.

    device: None takes a GPU if there is one. precision: that of autocast, "float32" being without.
    tiling: how large images are cut; None takes every image whole. compiled: whether PyTorch compiles the
    system, which takes minutes at the first image and needs a C++ compiler.
    """

    def __init__(
        self,
        system: System,
        device: str | torch.device | None = None,
        *,
        precision: Precision = "float32",
        tiling: Tiling | None = None,
        compiled: bool = False,
    ):
        self.device = find_device(device)
        self.system = system.eval().folded().to(self.device)
        self._compute: Any = torch.compile(self.system) if compiled else self.system
        self.precision: Precision = precision
        self.tiling = tiling

    @torch.inference_mode()
    def answer(self, visible: np.ndarray | None, infrared: np.ndarray | None) -> Answer:
        image = visible if visible is not None else infrared
        assert image is not None
        count, height, width = image.shape[:3]
        if self.tiling is None or not self.tiling.cuts(height, width):
            return _joined([(0, self._run(visible, infrared))], (count, height, width))
        divided = self._divided(visible, infrared, self.tiling)
        parts = blended(self._run, visible, infrared, self.tiling) if divided is None else strips(divided)
        return _joined(parts, (count, height, width))

    def _divided(
        self, visible: np.ndarray | None, infrared: np.ndarray | None, tiling: Tiling
    ) -> Output | None:
        """The output of a system of which only a part has to be run in tiles; None for others."""
        images = self._images(visible, infrared)
        bands = bands_of(*images)
        self.system.check_bands(bands)
        with autocast(self.device, self.precision):
            padded = self.system.pad(images[0]), self.system.pad(images[1])
            maps = joined_maps(self.system, *padded, tiling)
            if maps is None:
                return None
            output = self.system.complete(bands, maps)
        height, width = next(image.shape[-2:] for image in images if image is not None)
        return self.system.cropped(output, height, width)

    def _images(
        self, visible: np.ndarray | None, infrared: np.ndarray | None
    ) -> tuple[Tensor | None, Tensor | None]:
        return (
            None if visible is None else self._tensor(visible.transpose(0, 3, 1, 2)),
            None if infrared is None else self._tensor(infrared[:, None]),
        )

    def _run(self, visible: np.ndarray | None, infrared: np.ndarray | None) -> Output:
        images = self._images(visible, infrared)
        with autocast(self.device, self.precision):
            try:
                return self._compute(*images)
            except torch._dynamo.exc.TorchDynamoException as error:
                raise OptionError(
                    f"PyTorch cannot compile {self.system.name} here ({first_line(error)}): "
                    "take another runtime"
                ) from error

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def _joined(strips: Iterable[tuple[int, Output]], size: tuple[int, int, int]) -> Answer:
    """The answer whose rows are those of the strips. size: (B, H, W)."""
    answer = Answer()
    for top, output in strips:
        if any(part is not None and bool(part.isnan().any()) for part in (output.logits, output.fused)):
            answer.diverged = True
        if output.logits is not None:
            likeliest, ids = output.logits.float().softmax(dim=1).max(dim=1)
            answer.labels = _filled(answer.labels, ids.to(torch.uint8).cpu().numpy(), top, size)
            answer.confidence = _filled(answer.confidence, likeliest.cpu().numpy(), top, size)
        if output.fused is not None:
            levels = to_uint8(output.fused.float().permute(0, 2, 3, 1).cpu().numpy())
            answer.fused = _filled(answer.fused, levels, top, size)
        weights: dict[Band, Tensor] = output.reliability
        for band, weight in weights.items():
            rows = weight[:, 0].float().cpu().numpy()
            answer.reliability[band] = _filled(answer.reliability.get(band), rows, top, size)
    return answer


def _filled(whole: np.ndarray | None, rows: np.ndarray, top: int, size: tuple[int, int, int]) -> np.ndarray:
    """An array of the image's size with some of its rows filled in; those rows, if they are all."""
    if rows.shape[1] == size[1]:
        return rows
    if whole is None:
        whole = np.empty((*size, *rows.shape[3:]), rows.dtype)
    whole[:, top : top + rows.shape[1]] = rows
    return whole
