"""What decides a training run, what it refuses, and what a run that fails leaves behind."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

import fake_trees
from crossband.card import Card
from crossband.errors import CrossbandError, OptionError, PairError
from crossband.locks import LOCK_NAME
from crossband.losses.segmentation import segmentation_loss
from crossband.pairs.export import export_folder
from crossband.recipe import Recipe, named_recipe
from crossband.run_card import read_card
from crossband.systems import deeplabv3plus
from crossband.terms import encoder_terms, made_of, taken_over
from crossband.training.engine import read_curves, train
from crossband.training.options import TrainOptions
from crossband.training.phase_module import PhaseModule
from crossband.training.progress import Progress
from crossband.training.training_pairs import split_to_score
from crossband.weights import load_run
from crossband.words import BAND_COMBINATIONS, Bands
from stored_weights import as_safetensors
from tiny_runs import TINY_DATA, curves_without_seconds, tiny_options


@pytest.fixture(scope="module")
def visible_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny_options(tmp_path_factory.mktemp("training") / "visible"), quiet=True)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    export_folder(TINY_DATA, folder)
    return folder


def test_the_configuration_that_is_kept_is_the_one_that_was_given(visible_run: Path) -> None:
    assert TrainOptions.from_yaml(visible_run / "config.yaml") == tiny_options(visible_run)
    assert yaml.safe_load((visible_run / "config.yaml").read_text())["recipe"] == {
        "epochs": 2,
        "batch_size": 2,
    }


def test_the_card_keeps_the_whole_recipe_of_each_phase(visible_run: Path) -> None:
    recipes = read_card(visible_run).training["recipes"]
    assert recipes["segmentation"]["epochs"] == 2
    assert recipes["segmentation"]["momentum"] == Recipe().momentum


def test_the_card_keeps_the_licence_of_the_weights_that_an_encoder_starts_from(
    visible_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = as_safetensors(timm.create_model("test_efficientnet").state_dict(), tmp_path)
    recipe = {"epochs": 1, "batch_size": 2}
    run = train(tiny_options(tmp_path / "run", encoder_weights=str(path), recipe=recipe), quiet=True)
    card = read_card(run)
    assert card.training["encoder_licence"] == "apache-2.0"
    # Whatever timm says later, or where it is not there.
    monkeypatch.setattr("crossband.terms.find_spec", lambda name: None)
    assert "which timm states as apache-2.0" in encoder_terms(card)
    assert "encoder_licence" not in read_card(visible_run).training


def test_nothing_of_the_test_split_is_read(pairs: Path, tmp_path: Path) -> None:
    """A test split that cannot be read at all does not disturb training."""
    for image in (pairs / "test").rglob("*.png"):
        image.write_bytes(b"not an image")
    train(tiny_options(tmp_path / "run", data=f"folder:{pairs}", recipe={"epochs": 1}), quiet=True)
    training = read_card(tmp_path / "run").training
    assert training["split"].startswith("train")
    assert training["validation"]["split"].startswith("train")


def test_a_named_validation_split_leaves_the_training_pairs_whole(tmp_path: Path) -> None:
    folder = train(tiny_options(tmp_path / "run", validation="val", recipe={"epochs": 1}), quiet=True)
    training = read_card(folder).training
    assert training["pairs"] == 8
    assert training["validation"] == {"split": "val", "pairs": 2}
    assert training["checkpoint"]["segmentation"]["chosen_by"].endswith("on val")


@pytest.mark.parametrize(
    ("part", "system", "message"),
    [
        ("label", "deeplabv3plus", "has no labels in split 'val'; validating on it needs them"),
        ("infrared", "csknet", "phase csknet is validated on both, but .*split val, has no infrared images"),
        ("visible", "deeplabv3plus", "phase segmentation is validated on visible, but .* no visible images"),
    ],
)
def test_a_split_that_cannot_validate_is_refused_before_anything_is_trained(
    part: str, system: str, message: str, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(pairs / "val" / part)
    monkeypatch.setattr("crossband.training.engine.fit", lambda *given: pytest.fail("it was trained"))
    options = tiny_options(tmp_path / "run", system, data=f"folder:{pairs}", validation="val")
    with pytest.raises(PairError, match=message):
        train(options, quiet=True)
    assert not (tmp_path / "run").exists()


def test_labels_without_a_counted_pixel_choose_no_epoch(pairs: Path, tmp_path: Path) -> None:
    for path in (pairs / "val" / "label").iterdir():
        Image.fromarray(np.full((32, 48), 255, np.uint8)).save(path)
    options = tiny_options(tmp_path / "run", data=f"folder:{pairs}", validation="val")
    with pytest.raises(PairError, match="split val, has a pixel that counts, so no score chooses the epoch"):
        train(options, quiet=True)
    assert not (tmp_path / "run").exists()
    folder = train(replace(options, select="last"), quiet=True)
    assert read_card(folder).training["checkpoint"]["segmentation"] == {"chosen_by": "last epoch", "epoch": 2}


def test_best_keeps_the_weights_of_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With scores that are told to it: the second of three epochs is best, and its weights are kept."""
    scores = iter([0.2, 0.6, 0.4])
    end = PhaseModule.on_train_epoch_end
    seen = []

    class Told:
        def compute(self) -> Any:
            score = next(scores)
            return type("Scores", (), {"protocols": {"present": type("P", (), {"mean_iou": score})}})

    def told(module: PhaseModule) -> None:
        module.scores = {"visible": Told()}  # type: ignore[dict-item]
        end(module)
        seen.append({key: value.clone() for key, value in module.phase.keeps.state_dict().items()})

    monkeypatch.setattr(PhaseModule, "on_train_epoch_end", told)
    folder = train(tiny_options(tmp_path / "run", recipe={"epochs": 3, "batch_size": 2}), quiet=True)
    kept = load_run(folder)[0].state_dict()
    equal = [all(torch.equal(weights[key], kept[key]) for key in kept) for weights in seen]
    assert equal == [False, True, False]
    assert read_card(folder).training["checkpoint"]["segmentation"]["epoch"] == 2


