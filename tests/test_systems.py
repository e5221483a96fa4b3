"""What every system must do. A system that is added to the list is tested here without another line."""

from typing import get_args

import pytest
import torch
from _pytest.mark.structures import ParameterSet
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crossband.errors import BandError, OptionError
from crossband.pairs.batch import Batch, bands_of
from crossband.recipe import Recipe
from crossband.systems import create, list_systems, system_class, system_options
from crossband.systems.base import System
from crossband.words import BAND_COMBINATIONS, IGNORE_INDEX, Bands, Support
from tiny_systems import CLASSES, answer, images, labelled, randomise_norms, resting, tiny

SYSTEMS = list_systems()
HALVES = [torch.bfloat16, torch.float16]
TRAINED = [name for name in SYSTEMS if system_class(name).needs_training]


def combinations(names: list[str]) -> list[ParameterSet]:
    return [
        pytest.param(name, bands, id=f"{name}-{bands}") for name in names for bands in tiny(name).supports
    ]


COMBINATIONS, TRAINED_COMBINATIONS = combinations(SYSTEMS), combinations(TRAINED)
PADDED_COMBINATIONS = combinations([name for name in TRAINED if tiny(name).multiple > 1])


@pytest.fixture(scope="module")
def evaluated() -> dict[str, System]:
    """Every system in eval mode, with batch norms as after a training."""
    systems = {name: tiny(name).eval() for name in SYSTEMS}
    for system in systems.values():
        randomise_norms(system)
    return systems


def given_bands(bands: Bands, visible: Tensor, infrared: Tensor) -> dict[str, Tensor]:
    return {
        band: image
        for band, image in (("visible", visible), ("infrared", infrared))
        if bands in ("both", band)
    }


# --- the contract of the output


@pytest.mark.parametrize(("name", "bands"), COMBINATIONS)
@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 97), width=st.integers(1, 97))
def test_output_has_the_inputs_size_whatever_it_is(
    evaluated: dict[str, System], name: str, bands: Bands, height: int, width: int
) -> None:
    with torch.no_grad():
        output = evaluated[name](**given_bands(bands, *images(height, width)))
    assert output.logits is not None or output.fused is not None
    if output.logits is not None:
        assert output.logits.shape == (2, CLASSES, height, width)
        assert torch.isfinite(output.logits).all()
    if output.fused is not None:
        assert output.fused.shape == (2, 3, height, width)
        assert 0 <= output.fused.min() <= output.fused.max() <= 1
    assert output.branches == {}
    assert output.features == {}


@pytest.mark.parametrize(("name", "bands"), PADDED_COMBINATIONS)
def test_padding_is_the_edge_repeated_and_cropped_away(
    evaluated: dict[str, System], name: str, bands: Bands
) -> None:
    system = evaluated[name]
    visible, infrared = images(system.multiple * 2 - 3, system.multiple * 3 - 1)

    def pad(image: Tensor) -> Tensor:
        rows = torch.arange(system.multiple * 2).clamp(max=image.shape[2] - 1)
        columns = torch.arange(system.multiple * 3).clamp(max=image.shape[3] - 1)
        return image[:, :, rows][..., columns]

    with torch.no_grad():
        small = system(**given_bands(bands, visible, infrared)).logits
        large = system(**given_bands(bands, pad(visible), pad(infrared))).logits
    assert torch.equal(small, large[..., :-3, :-1])


@pytest.mark.parametrize(("name", "bands"), TRAINED_COMBINATIONS)
def test_training_mode_fills_branches_and_features(name: str, bands: Bands) -> None:
    system = tiny(name)
    inputs = given_bands(bands, *images(40, 50))
    trained = system(**inputs)
    assert trained.features or trained.branches
    assert all(logits.shape == (2, CLASSES, 40, 50) for logits in trained.branches.values())
    plain = system(**inputs, features=False)
    assert plain.features == plain.branches == {}
    asked = system.eval()(**inputs, features=True)
    assert asked.features.keys() == trained.features.keys()
    assert asked.branches.keys() == trained.branches.keys()


@pytest.mark.parametrize(("name", "bands"), COMBINATIONS)
def test_each_pair_is_predicted_by_itself(evaluated: dict[str, System], name: str, bands: Bands) -> None:
    visible, infrared = images(33, 50, batch=3)
    with torch.no_grad():
        together = answer(evaluated[name](**given_bands(bands, visible, infrared)))
        alone = answer(evaluated[name](**given_bands(bands, visible[1:2], infrared[1:2])))
    assert torch.allclose(together[1:2], alone, atol=1e-5)


