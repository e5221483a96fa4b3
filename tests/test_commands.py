"""The command line as a user meets it: what it writes, and one clear line for what it cannot do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import crossband
from command_line import refused
from crossband.cli import main
from crossband.loading import load
from crossband.pairs.export import export_folder

COMMANDS = [
    "demo",
    "train",
    "evaluate",
    "predict",
    "fuse",
    "align",
    "recalibrate",
    "systems",
    "info",
    "data",
    "reproduce",
]
TINY = ["--encoder", "test_efficientnet", "--network.decoder_channels", "16", "--workers", "0"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "pairs"
    export_folder("scenes,train=12,val=0,test=6,size=40x56", folder)
    return folder


@pytest.fixture(scope="module")
def run(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "csknet"
    recipe = ["--recipe.epochs", "1", "--recipe.batch_size", "4", "--accelerator", "cpu"]
    assert main(["train", "csknet", "--data", f"folder:{pairs}", "--out", str(out), *TINY, *recipe]) == 0
    return out


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["data", "check"]])
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys; from crossband.cli import main\n"
        "try: main([*sys.argv[1:], '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'cv2', 'matplotlib', 'lightning'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: crossband" in done.stdout


def test_import_is_quick_and_the_public_names_are_these() -> None:
    code = "import sys, crossband; assert not {'torch', 'numpy', 'cv2'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert crossband.__all__ == [
        "BandError",
        "Batch",
        "CrossbandError",
        "NetworkSettings",
        "OptionError",
        "Output",
        "PairError",
        "Phase",
        "Prediction",
        "Predictor",
        "System",
        "Training",
        "WeightsError",
        "__version__",
        "create",
        "evaluate",
        "evaluate_fusion",
        "list_systems",
        "load",
        "make_training",
        "open_pairs",
        "register",
    ]
    assert all(getattr(crossband, name) is not None for name in crossband.__all__)


def test_evaluate_scores_every_combination_and_labels_the_fallback(
    run: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    arguments = ["evaluate", str(run), "--data", f"folder:{pairs}", "--out", str(out), "--workers", "0"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "fallback" in text
    for protocol in ("present", "all-nan", "all-zero", "no-background"):
        assert protocol in text
    scores = json.loads((out / "evaluation.json").read_text())
    assert {suffix.suffix for suffix in out.iterdir()} == {".json", ".csv", ".txt", ".html", ".npz"}
    assert "csknet" in json.dumps(scores)


@pytest.mark.parametrize("bands", [("visible", "infrared"), ("infrared",), ("visible",)])
def test_predict_writes_under_the_same_names_and_agrees_with_python(
    run: Path, pairs: Path, tmp_path: Path, bands: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument for band in bands for argument in (f"--{band}", str(pairs / "test" / band))]
    assert main(["predict", str(run), *given, "--out", str(tmp_path), "--device", "cpu"]) == 0
    assert ("fallback" in capsys.readouterr().err) == (bands == ("visible",))
    names = sorted(path.name for path in (pairs / "test" / bands[0]).iterdir())
    for kind in ("label", "overlay", "confidence"):
        assert sorted(path.name for path in (tmp_path / kind).iterdir()) == names
    predictor = load(run, device="cpu")
    files = {band: pairs / "test" / band / names[0] for band in bands}
    from_paths = predictor(**files)
    from_arrays = predictor(**{band: np.asarray(Image.open(path)) for band, path in files.items()})
    from_images = predictor(**{band: Image.open(path) for band, path in files.items()})
    written = Image.open(tmp_path / "label" / names[0])
    assert written.mode == "P"
    for labels in (from_arrays.labels, from_images.labels, np.asarray(written)):
        assert np.array_equal(labels, from_paths.labels)
    assert from_paths.labels.shape == (40, 56)
    assert 0 < from_paths.confidence.min() <= from_paths.confidence.max() <= 1
    assert from_paths.overlay().size == (56, 40)


def test_predict_takes_one_4_channel_file_as_both_bands(run: Path, pairs: Path, tmp_path: Path) -> None:
    name = next((pairs / "test" / "visible").iterdir()).name
    visible, infrared = (
        np.asarray(Image.open(pairs / "test" / band / name)) for band in ("visible", "infrared")
    )
    packed = tmp_path / "packed.png"
    Image.fromarray(np.dstack([visible, infrared])).save(packed)
    predictor = load(run, device="cpu")
    assert np.array_equal(
        predictor(visible=packed, infrared=packed).labels,
        predictor(visible=visible, infrared=infrared).labels,
    )


def test_a_missing_partner_is_one_line_and_writes_nothing(
    run: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for band in ("visible", "infrared"):
        (tmp_path / band).mkdir()
        for path in (pairs / "test" / band).iterdir():
            (tmp_path / band / path.name).write_bytes(path.read_bytes())
    gone = sorted((tmp_path / "infrared").iterdir())[2]
    gone.unlink()
    arguments = ["--visible", str(tmp_path / "visible"), "--infrared", str(tmp_path / "infrared")]
    arguments += ["--missing", "error"]
    line = refused(["predict", str(run), *arguments, "--out", str(tmp_path / "out")], capsys)
    assert gone.stem in line
    assert not (tmp_path / "out").exists()


def test_a_truncated_image_is_one_line_with_its_name(
    run: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = next((pairs / "test" / "infrared").iterdir())
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:300])
    line = refused(["predict", str(run), "--infrared", str(cut), "--out", str(tmp_path / "out")], capsys)
    assert str(cut) in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "train needs a system"),
        (["train", "cskent", "--data", "scenes", "--out", "x"], "csknet"),
        (["train", "csknet", "--data", "nowhere", "--out", "x"], "nowhere"),
        (["train", "csknet", "--data", "scenes", "--out", "x", "--recipe", "fast"], "no recipe 'fast'"),
        (["train", "csknet", "--data", "scenes", "--out", "x", "--seed", "one"], "seed"),
        (["train", "--resume", "no/such/run"], "no/such/run"),
        (["evaluate", "no/such/run", "--data", "scenes"], "no/such/run"),
        (["predict", "no/such/run", "--out", "x"], "--visible"),
        (["info", "neither"], "neither"),
        (["info", "csknet", "--size", "big"], "HEIGHTxWIDTH"),
        (["data", "show", "folder:no/such/folder", "--out", "x.png"], "no/such/folder"),
        (["fly"], "fly"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(arguments, capsys)
    assert not list(tmp_path.iterdir())


def test_labels_of_other_classes_are_not_scored(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs").mkdir()
    for part in ("visible", "infrared", "label"):
        folder = tmp_path / "pairs" / "test" / part
        folder.mkdir(parents=True)
        Image.fromarray(np.ones((32, 32), np.uint8)).save(folder / "a.png")
    line = refused(["evaluate", str(run), "--data", f"folder:{tmp_path / 'pairs'}"], capsys)
    assert "10" in line


def test_data_check_exits_with_1_where_there_are_errors(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", f"folder:{pairs}"]) == 0
    folder = tmp_path / "pairs"
    export_folder(f"folder:{pairs}", folder)
    broken = next((folder / "test" / "visible").iterdir())
    broken.write_bytes(broken.read_bytes()[:100])
    assert main(["data", "check", f"folder:{folder}"]) == 1
    assert broken.name in capsys.readouterr().out


def test_info_and_systems_tell_what_there_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["systems"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == crossband.list_systems()
    assert main(["info", str(run), "--size", "64x64"]) == 0
    text = capsys.readouterr().out
    for part in ("both", "designed", "fallback", "test_efficientnet", "random weights", "full-range"):
        assert part in text
