"""A folder that ``predict`` or ``fuse`` wrote, opened again as pairs: inputs beside what was made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from crossband.errors import OptionError, PairError, quoted
from crossband.pairs.base import Classes, Listed, Pair, PairFiles, Pairs
from crossband.pairs.decoding import decode
from crossband.pairs.given import given_source
from crossband.pairs.image_files import IMAGE_SUFFIXES
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.matching import walk
from crossband.pairs.names import place_of
from crossband.pairs.opening import parse_source, source_registration
from crossband.pairs.reading import read_label, read_pair
from crossband.pairs.registration import Registration, registration_of
from crossband.result_folder import (
    CLASSES_NAME,
    MANIFEST_NAME,
    Inputs,
    Manifest,
    files_of,
    inputs_of,
    read_faults,
    read_manifest,
    read_results,
)
from crossband.words import BANDS, Band, Fault, Missing

_OF_ANY_MISSING: dict[str, Missing] = {"folder": "use", "list": "use", "shards": "skip"}
"""By kind of source, what gives each pair that any other ``missing`` gives too."""


class ResultPairs(Pairs):
    """The pairs of a folder of results, in the order of their names; what was predicted is their label.

    The images are those that the manifest names: each is known by its size in bytes and the time of its last
    change, so that none that was replaced meanwhile passes for it. registration: the rig that the results
    were made with, where they were made of two folders. infrared_scaling: another rule than theirs.

    Raises OptionError for a folder without a manifest, one that is damaged, or a rig that is not the one;
    PairError for a folder without results.
    """

    split = "all"

    def __init__(
        self, folder: Path, registration: Registration | None = None, infrared_scaling: str | None = None
    ):
        self.folder = folder
        self.source = str(folder)
        manifest = read_manifest(folder)
        if manifest is None:
            raise OptionError(f"{folder} holds no {MANIFEST_NAME}; give a folder that predict or fuse wrote")
        self.manifest: Manifest = manifest
        if manifest.command == "stream":
            raise OptionError(
                f"{folder} holds moments of a stream, whose images are not kept; to look through a stream, "
                "give `crossband stream` --rerun FILE.rrd"
            )
        self._results = read_results(folder)
        self.names = sorted(name for name in self._results if self._made(name).is_file())
        if not self.names:
            raise PairError(f"{folder} holds no results; predict or fuse into it first")
        self._dropped: dict[str, dict[Band, Fault]] = {}
        for name, band, fault, dropped in read_faults(folder):
            if dropped:
                self._dropped.setdefault(name, {})[band] = fault
        self.scaling = InfraredScaling.parse(infrared_scaling or manifest.infrared_scaling or "full-range")
        self.false_colour = manifest.false_colour
        self.registration = registration
        self.classes = _read_classes(folder / CLASSES_NAME) if manifest.command == "predict" else None
        self._items: dict[str, PairFiles | Listed]
        if manifest.source is None:
            _check_rig(manifest, registration)
            self._items = self._images(manifest)
        else:
            if registration is not None:
                raise OptionError(
                    "these results were made of a source, which names its rig if it has one; leave out --rig"
                )
            if manifest.splits is None:
                raise OptionError(f"{folder} does not say which splits it was made of; predict or fuse again")
            source = parse_source(manifest.source)
            self.registration = source_registration(source)
            given = given_source(
                manifest.source,
                manifest.splits,
                missing=_OF_ANY_MISSING.get(source.name),
                infrared_scaling=str(self.scaling),
            )
            self._items = {item.name: item for item in given.pairs if self._is_same(item)}
        self.bands = tuple(band for band in BANDS if all(self._has(name, band) for name in self.names))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Pair:
        name = self.names[index]
        item = self._items.get(name)
        if item is None:
            raise PairError(
                f"the images that {quoted(name)} in {self.folder} was made of are gone or were changed; "
                "predict again"
            )
        if isinstance(item, Listed):
            pair = item.read()
        else:
            pair = read_pair(
                item, self.scaling, None, false_colour=self.false_colour, registration=self.registration
            )
        if self.classes is None:
            return pair
        path = self._made(name)
        label = read_label(path, self.classes)
        if label.shape != pair.size:
            raise PairError(f"{path}: is {label.shape}, but its images are {pair.size}; predict again")
        return replace(pair, label=label)

    def name(self, index: int) -> str:
        return self.names[index]

    def condition(self, index: int) -> str | None:
        item = self._items.get(self.names[index])
        if isinstance(item, Listed):
            return item.pairs.condition(item.index)
        return None if item is None else item.condition

    def stored(self, index: int) -> PairFiles | None:
        item = self._items.get(self.names[index])
        return item if isinstance(item, PairFiles) else None

    def levels(self, index: int, band: Band) -> np.ndarray | None:
        item = self._items.get(self.names[index])
        return item.pairs.levels(item.index, band) if isinstance(item, Listed) else None

    def picture(self, index: int, kind: str) -> np.ndarray | None:
        """What was made beside the label: uint8 (H, W, 3) for "fused", uint8 (H, W) for "confidence".

        None where there is none. Raises PairError for a file that cannot be read.
        """
        fused_only = self.manifest.command == "fuse"
        if fused_only and kind != "fused":
            return None
        place = self.folder if fused_only else self.folder / kind
        path = place_of(place, self.names[index], ".png")
        if not path.is_file():
            return None
        samples = decode(path).samples
        return samples[..., 0] if samples.shape[2] == 1 else samples[..., :3]

    def dropped(self, index: int) -> dict[Band, Fault]:
        """The bands that a monitor dropped from a result, and why."""
        return self._dropped.get(self.names[index], {})

    def _made(self, name: str) -> Path:
        """The file that says that a pair is done."""
        return files_of(self.folder, self.manifest.command, name)[0]

    def _has(self, name: str, band: Band) -> bool:
        item = self._items.get(name)
        return item is not None and item.has(band)

    def _is_same(self, item: PairFiles | Listed) -> bool:
        """Whether the images of a source's pair, where they are files, are those of its result."""
        before, now = self._results.get(item.name), inputs_of(item)
        if before is None:
            return False
        for place, band in enumerate(BANDS):
            path, cells = getattr(item, band), slice(2 * place, 2 * place + 2)
            # A bag's folder changes with what reads it.
            is_folder = path is not None and path.is_dir()
            if any(before[cells]) and not is_folder and before[cells] != now[cells]:
                return False
        return True

    def _images(self, manifest: Manifest) -> dict[str, PairFiles | Listed]:
        """The images of each result, of those in the manifest's folders."""
        stamps = {}
        for band in BANDS:
            folder = getattr(manifest, band)
            stamps[band] = {} if folder is None else _stamped(Path(folder))
        items: dict[str, PairFiles | Listed] = {}
        for name in self.names:
            found = {
                band: _image_of(name, self._results[name][2 * place : 2 * place + 2], stamps[band])
                for place, band in enumerate(BANDS)
            }
            wanted = [band for place, band in enumerate(BANDS) if self._results[name][2 * place]]
            if wanted and all(found[band] is not None for band in wanted):
                items[name] = PairFiles(name, found["visible"], found["infrared"])
        return items


