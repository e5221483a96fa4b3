"""Runs that others, signals and damage meet: one writer, one line, nothing silently wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from crossband.card import CARD_NAME
from crossband.cli import main
from crossband.errors import CrossbandError, FolderInUseError, OptionError, WeightsError
from crossband.locks import folder_lock
from crossband.run_card import WEIGHTS_NAME, read_card
from crossband.training.engine import resume, train
from crossband.training.options import TrainOptions
from crossband.training.phase_module import PhaseModule
from crossband.weights import load_run, save_weights
from mutations import garbled
from processes import Command
from tiny_runs import TINY_DATA, tiny_options
from tiny_systems import one_line

LONG = [
    *("train", "deeplabv3plus", "--data", TINY_DATA, "--encoder", "test_efficientnet", "--workers", "0"),
    *("--network.decoder_channels", "16", "--accelerator", "cpu", "--recipe.epochs", "500"),
    *("--recipe.batch_size", "2"),
]
ENDS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "ended by SIGTERM",
    signal.SIGHUP: "ended by SIGHUP",
}
"""The signals that end a training, and what it says then."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny_options(tmp_path_factory.mktemp("runs") / "run"), quiet=True)


def started(out: Path) -> Command:
    """A training that would go on for long, when its first epoch has ended."""
    process = Command(*LONG, "--out", out)
    while process.poll() is None and not (out / "curves.csv").is_file():
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", ENDS, ids=lambda number: number.name)
def test_a_signal_ends_a_training_by_its_number_and_in_one_line(
    number: signal.Signals, tmp_path: Path
) -> None:
    folder = tmp_path / "r[/x]"
    process = started(folder)
    process.send_signal(number)
    _, error = process.communicate()
    assert process.returncode == 128 + number, error
    assert error == f"crossband: {ENDS[number]}; go on with `crossband train --resume {folder}`\n"
    assert (folder / "checkpoints" / "segmentation.ckpt").exists()
    assert not (folder / CARD_NAME).exists()


