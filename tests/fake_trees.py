"""Tiny trees that lie on disk as the published benchmarks do, one builder per layout.

The counts are small and each split's differ, so that a test cannot pass on the wrong split. Every file is a
real image of ``SIZE``, and labels hold every class id of the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 32)
"""(height, width)"""

MFNET_NAMES = {
    "train": ["00001D", "00002D", "00003N"],
    "val": ["00004D", "00005N"],
    "test": ["00006D", "00007D", "00008N", "00009N"],
}
MFNET_PARTS = {"test_day": ["00006D", "00007D"], "test_night": ["00008N", "00009N"]}


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def noise(path: Path, channels: int = 3, dtype: type = np.uint8, size: tuple[int, int] = SIZE) -> None:
    """An image whose pixels depend on its path alone."""
    rng = np.random.default_rng([*path.name.encode(), channels])
    shape = size if channels == 1 else (*size, channels)
    save(path, rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True))


def grey3(path: Path) -> None:
    """Infrared as many repacks store it: one channel, three times."""
    rng = np.random.default_rng(list(path.name.encode()))
    save(path, np.repeat(rng.integers(0, 256, (*SIZE, 1), dtype=np.uint8), 3, axis=2))


def label(path: Path, classes: int, size: tuple[int, int] = SIZE) -> None:
    """Vertical stripes 0, 1, ..., classes - 1, 0, ..."""
    save(path, np.broadcast_to((np.arange(size[1]) % classes).astype(np.uint8), size).copy())


def write_list(path: Path, names: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def _folders(
    root: Path,
    names: Iterable[str],
    folders: tuple[str, str, str],
    classes: int,
    *,
    suffix: str = ".png",
    infrared: Callable[[Path], None] = grey3,
) -> None:
    visible, dark, labels = folders
    for name in names:
        noise(root / visible / f"{name}{suffix}")
        infrared(root / dark / f"{name}{suffix}")
        label(root / labels / f"{name}.png", classes)


def _mfnet_repack(
    root: Path, folders: tuple[str, str, str], lists: dict[str, list[str]], suffix: str = ".png"
) -> None:
    names = dict.fromkeys(name for members in MFNET_NAMES.values() for name in members)
    _folders(root, names, folders, 9, suffix=suffix)
    for file, members in lists.items():
        write_list(root / file, members)


def msrs(root: Path) -> None:
    for split, names in {"train": ["00001D", "00002N", "00003N"], "test": ["00004D", "00005D"]}.items():
        folders = (f"{split}/vi", f"{split}/ir", f"{split}/Segmentation_labels")
        _folders(root, names, folders, 9, infrared=lambda path: noise(path, 1))
    noise(root / "detection" / "vi" / "00001D.png")


def mfnet_original(root: Path) -> None:
    for name in (name for members in MFNET_NAMES.values() for name in members):
        noise(root / "images" / f"{name}.png", 4)
        label(root / "labels" / f"{name}.png", 9)
    for name in MFNET_NAMES["train"]:
        noise(root / "images" / f"{name}_flip.png", 4)
        label(root / "labels" / f"{name}_flip.png", 9)
    for split, names in {**MFNET_NAMES, **MFNET_PARTS}.items():
        write_list(root / f"{split}.txt", names)
    write_list(root / "black_list.txt", [])


def _lists(*splits: str) -> dict[str, list[str]]:
    return {f"{split}.txt": MFNET_NAMES[split] for split in splits}


def mfnet_cmx(root: Path) -> None:
    _mfnet_repack(root, ("RGB", "Thermal", "Label"), _lists("train", "val", "test"))


def mfnet_sigma(root: Path) -> None:
    both = {"train2.txt": MFNET_NAMES["train"] + MFNET_NAMES["val"]}
    _mfnet_repack(root, ("RGB", "Modal", "Label"), both | _lists("test"))


def mfnet_cmnext(root: Path) -> None:
    _mfnet_repack(root, ("rgb", "ther", "labels"), _lists("train", "test"), suffix=".jpg")


def mfnet_stitchfusion(root: Path) -> None:
    _mfnet_repack(root, ("img", "ther", "labels"), _lists("train", "val", "test"))


def mfnet_mrfs(root: Path) -> None:
    lists = {file: [f"{name}.png" for name in names] for file, names in _lists("train", "test").items()}
    _mfnet_repack(root, ("visible", "infrared", "label"), lists)


def mfnet_amdanet(root: Path) -> None:
    lists = {
        file: [f"Visible/{name}.png Label/{name}.png" for name in names]
        for file, names in _lists("train", "test").items()
    }
    _mfnet_repack(root, ("Visible", "Infrared", "Label"), lists)


def mfnet_difusionseg(root: Path) -> None:
    for split, names in {"train": MFNET_NAMES["train"], "test": MFNET_NAMES["test"], **MFNET_PARTS}.items():
        _folders(root, names, (f"{split}/vi", f"{split}/ir", f"{split}/Segmentation_labels"), 9)


def fmb_official(root: Path) -> None:
    for split, names in {"train": ["00001", "00002", "00003"], "test": ["00004", "00005"]}.items():
        _folders(root, names, (f"{split}/Visible", f"{split}/Infrared", f"{split}/Label"), 15)
        for name in names:
            noise(root / split / "color" / f"{name}.png")


def fmb_repack(root: Path) -> None:
    names = {"train": ["00001", "00002", "00003"], "test": ["00004", "00005"]}
    _folders(root, [*names["train"], *names["test"]], ("Visible", "Infrared", "Label"), 15)
    for split, members in names.items():
        write_list(root / f"{split}.txt", members)


def pst900(root: Path) -> None:
    for split, count in {"train": 3, "test": 2}.items():
        names = [f"31_bag1a_{split}_rect_rgb_frame{index:010d}" for index in range(count)]
        folders = (f"{split}/rgb", f"{split}/thermal", f"{split}/labels")
        _folders(root, names, folders, 5, infrared=lambda path: noise(path, 1))
        for name in names:
            noise(root / split / "thermal_raw" / f"{name}.png", 1, np.uint16)
            noise(root / split / "depth" / f"{name}.png", 1, np.uint16)


MVSEG_VIDEOS = {"train": ["INO_ClosePerson1", "Walk_3"], "val": ["Night_1"], "test": ["Night_2", "Day_9"]}


def mvseg(root: Path) -> None:
    """Frames 1 to 6 of every video, of which 2 and 5 are labelled; JPEG in videos named Night."""
    for split, videos in MVSEG_VIDEOS.items():
        write_list(root / f"{split}.txt", videos)
        for video in videos:
            suffix = ".jpg" if video.startswith("Night") else ".png"
            for frame in range(1, 7):
                noise(root / "data" / video / "visible" / f"{frame:05d}v{suffix}")
                grey3(root / "data" / video / "infrared" / f"{frame:05d}i{suffix}")
            for frame in (2, 5):
                label(root / "data" / video / "label" / f"{frame:05d}l.png", 26)
    write_list(root / "test_night.txt", ["Night_2"])


TREES: dict[str, tuple[str, str, Callable[[Path], None], dict[str, int]]] = {
    # test name: benchmark, layout, builder, pairs per split
    "msrs": ("msrs", "authors", msrs, {"train": 3, "test": 2}),
    "mfnet": (
        "mfnet",
        "original",
        mfnet_original,
        {"train": 3, "val": 2, "test": 4, "test_day": 2, "test_night": 2},
    ),
    "mfnet-cmx": ("mfnet", "CMX, RoadSeg", mfnet_cmx, {"train": 3, "val": 2, "test": 4}),
    "mfnet-sigma": ("mfnet", "Sigma", mfnet_sigma, {"train+val": 5, "test": 4}),
    "mfnet-cmnext": ("mfnet", "CMNeXt", mfnet_cmnext, {"train": 3, "test": 4}),
    "mfnet-stitchfusion": ("mfnet", "StitchFusion", mfnet_stitchfusion, {"train": 3, "val": 2, "test": 4}),
    "mfnet-mrfs": ("mfnet", "MRFS", mfnet_mrfs, {"train": 3, "test": 4}),
    "mfnet-amdanet": ("mfnet", "AMDANet", mfnet_amdanet, {"train": 3, "test": 4}),
    "mfnet-difusionseg": (
        "mfnet",
        "DiFusionSeg",
        mfnet_difusionseg,
        {"train": 3, "test": 4, "test_day": 2, "test_night": 2},
    ),
    "fmb": ("fmb", "official", fmb_official, {"train": 3, "test": 2}),
    "fmb-repack": ("fmb", "MRFS, AMDANet", fmb_repack, {"train": 3, "test": 2}),
    "pst900": ("pst900", "official", pst900, {"train": 3, "test": 2}),
    "mvseg": ("mvseg", "authors", mvseg, {"train": 4, "val": 2, "test": 4, "test_night": 2}),
}