def test_a_frozen_teacher_is_in_eval_mode_and_the_student_in_train_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step, also after a validation and after a phase that trained the teacher here."""
    step = PhaseModule.training_step
    modes = []

    def look(module: PhaseModule, batch: Any, batch_idx: int) -> torch.Tensor:
        frozen = [part.training for teacher in module.phase.frozen for part in teacher.modules()]
        trained = [part.training for part in module.trained.modules()]
        modes.append((module.phase.name, any(frozen), all(trained)))
        return step(module, batch, batch_idx)

    monkeypatch.setattr(PhaseModule, "training_step", look)
    train(tiny_options(tmp_path / "run", "csknet"), quiet=True)
    assert len(modes) == 8
    assert set(modes) == {("teacher", False, True), ("csknet", False, True)}


def test_recipes_and_overrides_reach_the_phases(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "recipe": {"name": "quick", "epochs": 1, "batch_size": 4},
        "phases": {"teacher": {"epochs": 2, "lr": 1e-3, "optimizer": "adamw", "warmup_steps": 0}},
        "augmentation": {"flip": 0, "crop": [24, 24]},
    }
    folder = train(tiny_options(tmp_path / "run", "csknet", **changes), quiet=True)
    training = read_card(folder).training
    assert training["recipes"]["csknet"]["lr"] == named_recipe("quick").lr == 2e-2
    assert training["recipes"]["csknet"]["epochs"] == 1
    assert training["recipes"]["teacher"]["optimizer"] == "adamw"
    assert training["augmentation"]["crop"] == [24, 24]
    rows = [(row["phase"], row["epoch"], float(row["lr"])) for row in curves_without_seconds(folder)]
    # quick warms up over 20 steps: the only step of the student runs at 1/21 of the rate.
    expected = [("teacher", "1", 1e-3), ("teacher", "2", 1e-3 * 0.5**0.9), ("csknet", "1", 2e-2 / 21)]
    assert [row[:2] for row in rows] == [row[:2] for row in expected]
    assert [row[2] for row in rows] == pytest.approx([row[2] for row in expected])


def test_a_warm_up_that_never_ends_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Five pairs in full batches of two, over two epochs: four steps."""
    for steps, noted in ((3, False), (4, True)):
        recipe = {"epochs": 2, "batch_size": 2, "warmup_steps": steps}
        train(tiny_options(tmp_path / str(steps), recipe=recipe))
        note = f"note: the warm-up of {steps} steps is as long as the whole phase (4 steps)"
        assert (note in capsys.readouterr().out) is noted


