"""FiftyOne: images and masks as in its ImageSegmentationDirectory, and groups of slices by a script.

Layout: https://docs.voxel51.com/user_guide/import_datasets.html (ImageSegmentationDirectory); groups:
https://docs.voxel51.com/user_guide/groups.html. FiftyOne's own samples.json is a dump of its database, whose
form changes with its version; a script over its documented functions does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from crossband.annotation.files import members, read_mask, shown_bands
from crossband.annotation.labels import ToolLabel
from crossband.annotation.record import Item, Record
from crossband.errors import PairError
from crossband.pairs.base import Pair
from crossband.pairs.writing import write_image, write_text
from crossband.words import IGNORE_INDEX

SCRIPT_NAME = "load_fiftyone.py"
_SCRIPT = '''"""Open these pairs in FiftyOne: python load_fiftyone.py"""

import json
from pathlib import Path

import fiftyone as fo

FOLDER = Path(__file__).resolve().parent


def load(name):
    """One group for each pair, with a slice for each band, and the mask on each."""
    told = json.loads((FOLDER / "groups.json").read_text(encoding="utf-8"))
    dataset = fo.Dataset(name)
    dataset.add_group_field("group", default=told["default_slice"])
    samples = []
    for pair in told["groups"]:
        group = fo.Group()
        for band, image in pair["slices"].items():
            sample = fo.Sample(filepath=str(FOLDER / image), group=group.element(band))
            sample["pair"], sample["split"] = pair["pair"], pair["split"]
            sample["label"] = fo.Segmentation(mask_path=str(FOLDER / pair["mask"]))
            samples.append(sample)
    dataset.add_samples(samples)
    dataset.default_mask_targets = {int(key): name for key, name in told["mask_targets"].items()}
    dataset.save()
    return dataset


if __name__ == "__main__":
    fo.launch_app(load(FOLDER.name)).wait()
'''


def write_fiftyone(folder: Path, pairs: Iterable[tuple[Item, Pair]], labels: Sequence[ToolLabel]) -> None:
    """Write ``visible/``, ``infrared/``, ``labels/``, ``groups.json`` and a script that opens them."""
    groups = []
    bands: set[str] = set()
    for item, pair in pairs:
        assert pair.label is not None
        slices = {}
        for band, picture in shown_bands(pair).items():
            slices[band] = f"{band}/{item.file}.png"
            write_image(folder / slices[band], picture)
        mask = f"labels/{item.file}.png"
        write_image(folder / mask, pair.label)
        bands |= set(slices)
        groups.append({"pair": item.pair, "split": item.split, "slices": slices, "mask": mask})
    document = {
        "default_slice": "visible" if "visible" in bands else "infrared",
        "mask_targets": {label.id: label.name for label in labels},
        "groups": groups,
    }
    write_text(folder / "groups.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / SCRIPT_NAME, _SCRIPT)


def read_fiftyone(path: Path, record: Record) -> Iterator[tuple[Item, np.ndarray]]:
    """The masks of ``labels/`` in a folder or archive: items, and ids uint8 (H, W), which stay as they are.

    Raises PairError for a colour picture, or an id that is no class of the pairs.
    """
    items = {item.file: item for item in record.items}
    known = [*(label.id for label in record.labels), IGNORE_INDEX]
    with members(path) as files:
        for place, read in files.items():
            item = items.get(place.stem)
            if item is None or place.suffix.lower() != ".png" or "labels" not in place.parts:
                continue
            where = f"{path}: {place}"
            mask = read_mask(where, read(), item, colours=False)
            strange = np.setdiff1d(mask, known)
            if strange.size:
                raise PairError(f"{where}: the id {strange[0]} is no class of these pairs; correct it")
            yield item, mask