@pytest.mark.parametrize(("name", "bands"), COMBINATIONS)
def test_every_band_that_is_given_matters(evaluated: dict[str, System], name: str, bands: Bands) -> None:
    inputs = given_bands(bands, *images(32, 48))
    with torch.no_grad():
        before = answer(evaluated[name](**inputs))
        for band, image in inputs.items():
            after = answer(evaluated[name](**{**inputs, band: 1 - image}))
            assert not torch.allclose(after, before, atol=1e-3)


@pytest.mark.parametrize(("name", "bands"), TRAINED_COMBINATIONS)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_gives_nearly_the_same(
    evaluated: dict[str, System], name: str, bands: Bands, dtype: torch.dtype
) -> None:
    inputs = given_bands(bands, *images(32, 48))
    with torch.no_grad():
        full = evaluated[name](**inputs).logits
        with torch.autocast("cpu", dtype=dtype):
            half = evaluated[name](**inputs).logits
    assert half.dtype == dtype
    # Rounding to 8 (bfloat16) or 11 bits, over dozens of layers.
    assert (half.float() - full).abs().max() < 20 * torch.finfo(dtype).eps * full.abs().max()


@pytest.mark.parametrize(("name", "bands"), COMBINATIONS)
def test_channels_last_gives_the_same(evaluated: dict[str, System], name: str, bands: Bands) -> None:
    inputs = given_bands(bands, *images(32, 48))
    other = tiny(name).eval()
    other.load_state_dict(evaluated[name].state_dict())
    other.to(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = answer(evaluated[name](**inputs))
        result = answer(
            other(**{k: x.contiguous(memory_format=torch.channels_last) for k, x in inputs.items()})
        )
    assert torch.allclose(result, wanted, atol=1e-4)


def _compiled_gives_the_same(system: System, backend: str) -> None:
    torch.compiler.reset()
    compiled = torch.compile(system, backend=backend)
    with torch.no_grad():
        for bands in system.supports:
            inputs = given_bands(bands, *images(32, 48))
            assert torch.allclose(answer(compiled(**inputs)), answer(system(**inputs)), atol=1e-4)


@pytest.mark.parametrize("name", SYSTEMS)
def test_tracing_for_compilation_gives_the_same(evaluated: dict[str, System], name: str) -> None:
    _compiled_gives_the_same(evaluated[name], "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_compilation_gives_the_same(evaluated: dict[str, System], name: str) -> None:
    _compiled_gives_the_same(evaluated[name], "inductor")


# --- bands


@pytest.mark.parametrize("name", SYSTEMS)
def test_support_is_declared_in_the_words_of_the_contract(name: str) -> None:
    system = tiny(name)
    assert set(system.supports) <= set(BAND_COMBINATIONS)
    assert set(system.supports.values()) <= set(get_args(Support))
    for bands in system.supports:
        modules = system.deployed(bands)
        assert all(any(part is module for part in system.modules()) for module in modules)


@pytest.mark.parametrize("name", SYSTEMS)
def test_other_bands_are_refused_with_what_is_possible(name: str) -> None:
    system = tiny(name)
    visible, infrared = images(20, 20)
    for bands in set(BAND_COMBINATIONS) - set(system.supports):
        spoken = "both bands" if bands == "both" else f"{bands} alone"
        with pytest.raises(BandError, match=f"{name} cannot run on {spoken}; it runs on: ") as caught:
            system(**given_bands(bands, visible, infrared))
        for able, support in system.supports.items():
            assert f"{able} ({support})" in str(caught.value)
        with pytest.raises(BandError):
            system.deployed(bands)
    with pytest.raises(BandError, match="no band was given"):
        system()


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


def test_select_bands_and_bands_of() -> None:
    batch = labelled()
    for bands in BAND_COMBINATIONS:
        chosen = batch.only(bands)
        assert bands_of(chosen.visible, chosen.infrared) == bands
        assert chosen.label is batch.label


def test_labels_are_padded_with_what_does_not_count() -> None:
    label = torch.ones(2, 17, 32, dtype=torch.int64)
    padded = tiny("csknet").pad_label(label)
    assert padded.shape == (2, 32, 32)
    assert torch.equal(padded[:, :17], label)
    assert (padded[:, 17:] == IGNORE_INDEX).all()


# --- training


@pytest.mark.parametrize("name", TRAINED)
def test_every_phase_has_finite_named_losses_that_reach_what_it_trains(name: str) -> None:
    system = tiny(name)
    recipe = Recipe(epochs=3)
    phases = system.phases(recipe)
    assert phases[-1].keeps is system
    assert len({phase.name for phase in phases}) == len(phases)
    for phase in phases:
        assert phase.recipe == recipe
        assert set(phase.validate) <= set(phase.keeps.supports)
        with resting(phase):
            phase.trained.train()
            terms = phase.loss(labelled())
            assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
            torch.stack(list(terms.values())).sum().backward()
        without = {k for k, p in phase.trained.named_parameters() if p.grad is None or not p.grad.any()}
        dead = {id(p) for module in system.dead() for p in module.parameters()}
        assert not [k for k in without if id(phase.trained.get_parameter(k)) not in dead]
        assert all(p.grad is None for module in phase.frozen for p in module.parameters())


@pytest.mark.parametrize("name", TRAINED)
def test_dead_weights_change_nothing(evaluated: dict[str, System], name: str) -> None:
    system = evaluated[name]
    saved = {key: value.clone() for key, value in system.state_dict().items()}
    for bands in system.supports:
        inputs = given_bands(bands, *images(32, 48))
        with torch.no_grad():
            before = answer(system(**inputs))
            for module in system.dead():
                for parameter in module.parameters():
                    parameter.fill_(torch.nan)
            after = answer(system(**inputs))
        system.load_state_dict(saved)
        assert torch.equal(after, before)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_losses_are_finite_in_half_precision_on_odd_sizes_and_without_any_label(
    name: str, dtype: torch.dtype
) -> None:
    batch = labelled()
    cropped = Batch(
        visible=batch.visible[..., :41, :55],  # type: ignore[index]
        infrared=batch.infrared[..., :41, :55],  # type: ignore[index]
        label=batch.label[..., :41, :55],  # type: ignore[index]
        valid=None,
    )
    unlabelled = Batch(
        visible=batch.visible,
        infrared=batch.infrared,
        label=torch.full_like(batch.label, IGNORE_INDEX),  # type: ignore[arg-type]
        valid=None,
    )
    for phase in tiny(name).phases(Recipe()):
        for odd in (cropped, unlabelled):
            phase.trained.zero_grad()
            with resting(phase):
                with torch.autocast("cpu", dtype=dtype):
                    terms = phase.loss(odd)
                assert all(torch.isfinite(term) for term in terms.values())
                sum(term.float() for term in terms.values()).backward()
            gradients = [p.grad for p in phase.trained.parameters() if p.grad is not None]
            assert all(torch.isfinite(gradient).all() for gradient in gradients)


# --- creation


@pytest.mark.parametrize("name", TRAINED)
def test_create_keeps_its_arguments(name: str) -> None:
    system = create(name, classes=4, encoder="mobilenetv3_small_050", decoder_channels=8)
    assert system.name == name == system_class(name).name
    assert system.training
    assert system.arguments["classes"] == 4
    assert set(system.arguments) == {"classes", *system_options(name)}
    assert system.arguments["encoder"] == "mobilenetv3_small_050"
    assert system.encoder_origin is None
    assert system.summary
    assert system.paper


@pytest.mark.parametrize("name", TRAINED)
def test_create_is_a_function_of_its_arguments_and_the_seed(name: str) -> None:
    one, two = tiny(name).state_dict(), tiny(name).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_says_what_it_gives(name: str) -> None:
    system = tiny(name).eval()
    output = system(**given_bands(next(iter(system.supports)), *images(32, 48)))
    assert system.segments == (output.logits is not None)
    assert system.fuses == (output.fused is not None)


@pytest.mark.parametrize("name", [name for name in TRAINED if not system_class(name).fuses])
def test_what_cannot_fuse_needs_classes(name: str) -> None:
    with pytest.raises(OptionError, match=f"{name} segments, so it needs the number of classes"):
        create(name)


def test_create_refuses_what_does_not_exist() -> None:
    with pytest.raises(OptionError, match=r"no system 'cskne'.*did you mean csknet"):
        create("cskne", classes=3)
    with pytest.raises(OptionError, match="no option exchang; did you mean exchange"):
        create("csknet", classes=3, exchang=False)
    with pytest.raises(OptionError, match="at least 2 classes, not 1"):
        create("csknet", classes=1)
    with pytest.raises(OptionError, match="band must be visible or infrared, not 'thermal'"):
        create("deeplabv3plus", classes=3, band="thermal")
    with pytest.raises(OptionError, match="dice_form must be per-class or global, not 'mean'"):
        create("deeplabv3plus", classes=3, dice_form="mean")
