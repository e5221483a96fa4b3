"""What was counted in every single pair, kept so that intervals and comparisons can draw pairs again."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossband.errors import OptionError
from crossband.pairs.base import Classes
from crossband.pairs.writing import replacing
from crossband.words import BAND_COMBINATIONS, Bands

_COUNTS = "counts_"


@dataclass(frozen=True)
class PairCounts:
    """The confusion matrix of every pair.

    source, split, classes: those of the pairs.
    names, conditions: of the pairs, in order.
    matrices: per band combination int32 (N, C, C), rows = truth, columns = prediction.
    """

    source: str
    split: str
    classes: Classes
    names: tuple[str, ...]
    conditions: tuple[str, ...]
    matrices: Mapping[Bands, np.ndarray]


def write_pair_counts(path: Path, counts: PairCounts) -> None:
    """Write counts as a compressed NumPy archive, whole or not at all.

    Raises OptionError if it cannot be written.
    """
    arrays: dict[str, Any] = {
        "source": np.array(counts.source),
        "split": np.array(counts.split),
        "classes": np.array(counts.classes.names, dtype=str),
        "palette": np.array(counts.classes.palette, dtype=np.uint8),
        **{name: np.array(getattr(counts, name), dtype=str) for name in ("names", "conditions")},
        **{f"{_COUNTS}{bands}": matrices for bands, matrices in counts.matrices.items()},
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_pair_counts(path: Path) -> PairCounts:
    """Read what `write_pair_counts` wrote. Nothing is unpickled.

    Raises OptionError for a file that is not there, is damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            texts = {name: _texts(archive[name]) for name in ("names", "conditions")}
            colours = tuple((int(red), int(green), int(blue)) for red, green, blue in archive["palette"])
            classes = Classes(_texts(archive["classes"]), colours)
            matrices = {
                name.removeprefix(_COUNTS): archive[name]
                for name in archive.files
                if name.startswith(_COUNTS)
            }
            counts = PairCounts(
                str(archive["source"]), str(archive["split"]), classes, **texts, matrices=matrices
            )
    except FileNotFoundError as error:
        raise OptionError(
            f"{path} is not there: `crossband evaluate` writes it beside its other results"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        # What NumPy says of a file that is none of its own is how to unpickle it.
        raise OptionError(
            f"{path} holds no counts per pair, it is damaged or something else: evaluate again"
        ) from error
    _check(path, counts)
    return counts


def joined(parts: Sequence[PairCounts]) -> PairCounts:
    """The counts of parts of one list, in their order. Raises OptionError for parts of different lists."""
    first = parts[0]
    for part in parts:
        if (part.source, part.split, part.classes) != (first.source, first.split, first.classes):
            raise OptionError(f"counts of {part.source} cannot be joined with those of {first.source}")
        if part.matrices.keys() != first.matrices.keys():
            raise OptionError("counts of different bands cannot be joined")
    return PairCounts(
        first.source,
        first.split,
        first.classes,
        tuple(name for part in parts for name in part.names),
        tuple(condition for part in parts for condition in part.conditions),
        {bands: np.concatenate([part.matrices[bands] for part in parts]) for bands in first.matrices},
    )


def _texts(array: np.ndarray) -> tuple[str, ...]:
    return tuple(str(text) for text in array.ravel())


def _check(path: Path, counts: PairCounts) -> None:
    pairs, classes = len(counts.names), len(counts.classes)
    shapes: Sequence[tuple[int, ...]] = [matrices.shape for matrices in counts.matrices.values()]
    sound = (
        len(counts.conditions) == pairs
        and shapes
        and all(shape == (pairs, classes, classes) for shape in shapes)
        and all(array.dtype.kind in "iu" and array.min(initial=0) >= 0 for array in counts.matrices.values())
        and set(counts.matrices) <= set(BAND_COMBINATIONS)
    )
    if not sound:
        raise OptionError(f"{path} holds no counts per pair (its parts do not fit together): evaluate again")
