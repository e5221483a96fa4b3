"""The published benchmarks, declared as data: one small file each, none of their images."""

from crossband.pairs.benchmarks.benchmark_pairs import BenchmarkPairs
from crossband.pairs.benchmarks.declaration import Benchmark, Layout, Split
from crossband.pairs.benchmarks.fmb import FMB
from crossband.pairs.benchmarks.mfnet import MFNET
from crossband.pairs.benchmarks.msrs import MSRS
from crossband.pairs.benchmarks.mvseg import MVSEG
from crossband.pairs.benchmarks.pst900 import PST900

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.key: benchmark for benchmark in (MSRS, MFNET, FMB, PST900, MVSEG)
}

__all__ = ["BENCHMARKS", "Benchmark", "BenchmarkPairs", "Layout", "Split"]
