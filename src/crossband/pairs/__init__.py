"""What goes in: image pairs from folders, benchmarks and generated scenes."""

from crossband.pairs.base import Classes, Pair, PairFiles, Pairs, PairSubset, hold_out
from crossband.words import BANDS, IGNORE_INDEX, Band

__all__ = [
    "BANDS",
    "IGNORE_INDEX",
    "Band",
    "Classes",
    "Pair",
    "PairFiles",
    "PairSubset",
    "Pairs",
    "hold_out",
]
