"""A list of pairs whose images are files of their own."""

from __future__ import annotations

from collections.abc import Sequence

from crossband.pairs.base import Pair, PairFiles, Pairs
from crossband.pairs.reading import read_pair


class FilePairs(Pairs):
    """Pairs that are read from files of their own, whoever found them. files: where each of them lies."""

    files: Sequence[PairFiles]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Pair:
        return read_pair(
            self.files[index],
            self.scaling,
            self.classes,
            false_colour=self.false_colour,
            registration=self.registration,
        )

    def name(self, index: int) -> str:
        return self.files[index].name

    def condition(self, index: int) -> str | None:
        return self.files[index].condition

    def stored(self, index: int) -> PairFiles:
        return self.files[index]
