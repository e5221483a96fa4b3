"""The pairs of a training: those it trains on, and those that choose the epoch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from crossband.errors import CrossbandError, OptionError, PairError
from crossband.pairs.base import Pairs, hold_out
from crossband.pairs.file_states import files_state
from crossband.pairs.opening import list_splits, main_splits, open_pairs
from crossband.pairs.writing import write_text
from crossband.training.options import TrainOptions
from crossband.words import BANDS, Bands

if TYPE_CHECKING:
    from crossband.systems.base import Phase

STATE_NAME = "pairs.txt"
"""Beside the checkpoints: what the pairs were when the training began."""


def check_splits(options: TrainOptions) -> None:
    """Raise OptionError or PairError for a source that is not there, a split that it lacks, or lost images.

    Nothing heavy is loaded, and no image is read.
    """
    _check_train(options)
    for split in (options.split, options.validation):
        if split is not None:
            open_pairs(options.data, split, labels=False)


def open_training_pairs(options: TrainOptions) -> tuple[Pairs, Pairs | None]:
    """The pairs to train on and those to validate on. Raises OptionError or PairError."""
    _check_train(options)

    def opened(split: str, infrared_scaling: str) -> Pairs:
        return open_pairs(
            options.data, split, infrared_scaling=infrared_scaling, labels=not options.without_labels
        )

    pairs = opened(options.split, options.infrared_scaling)
    if pairs.classes is None and not options.without_labels:
        from crossband.systems import system_class

        fuses = "; `--without-labels` trains it to fuse" if system_class(options.system).fuses else ""
        raise PairError(
            f"{options.data} has no labels in split {options.split!r}; training a segmentation needs them"
            + fuses
        )
    if options.validation is not None:
        # By the rule that "auto" chose for the training pairs, if that was asked for.
        validation = opened(options.validation, str(pairs.scaling))
        if validation.classes is None and not options.without_labels:
            raise PairError(
                f"{options.data} has no labels in split {options.validation!r}; validating on it needs them"
            )
        return pairs, validation
    if options.hold_out == 0:
        return pairs, None
    if len(pairs) < 2:
        raise PairError(f"{options.data} has {len(pairs)} training pair; hold_out needs two, or set it to 0")
    kept, held = hold_out(pairs, options.hold_out, options.seed)
    if not len(held):
        raise PairError(
            f"{options.data} has a single training pair of each condition; set hold_out to 0, or name "
            "a split that chooses the checkpoint with validation"
        )
    return kept, held


def keep_state(checkpoints: Path, pairs: Pairs, validation: Pairs | None) -> None:
    """Keep what the pairs of a training are in the folder of its checkpoints, and hold them against what they
    were when it began.

    Of other pairs, others are held out: what an earlier epoch has learned would score a later one, and the
    best of them all would be the best on no list of pairs. As long as no epoch has ended, any will do.

    Raises PairError for pairs that have changed since, by their names, classes or files' sizes and dates.
    """
    path = checkpoints / STATE_NAME
    meaning = None if pairs.classes is None else (pairs.classes.names, pairs.classes.ignore)
    lists = [files_state(each) for each in (pairs, validation) if each is not None]
    state = "\n".join([*lists, repr(meaning)]) + "\n"
    if path.is_file() and any(checkpoints.glob("*.ckpt")):
        if path.read_text(encoding="utf-8", errors="replace") == state:
            return
        raise PairError(
            f"{pairs.source} has other images, labels or classes than when this training began; bring back "
            "those that it had, or train in another folder. Where the files hold the same and are only "
            f"dated anew, as copies are, delete {path} and resume"
        )
    write_text(path, state)


def check_can_validate(phases: Iterable[Phase], pairs: Pairs) -> None:
    """Raise PairError for pairs that lack a band which a phase is validated on."""
    for phase in phases:
        by_loss = phase.chosen_by == "loss"
        wanted = (phase.reads or phase.validate[0],) if by_loss else phase.validate
        for bands in wanted:
            missing = sorted(set(BANDS if bands == "both" else (bands,)) - set(pairs.bands))
            if missing:
                raise PairError(
                    f"phase {phase.name} is validated on {bands}, but {pairs.source}, split {pairs.split}, "
                    f"has no {missing[0]} images"
                )


def split_to_score(options: TrainOptions, supports: Iterable[Bands]) -> str | None:
    """The split of a run's source to score it on: ``test`` where there is one, or else one that it was not
    trained on, last of all the one that chose the epoch; None where there is none, or the source is gone.

    What it is scored by has to be there: labels and a combination of bands that it runs on; both bands, of a
    run that only fuses.
    supports: those combinations.
    """
    trained = set(options.split.split("+"))
    try:
        splits = [split for split in main_splits(options.data) if trained.isdisjoint(split.split("+"))]
        # False comes first.
        splits.sort(key=lambda split: (split != "test", split == options.validation))
    except CrossbandError:
        return None
    wanted: Iterable[Bands] = ("both",) if options.without_labels else supports
    return next((split for split in splits if _can_be_scored(options, split, wanted)), None)


def _can_be_scored(options: TrainOptions, split: str, wanted: Iterable[Bands]) -> bool:
    try:
        pairs = open_pairs(options.data, split, labels=not options.without_labels)
    except CrossbandError:
        return False
    bands = set(pairs.bands)
    there = any(bands.issuperset(BANDS if each == "both" else (each,)) for each in wanted)
    return bool(len(pairs)) and there and (options.without_labels or pairs.classes is not None)


def _check_train(options: TrainOptions) -> None:
    splits = list_splits(options.data)
    if options.split not in splits and options.split == "train":
        raise OptionError(
            f"{options.data} has no split 'train'; give --split with one that it has: {', '.join(splits)}"
        )
