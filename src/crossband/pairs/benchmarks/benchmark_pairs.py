"""The pairs of one split of a benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from crossband.errors import PairError
from crossband.pairs.auto_scaling import resolve_scaling
from crossband.pairs.base import Classes
from crossband.pairs.benchmarks.declaration import Benchmark
from crossband.pairs.benchmarks.tree import open_tree
from crossband.pairs.file_pairs import FilePairs
from crossband.pairs.registration import Registration
from crossband.words import BANDS


class BenchmarkPairs(FilePairs):
    """A split of a downloaded benchmark, whatever its layout.

    split: an official one, or several joined: "train+val".
    infrared_scaling: a rule of `InfraredScaling`, or "auto" (`resolve_scaling`).
    ignore: ids on disk that do not count, in place of the declaration's; ``()`` counts all.
    infrared: the name of another infrared image of the layout, such as "thermal_raw" of PST900.
    registration: as in `read_pair`.

    Raises PairError if root holds no known layout or a pair lacks a file, OptionError for an unknown split,
    rule or infrared.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        root: Path,
        split: str,
        *,
        infrared_scaling: str = "full-range",
        ignore: tuple[int, ...] | None = None,
        infrared: str | None = None,
        registration: Registration | None = None,
    ):
        listing = open_tree(benchmark, root, infrared).listing(split)
        if listing.refused:
            raise PairError(listing.refused[0])
        if listing.gaps:
            raise PairError(
                f"{len(listing.gaps)} files of {benchmark.key} {split} are missing or not unique, the first: "
                f"{listing.gaps[0].message}; `crossband data check {benchmark.key}:{root}` lists them"
            )
        if not listing.files:
            raise PairError(f"{benchmark.key} {split} at {root} names no pair; download it again")
        self.benchmark = benchmark
        self.files = listing.files
        self.scaling = resolve_scaling(infrared_scaling, self.files)
        self.source = f"{benchmark.key}:{root}"
        self.split = split
        self.classes: Classes = (
            benchmark.classes if ignore is None else replace(benchmark.classes, ignore=ignore)
        )
        self.bands = BANDS
        self.registration = registration
