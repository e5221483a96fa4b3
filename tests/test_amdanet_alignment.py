"""AMDANet's local alignment: where it starts, the scale of its maps, and cards that do not tell."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crossband.blocks.alignment import LocalAlignment
from crossband.blocks.pyramid import build_pyramid
from crossband.pairs.base import Classes
from crossband.systems.amdanet import AMDANet
from crossband.systems.amdanet.local_alignment import SteppedAlignment, root_mean_square
from crossband.systems.base import System
from crossband.weights import CARD_NAME, count_parameters, load_run, make_card, save_run
from tiny_systems import CLASSES, TINY, build, images, labelled

SIZE = (64, 96)
SCENE = Classes(names=tuple("abcde"), palette=tuple((40 * i, 0, 0) for i in range(CLASSES)))
IDENTITY = {"alignment_start": "identity"}
PUBLISHED = {"alignment_start": "published"}


def amdanet(**options: Any) -> AMDANet:
    torch.manual_seed(0)
    system = build("amdanet", CLASSES, **{**TINY, "dropout": 0.0, **options})
    assert isinstance(system, AMDANet)
    return system


def with_weights_of(other: System, **options: Any) -> AMDANet:
    """A system of these options, with the other's weights wherever both have them."""
    system = amdanet(**options)
    system.load_state_dict(other.state_dict(), strict=False)
    return system


def set_gamma(system: System, value: float) -> None:
    for name, parameter in system.named_parameters():
        if "gamma_" in name:
            parameter.data.fill_(value)


def grids(channels: int = 8) -> tuple[Tensor, Tensor]:
    x, y = torch.randn(2, 2, 6, 7, channels, generator=torch.Generator().manual_seed(1))
    return x, y


def same_answers(one: System, other: System) -> bool:
    """Whether two systems give the same bits, in training and in evaluation."""
    answers = [
        [system.train(training)(*images(*SIZE)) for system in (one, other)] for training in (True, False)
    ]
    return all(torch.equal(a.logits, b.logits) and torch.equal(a.fused, b.fused) for a, b in answers)


# --- where it starts


@pytest.mark.parametrize("scaling", [False, True])
@pytest.mark.parametrize("encoder", [TINY["encoder"], "mit_tiny"])
def test_an_identity_start_is_the_network_without_local_alignment(encoder: str, scaling: bool) -> None:
    options = {"encoder": encoder, "stochastic_depth": 0.0}
    start = amdanet(**options, **IDENTITY, alignment_scaling=scaling)
    without = with_weights_of(start, **options, local_alignment="none")
    assert same_answers(start, without)
    set_gamma(start, 0.1)
    assert not same_answers(start, without)


@pytest.mark.parametrize("scaling", [False, True])
def test_gamma_1_is_the_published_module_to_the_bit(scaling: bool) -> None:
    start = amdanet(**IDENTITY, alignment_scaling=scaling)
    set_gamma(start, 1.0)
    published = with_weights_of(start, **PUBLISHED, alignment_scaling=scaling)
    assert same_answers(start, published)
    set_gamma(start, 0.9)
    assert not same_answers(start, published)


def test_the_published_start_is_the_plain_module() -> None:
    torch.manual_seed(0)
    plain = LocalAlignment(8)
    torch.manual_seed(0)
    published = SteppedAlignment(8, start="published", scaled=False)
    assert dict(plain.named_parameters()).keys() == dict(published.named_parameters()).keys()
    assert all(torch.equal(a, b) for a, b in zip(plain(*grids()), published(*grids()), strict=True))
    trust = torch.rand(2, 2, 6, 7, 1).unbind()
    assert all(
        torch.equal(a, b) for a, b in zip(plain(*grids(), trust), published(*grids(), trust), strict=True)
    )


def test_a_step_is_a_share_of_the_way() -> None:
    module = SteppedAlignment(8, start="identity", scaled=False)
    assert module.gamma_visible is not None
    assert module.gamma_infrared is not None
    module.gamma_visible.data = torch.linspace(-0.5, 1.5, 8)
    module.gamma_infrared.data.fill_(0.25)
    plain = LocalAlignment(8)
    plain.load_state_dict(module.state_dict(), strict=False)
    (x, y), (to_x, to_y) = grids(), plain(*grids())
    aligned = module(x, y)
    assert torch.allclose(aligned[0], x + torch.linspace(-0.5, 1.5, 8) * (to_x - x), atol=1e-6)
    assert torch.allclose(aligned[1], y + 0.25 * (to_y - y), atol=1e-6)