def test_a_training_ends_with_what_was_kept_and_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny_options(tmp_path / "a run"))
    lines = capsys.readouterr().out.splitlines()
    rows = read_curves(tmp_path / "a run")
    best = max(rows, key=lambda row: row.scores["visible"])
    kept = next(line for line in lines if line.startswith("kept of phase segmentation: "))
    assert f"epoch {best.epoch}, best mean IoU" in kept
    assert kept.endswith(f": {100 * best.scores['visible']:.1f} %")
    assert lines[-1] == f"next: crossband evaluate '{tmp_path / 'a run'}' --data {TINY_DATA}"


@pytest.mark.parametrize(
    ("splits", "changes", "scored"),
    [
        (["test", "train", "val"], {"validation": "val"}, "test"),
        (["train", "val"], {}, "val"),
        (["held", "train", "val"], {"validation": "held"}, "val"),
        (["train", "val"], {"validation": "val"}, "val"),
        (["train"], {}, None),
        (["day", "night"], {"split": "day"}, "night"),
        ([""], {"split": "all"}, None),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "list"])
def test_what_comes_next_is_on_a_split_that_is_there(
    tmp_path: Path, kind: str, splits: list[str], changes: dict[str, Any], scored: str | None
) -> None:
    """Pairs that were not trained on, and those that chose the epoch only where there are no others."""
    rows = ["visible,label,split" if splits != [""] else "visible,label"]
    for split in splits:
        images = [tmp_path / split / part / f"of{split}.png" for part in ("visible", "label")]
        for image, mode in zip(images, ("RGB", "L"), strict=True):
            image.parent.mkdir(parents=True)
            Image.new(mode, (8, 8), 1).save(image)
        rows.append(",".join([*map(str, images), *filter(None, [split])]))
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    data = f"folder:{tmp_path}" if kind == "folder" else f"list:{tmp_path / 'pairs.csv'}"
    assert split_to_score(tiny_options(tmp_path / "run", data=data, **changes), BAND_COMBINATIONS) == scored


@pytest.mark.parametrize(
    ("lacks", "changes", "supports", "scored"),
    [
        ("label", {}, BAND_COMBINATIONS, "val"),
        ("label", {"without_labels": True}, BAND_COMBINATIONS, "test"),
        ("infrared", {}, BAND_COMBINATIONS, "test"),
        ("infrared", {}, ("infrared",), "val"),
        ("infrared", {"without_labels": True}, BAND_COMBINATIONS, "val"),
    ],
)
def test_what_comes_next_is_on_a_split_that_can_be_scored(
    tmp_path: Path, lacks: str, changes: dict[str, Any], supports: tuple[Bands, ...], scored: str
) -> None:
    for split in ("test", "train", "val"):
        for part, mode in (("visible", "RGB"), ("infrared", "L"), ("label", "L")):
            if (split, part) != ("test", lacks):
                folder = tmp_path / "pairs" / split / part
                folder.mkdir(parents=True)
                Image.new(mode, (8, 8), 1).save(folder / "a.png")
    options = tiny_options(tmp_path / "run", data=f"folder:{tmp_path / 'pairs'}", **changes)
    assert split_to_score(options, supports) == scored


