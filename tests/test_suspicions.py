"""What looks wrong with pixels: each kind found in generated images, and none in real pairs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from command_line import refused
from crossband.cli import main
from crossband.errors import OptionError, PairError, WeightsError
from crossband.loading import load
from crossband.pairs.auto_scaling import automatic_scaling, resolve_scaling
from crossband.pairs.band_summary import PairsSummary, summarise_files, summarise_pairs
from crossband.pairs.base import Classes, PairFiles
from crossband.pairs.check import check_source
from crossband.pairs.false_colour import palette
from crossband.pairs.folder import FolderPairs, folder_splits
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.opening import open_pairs
from crossband.pairs.suspicions import Suspicion, suspicions
from crossband.predictor import Predictor
from crossband.weights import load_run, make_card, save_run
from tiny_systems import CLASSES, tiny

SIZE = (30, 40)


def grey(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SIZE, np.uint8)


def colour(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def deep(low: int = 29000, high: int = 33000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, SIZE, np.uint16)


def make(root: Path, visible: list[np.ndarray], infrared: list[np.ndarray]) -> list[PairFiles]:
    """Files of pairs 0, 1, ...; floats become TIFF."""
    files = []
    for index, pair in enumerate(zip(visible, infrared, strict=True)):
        paths = []
        for band, image in zip(("visible", "infrared"), pair, strict=True):
            path = root / band / f"{index}{'.tif' if image.dtype.kind == 'f' else '.png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if image.dtype.kind == "f":
                tifffile.imwrite(path, image)
            else:
                Image.fromarray(image).save(path)
            paths.append(path)
        files.append(PairFiles(str(index), *paths))
    return files


def found(
    summary: PairsSummary, trained_on: PairsSummary | None = None, rule: str = "full-range"
) -> Suspicion | None:
    """The only suspicion, or None."""
    told = suspicions(summary, trained_on, scaling=InfraredScaling.parse(rule))
    assert len(told) < 2, told
    assert all("\n" not in str(suspicion) for suspicion in told)
    return told[0] if told else None


DEGREES = np.linspace(-5, 38, 1200, dtype=np.float32).reshape(SIZE)
KINDS = {
    "small range": (colour(), deep(), "uint16 from 29.* to 32.*--infrared_scaling 'fixed(29"),
    "constant": (colour(), np.full(SIZE, 90, np.uint8), "1 of 1 infrared images hold one value only: 0"),
    "iron": (colour(), palette("iron")[grey()], "iron.*bands exchanged.*--infrared_palette iron"),
    "rainbow": (colour(), palette("rainbow")[grey()], "they look like rainbow.*are the bands exchanged"),
    "unknown colours": (colour(), colour(1), "of no known palette.*are the bands exchanged"),
    "exchanged": (grey(), colour(), "the bands look exchanged: visible is grey"),
    "exchanged palette": (palette("iron")[grey()], grey(1), "exchanged: visible has.* palette iron"),
    "exchanged raw": (deep(), grey(), "exchanged: visible is 16-bit grey within 29"),
    "degrees": (colour(), DEGREES, r"degrees or kelvin\?.*'fixed\(-4.9"),
    "sound": (colour(), grey(), None),
    "sound 16-bit": (colour(), deep(0, 65536), None),
    "sound grey visible": (grey(), grey(1), None),
    "sound float": (colour(), np.linspace(0, 1, 1200, dtype=np.float32).reshape(SIZE), None),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(kind: str, tmp_path: Path) -> None:
    visible, infrared, wanted = KINDS[kind]
    told = found(summarise_files(make(tmp_path, [visible], [infrared])))
    if wanted is None:
        assert told is None
    else:
        assert re.search(wanted.replace("fixed(29", r"fixed\(29"), str(told)), told
    # `data check` tells the same, and what cannot be read is an error.
    report = check_source(f"folder:{tmp_path}")
    assert [p.message for p in report.problems] == ([] if told is None else [f"all: {told.message}"])
    assert report.ok == (told is None or told.kind != "false colour")


def test_a_rule_that_spreads_the_values_leaves_nothing_to_say(tmp_path: Path) -> None:
    summary = summarise_files(make(tmp_path, [colour()], [deep()]))
    for rule in ("minmax", "percentile(1, 99)", "fixed(29000, 33000)"):
        assert found(summary, rule=rule) is None
    assert found(summary, rule="fixed(0, 255)").kind == "small range"


def test_a_small_range_of_several_types_is_told_one_mend_once(tmp_path: Path) -> None:
    """No two limits hold for 8 and 16 bits, so that one rule of the two that are named is left."""
    files = make(tmp_path, [colour()] * 3, [deep(), deep(), grey()])
    (told,) = suspicions(summarise_files(files))
    assert told.kind == "small range"
    assert told.mend.count("percentile(1, 99)") == 1


def test_unlike_training(tmp_path: Path) -> None:
    kinds = {
        "8-bit": grey(),
        "16-bit": deep(),
        "warmer": deep(36000, 40000),
        "similar": deep(29500, 33500),
        "stretched": grey().astype(np.uint16) * 257,
    }
    of = {name: summarise_files(make(tmp_path / name, [colour()], [image])) for name, image in kinds.items()}
    told = found(of["16-bit"], of["8-bit"])
    assert told.kind == "unlike training"
    assert "infrared is uint16 from 29" in told.message
    assert "trained on uint8 from 0 to 25" in told.message
    assert told.message.endswith("under full-range")
    assert found(of["warmer"], of["16-bit"], "fixed(28000, 41000)").kind == "unlike training"
    assert found(of["similar"], of["16-bit"], "fixed(28000, 41000)") is None
    assert found(of["16-bit"], of["16-bit"]) is None  # Dull, but so was the training.
    assert found(of["stretched"], of["8-bit"]) is None  # The same in [0, 1].
    assert found(of["16-bit"], of["8-bit"], "minmax") is None
    without_colour = summarise_files(make(tmp_path / "grey", [grey(3)], [grey()]))
    assert (
        "visible is grey, but the run was trained on visible in colour"
        in found(without_colour, of["8-bit"]).message
    )


def test_a_summary_survives_json_and_refuses_what_it_is_not(tmp_path: Path) -> None:
    summary = summarise_files(make(tmp_path, [colour()], [deep()]))
    assert PairsSummary.from_dict(json.loads(json.dumps(summary.to_dict()))) == summary
    fields = summary.to_dict()
    fields["infrared"]["low"] = "cold"
    with pytest.raises(OptionError, match=r"summary of infrared.low must be a number"):
        PairsSummary.from_dict(fields)


def test_generated_pairs_count_as_8_bit() -> None:
    summary = summarise_pairs(open_pairs("scenes,train=3,size=32x48", "train"))
    assert (summary.infrared.types, summary.visible.channels) == ({"uint8": 3}, {"colour": 3})


def test_auto_is_one_rule_for_all(tmp_path: Path) -> None:
    images = [deep(10000, 10100), deep(10900, 11000)]
    images[0][:5] = 0  # Holes of warping count as no measurement.
    files = make(tmp_path, [colour()] * 2, images)
    rule = resolve_scaling("auto", files)
    assert rule.rule == "fixed"
    assert 10000 <= rule.limits[0] < 10002 < 10997 < rule.limits[1] <= 11000
    pairs = open_pairs(f"folder:{tmp_path}", "all", infrared_scaling="auto")
    assert pairs[0].infrared.max() < 0.15 < 0.85 < pairs[1].infrared.min()
    assert resolve_scaling("auto", make(tmp_path / "8", [colour()], [grey() // 4])) == InfraredScaling()
    assert automatic_scaling(None) == InfraredScaling()
    with pytest.raises(PairError, match=r"several types \(1 uint16, 1 uint8\)"):
        resolve_scaling("auto", make(tmp_path / "mixed", [colour()] * 2, [deep(), grey()]))


def run_fuse(root: Path, *more: str) -> list[str]:
    bands = ["--visible", str(root / "visible"), "--infrared", str(root / "infrared")]
    return ["fuse", "average", *bands, "--out", str(root / "out"), "--device", "cpu", "--overwrite", *more]


def test_fuse_prints_its_rule_and_each_finding_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, [colour()] * 3, [deep(seed=seed) for seed in range(3)])
    assert main(run_fuse(tmp_path)) == 0
    out, err = capsys.readouterr()
    assert "infrared scaling: fixed(29" in out
    assert err == ""
    assert main(run_fuse(tmp_path, "--infrared_scaling", "full-range")) == 0
    out, err = capsys.readouterr()
    assert "infrared scaling: full-range" in out
    assert err.count("note: infrared is uint16") == err.count("\n") == 1


def test_fuse_refuses_false_colour_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, [colour()], [palette("iron")[grey()]])
    line = refused(run_fuse(tmp_path), capsys)
    assert "infrared in false colours (they look like iron)" in line
    assert "are the bands exchanged?" in line
    assert not (tmp_path / "out").exists()
    assert main(run_fuse(tmp_path, "--allow_false_colour")) == 0
    assert capsys.readouterr().err.startswith("note: 1 of 1 infrared images: infrared in false colours")
    assert main(run_fuse(tmp_path, "--infrared-palette", "iron")) == 0
    assert capsys.readouterr().err == ""
    undone = load("average", device="cpu")(tmp_path / "visible" / "0.png", grey()).fused
    assert np.abs(np.asarray(Image.open(tmp_path / "out" / "0.png")).astype(int) - undone).max() <= 1
    assert "give one of them" in refused(
        run_fuse(tmp_path, "--allow_false_colour", "--infrared_palette", "iron"), capsys
    )


def test_a_folder_in_false_colours(tmp_path: Path) -> None:
    make(tmp_path, [colour()], [palette("iron")[grey()]])
    source = f"folder:{tmp_path}"
    with pytest.raises(PairError, match=r"0\.png: infrared in false colours"):
        open_pairs(source, "all")[0]
    undone = open_pairs(f"{source},infrared_palette=iron", "all")
    assert np.abs(undone[0].infrared * 255 - grey()).max() <= 1
    assert found(summarise_pairs(undone)) is None
    assert not check_source(f"{source},infrared_palette=iron").problems
    assert open_pairs(f"{source},allow_false_colour=true", "all")[0].infrared.shape == SIZE
    for option in ("infrared_palette=irn", "allow_false_colour=yes", "ignore=0"):
        with pytest.raises(OptionError):
            open_pairs(f"{source},{option}", "all")


def test_predict_holds_images_against_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained_on = summarise_files(make(tmp_path / "train", [colour()], [grey()]))
    classes = Classes(tuple(map(str, range(CLASSES))), ((0, 0, 0),) * CLASSES)
    system = tiny("csknet")
    save_run(
        tmp_path / "run",
        system,
        make_card(system, classes, "full-range", {"trained_on": trained_on.to_dict()}),
    )
    make(tmp_path, [colour()], [deep()])
    arguments = ["predict", str(tmp_path / "run"), *run_fuse(tmp_path)[2:]]
    assert main(arguments) == 0
    err = capsys.readouterr().err
    assert [line.partition(": ")[0] for line in err.splitlines()] == ["note", "runtime"]
    assert err.startswith("note: infrared is uint16 from 29")
    assert "trained on uint8 from 0 to 25" in err
    assert "store it as in training" in err
    system, card = load_run(tmp_path / "run")
    strange = Predictor(system, replace(card, training={"trained_on": {"infrared": [1]}}), device="cpu")
    with pytest.raises(WeightsError, match="no summary of its training pairs"):
        strange.examine([])


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["msrs_pairs", "roadscene", "cwfid", "deadtree", "msrs_boxes"])
def test_no_false_alarm_on_real_pairs(name: str, shared_data: Path) -> None:
    """Neither for whole splits nor for single pairs; and all are told when their bands are exchanged in
    colour."""
    for split in folder_splits(shared_data / name):
        files = FolderPairs(shared_data / name, split, labels=False).files
        assert suspicions(summarise_files(files)) == []
        for pair in files[:: max(1, len(files) // 6)]:
            assert suspicions(summarise_files([pair])) == [], pair.name
    if name == "msrs_boxes":
        trained_on = summarise_files(FolderPairs(shared_data / name, "train", labels=False).files)
        dull = [pair for pair in files if pair.name == "01222N"]  # Infrared of 0 to 45.
        assert suspicions(summarise_files(files), trained_on) == []
        assert suspicions(summarise_files(dull), trained_on) == []
    if name != "cwfid":  # Both of its bands are grey.
        swapped = [PairFiles(f.name, f.infrared, f.visible) for f in files]
        assert "exchanged" in str(suspicions(summarise_files(swapped))[0])


def test_auto_is_settled_by_the_first_image_and_stays() -> None:
    predictor = load("average", device="cpu")
    assert predictor.scaling is None
    predictor(visible=np.zeros((1, 3, 3), np.uint8))
    assert predictor.scaling is None
    first, second = (np.array([row], np.uint16) for row in ([5000, 7000, 9000], [7000, 7000, 9000]))
    assert predictor(infrared=first).fused[0, :, 0].tolist() == [0, 128, 255]
    settled = predictor.scaling
    assert predictor(infrared=second).fused[0, :, 0].tolist() == [128, 128, 255]
    assert predictor.scaling is settled


def test_channels_that_differ_in_a_spot_are_a_line_without_our_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    infrared = np.repeat(grey()[..., None], 3, axis=2)
    infrared[3, 3] = 0, 200, 0
    (files,) = make(tmp_path, [colour()], [infrared])
    arguments = ["--visible", str(files.visible), "--infrared", str(files.infrared)]
    assert main(["fuse", "average", *arguments, "--out", str(tmp_path / "out")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"crossband: warning: {files.infrared}: the three channels")
    assert "reading.py" not in line
