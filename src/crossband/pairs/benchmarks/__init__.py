"""The published benchmarks, declared as data: one small file each, none of their images.

Other packages add theirs by entry points of the group ``crossband.benchmarks``, each naming a `Benchmark`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from crossband.errors import OptionError
from crossband.pairs.benchmarks.benchmark_pairs import BenchmarkPairs
from crossband.pairs.benchmarks.declaration import Benchmark, Layout, Split
from crossband.pairs.benchmarks.fmb import FMB
from crossband.pairs.benchmarks.mfnet import MFNET
from crossband.pairs.benchmarks.msrs import MSRS
from crossband.pairs.benchmarks.mvseg import MVSEG
from crossband.pairs.benchmarks.pst900 import PST900
from crossband.plugins import load_plugin, origin_of, plugins

GROUP = "crossband.benchmarks"

OURS = (MSRS, MFNET, FMB, PST900, MVSEG)


class Benchmarks(Mapping[str, Benchmark]):
    """All benchmarks by key: ours, then those of installed packages, which are loaded when asked for.

    declared: ours, by key.
    """

    def __init__(self, ours: Iterable[Benchmark]):
        self.declared = {benchmark.key: benchmark for benchmark in ours}

    def __getitem__(self, key: str) -> Benchmark:
        """Raises OptionError for a package's benchmark that cannot be used."""
        if key in self.declared:
            return self.declared[key]
        point = plugins(GROUP)[key]
        benchmark = load_plugin(point)
        if not isinstance(benchmark, Benchmark):
            raise OptionError(f"{point.value} of {origin_of(point)} is no crossband.Benchmark")
        if benchmark.key != key:
            raise OptionError(
                f"{point.value} of {origin_of(point)} has the entry point {key!r}, but the key "
                f"{benchmark.key!r}; they must agree"
            )
        return benchmark

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.declared, *sorted(plugins(GROUP))]))

    def __len__(self) -> int:
        return len({*self.declared, *plugins(GROUP)})

    def __contains__(self, key: object) -> bool:
        return key in self.declared or key in plugins(GROUP)

    def origin(self, key: str) -> str:
        """Where a benchmark's declaration comes from: "crossband", or a package with its version."""
        return "crossband" if key in self.declared else origin_of(plugins(GROUP)[key])


BENCHMARKS = Benchmarks(OURS)

__all__ = ["BENCHMARKS", "Benchmark", "BenchmarkPairs", "Benchmarks", "Layout", "Split"]
