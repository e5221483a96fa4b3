"""The words in which a benchmark is declared: data only, no code per benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from crossband.pairs.base import Classes


@dataclass(frozen=True)
class Split:
    """What is known about one official split.

    counts: the numbers of pairs that sources give for it. One number is a fact that a download is held
        to; several mean that sources disagree; none, that no source says.
    within: the split that this one is a part of, such as "test" for "test_night".
    """

    counts: tuple[int, ...] = ()
    within: str | None = None


@dataclass(frozen=True)
class Layout:
    """How one distribution of a benchmark lies on disk.

    visible, infrared, label: where a file lies below the root, ``/`` between folders and *without* the
        suffix: any image suffix is taken, since repacks differ in it. ``{split}`` and ``{name}`` are filled
        in. A benchmark of videos has ``{group}`` (the video) and ``{frame}`` instead of ``{name}``; then a
        pair's name is ``group/frame`` and every frame that has a label is a pair. If visible and infrared
        are equal, infrared is the fourth channel of that file.
    name: who made or uses it.
    lists: the file that lists each split's names (or videos), one a line. Without lists a split is a folder,
        and its pairs are the files in it.
    other_infrared: further infrared images that can be chosen by name in place of ``infrared``.
    note: what is particular to this layout, for its user.
    """

    name: str
    visible: str
    infrared: str
    label: str
    lists: Mapping[str, str] = field(default_factory=dict)
    other_infrared: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def packed(self) -> bool:
        """Infrared is the fourth channel of the visible file."""
        return self.visible == self.infrared

    @property
    def grouped(self) -> bool:
        """The lists name videos, not frames."""
        return "{group}" in self.label


@dataclass(frozen=True)
class Benchmark:
    """A published dataset of pairs, declared as data.

    key: its name on the command line.
    classes: names and palette in the order of the ids on disk, and the ids ignored by default.
    layouts: tried in this order; the first that is there is taken.
    splits: the official ones, the parts of others included.
    resolution: (height, width) of all images, or None if they vary.
    infrared: what the infrared files hold.
    suffix_conditions: the condition that the last letter of a numbered name tells ("00001N").
    split_conditions: the condition of the names in a split, such as ``{"test_night": "night"}``.
    skip: patterns of names that are never pairs of their own.
    shares_images_with: keys of benchmarks that hold some of the same images under the same names.
    terms: what its authors say about use; it is never shipped with Crossband.
    research_only: whether it must be taken to be for research alone, by these terms.
    quirks: what a user must know before quoting a number, one sentence or two each.
    """

    key: str
    title: str
    classes: Classes
    layouts: tuple[Layout, ...]
    splits: Mapping[str, Split]
    resolution: tuple[int, int] | None
    infrared: str
    citation: str
    url: str
    terms: str
    quirks: tuple[str, ...]
    suffix_conditions: Mapping[str, str] = field(default_factory=dict)
    split_conditions: Mapping[str, str] = field(default_factory=dict)
    skip: tuple[str, ...] = ()
    shares_images_with: tuple[str, ...] = ()
    research_only: bool = False
