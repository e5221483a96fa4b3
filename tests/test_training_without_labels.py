"""Training a system that fuses on pairs without labels, from the command to its pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from command_line import refused
from crossband.cli import main
from crossband.errors import CrossbandError, OptionError, PairError
from crossband.info import describe
from crossband.loading import load
from crossband.pairs.base import hold_out
from crossband.pairs.batch import Batch
from crossband.pairs.export import export_folder
from crossband.pairs.opening import open_pairs
from crossband.run_card import read_card
from crossband.systems.base import EpochRow, NetworkSettings, Output, Phase, System, Training
from crossband.systems.registry import registered
from crossband.training.curves import read_curves
from crossband.training.engine import resume, train
from crossband.training.options import TrainOptions
from crossband.training.phase_module import PhaseModule
from crossband.weights import load_run
from crossband.words import Bands, Support
from tiny_runs import TINY_DATA, curves_without_seconds


@dataclass(frozen=True, kw_only=True)
class MixerSettings(NetworkSettings):
    kernel: int = 3


class Mixer(System):
    """A picture from a convolution over both bands, drawn towards the brighter of the two."""

    name = "mixer"
    summary = "one convolution"
    paper = "none"
    supports: Mapping[Bands, Support] = {"both": "designed"}
    segments = False
    fuses = True
    built_from = MixerSettings
    trained_by = f"{__name__}:MixerTraining"

    def __init__(self, classes: int | None, settings: MixerSettings):
        super().__init__(classes, settings)
        kernel = settings.kernel
        if classes is not None:
            raise OptionError("mixer only fuses")
        self.mix = nn.Conv2d(4, 3, kernel, padding=kernel // 2)

    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        assert visible is not None
        assert infrared is not None
        return Output(fused=self.mix(torch.cat((visible, infrared), dim=1)).sigmoid())

    def deployed(self, bands: Bands) -> list[nn.Module]:
        self.check_bands(bands)
        return [self]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.label is None
        visible, infrared = batch.visible, batch.infrared
        assert visible is not None
        assert infrared is not None
        fused = self(visible, infrared).fused
        return {
            "intensity": (fused - torch.maximum(visible, infrared)).abs().mean(),
            "weights": 0 * fused.sum(),
        }


class MixerTraining(Training[Mixer]):
    def phases(self, system: Mixer) -> list[Phase]:
        return [Phase("fusion", trained=system, keeps=system, loss=system.loss)]


@pytest.fixture(autouse=True, scope="module")
def mixer() -> Iterator[None]:
    with registered(Mixer):
        yield


def options(out: Path, **changes: Any) -> TrainOptions:
    """Three epochs on five generated pairs, with three held out."""
    values: dict[str, Any] = {
        "data": TINY_DATA,
        "without_labels": True,
        "recipe": {"epochs": 3, "batch_size": 2, "lr": 0.1},
        "accelerator": "cpu",
        "workers": 0,
        **changes,
    }
    return TrainOptions(system="mixer", out=str(out), **values)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(options(tmp_path_factory.mktemp("runs") / "mixer"), quiet=True)


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def export(folder: Path) -> Path:
    export_folder(TINY_DATA, folder)
    return folder


def test_it_learns(run: Path) -> None:
    losses = [row.losses["intensity"] for row in read_curves(run)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


def test_the_curves_hold_the_losses_and_no_score_of_labels(run: Path) -> None:
    for row in read_curves(run):
        assert set(row.losses) == {"loss", "intensity", "weights"}
        assert row.scores == {}
        assert row.validation_loss is not None
        assert row.losses["loss"] == pytest.approx(row.losses["intensity"], abs=1e-6)


def test_validation_is_the_loss_on_the_pairs_that_were_held_out(run: Path) -> None:
    """Computed again from the weights that were kept, which are the last epoch's here."""
    row = read_curves(run)[-1]
    system, card = load_run(run)
    pairs = open_pairs(TINY_DATA, "train")
    _, held = hold_out(pairs, 0.1, 0)
    assert (
        card.training["validation"]
        == {"split": held.split, "pairs": len(held)}
        == {"split": held.split, "pairs": 3}
    )
    losses = []
    for pair in held:
        visible = torch.from_numpy(pair.visible).permute(2, 0, 1)[None]
        infrared = torch.from_numpy(pair.infrared)[None, None]
        with torch.no_grad():
            fused = system(visible, infrared).fused
        losses.append((fused - torch.maximum(visible, infrared)).abs().mean().item())
    assert row.validation_loss == pytest.approx(np.mean(losses), abs=1e-6)


