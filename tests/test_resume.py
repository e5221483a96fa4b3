"""A run that is cut off at any point and resumed ends with the bits of one that was not."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from PIL import Image
from safetensors.torch import load_file

from command_line import refused
from crossband.cli import main
from crossband.errors import OptionError
from crossband.pairs.export import export_folder
from crossband.systems.base import EpochRow
from crossband.training.curves import read_curves, write_curves
from crossband.training.engine import resume, train
from crossband.training.options import TrainOptions
from crossband.training.phase_module import PhaseModule
from crossband.training.resolving import resolve
from crossband.weights import load_run, read_card
from tiny_runs import curves_without_seconds, tiny_options


class PowerCutError(BaseException):
    """Not an Exception: nothing on the way out may clean up after it, as after a kill."""


def three_epochs(out: Path) -> TrainOptions:
    # The last epoch's weights: the best one's could be those of an epoch before the cut.
    return tiny_options(out, "csknet", select="last", recipe={"epochs": 3, "batch_size": 2})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(three_epochs(tmp_path_factory.mktemp("resume") / "whole"), quiet=True)


CUTS = [
    ("teacher", 1, False),
    ("teacher", 1, True),
    ("teacher", 3, True),
    ("csknet", 1, False),
    ("csknet", 2, True),
    ("csknet", 3, False),
    ("csknet", 3, True),
]
"""Phase and epoch at whose end a run is cut, and whether that epoch's checkpoint is written by then (in the
last epoch: the phase's own weights)."""


