"""A benchmark's files as they lie on disk: which layout it is, which pairs it holds, what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from crossband.errors import OptionError, PairError, quoted
from crossband.pairs.base import PairFiles
from crossband.pairs.benchmarks.declaration import Benchmark, Layout
from crossband.pairs.image_files import IMAGE_SUFFIXES, mend_of
from crossband.pairs.names import checked_name
from crossband.text import counted

_CLUTTER = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Gap:
    """A file that a pair needs and that cannot be had. role: visible, infrared or label."""

    role: str
    message: str


@dataclass(frozen=True)
class Listing:
    """What one split names, and what of it is there.

    files: the complete pairs, in the split's order.
    refused: one line for every list that cannot be read and every name in it that leads elsewhere.
    gaps: one for every file that is missing or not unique.
    repeated: names that the list holds twice. skipped: names left out because the benchmark says so.
    paths: all files of the split that were found, those of incomplete pairs included.
    """

    files: tuple[PairFiles, ...]
    refused: tuple[str, ...]
    gaps: tuple[Gap, ...]
    repeated: tuple[str, ...]
    skipped: tuple[str, ...]
    paths: frozenset[Path]


@dataclass
class _Entries:
    """The names (or videos) of a split, as its list or its folders give them.

    refused: errors about those that cannot be taken.
    """

    names: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def open_tree(benchmark: Benchmark, root: Path, infrared: str | None = None) -> Tree:
    """Find the layout of a downloaded tree.

    infrared: the name of one of the layout's other infrared images, in place of its usual one.
    Raises PairError if no layout of the benchmark is at root; the message says what was looked for, what
    was found, and which argument to change. Raises OptionError for an unknown infrared.
    """
    for layout in benchmark.layouts:
        if _is_there(layout, benchmark, root):
            return Tree(benchmark, layout, root, infrared)
    raise PairError(_not_found(benchmark, root))


class Tree:
    """One tree seen through one layout. Folders are listed once; no image is opened."""

    def __init__(self, benchmark: Benchmark, layout: Layout, root: Path, infrared: str | None = None):
        self.benchmark = benchmark
        self.layout = layout
        self.root = root
        self.templates = {"visible": layout.visible, "infrared": layout.infrared, "label": layout.label}
        if infrared is not None:
            if infrared not in layout.other_infrared:
                able = ", ".join(layout.other_infrared) or f"none in the layout {quoted(layout.name)}"
                raise OptionError(
                    f"{benchmark.key} has no other infrared {quoted(infrared)}; infrared= can be: {able}"
                )
            self.templates["infrared"] = layout.other_infrared[infrared]
        self.packed = self.templates["visible"] == self.templates["infrared"]
        self._folders: dict[Path, dict[str, list[Path]]] = {}
        self._entries: dict[str, _Entries] = {}
        self._condition_members = {
            condition: frozenset(self._read_entries(split).names)
            for split, condition in benchmark.split_conditions.items()
            if self._is_present(split)
        }

    def splits(self) -> list[str]:
        """The splits that are there, in the declaration's order."""
        known = dict.fromkeys((*self.benchmark.splits, *self.layout.lists))
        return [split for split in known if self._is_present(split)]

    def main_splits(self) -> list[str]:
        """The splits that are there without those that only repeat pairs of others."""
        present = self.splits()
        return [
            split
            for split in present
            if not (split in self.benchmark.splits and self.benchmark.splits[split].within in present)
            and not ("+" in split and all(part in present for part in split.split("+")))
        ]

    def listing(self, split: str) -> Listing:
        """The pairs of a split. ``train+val`` joins splits, unless the tree has a list of that name.

        Raises OptionError, naming the splits that are there, for one that is not, and for splits with pairs
        in common, which would count twice.
        """
        present = self.splits()
        parts = [split] if split in present else split.split("+")
        if not all(part in present for part in parts):
            raise OptionError(
                f"{self.benchmark.key} at {self.root} has no split {quoted(split)}; "
                f"it has: {', '.join(present)}"
            )
        self._check_apart(parts)
        files: list[PairFiles] = []
        gaps: list[Gap] = []
        paths: set[Path] = set()
        for part in parts:
            for name, group, frame in self._pairs(part, gaps):
                found = {
                    role: self._find(role, template, part, name, group, frame, gaps)
                    for role, template in self.templates.items()
                    if not (role == "infrared" and self.packed)
                }
                if self.packed:
                    found["infrared"] = found["visible"]
                paths.update(path for path in found.values() if path is not None)
                if None not in found.values():
                    files.append(PairFiles(name, condition=self._condition(name, group), **found))
        entries = [self._read_entries(part) for part in parts]
        return Listing(
            files=tuple(files),
            refused=tuple(error for part in entries for error in part.refused),
            gaps=tuple(gaps),
            repeated=tuple(name for part in entries for name in part.repeated),
            skipped=tuple(name for part in entries for name in part.skipped),
            paths=frozenset(paths),
        )

    def _check_apart(self, parts: list[str]) -> None:
        """Raise OptionError for splits to be joined that have a name, or a video, in common."""
        place: dict[str, str] = {}
        for part in parts:
            names = self._read_entries(part).names
            shared = [name for name in names if name in place]
            if shared:
                raise OptionError(
                    f"{self.benchmark.key} at {self.root}: splits {place[shared[0]]} and {part} have "
                    f"{counted(len(shared), 'name')} in common, such as {quoted(shared[0])}, whose pairs "
                    "would count twice; join splits that have none"
                )
            place.update(dict.fromkeys(names, part))

    def unused_files(self, used: frozenset[Path]) -> list[Path]:
        """Files in the folders that the layout reads, which are not among ``used`` and not to be skipped."""
        templates = [self.templates["label"]] if self.layout.grouped else list(self.templates.values())
        folders = {folder for template in templates for folder in self._folders_of(template)}
        return sorted(
            path
            for folder in folders
            for paths in self._scan(folder).values()
            for path in paths
            if path not in used and not self._is_skipped(path.stem)
        )

    def _is_present(self, split: str) -> bool:
        if self.layout.lists:
            return split in self.layout.lists and (self.root / self.layout.lists[split]).is_file()
        return _split_is_there(self.layout, self.root, split)

    def _folders_of(self, template: str) -> list[Path]:
        parent = str(PurePosixPath(template).parent)
        if self.layout.grouped:
            before, _, after = parent.partition("{group}")
            base = self.root / before
            return [base / f"{entry.name}{after}" for entry in _entries_of(base) if entry.is_dir()]
        if "{split}" in parent:
            return [self.root / parent.format(split=split) for split in self.splits()]
        return [self.root / parent]

    def _scan(self, folder: Path) -> dict[str, list[Path]]:
        """The files of a folder by stem, without hidden ones and the clutter of file managers."""
        if folder not in self._folders:
            by_stem: dict[str, list[Path]] = {}
            if folder.is_dir():
                for entry in _entries_of(folder):
                    hidden = entry.name.startswith(".") or entry.name.lower() in _CLUTTER
                    if not hidden and entry.is_file():
                        by_stem.setdefault(Path(entry.name).stem, []).append(folder / entry.name)
            self._folders[folder] = by_stem
        return self._folders[folder]

    def _images(self, folder: Path, stem: str) -> list[Path]:
        return [path for path in self._scan(folder).get(stem, []) if path.suffix.lower() in IMAGE_SUFFIXES]

    def _read_entries(self, split: str) -> _Entries:
        if split not in self._entries:
            entries = _Entries()
            seen: set[str] = set()
            for name in self._raw_names(split, entries.refused):
                if self._is_skipped(name):
                    entries.skipped.append(name)
                elif name in seen:
                    entries.repeated.append(name)
                else:
                    seen.add(name)
                    entries.names.append(name)
            self._entries[split] = entries
        return self._entries[split]

    def _raw_names(self, split: str, refused: list[str]) -> list[str]:
        if split in self.layout.lists:
            path = self.root / self.layout.lists[split]
            return _read_list(path, refused, whole_lines=self.layout.grouped)
        folders = {
            self.root / str(PurePosixPath(template).parent).format(split=split)
            for template in self.templates.values()
        }
        stems = {
            stem: folder
            for folder in sorted(folders)
            for stem in self._scan(folder)
            if self._images(folder, stem)
        }
        return [stem for stem in sorted(stems) if _is_name(stem, str(stems[stem]), refused)]

    def _pairs(self, split: str, gaps: list[Gap]) -> Iterator[tuple[str, str, str]]:
        """(name, group, frame) of every pair; group and frame are empty where names stand for themselves."""
        for entry in self._read_entries(split).names:
            if not self.layout.grouped:
                yield entry, "", ""
                continue
            template = PurePosixPath(self.templates["label"])
            folder = self.root / str(template.parent).format(group=entry)
            if not folder.is_dir():
                gaps.append(Gap("label", f"{folder} is not there, but {self.layout.lists[split]} names it"))
            before, _, after = template.name.partition("{frame}")
            for stem in self._scan(folder):
                if stem.startswith(before) and stem.endswith(after) and self._images(folder, stem):
                    frame = stem[len(before) : len(stem) - len(after)]
                    yield f"{entry}/{frame}", entry, frame

    def _find(
        self, role: str, template: str, split: str, name: str, group: str, frame: str, gaps: list[Gap]
    ) -> Path | None:
        expected = self.root / template.format(split=split, name=name, group=group, frame=frame)
        images = self._images(expected.parent, expected.name)
        if len(images) == 1:
            return images[0]
        if images:
            gaps.append(Gap(role, f"{' and '.join(map(str, images))} have the same name"))
        else:
            gaps.append(Gap(role, f"{expected}.* is not there"))
        return None

    def _condition(self, name: str, group: str) -> str | None:
        for condition, members in self._condition_members.items():
            if (group or name) in members:
                return condition
        return self.benchmark.suffix_conditions.get(name[-1]) if name[:-1].isdecimal() else None

    def _is_skipped(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.benchmark.skip)