def test_the_card_has_no_classes_and_says_what_chose_the_weights(run: Path) -> None:
    card = read_card(run)
    assert card.classes is None
    assert card.network == {"kernel": 3}
    assert json.loads((run / "card.json").read_text())["classes"] is None
    rows = read_curves(run)
    assert card.training["checkpoint"] == {
        "fusion": {
            "chosen_by": f"lowest loss on {card.training['validation']['split']}",
            "epoch": 3,
            "loss": rows[2].validation_loss,
        }
    }


def test_info_of_the_run(run: Path) -> None:
    text = describe(str(run), size="32x48")
    assert "classes: none: it only fuses" in text
    assert "encoder" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("both")]
    assert line.split() == ["both", "designed", "111", "0", "0", "0.0"]


@pytest.mark.parametrize(("select", "kept"), [("best", 2), ("last", 3)])
def test_the_epoch_with_the_lowest_loss_is_kept_unless_the_last_is_asked_for(
    select: str, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With validation losses that are told to it: the second of three is the lowest."""
    loss, end = Mixer.loss, PhaseModule.on_train_epoch_end
    seen: list[dict[str, Tensor]] = []

    def told(system: Mixer, batch: Batch) -> dict[str, Tensor]:
        number = [0.5, 0.2, 0.4][min(len(seen), 2)]
        return loss(system, batch) if system.training else {"intensity": torch.tensor(number)}

    def on_train_epoch_end(module: PhaseModule) -> None:
        end(module)
        seen.append({key: value.clone() for key, value in module.phase.keeps.state_dict().items()})

    monkeypatch.setattr(Mixer, "loss", told)
    monkeypatch.setattr(PhaseModule, "on_train_epoch_end", on_train_epoch_end)
    folder = train(options(tmp_path / "run", select=select), quiet=True)
    state = load_run(folder)[0].state_dict()
    equal = [all(torch.equal(epoch[key], state[key]) for key in state) for epoch in seen]
    assert equal.index(True) + 1 == kept
    assert equal.count(True) == 1
    assert read_card(folder).training["checkpoint"]["fusion"]["epoch"] == kept


def test_labels_of_any_kind_and_none_at_all_give_the_same_weights(tmp_path: Path) -> None:
    """Labels as they should be, pictures in their place, for some pairs only, or for none."""
    data = export(tmp_path / "pairs")
    source = f"folder:{data}"
    labels = sorted((data / "train" / "label").iterdir())
    with_labels = weights(train(options(tmp_path / "with", data=source), quiet=True))
    for label in labels:
        Image.fromarray(np.full((7, 5, 3), 200, np.uint8)).save(label)
    assert weights(train(options(tmp_path / "pictures", data=source), quiet=True)) == with_labels
    labels[0].unlink()
    assert weights(train(options(tmp_path / "some", data=source), quiet=True)) == with_labels
    shutil.rmtree(data / "train" / "label")
    assert weights(train(options(tmp_path / "none", data=source), quiet=True)) == with_labels


def test_pairs_are_opened_without_labels_from_every_source(tmp_path: Path) -> None:
    for source in (TINY_DATA, f"folder:{export(tmp_path / 'pairs')}"):
        whole, bare = open_pairs(source, "train"), open_pairs(source, "train", labels=False)
        assert bare.classes is None
        assert (bare.source, bare.split, bare.bands) == (whole.source, whole.split, whole.bands)
        assert [bare.name(i) for i in range(8)] == [whole.name(i) for i in range(8)]
        assert [bare.condition(i) for i in range(8)] == [whole.condition(i) for i in range(8)]
        assert bare[0].label is None
        assert whole[0].label is not None
        assert np.array_equal(bare[0].visible, whole[0].visible)


def test_a_named_validation_split_and_none(tmp_path: Path) -> None:
    named = read_card(train(options(tmp_path / "named", validation="val"), quiet=True)).training
    assert (named["pairs"], named["validation"]) == (8, {"split": "val", "pairs": 2})
    assert named["checkpoint"]["fusion"]["chosen_by"] == "lowest loss on val"
    folder = train(options(tmp_path / "none", hold_out=0.0), quiet=True)
    assert read_card(folder).training["checkpoint"] == {"fusion": {"chosen_by": "last epoch", "epoch": 3}}
    assert all(row.validation_loss is None for row in read_curves(folder))


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_that_is_cut_off_and_resumed_ends_with_the_same_bits(
    epoch: int, run: Path, tmp_path: Path
) -> None:
    class PowerCutError(BaseException):
        """Not an Exception: nothing on the way out may clean up after it."""

    def cut(row: EpochRow) -> None:
        if row.epoch == epoch:
            raise PowerCutError

    folder = tmp_path / "cut"
    with pytest.raises(PowerCutError):
        train(options(folder), quiet=True, after_epoch=cut)
    assert not (folder / "card.json").exists()
    torch.rand(7)
    assert resume(folder, quiet=True) == folder
    assert weights(folder) == weights(run)
    assert curves_without_seconds(folder) == curves_without_seconds(run)
    assert read_card(folder).training["checkpoint"] == read_card(run).training["checkpoint"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_validation_loss_that_is_no_number_ends_the_run(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Mixer.loss

    def broken(system: Mixer, batch: Batch) -> dict[str, Tensor]:
        return loss(system, batch) if system.training else {"intensity": torch.tensor(value)}

    monkeypatch.setattr(Mixer, "loss", broken)
    with pytest.raises(CrossbandError, match="training diverged in epoch 1 of phase fusion: val_loss became"):
        train(options(tmp_path / "run"), quiet=True)
    assert not (tmp_path / "run").exists()


# --- commands


def test_the_command_and_its_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = export(tmp_path / "pairs")
    shutil.rmtree(data / "train" / "label")
    folder = tmp_path / "run"
    arguments = ["--data", f"folder:{data}", "--out", str(folder), "--accelerator", "cpu", "--workers", "0"]
    small = ["--recipe.epochs", "1", "--recipe.batch_size", "2"]
    assert main(["train", "--without-labels", "mixer", *arguments, *small]) == 0
    assert "validation loss" in capsys.readouterr().out
    bands = [f"--{band}={data / 'test' / band}" for band in ("visible", "infrared")]
    assert main(["fuse", str(folder), *bands, "--out", str(tmp_path / "fused"), "--device", "cpu"]) == 0
    names = sorted(path.name for path in (data / "test" / "visible").iterdir())
    assert sorted(path.name for path in (tmp_path / "fused").glob("*.png")) == names
    predictor = load(folder, device="cpu")
    for name in names:
        result = predictor(*(data / "test" / band / name for band in ("visible", "infrared")))
        assert result.labels is result.classes is None
        assert np.array_equal(np.asarray(Image.open(tmp_path / "fused" / name)), result.fused)
    assert result.fused.shape == (32, 48, 3)
    capsys.readouterr()
    line = refused(["predict", str(folder), *bands, "--out", str(tmp_path / "labels")], capsys)
    assert line == "mixer only fuses; use `crossband fuse`"
    assert "only fuses, so it has no labels" in refused(
        ["evaluate", str(folder), "--data", TINY_DATA], capsys
    )


def test_pairs_without_labels_need_the_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = export(tmp_path / "pairs")
    shutil.rmtree(data / "train" / "label")
    with pytest.raises(PairError, match=r"no labels in split 'train'.*`--without-labels` trains it to fuse"):
        train(options(tmp_path / "run", data=f"folder:{data}", without_labels=False), quiet=True)
    monkeypatch.setattr(Mixer, "fuses", False)
    with pytest.raises(PairError, match=r"no labels in split 'train'; training a segmentation needs them$"):
        train(options(tmp_path / "run", data=f"folder:{data}", without_labels=False), quiet=True)


def test_phases_of_a_run_without_labels_can_be_reused(run: Path, tmp_path: Path) -> None:
    folder = train(options(tmp_path / "again", reuse={"fusion": str(run)}), quiet=True)
    assert weights(folder) == weights(run)
