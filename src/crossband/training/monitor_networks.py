"""The small networks of a band monitor, trained side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.words import BANDS

_WIDTH = 8
_STEPS, _BATCH, _RATE, _DECAY = 200, 256, 1e-2, 1e-2
_NOISE, _HIDDEN = 0.1, 0.1
"""What is added to distances in training, and the share that is left out: a monitor must not know single
pairs by heart."""


class Lesson:
    """What one network learns from: pictures drawn with replacement, and what each band left out is worth."""

    def __init__(self, values: np.ndarray, gains: np.ndarray, seed: Sequence[int]):
        drawing = np.random.default_rng(seed)
        chosen = drawing.integers(len(values), size=len(values))
        self.inputs = torch.from_numpy(values[chosen]).float()
        self.worth = torch.from_numpy(gains[chosen] / max(float(np.abs(gains).mean()), 1e-9)).float()
        self.random = torch.Generator().manual_seed(int(drawing.integers(2**31)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(drawing.integers(2**31)))
            layers = nn.Linear(values.shape[1], _WIDTH), nn.Linear(_WIDTH, len(BANDS))
        self.start = [part.detach() for layer in layers for part in (layer.weight, layer.bias)]

    def batch(self) -> tuple[Tensor, Tensor]:
        """Inputs (B, K), disturbed, and their worth (B, 2) by B; a short one is filled with worth 0."""
        size = min(_BATCH, len(self.inputs))
        members = torch.randint(len(self.inputs), (size,), generator=self.random)
        seen = self.inputs[members]
        seen = seen + _NOISE * torch.randn(seen.shape, generator=self.random)
        seen = seen * (torch.rand(seen.shape, generator=self.random) >= _HIDDEN)
        filling = (0, 0, 0, _BATCH - size)
        return F.pad(seen, filling), F.pad(self.worth[members] / size, filling)


def train_networks(lessons: Sequence[Lesson]) -> list[Tensor]:
    """Weights (M, W, K), (M, W), (M, 2, W) and (M, 2) of a network for each lesson, trained side by side.

    The softmax over a network's scores and 0 is how likely it leaves out visible, infrared or none. It is
    trained for the expected gain.
    """
    parts = [nn.Parameter(torch.stack(each)) for each in zip(*(one.start for one in lessons), strict=True)]
    first, bias, last, ending = parts
    optimizer = torch.optim.AdamW(parts, lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        seen, worth = map(torch.stack, zip(*(one.batch() for one in lessons), strict=True))
        hidden = torch.relu(torch.baddbmm(bias[:, None], seen, first.mT))
        scores = torch.baddbmm(ending[:, None], hidden, last.mT)
        likely = torch.softmax(F.pad(scores, (1, 0)), dim=2)
        # Summed, so that no network's step depends on how many there are.
        loss = -(likely[..., 1:] * worth).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return list(parts)