def test_a_loss_moves_gamma_first_and_the_alignment_after_it() -> None:
    system = amdanet(**IDENTITY)
    (phase,) = system.phases()

    def gradients() -> dict[str, Tensor]:
        system.zero_grad()
        torch.stack(list(phase.loss(labelled(*SIZE)).values())).sum().backward()
        return {
            name: parameter.grad
            for name, parameter in system.named_parameters()
            if ".local" in name and parameter.grad is not None
        }

    found = gradients()
    gammas = {name for name in found if "gamma_" in name}
    assert len(gammas) == 2 * 4
    assert all(found[name].abs().sum() > 0 for name in gammas)
    assert all(found[name].abs().sum() == 0 for name in found.keys() - gammas)
    set_gamma(system, 0.1)
    assert all(gradient.abs().sum() > 0 for gradient in gradients().values())


@pytest.mark.parametrize(
    ("encoder", "published"), [("mit_b1", 40_352_924), ("mit_b2", 62_442_652), ("mit_b4", 135_735_452)]
)
def test_gammas_are_the_only_parameters_more(encoder: str, published: int) -> None:
    with torch.device("meta"):
        counts = [
            count_parameters(build("amdanet", 9, encoder=encoder, **options))
            for options in (PUBLISHED, {"variant": "as-published"}, IDENTITY)
        ]
    assert counts == [published, published, published + 2 * (64 + 128 + 320 + 512)]


# --- the scale of the maps


def test_scaled_alignment_does_not_see_how_large_values_are() -> None:
    module = SteppedAlignment(8, start="published", scaled=True)
    x, y = grids()
    small, large = module(x, y), module(100 * x, 7 * y)
    assert torch.allclose(large[0], 100 * small[0], rtol=1e-4, atol=1e-3)
    assert torch.allclose(large[1], 7 * small[1], rtol=1e-4, atol=1e-4)
    plain = LocalAlignment(8)
    plain.load_state_dict(module.state_dict())
    assert not torch.allclose(plain(100 * x, 7 * y)[0], 100 * plain(x, y)[0], rtol=0.1)


def test_root_mean_square_by_hand() -> None:
    grid = torch.tensor([[3.0, 4.0], [0.0, 5.0]]).view(1, 2, 1, 2).repeat(2, 1, 1, 1)
    grid[1] *= 2
    assert torch.allclose(root_mean_square(grid).flatten(), torch.tensor([12.5, 50.0]).sqrt())
    assert torch.isfinite(torch.zeros(1, 2, 2, 1) / root_mean_square(torch.zeros(1, 2, 2, 1))).all()
    half = torch.full((1, 2, 2, 1), 1000.0, dtype=torch.float16)
    assert torch.allclose(root_mean_square(half), torch.tensor(1000.0, dtype=torch.float16))


@pytest.mark.parametrize(
    ("encoder", "ends_in_norm"),
    [("mit_tiny", True), ("pvt_v2_b0", True), ("mobilenetv3_small_050", False), ("resnet18", False)],
)
def test_encoders_that_end_in_a_norm_are_not_scaled(encoder: str, ends_in_norm: bool) -> None:
    torch.manual_seed(0)
    pyramid = build_pyramid(encoder).eval()
    assert pyramid.ends_in_norm is ends_in_norm
    # What the word promises: one scale at every position of every level, whatever the image.
    with torch.no_grad():
        maps = pyramid(5 * torch.rand(1, 3, 64, 64))
    places = torch.cat([values.square().mean(dim=1).flatten() for values in maps])
    assert torch.allclose(places, torch.ones(()), atol=0.05) is ends_in_norm
    options = {"encoder": encoder, "stochastic_depth": 0.0, **PUBLISHED}
    plain = amdanet(**options)
    assert same_answers(plain, with_weights_of(plain, **options, alignment_scaling=True)) is ends_in_norm


# --- cards that do not tell


def test_a_card_that_does_not_say_is_of_the_published_module(tmp_path: Path) -> None:
    system = amdanet(**PUBLISHED, alignment_scaling=False)
    save_run(tmp_path, system, make_card(system, SCENE, "minmax", {}))
    fields = json.loads((tmp_path / CARD_NAME).read_text())
    for option in ("alignment_start", "alignment_scaling"):
        del fields["network"][option]
    (tmp_path / CARD_NAME).write_text(json.dumps(fields))
    loaded, card = load_run(tmp_path)
    assert (loaded.settings.alignment_start, loaded.settings.alignment_scaling) == ("published", False)
    assert card.network == loaded.network_options
    assert same_answers(loaded, system)


def test_a_card_keeps_the_start(tmp_path: Path) -> None:
    system = amdanet(**IDENTITY, alignment_scaling=True)
    set_gamma(system, 0.3)
    save_run(tmp_path, system, make_card(system, SCENE, "minmax", {}))
    loaded, _ = load_run(tmp_path)
    assert loaded.network_options == system.network_options
    assert same_answers(loaded, system)