def test_a_run_that_is_cut_at_every_point_ends_with_the_same_bits(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = PhaseModule.on_train_epoch_end
    folder = tmp_path / "cut"
    go_on: Callable[..., Path] = partial(train, three_epochs(folder))
    for phase, epoch, written in CUTS:

        def cut_before(module: PhaseModule, at: tuple[str, int] = (phase, epoch)) -> None:
            if (module.phase.name, module.current_epoch + 1) == at:
                raise PowerCutError
            end(module)

        def cut_after(row: EpochRow, at: tuple[str, int] = (phase, epoch)) -> None:
            if (row.phase, row.epoch) == at:
                raise PowerCutError

        after_epoch = cut_after if written else None
        with monkeypatch.context() as patch:
            if not written:
                patch.setattr(PhaseModule, "on_train_epoch_end", cut_before)
            with pytest.raises(PowerCutError):
                go_on(quiet=True, after_epoch=after_epoch)
        go_on = partial(resume, folder)
        assert not (folder / "card.json").exists(), (phase, epoch, written)
        # Whatever a program did before it resumed must not matter.
        torch.manual_seed(99)
        torch.rand(7)
    assert go_on(quiet=True) == folder
    assert (folder / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert curves_without_seconds(folder) == curves_without_seconds(whole)
    assert not (folder / "checkpoints").exists()


def test_curves_that_a_cut_left_behind_the_checkpoint_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after the last checkpoint of the run, before its epoch stands in the curves."""
    folder = tmp_path / "cut"

    def cut(folder: Path, rows: list[EpochRow]) -> None:
        if len(rows) == 2:
            raise PowerCutError
        write_curves(folder, rows)

    with monkeypatch.context() as patch:
        patch.setattr("crossband.training.engine.write_curves", cut)
        with pytest.raises(PowerCutError):
            train(tiny_options(folder), quiet=True)
    assert [row.epoch for row in read_curves(folder)] == [1]
    resume(folder, quiet=True)
    assert [row.epoch for row in read_curves(folder)] == [1, 2]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    export_folder("scenes,train=8,val=2,test=2,size=32x48", folder)
    return folder


def cut_after(epoch: int, options: TrainOptions) -> Path:
    """A training that is cut off when an epoch is written."""

    def cut(row: EpochRow) -> None:
        if row.epoch == epoch:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train(options, quiet=True, after_epoch=cut)
    return Path(options.out)


def lose_a_pair(pairs: Path) -> None:
    name = min((pairs / "train/visible").iterdir()).name
    for kind in ("visible", "infrared", "label"):
        (pairs / "train" / kind / name).unlink()
    conditions = pairs / "train/conditions.csv"
    kept = [line for line in conditions.read_text().splitlines() if Path(name).stem not in line]
    conditions.write_text("\n".join(kept) + "\n")


def correct_a_label(pairs: Path) -> None:
    label = min((pairs / "train/label").iterdir())
    image = Image.open(label)
    image.putpixel((0, 0), 1 - min(image.getpixel((0, 0)), 1))  # type: ignore[type-var, operator]
    image.save(label)


def ignore_a_class(pairs: Path) -> None:
    declared = yaml.safe_load((pairs / "classes.yaml").read_text())
    (pairs / "classes.yaml").write_text(yaml.safe_dump({**declared, "ignore": [1]}))


@pytest.mark.parametrize("change", [lose_a_pair, correct_a_label, ignore_a_class])
def test_pairs_that_changed_are_not_gone_on_with(
    pairs: Path, tmp_path: Path, change: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The other ones would be held out, after they have been learned."""
    run = cut_after(1, tiny_options(tmp_path / "run", data=f"folder:{pairs}"))
    before = (run / "checkpoints/segmentation.ckpt").read_bytes()
    change(pairs)
    told = refused(["train", "--resume", str(run)], capsys)
    assert "has other images, labels or classes than when this training began" in told
    assert (run / "checkpoints/segmentation.ckpt").read_bytes() == before
    # What was copied holds the same: there is a way on.
    (run / "checkpoints/pairs.txt").unlink()
    assert resume(run, quiet=True) == run
    assert not (run / "checkpoints").exists()


def test_before_an_epoch_has_ended_pairs_may_change(pairs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PhaseModule, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_options(run, data=f"folder:{pairs}"), quiet=True)
    lose_a_pair(pairs)
    assert resume(run, quiet=True) == run


def interrupted(*given: object) -> None:
    raise KeyboardInterrupt


def with_scores(patch: pytest.MonkeyPatch, scores: dict[int, float]) -> list[dict[str, torch.Tensor]]:
    """Give every epoch the score that is told; the weights that a phase keeps after each, as they come."""
    end = PhaseModule.on_train_epoch_end
    seen: list[dict[str, torch.Tensor]] = []

    def told(module: PhaseModule) -> None:
        present = SimpleNamespace(mean_iou=scores[module.current_epoch + 1])
        told = SimpleNamespace(compute=lambda: SimpleNamespace(protocols={"present": present}))
        module.scores = {"visible": told}  # type: ignore[dict-item]
        seen.append({key: value.clone() for key, value in module.phase.keeps.state_dict().items()})
        end(module)

    patch.setattr(PhaseModule, "on_train_epoch_end", told)
    return seen


def test_an_epoch_that_was_lost_is_not_kept(tmp_path: Path) -> None:
    """It was the best, and its checkpoint was not written; done again, as on another device, it is not."""
    options = tiny_options(tmp_path / "run", recipe={"epochs": 4, "batch_size": 2})
    with pytest.MonkeyPatch.context() as patch:
        seen = with_scores(patch, {1: 0.2, 2: 0.5, 3: 0.9})
        save = Trainer.save_checkpoint

        def cut(trainer: Trainer, path: Path) -> None:
            if trainer.current_epoch == 2:
                raise PowerCutError
            save(trainer, path)

        patch.setattr(Trainer, "save_checkpoint", cut)
        with pytest.raises(PowerCutError):
            train(options, quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        with_scores(patch, {3: 0.4, 4: 0.3})
        run = resume(tmp_path / "run", quiet=True)
    kept = load_run(run)[0].state_dict()
    assert read_card(run).training["checkpoint"]["segmentation"]["epoch"] == 2
    assert [all(torch.equal(one[key], kept[key]) for key in kept) for one in seen] == [False, True, False]


@pytest.mark.parametrize("damage", ["deleted", "damaged"])
def test_what_the_best_epoch_left_must_be_there(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last epoch's weights would stand under the best one's score."""
    with pytest.MonkeyPatch.context() as patch:
        with_scores(patch, {1: 0.6, 2: 0.2})
        run = cut_after(2, tiny_options(tmp_path / "run"))
    (best,) = (run / "checkpoints").glob("segmentation-best*")
    if damage == "deleted":
        best.unlink()
    else:
        best.write_bytes(best.read_bytes()[:100])
    told = refused(["train", "--resume", str(run)], capsys)
    state = "not there" if damage == "deleted" else "damaged"
    assert f"the best epoch so far, is {state}; delete {run / 'checkpoints/segmentation.ckpt'}" in told
    (run / "checkpoints/segmentation.ckpt").unlink()
    assert resume(run, quiet=True) == run


def test_a_best_epoch_of_an_earlier_version_is_found(tmp_path: Path) -> None:
    """It was kept without a number."""
    with pytest.MonkeyPatch.context() as patch:
        with_scores(patch, {1: 0.6, 2: 0.2})
        run = cut_after(2, tiny_options(tmp_path / "run"))
    (best,) = (run / "checkpoints").glob("segmentation-best*")
    best = best.rename(best.with_name("segmentation-best.safetensors"))
    whole = best.read_bytes()
    assert (resume(run, quiet=True) / "weights.safetensors").read_bytes() == whole


def test_a_finished_phase_that_is_damaged_can_be_taken_from_its_checkpoint(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"

    def cut(row: EpochRow) -> None:
        if row.phase == "csknet":
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train(three_epochs(run), quiet=True, after_epoch=cut)
    teacher = run / "phases/teacher.safetensors"
    teacher.write_bytes(teacher.read_bytes()[:100])
    assert "delete it, and the phase goes on from its" in refused(["train", "--resume", str(run)], capsys)
    teacher.unlink()
    resume(run, quiet=True)
    assert (run / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_batch_norm_counters_count_every_step_once(whole: Path) -> None:
    """Three epochs of two steps (five pairs in full batches of two), and never a validation step.

    The infrared branch runs twice a step: in the pair, and alone for its labels.
    """
    weights = load_file(whole / "weights.safetensors")
    for branch, count in (("visible", 6), ("infrared", 12)):
        names = [key for key in weights if key.startswith(branch) and key.endswith("bn1.num_batches_tracked")]
        assert names
        assert {weights[name].item() for name in names} == {count}


def test_a_checkpoint_holds_no_copy_of_the_frozen_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    replace = os.replace

    def look(old: Path, new: Path) -> None:
        if Path(new).suffix == ".ckpt":
            seen.append(torch.load(old, weights_only=True))
        replace(old, new)

    monkeypatch.setattr(os, "replace", look)
    train(tiny_options(tmp_path / "run", "csknet", recipe={"epochs": 1, "batch_size": 4}), quiet=True)
    teacher, student = seen
    assert teacher["state_dict"]
    assert student["state_dict"]
    assert not [key for key in student["state_dict"] if key.startswith("frozen.")]


def test_curves_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        EpochRow("teacher", 1, 0.005, {"loss": 0.1 + 0.2}, validation_loss=0.5, seconds=1.5),
        EpochRow("csknet", 1, 0.005, {"loss": 1e-30, "contrast": 2.0}, {"both": 0.25}, seconds=0.25),
    ]
    write_curves(tmp_path, rows)
    assert read_curves(tmp_path) == rows


@pytest.mark.parametrize(
    "text",
    ["phase,epoch\nteacher,one\n", "phase,epoch,lr,seconds\nteacher,1,0.1", "a,b\n1,2,3\n"],
)
def test_damaged_curves_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "curves.csv").write_text(text)
    with pytest.raises(OptionError, match=r"curves\.csv holds no learning curves") as caught:
        read_curves(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- 3", "system: [", "system: csknet", "system: csknet\nnonsense: 1"])
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    said = r"config\.yaml(: line 2: is no YAML| does not hold the options)"
    with pytest.raises(OptionError, match=said) as caught:
        resume(tmp_path, quiet=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["csknet"], "system"),
        (["--recipe.epochs", "9"], "recipe"),
        (["--seed", "3", "--out", "elsewhere"], "out, seed"),
        # Defaults, which are not what this run has.
        (["--select=best", "--loss.start", "random", "--hold-out", "0.1"], "hold_out, loss, select"),
    ],
)
def test_resume_takes_no_other_option(
    whole: Path, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments, "--resume", str(whole)]) == 2
    line = capsys.readouterr().err
    assert line.startswith("crossband: error: --resume takes its options from the run folder")
    assert named in line


def test_resuming_a_finished_run_says_that_it_is_finished(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert main(["train", "--resume", str(whole)]) == 0
    assert "finished" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_a_run_keeps_the_network_that_it_began_with(tmp_path: Path) -> None:
    """A configuration that does not name the heads is of a version whose heads were 1 x 1."""
    # The recipe's own crops would fill each tiny image up to 512 x 512.
    small = {"recipe": {"epochs": 1, "batch_size": 2}, "augmentation": {"crop": [32, 48]}}
    options = tiny_options(tmp_path, "disoptnet", **small)
    assert resolve(options).named().network["head_kernel"] == 3
    (tmp_path / "config.yaml").write_text(options.to_yaml())
    assert read_card(resume(tmp_path, quiet=True)).network["head_kernel"] == 1


def test_a_run_keeps_the_supervision_that_it_began_with(whole: Path, tmp_path: Path) -> None:
    """A configuration that does not name it is of a version that knew the exchanged one only."""
    began = TrainOptions.from_yaml(whole / "config.yaml")
    assert began.loss == {"infrared_supervision": "alone"}
    options = three_epochs(tmp_path)
    options.recipe["epochs"] = 1
    (tmp_path / "config.yaml").write_text(options.to_yaml())
    assert read_card(resume(tmp_path, quiet=True)).loss["infrared_supervision"] == "exchanged"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("options: 3", "options must be a mapping"),
        ("recipe: null", "config.recipe must be a mapping of names, not null"),
        ("reuse: null", "config.reuse must be a mapping of names, not null"),
    ],
)
def test_a_field_of_another_kind_is_named_from_a_run_and_from_a_file_of_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"system: csknet\ndata: scenes\nout: {tmp_path / 'other'}\n{line}\n")
    assert said in refused(["train", "--resume", str(tmp_path)], capsys)
    told = refused(["train", "--config", str(config)], capsys)
    assert said in told or "--options: expected dict" in told
