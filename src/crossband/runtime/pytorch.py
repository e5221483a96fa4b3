"""A system on PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crossband.devices import find_device
from crossband.pictures import to_uint8
from crossband.runtime.answer import Answer
from crossband.systems.base import System


class PyTorchRuntime:
    """A system in eval mode on a device. Raises OptionError for a device that is not there.

    device: None takes a GPU if there is one.
    """

    def __init__(self, system: System, device: str | torch.device | None = None):
        self.device = find_device(device)
        self.system = system.eval().to(self.device)

    @torch.inference_mode()
    def answer(self, visible: np.ndarray | None, infrared: np.ndarray | None) -> Answer:
        output = self.system(
            None if visible is None else self._tensor(visible.transpose(0, 3, 1, 2)),
            None if infrared is None else self._tensor(infrared[:, None]),
        )
        labels = confidence = fused = None
        if output.logits is not None:
            likeliest, ids = output.logits.float().softmax(dim=1).max(dim=1)
            labels, confidence = ids.to(torch.uint8).cpu().numpy(), likeliest.cpu().numpy()
        if output.fused is not None:
            fused = to_uint8(output.fused.float().permute(0, 2, 3, 1).cpu().numpy())
        return Answer(
            labels=labels,
            confidence=confidence,
            fused=fused,
            reliability={band: w[:, 0].float().cpu().numpy() for band, w in output.reliability.items()},
            diverged=any(
                part is not None and bool(part.isnan().any()) for part in (output.logits, output.fused)
            ),
        )

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