def test_a_second_training_of_one_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    process = started(out)
    try:
        assert main([*LONG, "--out", str(out)]) == 2
        assert capsys.readouterr().err.endswith(f"go on with `crossband train --resume {out}`\n")
        assert main(["train", "--resume", str(out)]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert f"written to by process {process.pid}" in told
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_held_folder_is_neither_begun_in_nor_gone_on_with(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from crossband.locks import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])): print(flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(FolderInUseError, match=f"process {holder.pid}"):
            train(tiny_options(tmp_path), quiet=True)
        (tmp_path / "config.yaml").write_text(tiny_options(tmp_path).to_yaml())
        with pytest.raises(FolderInUseError, match=f"process {holder.pid}"):
            resume(tmp_path, quiet=True)
    finally:
        holder.kill()
        holder.communicate()


def test_a_training_that_fails_early_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise CrossbandError("no")

    monkeypatch.setattr(PhaseModule, "training_step", fail)
    with pytest.raises(CrossbandError, match="no"):
        train(tiny_options(tmp_path / "run"), quiet=True)
    assert not (tmp_path / "run").exists()
    with folder_lock(tmp_path / "run"):
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux")
def test_a_process_whose_parent_ended_while_it_started_ends_too(tmp_path: Path) -> None:
    """The parent names itself and is gone before its child has come to ask."""
    asks = "import sys; from crossband.interruption import die_with_parent; die_with_parent(int(sys.argv[1]))"
    child = f"import os, time\nwhile os.getppid() == {{}}: time.sleep(0.01)\n{asks}; open('lives', 'w')"
    parent = (
        "import os, subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}.format(os.getpid()), str(os.getpid())])"
    )
    # Their common standard output ends with the last of them.
    done = subprocess.run(
        [sys.executable, "-c", parent], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert not (tmp_path / "lives").exists()


# --- full disks


def test_a_full_disk_names_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("crossband.weights.save_file", full)
    with pytest.raises(OptionError, match="No space left on device") as caught:
        save_weights(torch.nn.Linear(2, 2), tmp_path / WEIGHTS_NAME)
    assert str(tmp_path / WEIGHTS_NAME) in one_line(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/another-file")

    monkeypatch.setattr("lightning.pytorch.Trainer.save_checkpoint", full)
    with pytest.raises(OptionError, match="No space left on device") as caught:
        train(tiny_options(tmp_path / "run"), quiet=True)
    assert str(tmp_path / "run" / "checkpoints" / "segmentation.ckpt") in one_line(caught.value)
    assert not (tmp_path / "run").exists()


# --- checkpoints


class PowerCutError(Exception):
    pass


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which one epoch was finished."""
    start = PhaseModule.on_train_epoch_start
    out = tmp_path_factory.mktemp("interrupted") / "run"

    def cut(module: PhaseModule) -> None:
        start(module)
        if module.current_epoch == 1:
            raise PowerCutError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PhaseModule, "on_train_epoch_start", cut)
        with pytest.raises(PowerCutError):
            train(tiny_options(out), quiet=True)
    return out


@pytest.fixture
def interrupted(one_epoch: Path, tmp_path: Path) -> Path:
    """A copy of that run, to damage."""
    return shutil.copytree(one_epoch, tmp_path / "run")


class Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "damage",
    [
        *("cut", "empty", "malicious", "none of the network", "one part less", "another epoch"),
        *("no moments", "moments of another shape", "fewer groups", "fewer parameters"),
        *("optimizer_states", "lr_schedulers", "loops", "global_step", "pytorch-lightning_version"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(damage: str, interrupted: Path) -> None:
    (path,) = (interrupted / "checkpoints").glob("*.ckpt")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        stored = torch.load(path, weights_only=True)
        if damage == "malicious":
            stored["rows"] = Malicious()
        elif damage == "none of the network":
            stored["state_dict"] = {}
        elif damage == "one part less":
            del stored["state_dict"][next(iter(stored["state_dict"]))]
        elif damage == "no moments":
            stored["optimizer_states"][0]["state"] = {}
        elif damage == "moments of another shape":
            state = stored["optimizer_states"][0]["state"]
            state[0] = {key: value[:0] if value.ndim else value for key, value in state[0].items()}
        elif damage == "fewer groups":
            stored["optimizer_states"][0]["param_groups"].pop()
        elif damage == "fewer parameters":
            stored["optimizer_states"][0]["param_groups"][0]["params"].pop()
        elif damage == "another epoch":
            stored["rows"] = []
        elif damage == "lr_schedulers":
            del stored[damage]
        else:
            stored[damage] = type(stored[damage])()
        torch.save(stored, path)
    with pytest.raises(WeightsError, match="delete it, and the phase is trained anew") as caught:
        resume(interrupted, quiet=True)
    assert str(path) in one_line(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not Path("executed").exists()


def test_a_phase_whose_checkpoint_is_deleted_is_trained_anew(interrupted: Path) -> None:
    (path,) = (interrupted / "checkpoints").glob("*.ckpt")
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="delete it"):
        resume(interrupted, quiet=True)
    path.unlink()
    assert read_card(resume(interrupted, quiet=True)).system == "deeplabv3plus"


# --- cards and weights


def test_a_flipped_bit_is_found(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / CARD_NAME).write_bytes((run / CARD_NAME).read_bytes())
    weights = bytearray((run / WEIGHTS_NAME).read_bytes())
    weights[-5] ^= 1
    (copy / WEIGHTS_NAME).write_bytes(weights)
    with pytest.raises(WeightsError, match="its checksum is not the card's"):
        load_run(copy)
    fields = json.loads((run / CARD_NAME).read_text())
    (copy / CARD_NAME).write_text(json.dumps(fields | {"weights_sha256": None}))
    assert load_run(copy)[1].weights_sha256 is None, "cards of earlier versions have no checksum"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "tu-hf-hub:someone/evil"}, "is no plain name of an encoder"),
        ({"encoder": "/etc/passwd"}, "is no plain name of an encoder"),
        ({"encoder": ["/etc/passwd"]}, "is no plain name of an encoder"),
        ({"teacher_encoder": "hf-hub:someone/evil"}, "teacher_encoder .+ is no plain name"),
        ({"decoder_channels": 200_000}, "does not hold the weights of this network"),
        ({"decoder_channels": "many"}, "decoder_channels must be an integer"),
    ],
)
def test_a_strangers_card_fetches_opens_and_builds_nothing(
    changes: dict[str, object], message: str, run: Path, tmp_path: Path
) -> None:
    fields = json.loads((run / CARD_NAME).read_text())
    (tmp_path / CARD_NAME).write_text(json.dumps(fields | {"network": fields["network"] | changes}))
    save_file(load_file(run / WEIGHTS_NAME), tmp_path / WEIGHTS_NAME)
    with pytest.raises(CrossbandError, match=message) as caught:
        load_run(tmp_path)
    one_line(caught.value)


def test_nothing_is_made_of_which_the_file_has_no_weights(run: Path, tmp_path: Path) -> None:
    fields = json.loads((run / CARD_NAME).read_text())
    network = fields["network"] | {"decoder_channels": 200_000}
    (tmp_path / CARD_NAME).write_text(json.dumps(fields | {"network": network, "weights_sha256": None}))
    save_file({}, tmp_path / WEIGHTS_NAME)
    # Made with values, it would take some terabytes, which PyTorch refuses by a RuntimeError.
    with pytest.raises(WeightsError, match="does not hold the weights of this network"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("system", 3),
        ("bands", ["both"]),
        ("parameters", {"both": "many"}),
        ("infrared_scaling", None),
        ("format", "2"),
    ],
)
def test_a_field_of_another_type_is_named(name: str, value: object, run: Path, tmp_path: Path) -> None:
    fields = json.loads((run / CARD_NAME).read_text())
    (tmp_path / CARD_NAME).write_text(json.dumps(fields | {name: value}))
    with pytest.raises(WeightsError, match="is not a card of Crossband") as caught:
        read_card(tmp_path)
    assert name in one_line(caught.value)


def error_of(read: Callable[[], object]) -> str:
    """What a reader says of a file that it refuses; empty if it takes it."""
    try:
        read()
    except CrossbandError as error:
        return str(error)
    return ""


def test_garbled_cards_and_options_end_in_one_line(run: Path, tmp_path: Path) -> None:
    card, config = (run / CARD_NAME).read_text(), (run / "config.yaml").read_text()
    (tmp_path / WEIGHTS_NAME).write_bytes((run / WEIGHTS_NAME).read_bytes())
    for seed in range(60):
        (tmp_path / CARD_NAME).write_bytes(garbled(card, seed))
        (tmp_path / "config.yaml").write_bytes(garbled(config, seed))
        for read in (lambda: load_run(tmp_path), lambda: TrainOptions.from_yaml(tmp_path / "config.yaml")):
            assert "\n" not in error_of(read), seed


def test_the_card_says_what_it_was_trained_on_and_by_which_rule(tmp_path: Path) -> None:
    out = train(
        tiny_options(tmp_path / "run", infrared_scaling="auto", recipe={"epochs": 1, "batch_size": 2}),
        quiet=True,
    )
    card = read_card(out)
    assert card.infrared_scaling == "full-range", "the rule that auto chose, and not its name"
    assert card.training["trained_on"]
