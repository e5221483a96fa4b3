"""The modules of AMDANet: what they do with layers of zeros, with numbers worked by hand, and their sizes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from counting import Work
from crossband.blocks.alignment import GlobalAlignment, LocalAlignment, SummedBands
from crossband.systems.amdanet.attention_slots import CBAM, DualAttention
from crossband.systems.amdanet.consistency import SemanticConsistency, similarity
from crossband.weights import count_parameters
from tiny_amdanet import amdanet


def grids(channels: int, height: int = 6, width: int = 8, *, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(2, batch, height, width, channels, generator=generator, dtype=torch.float64)
    return a, b


def consistency(**options: Any) -> SemanticConsistency:
    torch.manual_seed(0)
    return SemanticConsistency(8, **options).double()


def test_consistency_inference_of_a_last_layer_of_zeros_mixes_a_quarter() -> None:
    module = consistency(gate="always")
    nn.init.zeros_(module.mlp2.weight)
    nn.init.zeros_(module.mlp2.bias)
    a, b = grids(8)
    mixed = module(a, b, similarity(a, b))
    assert torch.allclose(mixed[0], 0.75 * a + 0.25 * b)
    assert torch.allclose(mixed[1], 0.75 * b + 0.25 * a)
    swapped = consistency(gate="always", swap_streams=True)
    swapped.load_state_dict(module.state_dict())
    assert all(torch.equal(x, y) for x, y in zip(swapped(a, b, similarity(a, b)), mixed[::-1], strict=True))


def test_similarity_by_hand() -> None:
    a = torch.tensor([[1.0, 0.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    b = torch.tensor([[2.0, 0.0], [4.0, -3.0]]).view(1, 1, 2, 2)
    assert similarity(a, b).tolist() == pytest.approx([0.5])
    assert similarity(a, -b).tolist() == pytest.approx([-0.5])


def test_the_gate_asks_each_pair_the_batch_or_nobody() -> None:
    a, b = grids(8)
    # The first pair agrees (S = 1), the second does not.
    b = torch.stack([2 * a[0], b[1]])
    agreement = similarity(a, b)
    assert agreement[0] > 0.99
    assert agreement[1] < 0.4
    changed = {}
    for gate in ("sample", "batch-any", "always"):
        mixed = consistency(gate=gate)(a, b, agreement)[0]
        changed[gate] = [not torch.equal(mixed[i], a[i]) for i in range(2)]
    assert changed == {"sample": [False, True], "batch-any": [True, True], "always": [True, True]}
    # Nobody disagrees: nothing is mixed, but at the published scale, where S is below every threshold.
    alike = similarity(a, 2 * a)
    assert torch.equal(consistency(gate="batch-any")(a, 2 * a, alike)[0], a)
    assert not torch.equal(consistency(gate="batch-any", similarity_scale=0.1)(a, 2 * a, alike)[0], a)
    assert torch.equal(consistency(tau=-0.99)(a, b, agreement)[0], a)
    assert not torch.equal(consistency(tau=1.01)(a, b, agreement)[0][0], a[0])


def test_lambda_is_trained_unless_it_is_not() -> None:
    assert consistency().lam.item() == 0.5
    for trained in (True, False):
        system = amdanet(train_lambda=trained)
        assert all(system.enc.part("sci", level).lam.requires_grad is trained for level in (1, 2, 3, 4))


def test_local_alignment_of_second_layers_of_zeros_weighs_an_eighth() -> None:
    module = LocalAlignment(8).double()
    for layer in (module.channel2, module.spatial2, module.gate2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    x, y = grids(8)
    u, v = x + y / 8, y + x / 8
    aligned = module(x, y)
    assert torch.allclose(aligned[0], u * torch.sigmoid(u / 8 - u) + u / 8)
    assert torch.allclose(aligned[1], v * torch.sigmoid(v / 8 - v) + v / 8)


def identity_alignment(**options: Any) -> GlobalAlignment:
    """Every projection the identity, and nothing found by any attention."""
    module = GlobalAlignment(8, 2, 2, **options).double()
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight) if name.endswith("kv") else nn.init.eye_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


@pytest.mark.parametrize("enhance", [True, False])
def test_global_alignment_that_finds_nothing_gives_the_infrared_grid(enhance: bool) -> None:
    x, y = grids(8)
    assert torch.allclose(identity_alignment(enhance=enhance)(x, y), y)


def test_global_alignment_asks_in_the_published_order() -> None:
    """Each unit adds a constant of its own to its query; the result has those of the infrared way alone."""
    x, y = grids(8)
    module = identity_alignment()
    for constant, unit in enumerate((module.sfe_a, module.sfe_b, module.cross1, module.cross2)):
        nn.init.constant_(unit.proj.bias, 2.0**constant)
    assert torch.allclose(module(x, y), y + 2 + 8)
    # With values, the last unit finds m, and so the visible band, in its source; no other unit does.
    for unit, finds_visible in ((module.cross2, True), (module.cross1, False), (module.sfe_b, False)):
        nn.init.eye_(unit.kv.weight[8:])
        difference = (module(x.flip(1), y) - module(x, y)).abs().max()
        assert (difference > 1e-5) == finds_visible
        nn.init.zeros_(unit.kv.weight)


def test_without_global_alignment_the_bands_are_added() -> None:
    module = SummedBands(8).double()
    x, y = grids(8)
    assert torch.allclose(module(x, y), module.proj(x) + module.proj(y) - module.proj.bias)
    system = amdanet(global_alignment=False)
    assert all(isinstance(system.enc.part("global", level), SummedBands) for level in (1, 2, 3, 4))


def test_cbam_by_hand() -> None:
    module = CBAM(8).double().eval()
    nn.init.zeros_(module.spatial.weight)
    nn.init.constant_(module.norm.bias, 100.0)
    x = grids(8)[0]

    def mlp(values: Tensor) -> Tensor:
        return module.channel2(torch.relu(module.channel1(values)))

    k = torch.sigmoid(mlp(x.mean(dim=(1, 2))) + mlp(x.flatten(1, 2).max(dim=1).values))
    assert torch.allclose(module(x), x * k[:, None, None])
    nn.init.zeros_(module.norm.bias)
    module.norm.eps = 0.0
    module.spatial.weight.data[0, 1, 3, 3] = 1
    weighed = x * k[:, None, None]
    assert torch.allclose(module(x), weighed * torch.sigmoid(weighed.max(dim=-1, keepdim=True).values))


def test_dual_attention_by_hand() -> None:
    module = DualAttention(8, reduction=1).double()
    x = grids(8)[0]
    assert torch.equal(module(x), x)
    nn.init.constant_(module.alpha, 0.5)
    nn.init.constant_(module.beta, 0.25)
    tokens = x.flatten(1, 2)
    scores = module.query(tokens) @ module.key(tokens).transpose(1, 2)
    position = 0.5 * scores.softmax(dim=-1) @ module.value(tokens) + tokens
    channels = tokens.transpose(1, 2)
    products = channels @ channels.transpose(1, 2)
    mixed = (-products).float().softmax(dim=-1).double() @ channels
    wanted = (position + 0.25 * mixed.transpose(1, 2) + tokens) / 2
    assert torch.allclose(module(x), wanted.view(x.shape), atol=1e-5)
    module.reduction = 2
    assert module(x).shape == x.shape


@pytest.mark.parametrize(
    ("channels", "cbam", "danet"),
    [(64, 680, 5_202), (128, 2_284, 20_642), (320, 13_240, 128_402), (512, 33_412, 328_322)],
)
def test_attention_slots_have_their_published_size(channels: int, cbam: int, danet: int) -> None:
    assert count_parameters(CBAM(channels)) == cbam
    # Position and one scale for the channels.
    assert count_parameters(DualAttention(channels, reduction=1)) == danet


def test_dual_attention_holds_nothing_that_grows_with_the_square_of_the_image() -> None:
    """A first level of 480 x 640, 120 x 160 places: all pairs would be 369 million values, 1.47 GB."""
    module = DualAttention(64, reduction=8)
    grid = torch.randn(1, 120, 160, 64)
    with Work() as counted:
        module(grid).sum().backward()
    assert counted.largest <= 120 * 160 * (15 * 20)
