"""Options of the command line: files and overrides, how mistakes read, and what a mistake must not cost."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from command_line import refused
from crossband.cli import main
from crossband.errors import CrossbandWarning
from crossband.pairs.export import export_folder
from crossband.run_card import read_card
from crossband.terminal import config_first
from crossband.training.engine import train
from tiny_runs import TINY_DATA, tiny_options

ANYWHERE = ["--data", TINY_DATA, "--out", "run"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    return train(tiny_options(out, "csknet", recipe={"epochs": 1, "batch_size": 4}), quiet=True)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "pairs"
    export_folder("scenes,train=0,val=0,test=4,size=32x48", folder)
    return folder


class TestConfiguration:
    @pytest.fixture
    def config(self, tmp_path: Path) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(tiny_options(Path("unused")).to_yaml())
        return path

    @pytest.mark.parametrize("order", ["before", "after"])
    def test_the_command_line_wins_wherever_the_file_stands(
        self, config: Path, tmp_path: Path, order: str
    ) -> None:
        """And single fields are changed in it, not whole groups."""
        changes = [
            *("--out", str(tmp_path / "run"), "--seed", "5", "--recipe.epochs", "1"),
            *("--augmentation.flip", "0", "--loss.dice_form", "global"),
        ]
        file = ["--config", str(config)]
        assert main(["train", *(file + changes if order == "before" else changes + file)]) == 0
        kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
        assert kept["system"] == "deeplabv3plus"
        assert kept["recipe"] == {"epochs": 1, "batch_size": 2}
        assert (kept["network"], kept["loss"]) == ({"decoder_channels": 16}, {"dice_form": "global"})
        assert kept["augmentation"] == {"flip": 0}
        assert kept["seed"] == 5
        card = read_card(tmp_path / "run")
        assert card.loss["dice_form"] == "global"
        assert card.training["augmentation"]["flip"] == 0
        assert f"({torch.backends.cpu.get_cpu_capability()})" in card.training["hardware"]

    def test_a_system_on_the_command_line_wins_over_the_file(
        self, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["train", "cskent", f"--config={config}", "--out", str(tmp_path / "run")]
        assert "did you mean csknet?" in refused(arguments, capsys)

    def test_a_runs_own_file_trains_it_again(self, run: Path, tmp_path: Path) -> None:
        assert main(["train", "--config", str(run / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
        again, first = (folder / "weights.safetensors" for folder in (tmp_path / "again", run))
        assert again.read_bytes() == first.read_bytes()

    def test_numbers_as_people_write_them(self, config: Path, tmp_path: Path) -> None:
        """YAML 1.1 reads 1e-3 as a text."""
        config.write_text(config.read_text().replace("epochs: 2", "epochs: 1\n  lr: 1e-3"))
        assert main(["train", "--config", str(config), "--out", str(tmp_path / "run")]) == 0
        assert read_card(tmp_path / "run").training["recipes"]["segmentation"]["lr"] == 1e-3

    def test_a_recipe_is_named_as_on_the_command_line(self, config: Path, tmp_path: Path) -> None:
        """And single fields of it are changed."""
        config.write_text(
            config.read_text().replace("recipe:\n  epochs: 2\n  batch_size: 2", "recipe: quick")
        )
        changes = ["--recipe.epochs", "1", "--recipe.batch_size", "4", "--out", str(tmp_path / "run")]
        assert main(["train", "--config", str(config), *changes]) == 0
        told = read_card(tmp_path / "run").training["recipes"]["segmentation"]
        assert [told[name] for name in ("epochs", "batch_size", "lr", "warmup_steps")] == [1, 4, 2e-2, 20]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("nonsense: 3", "does not accept option 'nonsense'"),
            ("seed: one", "--seed: expected int, not one"),
            ("system: csknet\nrecipe: fast", "there is no recipe 'fast'; there are paper, common, quick"),
            ("recipe: 3", "--recipe: expected dict, not 3"),
            (
                "system: csknet\nwithout_labels: maybe",
                "config.without_labels must be true or false, not 'maybe'",
            ),
            ("a: [", "parsing"),
        ],
    )
    def test_mistakes_in_the_file(
        self, tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "config.yaml").write_text(text)
        assert message in refused(["train", "--config", str(tmp_path / "config.yaml"), *ANYWHERE], capsys)

    def test_the_file_is_moved_behind_the_command(self) -> None:
        assert config_first(["train", "a", "--config", "f"]) == ["train", "--config", "f", "a"]
        assert config_first(["train", "a", "--config=f", "b"]) == ["train", "--config=f", "a", "b"]
        assert config_first(["train", "--config"]) == ["train", "--config"]
        assert config_first([]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["data"],
            "data needs an action: list, check, show, export, annotate, labels (see `crossband data --help`)",
        ),
        (["data", "check"], "the following arguments are required: source (see `crossband --help`)"),
        (["predict"], "the following arguments are required: run, --out (see `crossband --help`)"),
        (["verify"], "the following arguments are required: file, run, --data (see `crossband --help`)"),
        (["robustness"], "the following arguments are required: runs, --data (see `crossband --help`)"),
        (["serve"], "the following arguments are required: runs (see `crossband --help`)"),
        (["data", "labels"], "the following arguments are required: corrected, --annotated, --out (see `"),
        (["fuse", "average", "--visible", "a.png", "--out", ""], "out is an empty text; give it a value"),
        (["data", "export", "scenes", "--out", ""], "out is an empty text; give it a value"),
        (
            ["train", "csknet", *ANYWHERE, "--precision", "float8"],
            "--precision: expected one of 'float32', 'bfloat16', 'float16', not float8 "
            "(see `crossband train --help`)",
        ),
        (
            ["train", "csknet", *ANYWHERE, "--devices", "all"],
            "--devices: expected int, not all (see `crossband train --help`)",
        ),
        (
            ["train", "csknet", *ANYWHERE, "--logger", "clearml"],
            "--logger: expected one of 'tensorboard', 'wandb', 'mlflow', 'none', not clearml "
            "(see `crossband train --help`)",
        ),
        (
            ["robustness", "runs/a", "--data", "scenes", "--limit", "few"],
            "--limit: expected int, not few (see `crossband robustness --help`)",
        ),
        (
            ["train", "csknet", *ANYWHERE, "--recipe.epochs", "long"],
            "recipe.epochs must be an integer, not 'long'",
        ),
        (
            ["train", "csknet", *ANYWHERE, "--epochs", "3"],
            "unrecognized arguments: --epochs 3 (see `crossband train --help`)",
        ),
        (
            ["train", "csknet"],
            "train needs --data and --out, as in `crossband train csknet --data msrs:PATH ",
        ),
    ],
)
def test_mistakes_are_told_in_the_words_of_the_command_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(arguments, capsys).startswith(message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "predict", "recalibrate", "data export", "data show"]
)
def test_an_out_below_a_file_is_refused(
    run: Path, pairs: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    out = str(tmp_path / "file" / "out.png")
    source = f"folder:{pairs}"
    arguments = {
        "train": ["train", "deeplabv3plus", "--data", TINY_DATA, "--encoder", "test_efficientnet"],
        "evaluate": ["evaluate", str(run), "--data", source, "--workers", "0", "--bands", "infrared"],
        "predict": ["predict", str(run), "--infrared", str(pairs / "test" / "infrared")],
        "recalibrate": ["recalibrate", str(run), "--data", TINY_DATA],
        "data export": ["data", "export", source],
        "data show": ["data", "show", source, "--split", "test"],
    }[command]
    try:
        code = main([*arguments, "--out", out])
    except SystemExit as end:
        code = int(end.code or 0)
    errors = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(errors) == 1
    assert str(tmp_path / "file") in errors[0]
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


class TestEvaluate:
    def test_bands_that_the_system_or_the_data_lack(
        self, run: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        test = tmp_path / "pairs" / "test"
        for part in ("visible", "label"):
            (test / part).mkdir(parents=True)
            for path in (pairs / "test" / part).iterdir():
                (test / part / path.name).write_bytes(path.read_bytes())
        (tmp_path / "pairs" / "classes.yaml").write_bytes((pairs / "classes.yaml").read_bytes())
        arguments = ["evaluate", str(run), "--data", f"folder:{tmp_path / 'pairs'}", "--workers", "0"]
        assert "has no infrared images" in refused([*arguments, "--bands", "both"], capsys)
        assert main([*arguments, "--out", str(tmp_path / "scores")]) == 0
        text = (tmp_path / "scores" / "evaluation.txt").read_text()
        assert "visible (fallback)" in text
        assert "infrared" not in text

    def test_classes_of_other_names_are_remarked_on(
        self, run: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        export_folder(f"folder:{pairs}", tmp_path / "pairs")
        declared = tmp_path / "pairs" / "classes.yaml"
        declared.write_text(declared.read_text().replace("person", "pedestrian"))
        arguments = ["evaluate", str(run), "--data", f"folder:{tmp_path / 'pairs'}", "--workers", "0"]
        assert main([*arguments, "--out", str(tmp_path / "scores"), "--bands", "infrared"]) == 0
        assert "note: class 5 is 'person' in the run but 'pedestrian' in" in capsys.readouterr().err

    def test_writes_beside_the_weights_by_default_and_into_the_named_protocol(
        self, run: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["evaluate", str(run), "--data", f"folder:{pairs}", "--workers", "0"]
        assert main([*arguments, "--by", "none", "--protocol", "all-zero", "--batch_size", "3"]) == 0
        assert "mIoU (all-zero)" in capsys.readouterr().out
        written = {path.suffix for path in (run / "evaluation-test").iterdir()}
        assert written == {".txt", ".json", ".csv", ".html", ".npz"}
        # The same data may be scored again; scores on other data are not replaced without a word.
        assert main(arguments) == 0
        capsys.readouterr()
        other = [argument.replace(str(pairs), f"{pairs}/../{pairs.name}") for argument in arguments]
        assert "holds scores on" in refused(other, capsys)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--split", "nowhere"], "no split 'nowhere'"),
            (["--batch_size", "0"], "batch size must be at least 1"),
            (["--workers", "-1"], "workers must be 0 or more"),
            (["--device", "abacus"], "cannot compute on device abacus"),
        ],
    )
    def test_mistakes(
        self,
        run: Path,
        pairs: Path,
        arguments: list[str],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert message in refused(["evaluate", str(run), "--data", f"folder:{pairs}", *arguments], capsys)


class TestRunFolders:
    def test_unfinished_damaged_or_swapped(
        self, run: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        image = str(next((pairs / "test" / "infrared").iterdir()))
        predict = ["predict", str(tmp_path / "run"), "--infrared", image, "--out", str(tmp_path / "out")]
        (tmp_path / "run").mkdir()
        assert "its training did not finish" in refused(predict, capsys)
        (tmp_path / "run" / "card.json").write_text("{")
        assert "is not a card of Crossband" in refused(predict, capsys)
        (tmp_path / "run" / "card.json").write_bytes((run / "card.json").read_bytes())
        assert "no weights at" in refused(predict, capsys)
        (tmp_path / "run" / "weights.safetensors").write_text("damaged")
        assert "does not hold the weights of this network" in refused(predict, capsys)
        assert not (tmp_path / "out").exists()

    def test_a_system_of_one_band_says_which(
        self, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = train(tiny_options(tmp_path / "run", recipe={"epochs": 1, "batch_size": 4}), quiet=True)
        arguments = ["predict", str(folder), "--infrared", str(pairs / "test" / "infrared")]
        line = refused([*arguments, "--out", str(tmp_path / "out")], capsys)
        assert line == "deeplabv3plus cannot run on infrared alone; it runs on: visible (designed)"
        assert not (tmp_path / "out").exists()


def test_predict_takes_a_file_and_a_folder_only_of_a_kind(
    run: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pairs / "test" / "visible"
    image = next((pairs / "test" / "infrared").iterdir())
    arguments = ["predict", str(run), "--visible", str(folder), "--infrared", str(image)]
    assert "one is a file, one a folder" in refused([*arguments, "--out", str(tmp_path / "out")], capsys)


def test_predict_on_a_folder_without_images(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["predict", str(run), "--visible", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]
    assert "no image in it" in refused(arguments, capsys)


def test_a_16_bit_infrared_image_is_read_as_stored(run: Path, tmp_path: Path) -> None:
    """The upper byte alone holds the picture; a reader that clips to 8 bits would see white."""
    image = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint16)
    for name, stored in (("deep", image * 257), ("shallow", image.astype(np.uint8))):
        Image.fromarray(stored).save(tmp_path / f"{name}.png")
        arguments = ["--infrared", str(tmp_path / f"{name}.png"), "--out", str(tmp_path / "out")]
        assert main(["predict", str(run), *arguments]) == 0
    deep, shallow = (tmp_path / "out" / "confidence" / f"{name}.png" for name in ("deep", "shallow"))
    assert np.array_equal(np.asarray(Image.open(deep)), np.asarray(Image.open(shallow)))


def test_warnings_are_one_line_without_our_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    class WarningBenchmarks(dict):
        def items(self) -> list:
            warnings.warn("look at a.png", CrossbandWarning, stacklevel=1)
            warnings.warn("of another library", stacklevel=1)
            return []

    monkeypatch.setattr("crossband.pairs.benchmarks.BENCHMARKS", WarningBenchmarks())
    assert main(["data", "list"]) == 0
    assert capsys.readouterr().err == "crossband: warning: look at a.png\n"
    assert [str(entry.message) for entry in recwarn] == ["of another library"]
