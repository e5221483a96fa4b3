"""Training runs: what they leave behind, what decides them, and that a kill changes nothing."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from crossband.errors import CrossbandError, OptionError, PairError
from crossband.run_card import read_card
from crossband.training.engine import resume, train
from crossband.training.options import TrainOptions
from crossband.weights import load_run
from processes import Command
from tiny_runs import curves_without_seconds, tiny_options

DATA = "scenes,train=12,test=4,size=48x64"


def options(out: Path, system: str = "csknet", **changes: Any) -> TrainOptions:
    settings: dict[str, Any] = {"data": DATA, "recipe": {"epochs": 2, "batch_size": 4}, "seed": 1}
    return tiny_options(out, system, **{**settings, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(options(tmp_path_factory.mktemp("runs") / "csknet"), command="the command", quiet=True)


def test_a_finished_run_holds_all_that_is_needed_and_no_more(run: Path) -> None:
    assert {entry.name for entry in run.iterdir()} - {"tensorboard"} == {
        "weights.safetensors",
        "card.json",
        "config.yaml",
        "curves.csv",
        "command.txt",
        "phases",
    }
    assert [entry.name for entry in (run / "phases").iterdir()] == ["teacher.safetensors"]
    assert (run / "command.txt").read_text() == "the command\n"


def test_the_curves_name_every_term_of_every_phase(run: Path) -> None:
    rows = curves_without_seconds(run)
    assert [(row["phase"], row["epoch"]) for row in rows] == [
        ("teacher", "1"),
        ("teacher", "2"),
        ("csknet", "1"),
        ("csknet", "2"),
    ]
    terms = [
        "ce_fused",
        "dice_fused",
        "ce_infrared",
        "dice_infrared",
        "distill_predictions",
        "distill_features",
        "contrast",
    ]
    assert all(rows[-1][term] for term in terms)
    assert sum(float(rows[-1][term]) for term in terms) == pytest.approx(float(rows[-1]["loss"]), rel=1e-5)
    assert float(rows[1]["lr"]) == pytest.approx(5e-3 * 0.5**0.9)


def test_the_card_says_what_chose_the_weights_and_that_it_was_held_out(run: Path) -> None:
    training = read_card(run).training
    assert training["validation"]["split"] == "train (held out, 0.1)"
    assert training["pairs"] + training["validation"]["pairs"] == 12
    chosen = training["checkpoint"]["csknet"]
    scores = [float(row["val_miou_both"]) for row in curves_without_seconds(run) if row["phase"] == "csknet"]
    assert chosen["mean_iou"] == max(scores)
    assert chosen["epoch"] == scores.index(max(scores)) + 1
    assert "both" in chosen["chosen_by"]


def test_the_run_loads_and_its_branches_are_still_tied(run: Path) -> None:
    system, _ = load_run(run)
    assert system.visible.encoder.model.conv_stem.weight is system.infrared.encoder.model.conv_stem.weight
    assert not torch.equal(
        system.visible.encoder.model.bn1.running_mean, system.infrared.encoder.model.bn1.running_mean
    )


def test_options_decide_a_run_and_the_seed_is_one_of_them(run: Path, tmp_path: Path) -> None:
    again = train(options(tmp_path / "again", workers=1), quiet=True)
    assert (again / "weights.safetensors").read_bytes() == (run / "weights.safetensors").read_bytes()
    other = train(options(tmp_path / "other", seed=2), quiet=True)
    assert (other / "weights.safetensors").read_bytes() != (run / "weights.safetensors").read_bytes()


def test_a_killed_run_ends_with_the_same_bits(run: Path, tmp_path: Path) -> None:
    """SIGKILL after the first epoch of the second phase, then resume: all equals what no kill leaves."""
    folder = tmp_path / "killed"
    config = tmp_path / "config.yaml"
    config.write_text(options(folder).to_yaml())
    process = Command("train", "--config", config)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "curves.csv").exists() and "\ncsknet,1," in (folder / "curves.csv").read_text():
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (folder / "card.json").exists()
    resume(folder, quiet=True)
    killed, whole = load_file(folder / "weights.safetensors"), load_file(run / "weights.safetensors")
    assert killed.keys() == whole.keys()
    assert all(torch.equal(killed[key], whole[key]) for key in whole)
    assert curves_without_seconds(folder) == curves_without_seconds(run)


def test_resuming_a_finished_run_changes_nothing(run: Path) -> None:
    before = (run / "card.json").stat().st_mtime_ns
    assert resume(run) == run
    assert (run / "card.json").stat().st_mtime_ns == before


def test_resuming_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no config\.yaml"):
        resume(tmp_path)


def test_a_folder_that_is_in_use_is_not_overwritten(run: Path) -> None:
    with pytest.raises(OptionError, match="finished run"):
        train(options(run), quiet=True)


def test_the_teacher_can_come_from_another_run(tmp_path: Path) -> None:
    teacher = train(options(tmp_path / "visible", "deeplabv3plus"), quiet=True)
    student = train(
        options(tmp_path / "student", reuse={"teacher": str(teacher)}, recipe={"epochs": 1, "batch_size": 4}),
        quiet=True,
    )
    assert {row["phase"] for row in curves_without_seconds(student)} == {"csknet"}
    assert read_card(student).training["checkpoint"]["teacher"] == {"reused": str(teacher)}
    with pytest.raises(OptionError, match="reuse"):
        train(options(tmp_path / "wrong", reuse={"teacher": str(student)}), quiet=True)
    assert not (tmp_path / "wrong").exists()


def test_last_keeps_the_last_epoch_and_needs_no_validation(tmp_path: Path) -> None:
    folder = train(options(tmp_path / "last", "deeplabv3plus", select="last", hold_out=0.0), quiet=True)
    training = read_card(folder).training
    assert training["checkpoint"]["segmentation"] == {"chosen_by": "last epoch", "epoch": 2}
    assert training["validation"] is None


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}, {"augmentation": {"band_dropout": 0.7}}])
def test_mixed_precision_and_band_dropout_train(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = train(options(tmp_path / "run", recipe={"epochs": 1, "batch_size": 4}, **changes), quiet=True)
    assert float(curves_without_seconds(folder)[-1]["loss"]) > 0


def test_a_diverging_training_stops_with_a_reason_and_without_a_card(tmp_path: Path) -> None:
    recipe = {"epochs": 3, "batch_size": 4, "lr": 1e12}
    with pytest.raises(CrossbandError, match="diverged"):
        train(options(tmp_path / "run", "deeplabv3plus", recipe=recipe), quiet=True)
    assert not (tmp_path / "run" / "card.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "test"}, "test split"),
        ({"validation": "test"}, "test split"),
        ({"split": "train+test"}, "test split"),
        ({"validation": "test_night"}, "test split"),
        ({"validation": "train"}, "split 'train' is trained on"),
        ({"split": "train+val", "validation": "val"}, "split 'val' is trained on"),
        ({"recipe": {"epoch": 3}}, "epoch"),
        ({"augmentation": {"flips": 3}}, "flips"),
        ({"network": {"exchanges": False}}, "exchange"),
        ({"loss": {"distill_tap": "between"}}, "distill_tap must be one of"),
        ({"recipe": {"name": "fast"}}, "no recipe 'fast'"),
        ({"phases": {"student": {"epochs": 1}}}, "student"),
        ({"hold_out": 1.5}, "hold_out"),
    ],
)
def test_bad_options_are_refused_before_a_folder_is_made(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        train(options(tmp_path / "run", **changes), quiet=True)
    assert not (tmp_path / "run").exists()


def test_pairs_without_a_needed_band_are_refused(tmp_path: Path) -> None:
    from crossband.pairs.export import export_folder

    export_folder("scenes,train=10,val=0,test=0,size=32x32", tmp_path / "pairs")
    for image in (tmp_path / "pairs" / "train" / "visible").iterdir():
        image.unlink()
    (tmp_path / "pairs" / "train" / "visible").rmdir()
    with pytest.raises(PairError, match="visible"):
        train(options(tmp_path / "run", data=f"folder:{tmp_path / 'pairs'}"), quiet=True)
