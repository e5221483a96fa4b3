"""Pairs to batches of tensors: reading in worker processes, the order of an epoch, padding, errors.

Every random decision is a pure function of a seed, the epoch and the pair's place in its list. Batches are
therefore the same for any number of workers, on any process of a multi-GPU run, and after a resume.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from crossband.errors import CrossbandError, OptionError, PairError, quoted
from crossband.pairs.augmentation import Augmentation, augment
from crossband.pairs.base import Pair, Pairs
from crossband.pairs.batch import Batch
from crossband.words import BANDS, IGNORE_INDEX, Band


@dataclass(frozen=True)
class Draw:
    """One use of one pair: its place in the list, the epoch, and the band that the batch goes without.

    whole: nothing of the pair is broken on purpose.
    """

    epoch: int
    index: int
    missing: Band | None = None
    whole: bool = False


class PairDataset(Dataset[Pair]):
    """The pairs of a list, augmented.

    A `Draw` as key gives the pair of that epoch, its randomness from (seed, epoch, index) alone. A plain
    int gives the pair as it is, both bands, not augmented.
    """

    def __init__(self, pairs: Pairs, augmentation: Augmentation | None, seed: int):
        self.pairs = pairs
        self.augmentation = augmentation
        self.of_whole = None if augmentation is None else replace(augmentation, corrupted=0.0)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: Draw | int) -> Pair:
        """Raises PairError if the pair cannot be used, or has nothing left without the missing band."""
        if not isinstance(key, Draw):
            return self.pairs[key]
        pair = self.pairs[key.index]
        if key.missing is not None:
            pair = _without(pair, key.missing)
        augmentation = self.of_whole if key.whole else self.augmentation
        if augmentation is None:
            return pair
        return augment(pair, augmentation, _generator(self.seed, key.epoch, 1 + key.index))


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    """Stream 0 decides over the epoch as a whole, stream 1 + index over one pair of it."""
    return np.random.default_rng((seed, epoch, stream))


def _without(pair: Pair, band: Band) -> Pair:
    rest = replace(pair, visible=None) if band == "visible" else replace(pair, infrared=None)
    if rest.visible is None and rest.infrared is None:
        raise PairError(
            f"pair {quoted(pair.name)} has no other band than {band}; set augmentation.band_dropout to 0"
        )
    return rest


class EpochBatches(Sampler[list[Draw]]):
    """The batches of one epoch, for one of ``world_size`` processes.

    Each step takes ``batch_size * world_size`` pairs of the epoch's order and deals them out to the
    processes, so that the pairs of a step depend on that product alone, and every process makes the same
    number of steps.

    drop_last: leave out the pairs at the epoch's end that do not fill a step; a list too short for a single
        step is repeated until it fills one (the repeated pair is augmented the same way each time). If
        False, the last step is smaller, and up to ``world_size - 1`` pairs are repeated to make it even.
    band_dropout: probability that a step misses one band, either with equal chance. All processes miss the
        same one: a step whose processes used different branches would wait forever for missing gradients.
    whole_from: the epoch from which on pairs are whole, and no band is missed. None for no such epoch.

    Raises PairError if there are no pairs, OptionError for numbers that make no sense.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool = True,
        drop_last: bool = True,
        band_dropout: float = 0.0,
        whole_from: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        if length < 1:
            raise PairError("there are no pairs to make batches of; check the path and the split")
        if batch_size < 1:
            raise OptionError(f"the batch size must be at least 1, not {batch_size}")
        if seed < 0:
            raise OptionError(f"the seed must be 0 or more, not {seed}")
        if not 0 <= rank < world_size:
            raise OptionError(f"rank must lie in [0, world_size), but is {rank} of {world_size}")
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.band_dropout = band_dropout
        self.whole_from = whole_from
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._step = batch_size * world_size
        if drop_last:
            self._drawn = max(length // self._step, 1) * self._step
        else:
            self._drawn = -(-length // world_size) * world_size

    @property
    def sampler(self) -> EpochBatches:
        """Itself: Lightning calls ``set_epoch`` on ``batch_sampler.sampler`` when an epoch begins."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives. Iterating does not advance it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self._drawn // self._step)

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = _generator(self.seed, self.epoch, 0)
        order = rng.permutation(self.length) if self.shuffle else np.arange(self.length)
        order = np.resize(order, self._drawn)
        drops = rng.random(len(self)) < self.band_dropout
        dropped = rng.integers(len(BANDS), size=len(self))
        epoch = self.epoch
        whole = self.whole_from is not None and epoch >= self.whole_from
        for step, (drops_one, band) in enumerate(zip(drops, dropped, strict=True)):
            missing = BANDS[band] if drops_one and not whole else None
            together = order[step * self._step : (step + 1) * self._step]
            mine = together[self.rank :: self.world_size]
            yield [Draw(epoch, int(index), missing, whole) for index in mine]


def collate(samples: Sequence[Pair]) -> Batch:
    """Join pairs into a batch.

    Pairs of different sizes are padded on the right and below to the largest height and width: the bands
    repeat their edge, the label becomes ``IGNORE_INDEX``.

    Raises PairError, naming two pairs, if one has a band or a label that the other lacks.
    """
    return _with_long_label(_joined(samples))


def _joined(samples: Sequence[Pair]) -> Batch:
    """What `collate` gives, its label of one byte an id: an eighth to carry from one process to another."""
    size = max(pair.size[0] for pair in samples), max(pair.size[1] for pair in samples)
    return Batch(
        visible=_join_images("visible", samples, size),
        infrared=_join_images("infrared", samples, size),
        label=_join_labels(samples, size),
        valid=_join_valid(samples, size),
        names=[pair.name for pair in samples],
        conditions=[pair.condition for pair in samples],
    )


def _with_long_label(batch: Batch) -> Batch:
    return batch if batch.label is None else replace(batch, label=batch.label.long())


def _join_images(band: Band, samples: Sequence[Pair], size: tuple[int, int]) -> Tensor | None:
    images = _all_or_none(band, samples)
    if images is None:
        return None
    channels = np.atleast_3d(images[0]).shape[2]
    joined = np.empty((len(images), channels, *size), np.float32)
    for target, image in zip(joined, images, strict=True):
        height, width = image.shape[:2]
        for channel, plane in zip(target, cv2.split(np.ascontiguousarray(image)), strict=True):
            channel[:height, :width] = plane
        target[:, :height, width:] = target[:, :height, width - 1 : width]
        target[:, height:] = target[:, height - 1 : height]
    return torch.from_numpy(joined)


def _join_labels(samples: Sequence[Pair], size: tuple[int, int]) -> Tensor | None:
    labels = _all_or_none("label", samples)
    if labels is None:
        return None
    joined = np.full((len(labels), *size), IGNORE_INDEX, np.uint8)
    for target, label in zip(joined, labels, strict=True):
        target[: label.shape[0], : label.shape[1]] = label
    return torch.from_numpy(joined)


def _join_valid(samples: Sequence[Pair], size: tuple[int, int]) -> Tensor | None:
    """True on the pixels that show an image; None if all do."""
    joined = np.zeros((len(samples), *size), bool)
    for target, pair in zip(joined, samples, strict=True):
        height, width = pair.size
        target[:height, :width] = True if pair.valid is None else pair.valid
    return None if joined.all() else torch.from_numpy(joined)


def _all_or_none(
    part: Literal["visible", "infrared", "label"], samples: Sequence[Pair]
) -> list[np.ndarray] | None:
    """That part of every pair, or None if no pair has it."""
    arrays = [(pair.name, getattr(pair, part)) for pair in samples]
    having = [name for name, array in arrays if array is not None]
    lacking = [name for name, array in arrays if array is None]
    if having and lacking:
        what = "label" if part == "label" else f"{part} image"
        raise PairError(
            f"pair {quoted(lacking[0])} has no {what} but pair {quoted(having[0])} of the same batch has "
            f"one; add the missing {what} or leave such pairs out"
        )
    return [array for _, array in arrays] if having else None


class _BatchReader(PairDataset):
    """Reads and joins a whole batch inside a worker, and hands an input error back as a value.

    An exception that leaves a worker reaches the user with the worker's traceback pasted into its message.
    As a value it arrives as the one clear line that it is.
    """

    def __init__(
        self,
        pairs: Pairs,
        augmentation: Augmentation | None,
        seed: int,
        join: Callable[[list[Pair]], list[Batch]],
    ):
        super().__init__(pairs, augmentation, seed)
        self.join = join

    def __getitems__(self, keys: list[Draw] | list[int]) -> list[Batch] | CrossbandError:
        try:
            return self.join([self[key] for key in keys])
        except CrossbandError as error:
            return error


class PairLoader(DataLoader[Pair]):
    """A DataLoader that gives `Batch`es; made by `training_loader` and `evaluation_loader`."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Raises PairError if a pair cannot be used."""
        for answer in super().__iter__():
            if isinstance(answer, CrossbandError):
                try:
                    raise answer
                finally:
                    # The error's traceback holds this frame. If the frame held the error too, the workers
                    # would live until the cycle is collected, and torch then waits seconds for each.
                    del answer
            yield from map(_with_long_label, answer)


class _RunLoader(PairLoader):
    """A loader that cuts each chunk of pairs into runs of equal size."""

    def __len__(self) -> int:
        if self.batch_size != 1:
            raise TypeError(
                "the number of batches depends on the images' sizes, which are not known before reading"
            )
        return super().__len__()


def training_loader(
    pairs: Pairs,
    augmentation: Augmentation | None,
    *,
    batch_size: int,
    seed: int,
    workers: int,
    epochs: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> PairLoader:
    """Shuffled, augmented batches of ``batch_size`` pairs per process; every batch is full.

    epochs: how many there will be, of which ``augmentation.broken_epochs`` is a share; None for no end, so
    that it does not act.

    Its ``batch_sampler`` is an `EpochBatches`: call ``set_epoch`` before each epoch (Lightning does so by
    itself, and must be told ``use_distributed_sampler=False``, since the sharding is done here).

    Raises OptionError for band dropout on pairs that have only one band.
    """
    band_dropout = augmentation.band_dropout if augmentation else 0.0
    if band_dropout and set(pairs.bands) != set(BANDS):
        raise OptionError(
            f"augmentation.band_dropout needs both bands, but {pairs.source} has only "
            f"{' and '.join(pairs.bands)}; set it to 0"
        )
    whole_from = None if augmentation is None or epochs is None else ceil(augmentation.broken_epochs * epochs)
    batches = EpochBatches(
        len(pairs),
        batch_size,
        seed=seed,
        band_dropout=band_dropout,
        whole_from=whole_from,
        rank=rank,
        world_size=world_size,
    )
    reader = _BatchReader(pairs, augmentation, seed, _one_batch)
    return PairLoader(reader, batch_sampler=batches, pin_memory=pin_memory, **_process_options(workers))


def evaluation_loader(pairs: Pairs, *, batch_size: int = 1, workers: int) -> PairLoader:
    """The pairs in their order, neither augmented nor padded.

    ``batch_size`` consecutive pairs are read together and given as one batch if they have the same size and
    the same bands; otherwise every run of alike pairs among them is a batch. Because sizes are known only
    after reading, ``len()`` works for a batch size of 1 alone; ``len(pairs)`` always does.
    """
    if batch_size < 1:
        raise OptionError(f"the batch size must be at least 1, not {batch_size}")
    reader = _BatchReader(pairs, None, 0, _runs_of_alike)
    return _RunLoader(reader, batch_size=batch_size, **_process_options(workers))


def _process_options(workers: int) -> dict[str, Any]:
    if workers < 0:
        raise OptionError(f"the number of workers must be 0 or more, not {workers}")
    return {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "collate_fn": _as_it_is,
        "worker_init_fn": _start_worker,
        # A loader without its own generator draws from torch's global one whenever an iteration begins, so
        # that a validation pass would change the dropout masks of the training around it.
        "generator": torch.Generator(),
    }


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of glibc's ``mallopt``."""
_KEPT = 1 << 29


def _start_worker(number: int) -> None:
    # OpenCV's threads do not survive a fork: a worker that hands them work may wait for ever.
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)
    _keep_memory()


def _keep_memory() -> None:
    """Let a worker keep the memory of a batch for the next one, instead of fetching it anew page by page.

    Where the C library is another one than glibc, nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    # A glibc that takes no threshold so high is left as it is: the other one alone would stop it from raising
    # its own, and every array would be fetched anew.
    if mallopt is not None and mallopt(_MMAP_THRESHOLD, _KEPT):
        mallopt(_TRIM_THRESHOLD, _KEPT)


def _as_it_is(answer: list[Batch] | CrossbandError) -> list[Batch] | CrossbandError:
    return answer


def _one_batch(samples: list[Pair]) -> list[Batch]:
    return [_joined(samples)]


def _runs_of_alike(samples: list[Pair]) -> list[Batch]:
    return [_joined(list(run)) for _, run in groupby(samples, key=_kind)]


def _kind(pair: Pair) -> tuple[object, ...]:
    return pair.size, pair.visible is None, pair.infrared is None, pair.label is None
