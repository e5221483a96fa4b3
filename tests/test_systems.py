"""Every system that is listed, held against the contract; and what the contract's own parts do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crossband.errors import BandError, OptionError
from crossband.pairs.base import bands_of
from crossband.pairs.batch import Batch
from crossband.systems import create, list_systems, loss_options, make_training, network_options, system_class
from crossband.systems.base import System
from crossband.systems.creation import earlier_options
from crossband.systems.deeplabv3plus import DeepLabV3Plus
from crossband.testing import SystemContract, given
from crossband.words import BAND_COMBINATIONS, IGNORE_INDEX
from tiny_systems import TINY, TINY_OPTIONS, answer, images, labelled, tiny

SYSTEMS = list_systems()

for name in SYSTEMS:
    small = {key: value for key, value in TINY.items() if key in network_options(name)}
    small |= {key: value for key, value in TINY_OPTIONS.get(name, {}).items() if key in network_options(name)}
    contract = {"system": name, "small": small, "loss": {"rounds": 2} if name == "segmif" else {}}
    globals()[f"Test_{name}"] = type(f"Test_{name}", (SystemContract,), contract)
del name, small, contract


def _compiled_gives_the_same(system: System, backend: str) -> None:
    torch.compiler.reset()
    compiled = torch.compile(system, backend=backend)
    with torch.no_grad():
        for bands in system.supports:
            inputs = given(bands, *images(32, 48))
            assert torch.allclose(answer(compiled(**inputs)), answer(system(**inputs)), atol=1e-4)


@pytest.mark.parametrize("name", ["average", "deeplabv3plus"])
def test_tracing_for_compilation_gives_the_same(name: str) -> None:
    _compiled_gives_the_same(tiny(name).eval(), "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_compilation_gives_the_same(name: str, backend: str) -> None:
    _compiled_gives_the_same(tiny(name).eval(), backend)


@torch.no_grad()
@pytest.mark.parametrize("name", SYSTEMS)
def test_weights_in_bfloat16_answer_images_in_bfloat16(name: str) -> None:
    """Without autocast: a layer gets what its weights are in, and what comes out is of the images' type."""
    system = tiny(name).eval()
    for bands in system.supports:
        wide = given(bands, *images(32, 48))
        narrow = {band: image.bfloat16() for band, image in wide.items()}
        # Of the rounded images too: where the stronger of two is chosen, rounding chooses otherwise.
        wanted = answer(system.float()(**{band: image.float() for band, image in narrow.items()}))
        result = answer(system.bfloat16()(**narrow))
        assert result.dtype == torch.bfloat16
        assert (result - wanted).abs().mean() < 0.05 * wanted.abs().max()


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_earlier_versions_did_is_an_option_and_not_the_default(name: str) -> None:
    """Else a run of theirs is read as another one, or not at all."""
    network, loss = earlier_options(name)
    defaults = {**network_options(name), **loss_options(name)}
    variants = [*system_class(name).variants.values()]
    for option, before in network.items():
        assert create(name, 5, **TINY, **network).network_options[option] == before
        assert before != defaults[option] or any(before != v.get(option, before) for v in variants)
    for option, before in loss.items():
        assert getattr(make_training(name, **loss), option) == before != defaults[option]


class Spare(nn.Module):
    """A head with a further map, times a factor that starts at 0, or not used at all."""

    def __init__(self, head: nn.Module, used: bool):
        super().__init__()
        self.head, self.used = head, used
        self.factor = nn.Parameter(torch.zeros(5, 1, 1))
        self.map = nn.Parameter(torch.randn(5, 1, 1))

    def forward(self, decoded: Tensor) -> Tensor:
        logits = self.head(decoded)
        return logits + self.factor * self.map if self.used else logits + self.factor


@pytest.mark.parametrize("used", [True, False])
def test_the_contract_finds_what_no_loss_reaches(used: bool) -> None:
    """And waits for what is behind a factor that starts at 0, which the first step does not reach."""
    system = tiny("deeplabv3plus")
    assert isinstance(system, DeepLabV3Plus)
    system.network.segmentation_head = Spare(system.network.segmentation_head, used)
    contract = type("Test", (SystemContract,), {"system": "deeplabv3plus", "make": lambda self: system})
    if used:
        contract().test_every_phase_has_finite_named_losses_that_reach_what_it_trains()
    else:
        with pytest.raises(AssertionError, match=r"no loss of phase segmentation reaches .*head\.map$"):
            contract().test_every_phase_has_finite_named_losses_that_reach_what_it_trains()


