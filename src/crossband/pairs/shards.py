"""Pairs in tar files as WebDataset writes them: ``shards:PATH``, a shard or a folder of shards."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crossband.errors import PairError, quoted
from crossband.pairs.auto_scaling import AUTO, automatic_scaling
from crossband.pairs.band_summary import summarise_pairs
from crossband.pairs.base import Classes, Pair, PairFiles, Pairs
from crossband.pairs.false_colour import REFUSE
from crossband.pairs.folder import CLASSES_NAME, WHOLE, read_classes, unknown_split
from crossband.pairs.image_files import IMAGE_SUFFIXES, errors_named
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.names import checked_name
from crossband.pairs.reading import read_pair, stored_levels
from crossband.pairs.registration import Registration
from crossband.words import BANDS, Band, Missing

SHARD_SUFFIX = ".tar"
_PARTS = (*BANDS, "label")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class _Member:
    """A file in a shard: its name there, and where its bytes lie."""

    shard: Path
    name: str
    offset: int
    size: int


@dataclass
class _Sample:
    name: str
    members: dict[str, _Member] = field(default_factory=dict)


class ShardPairs(Pairs):
    """One split of pairs in shards.

    A shard is a tar file, not compressed, whose members ``KEY.visible.png``, ``KEY.infrared.tif``,
    ``KEY.label.png`` make the pair KEY; KEY ends at the first dot of a member's file name, as in WebDataset,
    and may have folders before it. Suffixes are those of ``IMAGE_SUFFIXES``; other members are ignored. Pairs
    come in the order of the shards' names, and of the members in each.

    root: a shard; a folder of shards, whose split is "all"; or a folder with one such folder per split. The
    members are listed when it is opened, and an image's bytes are read with its pair.
    labels: False takes labels for absent; else classes are those of ``classes.yaml`` beside the shards, or
    beside the folders of the splits. missing: "skip" leaves pairs that lack a band which others have out.
    infrared_scaling, false_colour, registration: as for `FramePairs`.

    Raises PairError for a file that is no such shard, a key that is twice there or leads out of a folder,
    a pair that lacks a band, and labels without classes; OptionError for an unknown split.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        infrared_scaling: str = "full-range",
        labels: bool = True,
        false_colour: str = REFUSE,
        registration: Registration | None = None,
        missing: Missing | None = None,
    ):
        splits = shard_splits(root)
        self.source = f"shards:{root}"
        self.split = split or WHOLE
        if self.split not in splits:
            raise unknown_split(self.source, self.split, splits)
        self.false_colour, self.registration = false_colour, registration
        whole = root.is_file() or bool(_shards(root))
        samples = _samples(_shards(root if whole else root / self.split))
        self.bands = tuple(band for band in BANDS if any(band in sample.members for sample in samples))
        self._samples, self.unpaired = self._complete(samples, missing)
        self.classes = self._classes(root) if labels else None
        rule = None if infrared_scaling == AUTO else InfraredScaling.parse(infrared_scaling)
        self.scaling = rule or automatic_scaling(summarise_pairs(self).infrared)

    def _complete(
        self, samples: list[_Sample], missing: Missing | None
    ) -> tuple[list[_Sample], list[tuple[Band, str]]]:
        """Pairs with all bands, and the images of those without."""
        whole, single = [], []
        for sample in samples:
            lacking = next((band for band in self.bands if band not in sample.members), None)
            if lacking is None:
                whole.append(sample)
                continue
            if missing != "skip":
                raise PairError(
                    f"{self.source}: pair {quoted(sample.name)} has no {lacking} image, which others have; "
                    "add it, or remove the pair; of predict and fuse, --missing skip leaves it out"
                )
            single += [(band, _told(sample.members[band])) for band in BANDS if band in sample.members]
        if not whole:
            raise PairError(
                f"{self.source}: no member is named as an image of a pair is, such as 0001.visible.png and "
                "0001.infrared.png"
            )
        return whole, single

    def _classes(self, root: Path) -> Classes | None:
        labelled = sum("label" in sample.members for sample in self._samples)
        if not labelled:
            return None
        if labelled < len(self):
            unlabelled = next(sample for sample in self._samples if "label" not in sample.members)
            raise PairError(f"{self.source}: pair {quoted(unlabelled.name)} has no label, which others have")
        folder = root.parent if root.is_file() else root
        declared = folder / CLASSES_NAME
        if not declared.is_file():
            raise PairError(f"{self.source} has labels, but there is no {declared}, which names the classes")
        return read_classes(declared)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Pair:
        with self._unpacked(index, _PARTS if self.classes is not None else BANDS) as files:
            return read_pair(
                files,
                self.scaling,
                self.classes,
                false_colour=self.false_colour,
                registration=self.registration,
            )

    def name(self, index: int) -> str:
        return self._samples[index].name

    def levels(self, index: int, band: Band) -> np.ndarray | None:
        if band not in self.bands:
            return None
        with self._unpacked(index, (band,)) as files:
            return stored_levels(files, band)

    @contextmanager
    def _unpacked(self, index: int, parts: tuple[str, ...]) -> Iterator[PairFiles]:
        """The images of a pair as files for a moment, so that the limits of image files hold.

        Errors name the shard and its member instead.
        """
        sample = self._samples[index]
        members = {part: member for part, member in sample.members.items() if part in parts}
        with tempfile.TemporaryDirectory() as folder:
            places = {part: Path(folder) / f"{part}.image" for part in members}
            for part, place in places.items():
                place.write_bytes(_content(members[part]))
            try:
                visible, infrared, label = (places.get(part) for part in _PARTS)
                yield PairFiles(sample.name, visible, infrared, label)
            except PairError as error:
                text = str(error)
                for part, place in places.items():
                    text = text.replace(str(place), _told(members[part]))
                raise PairError(text) from None


