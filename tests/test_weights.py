"""Run folders: weights and card, out and back in."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from crossband.card import CARD_NAME, FORMAT
from crossband.errors import CrossbandError, OptionError
from crossband.pairs.base import Classes
from crossband.run_card import WEIGHTS_NAME
from crossband.systems import list_systems, system_class
from crossband.version import __version__
from crossband.weights import count_parameters, load_run, load_weights, make_card, save_run, save_weights
from tiny_systems import CLASSES, csknet, images, one_line, randomise_norms, tiny

COLOURS = tuple((40 * index, 0, 255 - 40 * index) for index in range(CLASSES))
SCENE = Classes(names=("road", "car", "person", "sky", "tree"), palette=COLOURS, ignore=(9,))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run folder of a CSK-Net."""
    system = csknet()
    save_run(tmp_path / "run", system, make_card(system, SCENE, "minmax", {}))
    return tmp_path / "run"


@pytest.mark.parametrize("name", [name for name in list_systems() if system_class(name).trained_by])
def test_a_run_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    system = tiny(name)
    randomise_norms(system)
    system.encoder_origin = "imagenet"
    training = {"data": "scenes", "seed": 3, "chosen_by": "val"}
    save_run(tmp_path / "run", system, make_card(system, SCENE, "percentile(1, 99)", training))
    assert {path.name for path in (tmp_path / "run").iterdir()} == {WEIGHTS_NAME, CARD_NAME}
    torch.manual_seed(99)
    before = torch.get_rng_state()
    loaded, card = load_run(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.training
    assert type(loaded) is type(system)
    assert loaded.encoder_origin == "imagenet"
    system.eval()
    visible, infrared = images(40, 60)
    for bands in system.supports:
        inputs = [visible if bands != "infrared" else None, infrared if bands != "visible" else None]
        with torch.no_grad():
            assert torch.equal(loaded(*inputs).logits, system(*inputs).logits)
    assert card.system == name
    assert card.classes == SCENE
    assert card.infrared_scaling == "percentile(1, 99)"
    assert card.training == training
    assert card.bands == dict(system.supports)
    assert card.parameters == {bands: count_parameters(*system.deployed(bands)) for bands in system.supports}
    assert (card.crossband, card.torch, card.format) == (__version__, torch.__version__, FORMAT)
    assert card.network["encoder"] == system.network_options["encoder"]
    # A loaded system's card says the same, whatever JSON made of tuples.
    again = make_card(loaded, SCENE, "percentile(1, 99)", training)
    assert json.loads(again.to_json())["network"] == json.loads(card.to_json())["network"]


def test_options_survive_the_card(tmp_path: Path) -> None:
    system = csknet(exchange_stages=(2,), spatial_stages=(), share_decoder="all", gated_unit=False)
    save_run(tmp_path, system, make_card(system, SCENE, "minmax", {}))
    loaded, _ = load_run(tmp_path)
    assert (loaded.settings.exchange_stages, loaded.settings.spatial_stages) == ((2,), ())
    assert loaded.gated_unit is None
    assert count_parameters(loaded) == count_parameters(system)


def test_shared_parameters_are_stored_once_and_shared_after_loading(run: Path) -> None:
    loaded, _ = load_run(run)
    # Buffers: two sets of statistics, in float32, and counters, in int64.
    tensors = [
        *loaded.parameters(),
        *(b for k, b in loaded.named_buffers() if not k.startswith("band_input")),
    ]
    payload = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    with safe_open(run / WEIGHTS_NAME, framework="pt") as file:
        assert len(list(file.keys())) == len(tensors)
    header = (run / WEIGHTS_NAME).stat().st_size - payload
    assert 0 < header < 0.2 * payload
    for (name, ours), theirs in zip(
        loaded.visible.encoder.named_parameters(), loaded.infrared.encoder.parameters(), strict=True
    ):
        assert (ours is theirs) == (".bn" not in name), name


def test_channels_last_weights_come_back(tmp_path: Path) -> None:
    system = csknet().to(memory_format=torch.channels_last)
    save_weights(system, tmp_path / "weights.safetensors")
    other = csknet(dice_form="global")
    nn.init.zeros_(other.visible.encoder.model.conv_stem.weight)
    load_weights(other, tmp_path / "weights.safetensors")
    wanted = system.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in other.state_dict().items())


def refuse_to_load(folder: Path) -> str:
    with pytest.raises(CrossbandError) as caught:
        load_run(folder)
    return one_line(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="permissions of this kind are POSIX")
def test_others_may_read_the_weights_if_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_weights(nn.Linear(2, 2), tmp_path / WEIGHTS_NAME)
    finally:
        os.umask(before)
    assert (tmp_path / WEIGHTS_NAME).stat().st_mode & 0o777 == 0o640


def test_an_unfinished_run_says_so(run: Path, tmp_path: Path) -> None:
    (run / CARD_NAME).unlink()
    assert "its training did not finish" in refuse_to_load(run)
    assert f"run folder {tmp_path / 'nowhere'} is not there" in refuse_to_load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "card",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        '{"format": 1}',
        '{"format": "1"}',
        '{"format": 1, "classes": {}}',
        "\x00\x01",
    ],
)
def test_a_damaged_card_is_one_line(run: Path, card: str) -> None:
    (run / CARD_NAME).write_text(card)
    assert f"{run / CARD_NAME} is not a card of Crossband" in refuse_to_load(run)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_card_is_one_line(run: Path, share: float) -> None:
    os.truncate(run / CARD_NAME, int(share * (run / CARD_NAME).stat().st_size))
    assert "is not a card of Crossband" in refuse_to_load(run)


def edit_card(run: Path, **changes: object) -> None:
    fields = json.loads((run / CARD_NAME).read_text())
    (run / CARD_NAME).write_text(json.dumps(fields | changes))


