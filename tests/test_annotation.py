"""Labels and predictions to annotation tools and back: no class id changes on the way."""

from __future__ import annotations

import json
import shutil
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from command_line import refused
from crossband.annotation.brush import decode_brush, encode_brush
from crossband.annotation.labels import tool_labels
from crossband.cli import main
from crossband.errors import PairError, quoted
from crossband.loading import load
from crossband.pairs.base import Classes, PairFiles
from crossband.pairs.folder import FolderPairs, default_palette, folder_splits
from crossband.pairs.opening import open_pairs
from crossband.pairs.writing import write_image, write_label
from crossband.predicting import predict_files
from crossband.results import ResultPairs
from crossband.weights import make_card, save_run
from crossband.words import TOOLS
from tiny_systems import tiny

NAMES = ["a b.c", "Straße #1", "night/00012N", "x'; drop", "night_00012N"]
CLASSES = Classes(
    ("background", "car, parked: yes", "person", "ignored"),
    ((0, 0, 0), (64, 0, 128), (64, 0, 128), (9, 9, 9)),
)
SIZE = (11, 17)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Labelled pairs with names and class names that tools stumble over; infrared of 16 bits."""
    rng = np.random.default_rng(0)
    root = tmp_path / "pairs"
    for name in NAMES:
        write_image(root / "train/visible" / f"{name}.png", rng.integers(0, 256, (*SIZE, 3), np.uint8))
        write_image(root / "train/infrared" / f"{name}.png", rng.integers(0, 65536, SIZE, np.uint16))
        label = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), SIZE)
        write_label(root / "train/label" / f"{name}.png", label, CLASSES.palette)
    (root / "classes.yaml").write_text(
        'names: [background, "car, parked: yes", person, ignored]\n'
        "palette: [[0, 0, 0], [64, 0, 128], [64, 0, 128], [9, 9, 9]]\n",
        encoding="utf-8",
    )
    return root


def labels_of(root: Path) -> dict[str, np.ndarray]:
    pairs = FolderPairs(root, "train")
    return {pairs.name(index): np.asarray(pairs[index].label) for index in range(len(pairs))}


def exported(tool: str, annotated: Path, place: Path) -> Path:
    """What the tool would export if nobody corrected anything."""
    if tool == "cvat":
        return annotated / "annotations.zip"
    if tool == "fiftyone":
        return annotated
    tasks = json.loads((annotated / "tasks.json").read_text(encoding="utf-8"))
    for task in tasks:
        task["annotations"] = [{"result": task.pop("predictions")[0]["result"], "was_cancelled": False}]
    path = place / "export.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


@pytest.mark.parametrize("tool", TOOLS)
def test_labels_come_back_as_they_were(
    tool: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, back = tmp_path / "for tool", tmp_path / "back"
    assert main(["data", "annotate", f"folder:{folder}", "--format", tool, "--out", str(out)]) == 0
    corrected = exported(tool, out, tmp_path)
    assert main(["data", "labels", str(corrected), "--annotated", str(out), "--out", str(back)]) == 0
    assert "the masks of 0 were changed" in capsys.readouterr().out
    before, after = labels_of(folder), labels_of(back)
    assert set(after) == set(NAMES)
    for name in NAMES:
        assert np.array_equal(before[name], after[name])
        # Images come from the source, at their full depth, and not from what the tool was shown.
        for file in (folder, back):
            assert np.asarray(Image.open(file / "train/infrared" / f"{name}.png")).dtype == np.uint16
    classes = FolderPairs(back, "train").classes
    assert classes is not None
    assert (classes.names, classes.palette) == (CLASSES.names, CLASSES.palette)


def annotated(folder: Path, out: Path, tool: str) -> Path:
    assert main(["data", "annotate", f"folder:{folder}", "--format", tool, "--out", str(out)]) == 0
    return out


def test_a_correction_in_cvat_changes_its_pair_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = annotated(folder, tmp_path / "cvat", "cvat")
    record = json.loads((out / "crossband.json").read_text(encoding="utf-8"))
    item = next(one for one in record["items"] if one["pair"] == "a b.c")
    person = next(one for one in record["labels"] if one["id"] == 2)
    with zipfile.ZipFile(out / "images.zip") as images:
        assert f"related_images/{item['file']}_png/infrared.png" in images.namelist()
    # CVAT writes all of a task's labels, in an order of its own, and black where nobody painted.
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[2:5, 3:9] = person["colour"]
    place = tmp_path / "export"
    write_image(place / "SegmentationClass" / f"{item['file']}.png", mask)
    lines = [f"{one['name']}:{','.join(map(str, one['colour']))}::" for one in reversed(record["labels"])]
    (place / "labelmap.txt").write_text(
        "\n".join(["# label", "background:0,0,0::", *lines]), encoding="utf-8"
    )
    archive = shutil.make_archive(str(tmp_path / "cvat-export"), "zip", place)
    back = tmp_path / "back"
    assert main(["data", "labels", archive, "--annotated", str(out), "--out", str(back)]) == 0
    told = capsys.readouterr().out
    assert "1 pairs" in told
    assert "the masks of 1 were changed" in told
    assert "left out: 4 pairs" in told
    expected = np.full(SIZE, 255, np.uint8)
    expected[2:5, 3:9] = 2
    assert np.array_equal(labels_of(back)["a b.c"], expected)


def test_a_label_that_is_no_class_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = annotated(folder, tmp_path / "cvat", "cvat")
    place = tmp_path / "export"
    place.mkdir()
    (place / "labelmap.txt").write_text("tram:1,2,3::\n", encoding="utf-8")
    capsys.readouterr()
    told = refused(
        ["data", "labels", str(place), "--annotated", str(out), "--out", str(tmp_path / "back")], capsys
    )
    assert "'tram'" in told
    assert "person" in told
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("colour", ["1,2,3", "0,0,0"])
def test_labels_of_one_colour_are_refused(
    colour: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Colours can be changed in CVAT; black is what nobody painted."""
    out = annotated(folder, tmp_path / "cvat", "cvat")
    place = tmp_path / "export"
    place.mkdir()
    lines = ["background:0,0,0::", "person:1,2,3::", f"ignored class:{colour}::"]
    (place / "labelmap.txt").write_text("\n".join(lines), encoding="utf-8")
    capsys.readouterr()
    told = refused(
        ["data", "labels", str(place), "--annotated", str(out), "--out", str(tmp_path / "back")], capsys
    )
    assert "'ignored class' have one colour" in told