def shard_splits(root: Path) -> list[str]:
    """The splits of a shard, or of a folder of shards, sorted; ["all"] where it has them directly.

    Raises PairError where there are no shards.
    """
    if root.is_file() or (root.is_dir() and _shards(root)):
        return [WHOLE]
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    splits = [folder.name for folder in folders if _shards(folder)]
    if not splits:
        raise PairError(f"{root}: there is no shard (*{SHARD_SUFFIX}) in it or in a folder of it")
    return splits


def _shards(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = [path for path in place.iterdir() if path.suffix.lower() == SHARD_SUFFIX and path.is_file()]
    return sorted(path for path in found if not path.name.startswith("."))


def _samples(shards: list[Path]) -> list[_Sample]:
    samples: dict[str, _Sample] = {}
    for shard in shards:
        here: set[str] = set()
        for member in _members(shard):
            folder, _, file = member.name.rpartition("/")
            stem, _, rest = file.partition(".")
            part, _, suffix = rest.rpartition(".")
            if part not in _PARTS or f".{suffix.lower()}" not in IMAGE_SUFFIXES:
                continue
            with errors_named(shard):
                key = checked_name(f"{folder.removeprefix('./')}/{stem}".lstrip("/") if folder else stem)
            sample = samples.setdefault(key, _Sample(key))
            if part in sample.members or (sample.members and key not in here):
                raise PairError(
                    f"{shard}: {quoted(member.name)} is there twice, or its pair is in another shard"
                )
            here.add(key)
            sample.members[part] = member
    return list(samples.values())


def _members(shard: Path) -> Iterator[_Member]:
    """The regular files of a shard. Raises PairError, naming it, if it is none, or damaged."""
    with errors_named(shard):
        try:
            with tarfile.open(shard, "r:") as tar:
                size = shard.stat().st_size
                for entry in tar:
                    if not entry.isfile() or entry.issparse():
                        continue
                    if entry.offset_data + entry.size > size:
                        raise PairError("it ends within its last member; copy it again")
                    yield _Member(shard, entry.name, entry.offset_data, entry.size)
                _check_end(shard, tar.offset)
        except tarfile.TarError as error:
            raise PairError(f"no tar file, compressed or damaged ({error}); shards are plain tar") from error


def _check_end(shard: Path, place: int) -> None:
    """Raises PairError if a shard goes on, or breaks off, where its members end.

    tarfile takes a header that it cannot read, and the end of the file, for the end of the archive.
    """
    with shard.open("rb") as file:
        file.seek(place)
        rest = file.read(tarfile.BLOCKSIZE)
        if len(rest) < tarfile.BLOCKSIZE:
            raise PairError("it breaks off without the mark that ends a tar file; copy it again")
        while rest:
            if rest.strip(b"\0"):
                raise PairError(
                    "a header in it is damaged, or another tar file follows its end; copy it again, or give "
                    "each tar file as one of its own"
                )
            rest = file.read(_BLOCK)


def _content(member: _Member) -> bytes:
    with errors_named(member.shard):
        with member.shard.open("rb") as file:
            file.seek(member.offset)
            content = file.read(member.size)
        if len(content) < member.size:
            raise PairError(f"{quoted(member.name)} is cut off; was the shard changed?")
        return content


def _told(member: _Member) -> str:
    return f"{member.shard}, {member.name}"