def test_what_comes_next_of_scenes_benchmarks_and_data_that_is_gone(tmp_path: Path) -> None:
    def scored(data: str, **changes: Any) -> str | None:
        return split_to_score(tiny_options(tmp_path / "run", data=data, **changes), BAND_COMBINATIONS)

    assert scored("scenes,train=4,val=2,test=0") == "val"
    assert scored("scenes,train=4,val=0,test=0") is None
    fake_trees.pst900(tmp_path)
    assert scored(f"pst900:{tmp_path}") == "test"
    shutil.rmtree(tmp_path / "test")
    assert scored(f"pst900:{tmp_path}") is None
    assert scored(f"folder:{tmp_path / 'gone'}") is None


@pytest.mark.parametrize(
    ("classes", "split", "told"),
    [
        ("some", "val", "next: crossband evaluate out --data folder:pairs --split val"),
        (None, "test", "next: crossband evaluate out --fusion --data folder:pairs"),
        (
            "some",
            None,
            "next: crossband evaluate out --data SOURCE, on labelled pairs that it was not trained on: "
            "folder:pairs has no split of them",
        ),
    ],
)
def test_the_next_command_names_a_split_only_where_it_has_to(
    capsys: pytest.CaptureFixture[str], classes: str | None, split: str | None, told: str
) -> None:
    training = {"data": "folder:pairs", "checkpoint": {}, "seconds": 1.0}
    card = SimpleNamespace(classes=classes, training=training)
    Progress(quiet=False).finished(Path("out"), cast("Card", card), split)
    assert capsys.readouterr().out.splitlines()[-1] == told


def test_curves_go_where_the_logger_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    train(tiny_options(tmp_path / "default"))
    train(tiny_options(tmp_path / "none", logger="none"))
    assert list((tmp_path / "default" / "tensorboard" / "segmentation").iterdir())
    assert not (tmp_path / "none" / "tensorboard").exists()

    ended: list[str] = []

    class Recorder(pl.loggers.CSVLogger):
        """Weights & Biases' place, taken by a logger that keeps what it is given."""

        def __init__(self, project: str, name: str, group: str, save_dir: str):
            super().__init__(save_dir, name=f"{project} {group} {name}", version="")
            self.experiment.finish = lambda: ended.append(name)  # type: ignore[attr-defined]

    monkeypatch.setattr("crossband.training.loggers.find_spec", lambda package: package)
    monkeypatch.setattr(pl.loggers, "WandbLogger", Recorder)
    train(tiny_options(tmp_path / "recorded", logger="wandb"))
    (kept,) = (tmp_path / "recorded").glob("crossband recorded segmentation/metrics.csv")
    with open(kept, newline="", encoding="utf-8") as file:
        logged = [float(row["loss"]) for row in csv.DictReader(file)]
    assert ended == ["segmentation"]
    assert logged == pytest.approx([row.losses["loss"] for row in read_curves(tmp_path / "recorded")])


def test_a_logger_that_cannot_be_begun_with_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**given: object) -> None:
        raise RuntimeError("no server\nand more")

    monkeypatch.setattr("crossband.training.loggers.find_spec", lambda package: package)
    monkeypatch.setattr(pl.loggers, "MLFlowLogger", refuse)
    with pytest.raises(OptionError, match=r"logger mlflow: it cannot be begun with \(no server\)"):
        train(tiny_options(tmp_path / "run", logger="mlflow"))


@pytest.mark.parametrize("logger", ["tensorboard", "wandb", "mlflow"])
def test_a_logger_that_is_not_installed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logger: Any
) -> None:
    monkeypatch.setattr("crossband.training.loggers.find_spec", lambda package: None)
    with pytest.raises(OptionError, match=f"the package {logger} is not installed; pip install"):
        train(tiny_options(tmp_path / "run", logger=logger))
    assert not (tmp_path / "run").exists()


def test_an_ablation_switch_reaches_the_network_and_the_card(tmp_path: Path) -> None:
    switches = {"decoder_channels": 16, "exchange": False, "exchange_stages": [1, 2]}
    loss, recipe = {"contrastive_weight": 0}, {"epochs": 1}
    folder = train(
        tiny_options(tmp_path / "run", "csknet", network=switches, loss=loss, recipe=recipe), quiet=True
    )
    system, card = load_run(folder)
    assert card.network["exchange"] is system.settings.exchange is False
    assert card.loss["contrastive_weight"] == 0
    assert card.network["exchange_stages"] == [1, 2]
    assert "contrast" not in curves_without_seconds(folder)[-1]