def test_masks_of_another_size_or_kind_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = annotated(folder, tmp_path / "fiftyone", "fiftyone")
    mask = next((out / "labels").iterdir())
    command = ["data", "labels", str(out), "--annotated", str(out), "--out", str(tmp_path / "back")]
    for picture, why in (
        (np.zeros((3, 4), np.uint8), "full size"),
        (np.zeros((*SIZE, 3), np.uint8), "class ids"),
        (np.full(SIZE, 77, np.uint8), "id 77"),
    ):
        write_image(mask, picture)
        capsys.readouterr()
        told = refused(command, capsys)
        assert why in told
        assert mask.name in told


@pytest.mark.parametrize(
    ("region", "why"),
    [
        ({"type": "polygonlabels", "value": {"polygonlabels": ["person"]}}, "the type 'polygonlabels'"),
        ({"type": "brush", "value": {"format": "rle", "rle": []}}, "the type 'brush'"),
        ({"type": "brushlabels", "value": {"brushlabels": []}}, "a region has no label"),
        ({"type": "brushlabels", "value": {"format": "rle", "rle": []}}, "a region has no label"),
    ],
)
def test_regions_without_a_mask_of_a_class_are_told(
    region: dict[str, Any], why: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody marked something with them, which would be lost."""
    out = annotated(folder, tmp_path / "tasks", "label-studio")
    export = exported("label-studio", out, tmp_path)
    tasks = json.loads(export.read_text(encoding="utf-8"))
    tasks[0]["annotations"][0]["result"].append(region)
    export.write_text(json.dumps(tasks), encoding="utf-8")
    capsys.readouterr()
    back = tmp_path / "back"
    told = refused(["data", "labels", str(export), "--annotated", str(out), "--out", str(back)], capsys)
    assert f"pair {quoted(sorted(NAMES)[0])}: " in told
    assert why in told
    assert not back.exists()


def test_masks_come_back_from_another_current_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    out = annotated(Path(folder.name), tmp_path / "out", "cvat")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    back = ["--annotated", str(out), "--out", str(tmp_path / "back")]
    assert main(["data", "labels", str(out / "annotations.zip"), *back]) == 0
    assert labels_of(tmp_path / "back").keys() == labels_of(folder).keys()


def test_pairs_without_labels_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "train/label")
    told = refused(
        ["data", "annotate", f"folder:{folder}", "--format", "cvat", "--out", str(tmp_path / "out")], capsys
    )
    assert "predict first" in told
    assert not (tmp_path / "out").exists()


def test_tool_labels_differ_in_name_and_colour() -> None:
    labels = tool_labels(CLASSES)
    assert [label.id for label in labels] == [0, 1, 2, 3, 255]
    assert len({label.name.casefold() for label in labels}) == len(labels)
    assert len({label.colour for label in labels}) == len(labels)
    assert all(any(label.colour) and label.name != "background" for label in labels)
    assert not any(mark in label.name for label in labels for mark in ":,#")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_brush_masks_survive(share: float) -> None:
    mask = np.random.default_rng(1).random((150, 170)) < share
    assert np.array_equal(decode_brush(encode_brush(mask), *mask.shape), mask)


def test_brush_masks_with_values_as_they_are() -> None:
    # A block of 4 single values, alpha of the one pixel being 200: as Label Studio writes antialiased edges.
    bits = f"{4:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + "000" + f"{3:03b}" + f"{0:024b}{200:08b}"
    bits += "0" * (-len(bits) % 8)
    code = [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]
    assert decode_brush(code, 1, 1).all()


@pytest.mark.parametrize("code", [[], [0, 0, 0], [300], ["a"], encode_brush(np.ones((4, 4), bool))[:-2]])
def test_damaged_brush_masks_are_refused(code: Any) -> None:
    with pytest.raises(PairError):
        decode_brush(code, 4, 4)


def test_predictions_are_annotated_and_come_back(folder: Path, tmp_path: Path) -> None:
    system = tiny("csknet")
    run, results = tmp_path / "run", tmp_path / "results"
    save_run(run, system, make_card(system, Classes(tuple("abcde"), default_palette(5)), "full-range", {}))
    train = folder / "train"
    files = [
        PairFiles(name, train / "visible" / f"{name}.png", train / "infrared" / f"{name}.png")
        for name in NAMES
    ]
    predict_files(load(str(run)), files, results)
    pairs = ResultPairs(results)
    assert pairs.names == sorted(NAMES)
    out, back = tmp_path / "cvat", tmp_path / "back"
    assert main(["data", "annotate", str(results), "--format", "cvat", "--out", str(out)]) == 0
    arguments = ["data", "labels", str(out / "annotations.zip"), "--annotated", str(out), "--out", str(back)]
    assert main(arguments) == 0
    again = FolderPairs(back, "all")
    for index in range(len(again)):
        stored = Image.open(results / "label" / f"{again.name(index)}.png")
        assert np.array_equal(np.asarray(again[index].label), np.asarray(stored))


@pytest.mark.parametrize("chosen", [None, "test"])
def test_predictions_come_back_into_the_splits_of_their_source(chosen: str | None, tmp_path: Path) -> None:
    """Else those of the test split would be trained on with all others."""
    system = tiny("csknet")
    run, results, out, back = (tmp_path / name for name in ("run", "results", "out", "back"))
    save_run(run, system, make_card(system, Classes(tuple("abcde"), default_palette(5)), "full-range", {}))
    counts = {"test": 1} if chosen else {"train": 2, "val": 1, "test": 1}
    split = ["--split", chosen] if chosen else []
    source = "scenes,train=2,val=1,test=1,size=32x48"
    assert main(["predict", str(run), "--data", source, *split, "--out", str(results)]) == 0
    assert main(["data", "annotate", str(results), "--format", "fiftyone", "--out", str(out)]) == 0
    assert main(["data", "labels", str(out), "--annotated", str(out), "--out", str(back)]) == 0
    assert {name: len(FolderPairs(back, name)) for name in folder_splits(back)} == counts
    for name in counts:
        corrected = FolderPairs(back, name)
        for index in range(len(corrected)):
            of = results / "label" / ("" if chosen else name) / f"{corrected.name(index)}.png"
            assert np.array_equal(np.asarray(corrected[index].label), np.asarray(Image.open(of)))
        pairs = open_pairs(source, name)
        told = {pairs.name(index): pairs.condition(index) for index in range(len(pairs))}
        assert {corrected.name(index): corrected.condition(index) for index in range(len(corrected))} == told
        assert None not in told.values()


@pytest.mark.parametrize("of", ["a source", "results"])
def test_infrared_comes_back_as_it_is_stored(of: str, folder: Path, tmp_path: Path) -> None:
    out, back, given = tmp_path / "out", tmp_path / "back", f"folder:{folder}"
    shown = ["--infrared_scaling", "percentile(1, 99)"]
    if of == "results":
        system, run = tiny("csknet"), tmp_path / "run"
        classes = Classes(tuple("abcde"), default_palette(5))
        save_run(run, system, make_card(system, classes, "fixed(20000, 40000)", {}))
        bands = [f"--{band}={folder / 'train' / band}" for band in ("visible", "infrared")]
        assert main(["predict", str(run), *bands, "--out", str(tmp_path / "results")]) == 0
        given, shown = str(tmp_path / "results"), []
    assert main(["data", "annotate", given, "--format", "fiftyone", "--out", str(out), *shown]) == 0
    assert main(["data", "labels", str(out), "--annotated", str(out), "--out", str(back)]) == 0
    (split,) = (entry for entry in back.iterdir() if entry.is_dir())
    for name in NAMES:
        stored, again = (
            np.asarray(Image.open(root / "infrared" / f"{name}.png")) for root in (folder / "train", split)
        )
        assert np.array_equal(again, stored)


def test_degrees_come_back_by_the_scaling_that_they_were_shown_under(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "train" / "infrared").rglob("*.png"):
        np.save(path.with_suffix(".npy"), np.full(SIZE, 20, np.float32))
        path.unlink()
    out, back = tmp_path / "out", tmp_path / "back"
    shown = ["--infrared_scaling", "celsius(0, 40)"]
    given = ["data", "annotate", f"folder:{folder}", "--format", "fiftyone", "--out", str(out)]
    assert main([*given, *shown]) == 0
    assert main(["data", "labels", str(out), "--annotated", str(out), "--out", str(back)]) == 0
    again = np.asarray(Image.open(back / "train" / "infrared" / f"{NAMES[0]}.png"))
    assert (again == 32768).all()


@pytest.mark.parametrize("of", ["a source", "results"])
def test_people_see_infrared_of_a_small_range(of: str, folder: Path, tmp_path: Path) -> None:
    """Such as the counts of a thermal camera, which full-range leaves within 5 grey levels."""
    infrared = folder / "train" / "infrared"
    for path in infrared.rglob("*.png"):
        write_image(path, np.linspace(7400, 8600, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint16))
    shown, named, back, given = tmp_path / "shown", tmp_path / "named", tmp_path / "back", f"folder:{folder}"
    if of == "results":
        system, run, given = tiny("csknet"), tmp_path / "run", str(tmp_path / "results")
        save_run(
            run, system, make_card(system, Classes(tuple("abcde"), default_palette(5)), "full-range", {})
        )
        assert main(["predict", str(run), "--infrared", str(infrared), "--out", given]) == 0
    assert main(["data", "annotate", given, "--format", "fiftyone", "--out", str(shown)]) == 0
    for path in (shown / "infrared").iterdir():
        assert np.ptp(np.asarray(Image.open(path))) > 250
    assert main(["data", "labels", str(shown), "--annotated", str(shown), "--out", str(back)]) == 0
    for path in back.glob("*/infrared/**/*.png"):
        assert np.asarray(Image.open(path)).min() == 7400
    if of == "a source":
        scaling = ["--infrared_scaling", "full-range"]
        assert main(["data", "annotate", given, "--format", "fiftyone", "--out", str(named), *scaling]) == 0
        assert all(np.asarray(Image.open(path)).max() < 40 for path in (named / "infrared").iterdir())


def test_a_sheet_shows_infrared_of_a_small_range(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (folder / "train").rglob("*.png"):
        if path.is_relative_to(folder / "train" / "infrared"):
            write_image(path, np.linspace(7400, 8600, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint16))
    sheet = tmp_path / "sheet.png"
    assert main(["data", "show", f"folder:{folder}", "--out", str(sheet)]) == 0
    assert "shown under fixed(740" in capsys.readouterr().out
    under = np.asarray(Image.open(sheet))
    assert (
        main(["data", "show", f"folder:{folder}", "--out", str(sheet), "--infrared_scaling=full-range"]) == 0
    )
    assert "shown under" not in capsys.readouterr().out
    assert not np.array_equal(under, np.asarray(Image.open(sheet)))


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_infrared_of_frames_comes_back_in_16_bits(kind: type, tmp_path: Path) -> None:
    values = np.linspace(7400, 8600, 2 * 32 * 48).reshape(2, 32, 48).astype(kind)
    tifffile.imwrite(tmp_path / "infrared.tif", values, photometric="minisblack")
    run, results, out, back = (tmp_path / name for name in ("run", "results", "out", "back"))
    system, classes = tiny("csknet"), Classes(tuple("abcde"), default_palette(5))
    save_run(run, system, make_card(system, classes, "fixed(7400, 8600)", {}))
    given = ["--data", f"frames:{tmp_path / 'infrared.tif'}", "--bands", "infrared"]
    assert main(["predict", str(run), *given, "--out", str(results)]) == 0
    assert main(["data", "annotate", str(results), "--format", "fiftyone", "--out", str(out)]) == 0
    assert main(["data", "labels", str(out), "--annotated", str(out), "--out", str(back)]) == 0
    # Floats by the scaling that they were predicted under, since 16 bits cannot hold them.
    wanted = values if kind is np.uint16 else np.rint((values - 7400) * (65535 / 1200))
    for index in range(2):
        again = np.asarray(Image.open(back / "all" / "infrared" / f"{index:06}.png"))
        assert again.dtype == np.uint16
        assert np.abs(again - wanted[index]).max() <= (kind is np.float32)


@pytest.mark.parametrize("of", ["folders", "a source"])
def test_results_of_images_that_were_changed_are_refused(of: str, folder: Path, tmp_path: Path) -> None:
    train, fused = folder / "train", tmp_path / "fused"
    arguments = ["--visible", str(train / "visible"), "--infrared", str(train / "infrared")]
    if of == "a source":
        arguments = ["--data", f"folder:{folder}"]
    assert main(["fuse", "average", *arguments, "--out", str(fused)]) == 0
    pairs = ResultPairs(fused)
    first = pairs[0]
    picture = pairs.picture(0, "fused")
    assert picture is not None
    assert picture.shape == (*first.size, 3)
    write_image(train / "visible" / f"{pairs.name(0)}.png", np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(PairError, match="predict again"):
        ResultPairs(fused)[0]


def test_the_script_for_fiftyone_makes_groups(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run against the names that FiftyOne documents; FiftyOne itself is not installed."""
    out = annotated(folder, tmp_path / "fiftyone", "fiftyone")

    class Sample(dict):  # type: ignore[type-arg]
        def __init__(self, **fields: Any):
            super().__init__(fields)

    class Dataset:
        def __init__(self, name: str):
            self.samples: list[Sample] = []
            self.default_mask_targets: dict[int, str] = {}

        def add_group_field(self, name: str, default: str) -> None:
            self.default = default

        def add_samples(self, samples: list[Sample]) -> None:
            self.samples += samples

        def save(self) -> None:
            pass

    class Group:
        def element(self, name: str) -> tuple[Group, str]:
            return self, name

    module = types.SimpleNamespace(
        Dataset=Dataset, Sample=Sample, Group=Group, Segmentation=lambda mask_path: Path(mask_path)
    )
    monkeypatch.setitem(sys.modules, "fiftyone", module)  # type: ignore[arg-type]
    told: dict[str, Any] = {"__name__": "script", "__file__": str(out / "load_fiftyone.py")}
    exec((out / "load_fiftyone.py").read_text(encoding="utf-8"), told)
    dataset = told["load"]("pairs")
    assert len(dataset.samples) == 2 * len(NAMES)
    assert {sample["group"][1] for sample in dataset.samples} == {"visible", "infrared"}
    assert all(Path(sample["filepath"]).is_file() and sample["label"].is_file() for sample in dataset.samples)
    assert dataset.default_mask_targets[2] == "person"