def _entries_of(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise PairError(f"{folder} cannot be listed ({error.strerror}); check its permissions") from error


def _read_list(path: Path, refused: list[str], *, whole_lines: bool) -> list[str]:
    """Names of a list file. A line may also hold paths with suffixes ("RGB/00001D.png Label/00001D.png").

    Errors about the file, and about lines with a name that leads out of the tree, go into ``refused``.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        refused.append(f"{path}: {error.strerror}; {mend_of(error)}")
        return []
    except UnicodeDecodeError as error:
        refused.append(f"{path} cannot be read as a list of names ({error}); copy it again")
        return []
    named = {number: line if whole_lines else _name_in(line) for number, line in enumerate(lines, 1) if line}
    return [name for number, name in named.items() if _is_name(name, f"{path}, line {number}", refused)]


def _is_name(name: str, where: str, refused: list[str]) -> bool:
    """Whether a name can be taken (`checked_name`); if not, the error goes into ``refused``."""
    try:
        checked_name(name)
    except PairError as error:
        refused.append(f"{where}: {error}")
        return False
    return True


def _name_in(line: str) -> str:
    path = PurePosixPath(line.split()[0].replace("\\", "/"))
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _fixed_folder(template: str) -> str:
    """The part of a template's folder that holds no group."""
    return str(PurePosixPath(template).parent).partition("{group}")[0].rstrip("/")


def _needed(layout: Layout, split: str) -> list[str]:
    """The folders without which a layout is not there, in a readable order."""
    templates = (layout.visible, layout.infrared, layout.label)
    return list(dict.fromkeys(_fixed_folder(template).format(split=split) for template in templates))


def _split_is_there(layout: Layout, root: Path, split: str) -> bool:
    return all((root / folder).is_dir() for folder in _needed(layout, split))


def _is_there(layout: Layout, benchmark: Benchmark, root: Path) -> bool:
    if layout.lists:
        has_list = any((root / name).is_file() for name in layout.lists.values())
        return has_list and _split_is_there(layout, root, "")
    return any(_split_is_there(layout, root, split) for split in benchmark.splits)


def _not_found(benchmark: Benchmark, root: Path) -> str:
    if not root.is_dir():
        return f"{root} is not a folder; give the downloaded tree as {benchmark.key}:PATH"
    inside = [entry.name for entry in _entries_of(root) if not entry.name.startswith(".")]
    for name in inside:
        below = root / name
        if below.is_dir() and any(_is_there(layout, benchmark, below) for layout in benchmark.layouts):
            return f"{root} is not the tree of {benchmark.title} but holds it; give {benchmark.key}:{below}"
    looked_for = "; or ".join(
        ", ".join([*_needed(layout, next(iter(benchmark.splits))), *list(layout.lists.values())[:1]])
        + f" ({layout.name})"
        for layout in benchmark.layouts
    )
    found = ", ".join(inside[:8]) + (f" and {len(inside) - 8} more" if len(inside) > 8 else "")
    return (
        f"{root} is not a tree of {benchmark.title}: looked for {looked_for}; found {found or 'nothing'}; "
        f"give the folder that holds these as {benchmark.key}:PATH"
    )