def test_band_dropout_leaves_the_teacher_its_band(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"augmentation": {"band_dropout": 1}, "recipe": {"epochs": 4, "batch_size": 2}}
    folder = train(tiny_options(tmp_path / "run", "csknet", **changes), quiet=True)
    teacher, student = (
        [row for row in curves_without_seconds(folder) if row["phase"] == phase]
        for phase in ("teacher", "csknet")
    )
    assert all(float(row["ce"]) > 0 for row in teacher)
    # Every batch of the student lacks a band, so nothing is fused; of eight, each band is lacked by some.
    assert not any(row.get("ce_fused") for row in student)
    assert any(row["ce_infrared"] for row in student)
    assert any(row["distill_predictions"] for row in student)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": {"epochs": "many"}}, "recipe.epochs must be an integer, not 'many'"),
        ({"recipe": {"epochs": 1.5}}, "recipe.epochs must be an integer"),
        ({"recipe": {"lr": float("nan")}}, "recipe.lr must be finite"),
        ({"recipe": {"momentum": -1}}, r"recipe.momentum must lie in \[0, 1\)"),
        ({"recipe": {"optimizer": "lion"}}, "recipe.optimizer must be one of sgd, adamw, adam"),
        ({"recipe": {"schedule": "cosine"}}, "recipe.schedule must be one of poly, constant"),
        ({"phases": {"segmentation": {"epoch": 1}}}, "a recipe has no 'epoch'"),
        ({"augmentation": {"flip": "often"}}, "augmentation.flip must be a number"),
        ({"augmentation": {"flip": 2}}, r"augmentation.flip must lie in \[0, 1\]"),
        ({"augmentation": {"crop": 64}}, r"augmentation.crop must be \[an integer, an integer\] or null"),
        ({"augmentation": {"band_dropout": 0.5}}, "deeplabv3plus cannot do without a band"),
        ({"network": {"decoder_channels": "wide"}}, "deeplabv3plus.decoder_channels must be an integer"),
        ({"network": {"band": "ultraviolet"}}, "deeplabv3plus.band must be one of visible, infrared"),
        ({"network": {"bands": "visible"}}, "no network option bands; did you mean band"),
        ({"network": {"classes": 3}}, "network.classes: the data"),
        ({"network": {"encoder": "resnet18"}}, "network.encoder is 'resnet18', but encoder is"),
        ({"accelerator": "tpu"}, "accelerator must be one of auto, cpu, gpu, not 'tpu'"),
        ({"select": "lowest"}, "select must be one of best, last, not 'lowest'"),
        ({"precision": "bf16"}, "precision must be one of float32, bfloat16, float16, not 'bf16'"),
        ({"logger": "tensorbord"}, "logger must be one of tensorboard, wandb, mlflow, none or null"),
        ({"compile": "no"}, "compile must be true or false, not 'no'"),
        ({"hold_out": "0.1"}, "hold_out must be a number, not '0.1'"),
        ({"seed": 1.5}, "seed must be an integer, not 1.5"),
        ({"workers": "0"}, "workers must be an integer or null, not '0'"),
        ({"validation": 3}, "validation must be a text or null, not 3"),
        ({"augmentation": ["flip"]}, "augmentation must be a mapping of names"),
        ({"devices": 0}, "devices must be 1 or more"),
        ({"workers": -1}, "workers must be 0 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"seed": 1 << 64}, r"seed must be 0 or more and below 2\^64"),
        ({"precision": "float16"}, "a CPU cannot train in float16"),
        ({"recipe": {"batch_size": 1}}, "raise recipe.batch_size"),
        ({"hold_out": 0.3, "validation": "val"}, "hold_out: nothing is held out where validation names"),
        (
            {"reuse": {"segmentation": "nowhere"}, "phases": {"segmentation": {"epochs": 9}}},
            "phases: segmentation is taken from nowhere by reuse, and not trained",
        ),
        ({"split": "nowhere"}, "no split 'nowhere'"),
        ({"validation": "nowhere"}, "no split 'nowhere'"),
        ({"infrared_scaling": "sideways"}, "infrared scaling 'sideways'"),
        ({"encoder_weights": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"reuse": {"segmentation": "nowhere"}}, "run folder nowhere is not there"),
        ({"reuse": {"teacher": "nowhere"}}, "deeplabv3plus has no phase 'teacher'"),
        ({"data": "scenes,train=1,size=32x48"}, "hold_out needs two"),
        ({"data": "scenes,train=2,size=32x48"}, "a single training pair of each condition"),
    ],
)
def test_what_is_refused_leaves_no_run_folder(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CrossbandError, match=message) as caught:
        train(tiny_options(tmp_path / "run", **changes), quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_paths_are_taken_as_their_texts(tmp_path: Path) -> None:
    options = tiny_options(tmp_path / "run", recipe={"epochs": 1, "batch_size": 2})
    run = train(replace(options, out=tmp_path / "run", hold_out=0), quiet=True)  # type: ignore[arg-type]
    assert TrainOptions.from_yaml(run / "config.yaml").out == str(run)


def test_numbers_of_other_libraries_are_taken_as_plain_ones(tmp_path: Path) -> None:
    options = tiny_options(tmp_path / "run", seed=np.int64(3), hold_out=np.float32(0.25), workers=np.uint8(0))
    assert (options.seed, options.hold_out, options.workers) == (3, 0.25, 0)
    assert {type(value) for value in (options.seed, options.hold_out, options.workers)} == {int, float}
    (tmp_path / "config.yaml").write_text(options.to_yaml(), encoding="utf-8")
    assert TrainOptions.from_yaml(tmp_path / "config.yaml") == options
    with pytest.raises(OptionError, match="seed must be an integer"):
        tiny_options(tmp_path / "run", seed=np.float64(3))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="accelerator gpu") as caught:
        train(tiny_options(tmp_path / "run", accelerator="gpu"), quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_pair_is_named_and_leaves_no_run_folder(pairs: Path, tmp_path: Path, workers: int) -> None:
    (pairs / "classes.yaml").write_text("names: [a, b]")
    options = tiny_options(tmp_path / "run", data=f"folder:{pairs}", workers=workers)
    with pytest.raises(PairError, match=r"train.label.\w+\.png: label ids? \d+") as caught:
        train(options, quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_nothing_but_a_dead_process_s_lock_may_be_used(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).touch()
    train(tiny_options(tmp_path, recipe={"epochs": 1}), quiet=True)
    assert (tmp_path / "card.json").exists()


@pytest.mark.parametrize("content", ["config.yaml", "holiday.jpg"])
def test_a_folder_in_use_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / content).write_text("mine")
    with pytest.raises(OptionError, match=r"--resume" if content == "config.yaml" else "is not empty"):
        train(tiny_options(tmp_path), quiet=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_weights_that_the_last_step_breaks_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's loss is of the weights before it."""
    step = torch.optim.SGD.step

    def breaks(self: torch.optim.SGD, *args: Any, **options: Any) -> Any:
        loss = step(self, *args, **options)
        self.param_groups[0]["params"][0].data.fill_(torch.inf)
        return loss

    monkeypatch.setattr(torch.optim.SGD, "step", breaks)
    options = tiny_options(tmp_path / "run", recipe={"epochs": 1, "batch_size": 8}, hold_out=0.0)
    with pytest.raises(CrossbandError, match=r"diverged in epoch 1 .*: weights became NaN"):
        train(options, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_later_can_still_be_looked_at(tmp_path: Path, monkeypatch: Any) -> None:
    calls = iter(range(100))

    def diverging(logits: Any, label: Any, **options: Any) -> dict[str, torch.Tensor]:
        return {
            name: value * (float("nan") if next(calls) >= 6 else 1)
            for name, value in segmentation_loss(logits, label, **options).items()
        }

    monkeypatch.setattr(deeplabv3plus, "segmentation_loss", diverging)
    with pytest.raises(CrossbandError, match=r"diverged in epoch 2 of phase segmentation: loss, ce, dice"):
        train(tiny_options(tmp_path / "run", recipe={"epochs": 3, "batch_size": 2}), quiet=True)
    assert [row["epoch"] for row in curves_without_seconds(tmp_path / "run")] == ["1"]
    assert not (tmp_path / "run" / "card.json").exists()
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_too_little_memory_says_what_to_lower(tmp_path: Path, monkeypatch: Any) -> None:
    def loss(*arguments: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(deeplabv3plus, "segmentation_loss", loss)
    with pytest.raises(CrossbandError, match=r"phase segmentation does not fit .* recipe\.batch_size"):
        train(tiny_options(tmp_path / "run"), quiet=True)


class TestReuse:
    def test_trains_the_other_phase_with_it(
        self, visible_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And it stays as it was: in eval mode, down to the statistics of its batch norms."""
        teachers = []
        end = PhaseModule.on_train_epoch_end

        def look(module: PhaseModule) -> None:
            teachers.append(module.phase.frozen[0].state_dict())
            end(module)

        monkeypatch.setattr(PhaseModule, "on_train_epoch_end", look)
        options = tiny_options(
            tmp_path / "run",
            "csknet",
            reuse={"teacher": str(visible_run)},
            recipe={"epochs": 1, "batch_size": 4},
        )
        folder = train(options, quiet=True)
        given = load_run(visible_run)[0].state_dict()
        assert len(teachers) == 1
        assert all(torch.equal(teachers[0][key], given[key]) for key in given)
        assert {row["phase"] for row in curves_without_seconds(folder)} == {"csknet"}
        assert read_card(folder).training["checkpoint"]["teacher"] == {"reused": str(visible_run)}

    def test_of_another_system_or_width_is_refused(self, visible_run: Path, tmp_path: Path) -> None:
        wide: dict[str, Any] = {"network": {"decoder_channels": 24}, "reuse": {"teacher": str(visible_run)}}
        with pytest.raises(OptionError, match="encoder or widths"):
            train(tiny_options(tmp_path / "run", "csknet", **wide), quiet=True)
        infrared: dict[str, Any] = {"reuse": {"csknet": str(visible_run)}}
        with pytest.raises(OptionError, match="holds a deeplabv3plus, but phase csknet makes a csknet"):
            train(tiny_options(tmp_path / "run", "csknet", **infrared), quiet=True)
        assert not (tmp_path / "run").exists()

    def test_of_another_band_is_refused(self, tmp_path: Path) -> None:
        """It has the tensors of a teacher on visible images, and never saw one."""
        network = {"decoder_channels": 16, "band": "infrared"}
        recipe = {"epochs": 1, "batch_size": 4}
        other = train(tiny_options(tmp_path / "infrared", network=network, recipe=recipe), quiet=True)
        options = tiny_options(tmp_path / "run", "csknet", reuse={"teacher": str(other)})
        message = "runs on infrared, but phase teacher makes a deeplabv3plus for visible"
        with pytest.raises(OptionError, match=message):
            train(options, quiet=True)
        assert not (tmp_path / "run").exists()

    def test_of_other_classes_is_refused(self, visible_run: Path, pairs: Path, tmp_path: Path) -> None:
        """As many classes, but in another order: a teacher of these would teach nonsense."""
        declared = yaml.safe_load((pairs / "classes.yaml").read_text())
        declared["names"] = declared["names"][::-1]
        (pairs / "classes.yaml").write_text(yaml.safe_dump(declared))
        changes: dict[str, Any] = {"data": f"folder:{pairs}", "reuse": {"teacher": str(visible_run)}}
        with pytest.raises(OptionError, match="trained on other classes"):
            train(tiny_options(tmp_path / "run", "csknet", **changes), quiet=True)


class TestStartFrom:
    def test_begins_at_the_weights_of_the_other_run(
        self, visible_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On the other band, too; and it is trained from there."""
        began = []
        start = PhaseModule.on_train_start

        def look(module: PhaseModule) -> None:
            state = module.phase.keeps.state_dict()
            began.append({key: value.clone() for key, value in state.items()})
            start(module)

        monkeypatch.setattr(PhaseModule, "on_train_start", look)
        network = {"decoder_channels": 16, "band": "infrared"}
        options = tiny_options(
            tmp_path / "run",
            network=network,
            start_from=str(visible_run),
            recipe={"epochs": 1, "batch_size": 4},
        )
        folder = train(options, quiet=True)
        given = load_run(visible_run)[0].state_dict()
        assert len(began) == 1
        assert all(torch.equal(began[0][key], given[key]) for key in given)
        after = load_run(folder)[0].state_dict()
        assert any(not torch.equal(after[key], given[key]) for key in given)
        card = read_card(folder)
        assert card.training["start_from"] == str(visible_run)
        # Whoever starts from this run in turn carries both.
        assert taken_over(card) == [{"run": str(visible_run), **made_of(read_card(visible_run))}]

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            (
                {"network": {"decoder_channels": 24}},
                r"start_from: the network in .* that this run trains \(encoder or widths\)",
            ),
            ({"system": "csknet"}, "holds a deeplabv3plus, but this run trains a csknet"),
            ({"start_from": "nowhere"}, "run folder nowhere is not there"),
            (
                {"reuse": {"segmentation": "another"}},
                "start_from: phase segmentation, which is reused from another, brings every weight",
            ),
            (
                {"system": "csknet", "loss": {"start": "teacher"}},
                "start_from: phase csknet begins at other weights by loss.start teacher, which would undo it",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, changes: dict[str, Any], error: str, visible_run: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(CrossbandError, match=error):
            train(tiny_options(tmp_path / "run", **{"start_from": str(visible_run), **changes}), quiet=True)
        assert not (tmp_path / "run").exists()


def test_pairs_of_different_sizes_and_ignored_pixels_train(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index, size in enumerate([(32, 48), (40, 33), (17, 50), (32, 48)]):
        for part in ("visible", "infrared", "label"):
            folder = tmp_path / "pairs" / "train" / part
            folder.mkdir(parents=True, exist_ok=True)
            image = rng.integers(0, 256, (*size, 3) if part == "visible" else size, np.uint8)
            if part == "label":
                image = np.where(image < 50, 255, image % 3).astype(np.uint8)
            Image.fromarray(image).save(folder / f"{index}.png")
    changes: dict[str, Any] = {
        "data": f"folder:{tmp_path / 'pairs'}",
        "recipe": {"epochs": 1, "batch_size": 3},
    }
    folder = train(tiny_options(tmp_path / "run", "csknet", **changes), quiet=True)
    assert json.loads((folder / "card.json").read_text())["classes"]["names"] == [
        "class 0",
        "class 1",
        "class 2",
    ]


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path: Path) -> None:
    """Lightning starts the second process with the same command; only the first writes and prints."""
    folder = tmp_path / "run"
    arguments = [
        *("train", "csknet", "--data", TINY_DATA, "--encoder", "test_efficientnet", "--out", str(folder)),
        *("--network.decoder_channels", "16", "--recipe.batch_size", "2", "--recipe.epochs", "2"),
        *("--workers", "0", "--accelerator", "cpu", "--devices", "2"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "crossband", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished:") == 1
    rows = curves_without_seconds(folder)
    assert [(row["phase"], row["epoch"]) for row in rows] == [
        *(("teacher", "1"), ("teacher", "2"), ("csknet", "1"), ("csknet", "2"))
    ]
    assert read_card(folder).training["devices"] == 2
    system, _ = load_run(folder)
    # Five pairs in steps of 2 x 2: one step an epoch, in which infrared runs in the pair and alone.
    assert system.visible.encoder.model.bn1.num_batches_tracked.item() in (1, 2)
    assert system.infrared.encoder.model.bn1.num_batches_tracked.item() in (2, 4)