def test_an_infrared_baseline_refuses_visible() -> None:
    system = tiny("deeplabv3plus", band="infrared")
    visible, infrared = images(20, 20)
    for inputs, spoken in (
        ({"visible": visible}, "visible alone"),
        ({"visible": visible, "infrared": infrared}, "both"),
    ):
        with pytest.raises(BandError, match=rf"deeplabv3plus cannot run on {spoken}.*infrared \(designed\)"):
            system(**inputs)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"visible": torch.rand(1, 1, 8, 8)}, r"visible must be a float tensor of shape \(B, 3, H, W\)"),
        ({"infrared": torch.rand(1, 3, 8, 8)}, r"infrared must be a float tensor of shape \(B, 1, H, W\)"),
        ({"infrared": torch.rand(1, 8, 8)}, r"infrared must be a float tensor.*\(1, 8, 8\)"),
        ({"infrared": torch.zeros(1, 1, 8, 8, dtype=torch.uint8)}, "infrared must be a float.*uint8"),
        ({"visible": torch.rand(1, 3, 8, 8), "infrared": torch.rand(1, 1, 8, 9)}, "must agree.*height"),
        ({"visible": torch.rand(2, 3, 8, 8), "infrared": torch.rand(1, 1, 8, 8)}, "must agree in batch"),
    ],
)
def test_tensors_of_another_shape_are_refused(inputs: dict[str, Tensor], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        tiny("csknet")(**inputs)


def test_a_batch_with_some_of_its_bands_or_of_its_pairs() -> None:
    batch = labelled(batch=3)
    batch.names, batch.conditions = ["a", "b", "c"], [None, "night", None]
    for bands in BAND_COMBINATIONS:
        chosen = batch.only(bands)
        assert chosen.bands == bands_of(chosen.visible, chosen.infrared) == bands
        assert chosen.label is batch.label
        assert chosen.size == (64, 96)
    first = batch.first(2).to("meta")
    assert (first.names, first.conditions) == (["a", "b"], [None, "night"])
    assert first.visible is not None
    assert first.label is not None
    assert (first.visible.device.type, len(first.visible), len(first.label)) == ("meta", 2, 2)
    assert first.valid is None
    with pytest.raises(BandError, match="no band was given"):
        _ = Batch().bands


def test_labels_are_padded_with_what_does_not_count() -> None:
    label = torch.ones(2, 17, 32, dtype=torch.int64)
    padded = tiny("csknet").pad_label(label)
    assert padded.shape == (2, 32, 32)
    assert torch.equal(padded[:, :17], label)
    assert (padded[:, 17:] == IGNORE_INDEX).all()


def test_create_refuses_what_does_not_exist() -> None:
    with pytest.raises(OptionError, match=r"no system 'cskne'.*did you mean csknet"):
        create("cskne", classes=3)
    with pytest.raises(OptionError, match="no network option exchang; did you mean exchange"):
        create("csknet", classes=3, exchang=False)
    with pytest.raises(OptionError, match="at least 2 classes, not 1"):
        create("csknet", classes=1)
    with pytest.raises(OptionError, match="band must be one of visible, infrared, not 'thermal'"):
        create("deeplabv3plus", classes=3, band="thermal")
    with pytest.raises(OptionError, match="dice_form must be one of per-class, global, not 'mean'"):
        make_training("deeplabv3plus", dice_form="mean")
    with pytest.raises(OptionError, match="projection_width must be 1 or more, not 0"):
        make_training("csknet", projection_width=0)


def test_a_number_of_classes_may_be_numpys() -> None:
    system = create("deeplabv3plus", np.array([2, 0]).max() + 1, **TINY)
    assert (system.classes, type(system.classes)) == (3, int)
    with pytest.raises(OptionError, match=r"at least 2 classes, not 3\.0"):
        create("deeplabv3plus", 3.0)  # type: ignore[arg-type]


MAY_BE_NEGATIVE = {("amdanet", "tau"): "a cosine"}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_number_that_means_nothing_below_0_is_refused(name: str) -> None:
    classes = 3 if system_class(name).segments else None

    def refused(option: str, default: Any, build: Callable[..., Any]) -> None:
        if type(default) in (int, float) and (name, option) not in MAY_BE_NEGATIVE:
            with pytest.raises(OptionError, match=option.removeprefix("contrastive_")):
                build(**{option: type(default)(-1)})

    for option, default in network_options(name).items():
        refused(option, default, partial(create, name, classes))
    for option, default in loss_options(name).items():
        refused(option, default, partial(make_training, name))


@pytest.mark.parametrize("name", [name for name in SYSTEMS if "decoder_channels" in network_options(name)])
@pytest.mark.parametrize("channels", [0, -3])
def test_a_layer_without_channels_is_refused(name: str, channels: int) -> None:
    with pytest.raises(OptionError, match=f"{name}: decoder_channels must be 1 or more, not {channels}"):
        create(name, classes=3, decoder_channels=channels)
