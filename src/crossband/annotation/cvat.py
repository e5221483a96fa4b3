"""CVAT: images with the other band beside them, labels with colours, and "Segmentation mask 1.1".

Formats: https://docs.cvat.ai/docs/dataset_management/formats/format-smask and, for ``related_images``,
https://docs.cvat.ai/docs/annotation/manual-annotation/utilities/context-images/.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from crossband.annotation.files import members, read_mask, shown_bands
from crossband.annotation.labels import ToolLabel
from crossband.annotation.record import Item, Record
from crossband.errors import PairError, quoted
from crossband.pairs.base import Pair
from crossband.pairs.writing import png_bytes, replacing, write_text
from crossband.words import IGNORE_INDEX

_MASKS = "SegmentationClass"
_BLACK = (0, 0, 0)


def write_cvat(folder: Path, pairs: Iterable[tuple[Item, Pair]], labels: Sequence[ToolLabel]) -> None:
    """Write ``images.zip``, ``annotations.zip`` and ``labels.json``."""
    described = [{"name": label.name, "color": label.hex, "attributes": []} for label in labels]
    write_text(folder / "labels.json", json.dumps(described, indent=1, ensure_ascii=False) + "\n")
    colours = np.zeros((256, 3), np.uint8)
    for label in labels:
        colours[label.id] = label.colour
    names = []
    with ExitStack() as stack:
        images, masks = (
            stack.enter_context(
                zipfile.ZipFile(stack.enter_context(replacing(folder / name)), "w", zipfile.ZIP_STORED)
            )
            for name in ("images.zip", "annotations.zip")
        )
        for item, pair in pairs:
            assert pair.label is not None
            (_, drawn_on), *others = shown_bands(pair).items()
            images.writestr(f"{item.file}.png", png_bytes(drawn_on))
            for band, picture in others:
                images.writestr(f"related_images/{item.file}_png/{band}.png", png_bytes(picture))
            masks.writestr(f"{_MASKS}/{item.file}.png", png_bytes(colours[pair.label]))
            names.append(item.file)
        # "background" is what CVAT calls pixels that nobody labelled.
        lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
        lines += [f"{label.name}:{','.join(map(str, label.colour))}::" for label in labels]
        masks.writestr("labelmap.txt", "\n".join(lines) + "\n")
        masks.writestr("ImageSets/Segmentation/default.txt", "\n".join(names) + "\n")


def read_cvat(path: Path, record: Record) -> Iterator[tuple[Item, np.ndarray]]:
    """The masks of an export in "Segmentation mask 1.1": items, and ids uint8 (H, W).

    Colours mean what the archive's own ``labelmap.txt`` says, by name. Pixels that nobody labelled, which are
    black, become ``IGNORE_INDEX``. Raises PairError for an archive without masks, a label that was not given
    to CVAT, or a colour that is no label's.
    """
    items = {item.file: item for item in record.items}
    with members(path) as files:
        maps = [place for place in files if place.name == "labelmap.txt"]
        if not maps:
            raise PairError(f'{path}: holds no labelmap.txt; export from CVAT as "Segmentation mask 1.1"')
        ids = _ids_of_colours(path, files[maps[0]]().decode("utf-8", "replace"), record)
        for place, read in files.items():
            item = items.get(place.stem)
            if item is not None and _MASKS in place.parts and place.suffix.lower() == ".png":
                where = f"{path}: {place}"
                yield item, _ids(where, read_mask(where, read(), item, colours=True), ids)


def _ids_of_colours(path: Path, text: str, record: Record) -> dict[int, int]:
    known = {label.name: label.id for label in record.labels} | {"background": IGNORE_INDEX}
    ids = {_packed(_BLACK): IGNORE_INDEX}
    names = {_packed(_BLACK): "background"}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        if name not in known:
            raise PairError(
                f"{path}: the label {quoted(name)} is no class of these pairs; rename it in CVAT to one of "
                f"{', '.join(label.name for label in record.labels)}"
            )
        try:
            red, green, blue = (int(value) for value in rest.partition(":")[0].split(","))
        except ValueError as error:
            raise PairError(f"{path}: labelmap.txt has no colour for {quoted(name)}; export again") from error
        colour = _packed((red, green, blue))
        if names.setdefault(colour, name) != name:
            raise PairError(
                f"{path}: the labels {quoted(names[colour])} and {quoted(name)} have one colour; give one of "
                "them another in CVAT, and export again"
            )
        ids[colour] = known[name]
    return ids


def _packed(colour: Sequence[int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _ids(where: str, mask: np.ndarray, ids: dict[int, int]) -> np.ndarray:
    wide = mask.astype(np.uint32)
    packed = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    colours, places = np.unique(packed, return_inverse=True)
    strange = [colour for colour in colours.tolist() if colour not in ids]
    if strange:
        raise PairError(f"{where}: the colour #{strange[0]:06x} is no label's in labelmap.txt; export again")
    table = np.array([ids[colour] for colour in colours.tolist()], np.uint8)
    return table[places].reshape(packed.shape)
