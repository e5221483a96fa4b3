"""Infrared alone with batch-norm statistics of its own.

CSK-Net's infrared batch norms collect their statistics from features that were exchanged with the visible
branch, but infrared-only inference runs without any exchange. One pass over infrared training images, in
which the statistics are taken anew and no weight changes, removes that mismatch. The two-band system needs
the old statistics, so the new ones go into a copy: the infrared branch as a DeepLabV3+ of its own, which is
what it is. The paper does nothing of the kind; this is an option.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from crossband.devices import find_device
from crossband.errors import OptionError, PairError
from crossband.locks import folder_lock, is_vacant
from crossband.pairs.base import Pairs
from crossband.pairs.loading import EpochBatches, collate
from crossband.pairs.opening import for_testing, open_pairs
from crossband.systems import loss_options
from crossband.systems.csknet.network import CSKNet
from crossband.systems.deeplabv3plus import DeepLabV3Plus
from crossband.weights import load_run, make_card, save_run


def recalibrate(
    system: CSKNet | DeepLabV3Plus,
    pairs: Pairs,
    *,
    batch_size: int = 8,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> DeepLabV3Plus:
    """The infrared branch of a system as a copy whose batch norms fit unexchanged infrared images.

    The statistics are the average over the pairs of one shuffled pass in batches, without augmentation: of
    ``batch_size``, or where that does not divide the pairs of nearly equal sizes below it, since a small rest
    would be normalised by itself. A DeepLabV3+ on infrared is treated likewise, to be compared under equal
    terms. Returned in eval mode, on the CPU; ``system`` is left as it is.
    Raises OptionError if the pairs have no infrared images, or for a batch size below 2, and PairError for
    fewer than 2 pairs.
    """
    if batch_size < 2:
        raise OptionError(f"statistics need batches of at least 2 pairs, not {batch_size}")
    if "infrared" not in pairs.bands:
        raise OptionError(f"{pairs.source} has no infrared images to take statistics from")
    if len(pairs) < 2:
        raise PairError(
            f"statistics need at least 2 pairs, but {pairs.source}, split {pairs.split}, has {len(pairs)}"
        )
    # Only the norms are in training mode: dropout would widen distributions that inference sees as they are.
    alone = system.infrared_system() if isinstance(system, CSKNet) else deepcopy(system)
    alone = alone.to(device).eval()
    norms = [module for module in alone.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    batches = _batches(len(pairs), batch_size, seed)
    seen = 0

    with torch.no_grad():
        for done, batch in enumerate(batches, start=1):
            infrared = collate([pairs[index] for index in batch]).infrared
            assert infrared is not None
            seen += len(batch)
            for norm in norms:
                # The share of a batch in the average so far, in which every pair weighs the same.
                norm.momentum = len(batch) / seen
            alone(infrared=infrared.to(device))
            if progress is not None:
                progress(done, len(batches))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return alone.cpu().eval()


def _batches(length: int, batch_size: int, seed: int) -> list[list[int]]:
    """All of so many pairs, two or more, in batches whose sizes differ by one at most: places in the list.

    A batch has ``batch_size`` pairs at most, and never one alone: three pairs in twos are one batch.
    """
    order = [draw.index for (draw,) in EpochBatches(length, 1, seed=seed)]
    count = min(-(-length // batch_size), length // 2)
    return [batch.tolist() for batch in np.array_split(order, count)]


def recalibrate_run(
    run: str | Path,
    data: str,
    out: Path,
    *,
    split: str = "train",
    batch_size: int = 8,
    seed: int = 0,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Recalibrate the run of a CSK-Net on a source of pairs, into a run folder of its own.

    Raises OptionError if the run is of another system, if the split is the test split or holds of it, or if
    ``out`` exists.
    """
    if for_testing(data, split):
        raise OptionError("the test split is for testing: take the statistics from a training split")
    with folder_lock(out):
        if not is_vacant(out):
            raise OptionError(f"{out} is not empty; choose another run folder")
        _recalibrate_into(run, data, out, split, batch_size, seed, device, progress)


def _recalibrate_into(
    run: str | Path,
    data: str,
    out: Path,
    split: str,
    batch_size: int,
    seed: int,
    device: str | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    system, card = load_run(run)
    if not isinstance(system, CSKNet | DeepLabV3Plus) or "infrared" not in system.supports:
        raise OptionError(
            f"{run} holds a {system.name} on {' and '.join(system.supports)}; what can be recalibrated is a "
            "csknet, or a deeplabv3plus on infrared to compare it with"
        )
    pairs = open_pairs(data, split, infrared_scaling=card.infrared_scaling)
    alone = recalibrate(
        system,
        pairs,
        batch_size=batch_size,
        seed=seed,
        device=find_device(device),
        progress=progress,
    )
    alone.encoder_origin = system.encoder_origin
    training = {
        **card.training,
        "recalibrated": {
            "from": str(run),
            "system": card.system,
            "variant": card.variant,
            "data": pairs.source,
            "split": split,
            "batch_size": batch_size,
            "seed": seed,
        },
    }
    loss = {name: card.loss[name] for name in loss_options(alone.name) if name in card.loss}
    save_run(out, alone, make_card(alone, card.classes, card.infrared_scaling, training, loss=loss))