def is_results(text: str) -> bool:
    """Whether a text names a folder of results, and not a source of pairs."""
    return (Path(text) / MANIFEST_NAME).is_file()


def open_results(
    folder: Path, *, rig: str | None = None, frame: Band | None = None, infrared_scaling: str | None = None
) -> ResultPairs:
    """Open a folder of results. rig, frame: those that it was made with. infrared_scaling: another rule than
    the one that it was made under. Raises as `ResultPairs`.
    """
    return ResultPairs(folder, registration_of(rig, frame), infrared_scaling)


def _check_rig(manifest: Manifest, registration: Registration | None) -> None:
    told = None if registration is None else str(registration)
    if told == manifest.rig:
        return
    if manifest.rig is None:
        raise OptionError("these results were made without a rig; leave out --rig")
    raise OptionError(
        f"these results were made with the rig {manifest.rig}; give that one as --rig, and its --frame"
    )


def _stamped(folder: Path) -> dict[Inputs, list[tuple[str, Path]]]:
    """The images of a folder, at any depth, by size in bytes and time of the last change: (name, path)."""
    found: dict[Inputs, list[tuple[str, Path]]] = {}
    for root, _, files in walk(folder):
        for file in files:
            path = Path(root) / file
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                status = path.stat()
                name = path.relative_to(folder).with_suffix("").as_posix()
                found.setdefault((str(status.st_size), str(status.st_mtime_ns)), []).append((name, path))
    return found


def _image_of(name: str, stamp: Inputs, stamps: dict[Inputs, list[tuple[str, Path]]]) -> Path | None:
    """The image of a stamp; of several, that of the pair's name."""
    known = stamps.get(stamp, []) if all(stamp) else []
    of_name = [path for other, path in known if other == name]
    if of_name:
        return of_name[0]
    return known[0][1] if len(known) == 1 else None


def _read_classes(path: Path) -> Classes:
    try:
        declared = json.loads(path.read_text(encoding="utf-8"))["classes"]
        names = tuple(str(one["name"]) for one in declared)
        colours = [tuple(int(value) for value in one["colour"]) for one in declared]
        palette = tuple((red, green, blue) for red, green, blue in colours)
        if [one["id"] for one in declared] != list(range(len(names))):
            raise ValueError("ids out of order")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise OptionError(
            f"{path} does not say what the ids mean ({type(error).__name__}); predict again"
        ) from error
    return Classes(names, palette)
