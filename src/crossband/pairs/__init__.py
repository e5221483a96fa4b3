"""What goes in: image pairs from folders, benchmarks and generated scenes."""

from crossband.pairs.base import (
    BANDS,
    IGNORE_INDEX,
    Band,
    Classes,
    Pair,
    PairFiles,
    Pairs,
    PairSubset,
    hold_out,
)

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
