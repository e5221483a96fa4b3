"""What `crossband data check` found, as an object, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from crossband.pairs.band_summary import SAMPLE
from crossband.pairs.base import Classes
from crossband.text import text_table
from crossband.words import IGNORE_INDEX

NOT_CHECKED = (
    "Not checked: whether the ids mean what the class names say (a swapped order leaves no trace in the "
    "files), whether the bands are aligned but for a sample of pairs (see `crossband align --check`), and "
    "most pixels of the bands (the header and the end of each "
    f"file are read, and the pixels of {SAMPLE} pairs per split at most; labels and bands of floats are read "
    "whole)."
)


@dataclass(frozen=True)
class Problem:
    """One kind of fault in one split. error: pairs cannot be used, or scores would not be comparable.

    message: what is wrong, how often, and the first files. mend: what to do about it.
    """

    severity: Literal["error", "warning"]
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}; {self.mend}"


@dataclass
class SplitReport:
    """What one split holds.

    pairs: complete ones. declared: the numbers of pairs that sources give. partial: it only repeats pairs of
        other splits, and its files were not read again.
    sizes: (height, width) of the pairs' first image. formats: file formats by visible, infrared and label.
    pixels: int64 (256,), label pixels of each id as stored.
    """

    name: str
    pairs: int
    declared: tuple[int, ...] = ()
    partial: bool = False
    conditions: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    formats: dict[str, Counter[str]] = field(default_factory=dict)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))


@dataclass
class CheckReport:
    """The result of checking a source. ``ok`` if there is no error; warnings may remain.

    layout: the name of the benchmark's layout that was found, or None.
    quirks: what is known of the benchmark and worth knowing before a number is quoted.
    files: image files looked at, within ``seconds``.
    """

    source: str
    title: str
    layout: str | None
    classes: Classes | None
    splits: list[SplitReport]
    problems: list[Problem]
    quirks: tuple[str, ...] = ()
    citation: str | None = None
    terms: str | None = None
    files: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)

    def absent_classes(self, split: SplitReport) -> list[str]:
        """Names of the classes, ignored ones aside, without a pixel in the split's labels."""
        if self.classes is None or not split.pixels.any():
            return []
        return [
            name
            for index, name in enumerate(self.classes.names)
            if index not in self.classes.ignore and not split.pixels[index]
        ]

    def to_dict(self) -> dict[str, Any]:
        """The report as values that JSON can hold."""
        return {
            "source": self.source,
            "title": self.title,
            "layout": self.layout,
            "ok": self.ok,
            "classes": list(self.classes.names) if self.classes else None,
            "ignore": list(self.classes.ignore) if self.classes else None,
            "splits": [self._split_dict(split) for split in self.splits],
            "problems": [
                {"severity": problem.severity, "message": problem.message, "mend": problem.mend}
                for problem in self.problems
            ],
            "quirks": list(self.quirks),
            "citation": self.citation,
            "terms": self.terms,
            "not_checked": NOT_CHECKED,
            "files": self.files,
            "seconds": round(self.seconds, 3),
        }

    def _split_dict(self, split: SplitReport) -> dict[str, Any]:
        return {
            "name": split.name,
            "pairs": split.pairs,
            "declared": list(split.declared),
            "partial": split.partial,
            "conditions": dict(split.conditions),
            "sizes": [
                {"height": height, "width": width, "pairs": count}
                for (height, width), count in split.sizes.most_common()
            ],
            "formats": {role: dict(formats) for role, formats in split.formats.items()},
            "pixels": {str(index): int(split.pixels[index]) for index in np.flatnonzero(split.pixels)},
            "absent_classes": self.absent_classes(split),
        }

    def to_text(self) -> str:
        """The report for a terminal."""
        layout = f", layout: {self.layout}" if self.layout else ""
        blocks = [f"{self.title}{layout}\n{self.source}", self._split_table()]
        formats = self._format_lines()
        if formats:
            blocks.append("\n".join(formats))
        if self.classes is not None and any(split.pixels.any() for split in self.splits):
            blocks.append(self._class_table())
        if self.problems:
            lines = [
                f"{problem.severity.upper()}: {problem.message}\n    {problem.mend}"
                for problem in sorted(self.problems, key=lambda problem: problem.severity)
            ]
            blocks.append("\n".join(lines))
        if self.quirks:
            blocks.append("Good to know:\n" + "\n".join(f"  - {quirk}" for quirk in self.quirks))
        if self.citation:
            blocks.append(f"Cite: {self.citation}\nTerms: {self.terms}")
        blocks.append(NOT_CHECKED)
        errors = sum(problem.severity == "error" for problem in self.problems)
        blocks.append(
            f"{_count(errors, 'error')}, {_count(len(self.problems) - errors, 'warning')}; "
            f"{self.files} files in {self.seconds:.1f} s"
        )
        return "\n\n".join(blocks)

    def _split_table(self) -> str:
        conditions = sorted({name for split in self.splits for name in split.conditions})
        rows = [["split", "pairs", "declared", *conditions, "height x width (pairs)"]]
        for split in self.splits:
            sizes = ", ".join(f"{h} x {w} ({n})" for (h, w), n in split.sizes.most_common(4))
            if len(split.sizes) > 4:
                sizes += f", {len(split.sizes) - 4} more sizes"
            rows.append(
                [
                    split.name,
                    str(split.pairs),
                    " or ".join(map(str, split.declared)) or "-",
                    *(str(split.conditions[name]) for name in conditions),
                    "(part of the others)" if split.partial else sizes or "-",
                ]
            )
        return text_table(rows[0], rows[1:], align="l" + "r" * (len(rows[0]) - 2) + "l")

    def _format_lines(self) -> list[str]:
        total: dict[str, Counter[str]] = {}
        for split in self.splits:
            for role, formats in split.formats.items():
                total.setdefault(role, Counter()).update(formats)
        return [
            f"{role}: " + "; ".join(f"{name} ({count})" for name, count in formats.most_common())
            for role, formats in total.items()
        ]

    def _class_table(self) -> str:
        assert self.classes is not None
        splits = [split for split in self.splits if split.pixels.any()]
        ids = sorted(
            {*range(len(self.classes)), *(int(i) for split in splits for i in np.flatnonzero(split.pixels))}
        )
        rows = [["id", "class", *(f"{split.name} (pixels)" for split in splits), ""]]
        for index in ids:
            known = index < len(self.classes)
            name = self.classes.names[index] if known else "ignored" if index == IGNORE_INDEX else "no class"
            absent = [split.name for split in splits if not split.pixels[index]]
            notes = ["ignored"] if known and index in self.classes.ignore else []
            notes += [f"absent from {', '.join(absent)}"] if absent and known else []
            cells = [_share(int(split.pixels[index]), int(split.pixels.sum())) for split in splits]
            rows.append([str(index), name, *cells, "; ".join(notes)])
        return text_table(rows[0], rows[1:], align="rl" + "r" * len(splits) + "l")


def _share(pixels: int, total: int) -> str:
    return f"{pixels} ({100 * pixels / total:.2f} %)" if pixels else "0"


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