def in_format_1(run: Path, **changes: object) -> None:
    """Rewrite the card as it was when the options of network and loss were one mapping."""
    fields = json.loads((run / CARD_NAME).read_text())
    fields["arguments"] = {
        "classes": len(fields["classes"]["names"]),
        **fields.pop("network"),
        "contrastive_weight": 0.5,
        **changes,
    }
    del fields["loss"], fields["variant"]
    (run / CARD_NAME).write_text(json.dumps(fields | {"format": 1}))


def test_a_card_of_format_1_still_loads(run: Path) -> None:
    before, now = load_run(run)
    in_format_1(run)
    system, card = load_run(run)
    assert card.network == now.network
    assert card.loss == {"contrastive_weight": 0.5, "infrared_supervision": "exchanged"}
    assert card.format == FORMAT
    assert all(torch.equal(value, before.state_dict()[key]) for key, value in system.state_dict().items())


@pytest.mark.parametrize(
    ("name", "given", "left_out", "meant"),
    [
        ("disoptnet", {"head_kernel": 1}, ["head_kernel"], {"head_kernel": 1}),
        (
            "segmif",
            {"interaction": "adds", "semantics": "visible"},
            ["interaction"],
            {"interaction": "adds", "semantics": "visible"},
        ),
        (
            "segmif",
            {"interaction": "adds", "semantics": "target"},
            ["interaction"],
            {"interaction": "adds", "semantics": "target"},
        ),
        ("mrfs", {}, ["padding", "evaluation_norm_eps"], {"padding": "edge", "evaluation_norm_eps": None}),
    ],
    ids=str,
)
def test_a_card_from_before_an_option_means_what_there_was(
    name: str, given: dict[str, Any], left_out: list[str], meant: dict[str, Any], tmp_path: Path
) -> None:
    system = tiny(name, **given).eval()
    save_run(tmp_path, system, make_card(system, SCENE, "minmax", {}))
    fields = json.loads((tmp_path / CARD_NAME).read_text())
    for option in left_out:
        del fields["network"][option]
    (tmp_path / CARD_NAME).write_text(json.dumps(fields))
    again, _ = load_run(tmp_path)
    assert meant.items() <= again.network_options.items()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in system.state_dict().items())
    # What the card does not say is said here.
    wanted = tiny(name, **meant).eval()
    wanted.load_state_dict(system.state_dict())
    visible, infrared = images(40, 60)
    inputs = [visible if "both" in system.supports else None, infrared]
    with torch.no_grad():
        assert torch.equal(again(*inputs).logits, wanted(*inputs).logits)


def test_a_card_whose_classes_are_not_those_of_its_arguments_is_none(run: Path) -> None:
    in_format_1(run, classes=None)
    assert "is not a card of Crossband (its arguments build no system)" in refuse_to_load(run)


def test_a_card_that_does_not_say_where_infrared_got_its_labels_is_of_an_exchanged_training(
    run: Path,
) -> None:
    edit_card(run, loss={"contrastive_weight": 0.5})
    assert load_run(run)[1].loss["infrared_supervision"] == "exchanged"
    edit_card(run, loss={"infrared_supervision": "alone"})
    assert load_run(run)[1].loss == {"infrared_supervision": "alone"}


def test_a_card_of_a_later_format_is_refused(run: Path) -> None:
    edit_card(run, format=FORMAT + 1)
    assert f"is of format {FORMAT + 1}; this Crossband reads up to {FORMAT}" in refuse_to_load(run)


def test_a_card_that_lists_what_does_not_exist_is_refused(run: Path) -> None:
    edit_card(run, colour="green")
    assert "is not a card of Crossband" in refuse_to_load(run)


def test_a_card_whose_arguments_do_not_build_a_system_is_refused(run: Path) -> None:
    for network in ([], {"decoder_channels": "five"}, {"wings": 2}, None):
        edit_card(run, network=network)
        assert refuse_to_load(run)


def test_a_card_of_an_unknown_system_is_refused(run: Path) -> None:
    edit_card(run, system="csknet2")
    with pytest.raises(OptionError, match="no system 'csknet2'"):
        load_run(run)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_weights_are_one_line(run: Path, share: float) -> None:
    os.truncate(run / WEIGHTS_NAME, int(share * (run / WEIGHTS_NAME).stat().st_size))
    text = refuse_to_load(run)
    assert f"{run / WEIGHTS_NAME} does not hold the weights of this network" in text


def test_missing_weights_are_one_line(run: Path) -> None:
    (run / WEIGHTS_NAME).unlink()
    assert f"no weights at {run / WEIGHTS_NAME}" in refuse_to_load(run)


def test_weights_of_another_network_are_one_line_that_tells_what_differs(run: Path) -> None:
    save_weights(tiny("deeplabv3plus"), run / WEIGHTS_NAME)
    text = refuse_to_load(run)
    assert "does not hold the weights of this network" in text
    assert "they differ in" in text
    save_weights(csknet(gated_unit_width=24), run / WEIGHTS_NAME)
    assert "does not hold the weights of this network" in refuse_to_load(run)


def test_nothing_half_written_stays_behind(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run / WEIGHTS_NAME).read_bytes()

    def fail(tensors: dict[str, Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crossband.weights.save_file", fail)
    with pytest.raises(CrossbandError, match="No space left"):
        save_weights(csknet(), run / WEIGHTS_NAME)
    assert (run / WEIGHTS_NAME).read_bytes() == before
    assert {path.name for path in run.iterdir()} == {WEIGHTS_NAME, CARD_NAME}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CrossbandError, match="cannot write"):
        save_weights(csknet(), tmp_path / "file" / "weights.safetensors")
