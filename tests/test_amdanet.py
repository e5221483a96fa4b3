"""AMDANet: its size, its cost, equality with the plain formulas, its variants."""

import importlib.util
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from crossband.blocks.decoders import HeadNorm, upsample, upsampled_convolution
from crossband.errors import OptionError
from crossband.info import count_flops
from crossband.systems.amdanet.training import ABLATIONS
from crossband.systems.base import System
from crossband.weights import count_parameters
from tiny_amdanet import amdanet
from tiny_systems import CLASSES, build, images

REFERENCE = Path(__file__).resolve().parent / "references" / "reference_amdanet.py"
SIZE = (64, 96)


def inputs(height: int = SIZE[0], width: int = SIZE[1], batch: int = 2) -> tuple[Tensor, Tensor]:
    visible, infrared = images(height, width, batch=batch)
    return visible.double(), infrared.double()


# --- size and cost


@pytest.fixture(scope="module")
def published() -> dict[str, System]:
    """The published sizes with 9 classes, without memory for their weights."""
    with torch.device("meta"):
        return {
            size: build("amdanet", 9, encoder=size, alignment_start="published")
            for size in ("mit_b1", "mit_b2", "mit_b4")
        }


@pytest.mark.parametrize(
    ("encoder", "count"), [("mit_b1", 40_352_924), ("mit_b2", 62_442_652), ("mit_b4", 135_735_452)]
)
def test_published_size(published: dict[str, System], encoder: str, count: int) -> None:
    system = published[encoder]
    assert count_parameters(system) == count
    assert all(count_parameters(*system.deployed(bands)) == count for bands in system.supports)


def test_size_of_every_module(published: dict[str, System]) -> None:
    system = published["mit_b1"]
    counts = {
        name: [count_parameters(system.enc.part(name, level)) for level in (1, 2, 3, 4)]
        for name in ("sci", "local", "global")
    }
    assert counts == {
        "sci": [8_322, 33_026, 205_442, 525_314],
        "local": [14_706, 57_970, 359_794, 919_666],
        "global": [1_119_296, 1_329_280, 3_384_640, 4_459_008],
    }
    assert count_parameters(system.seg) == 1_581_065
    assert count_parameters(system.fus) == 52_547
    plain = [p for name, p in system.named_parameters() if p.ndim < 2 and not name.endswith("lam")]
    assert sum(p.numel() for p in system.parameters() if p.ndim > 1) == 40_246_416
    assert sum(p.numel() for p in plain) == 106_504
    buffers = sum(b.numel() for name, b in system.named_buffers())
    assert buffers == 1_322 + 0


@pytest.mark.parametrize(("classes", "decoder"), [(15, 1_584_143), (5, 1_579_013)])
def test_size_with_other_classes(classes: int, decoder: int) -> None:
    with torch.device("meta"):
        system = build("amdanet", classes, encoder="mit_b1")
    assert count_parameters(system.seg) == decoder


def test_parameters_have_the_names_that_weights_are_carried_over_by(published: dict[str, System]) -> None:
    names = set(dict(published["mit_b1"].named_parameters()))
    kinds = {"embed1.proj", "embed4.norm", "norm2", "stage3.1.norm1", "stage3.1.ffn.dw", "stage1.0.attn.q"}
    kinds |= {f"stage1.0.attn.{layer}" for layer in ("kv", "reduce", "reduce_norm", "proj")}
    wanted = {f"enc.{band}.{kind}" for band in ("rgb", "ir") for kind in kinds}
    wanted |= {f"enc.sci2.{layer}" for layer in ("mlp1", "mlp2")}
    wanted |= {f"enc.local4.{part}{i}" for part in ("channel", "spatial", "gate") for i in (1, 2)}
    wanted |= {f"enc.global1.{unit}.proj" for unit in ("sfe_a", "sfe_b", "cross1", "cross2")}
    wanted |= {"enc.global4.proj", "enc.global3.cross2.reduce", "seg.embed3", "seg.fuse_conv", "seg.fuse_bn"}
    wanted |= {"seg.classify", "fus.conv", "fus.bn", "fus.out"}
    wanted |= {
        f"fus.point{i}_{band}_{kind}" for i in (1, 4) for band in ("rgb", "ir") for kind in ("conv", "bn")
    }
    assert {f"{name}.{leaf}" for name in wanted for leaf in ("weight", "bias")} <= names
    assert {f"enc.sci{i}.lam" for i in (1, 2, 3, 4)} <= names
    # Attention between bands has no bias before its product, and the coarsest one reduces nothing.
    assert "enc.global1.sfe_a.q.bias" not in names
    assert "enc.global4.sfe_a.reduce.weight" not in names


@pytest.mark.parametrize(("encoder", "specified"), [("mit_b1", 65.0), ("mit_b2", 88.7), ("mit_b4", 168.4)])
def test_cost_of_a_clean_pass(published: dict[str, System], encoder: str, specified: float) -> None:
    with torch.device("meta"):
        cost = count_flops(published[encoder], "both", (480, 640)) / 2e9
    # 1 x 1 convolutions of the segmentation decoder at their own resolution save 19.8 of 21.4, and more.
    assert specified - 23 < cost < specified - 22


def test_masked_decoding_costs_evaluation_nothing_but_in_the_published_form() -> None:
    plain, published = (
        count_flops(amdanet(masked_in_evaluation=masked).float(), "both", SIZE) for masked in (False, True)
    )
    assert published > plain


def test_a_cost_does_not_depend_on_what_evaluation_draws() -> None:
    """The published masked pass decodes to classes or to a picture, which do not cost the same."""
    system = amdanet(masked_in_evaluation=True).float()
    counts = set()
    for seed in range(6):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        counts.add(count_flops(system, "both", SIZE))
        assert torch.equal(torch.get_rng_state(), state)
    assert len(counts) == 1


def test_an_encoder_can_be_shared_and_is_then_saved_once() -> None:
    with torch.device("meta"):
        shared = build("amdanet", 9, encoder="mit_b1", share_encoder=True, alignment_start="published")
    assert count_parameters(shared) == 40_352_924 - 13_151_424
    system = amdanet(share_encoder=True)
    assert system.enc.ir is system.enc.rgb


def test_a_system_that_only_fuses_has_no_segmentation_and_no_global_alignment() -> None:
    with torch.device("meta"):
        whole, fusing = (build("amdanet", classes, encoder="mit_b1") for classes in (9, None))
    assert count_parameters(fusing) == count_parameters(whole) - 1_581_065 - 10_292_224
    system = amdanet(None)
    output = system(*inputs())
    assert not system.segments
    assert output.logits is None
    # What is left is computed as it was.
    both = amdanet()
    both.load_state_dict(system.state_dict(), strict=False)
    assert torch.allclose(both(*inputs()).fused, output.fused, atol=1e-12)


# --- the same numbers as the plain formulas


@pytest.fixture(scope="module")
def reference_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_amdanet", REFERENCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("tau", [0.4, -1.0], ids=["mixed", "not mixed"])
def test_it_computes_what_the_plain_formulas_say(
    reference_module: ModuleType, training: bool, tau: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_module, "TAU", tau)
    system = amdanet(tau=tau).train(training)
    reference = reference_module.ReferenceAMDANet(CLASSES, "mit_tiny", 16).double().train(training)
    reference.load_state_dict(system.state_dict())
    for size in (SIZE, (96, 32)):
        output = system(*inputs(*size))
        logits, fused = reference(*inputs(*size))
        assert fused.std() > 0.05
        assert torch.allclose(output.logits, logits, rtol=0, atol=1e-9 * logits.abs().max().item())
        assert torch.allclose(output.fused, fused, atol=1e-10)
    for key, value in reference.state_dict().items():
        assert torch.allclose(system.state_dict()[key].double(), value.double(), atol=1e-10)


def test_gradients_are_those_of_the_plain_formulas(reference_module: ModuleType) -> None:
    system = amdanet().train()
    reference = reference_module.ReferenceAMDANet(CLASSES, "mit_tiny", 16).double().train()
    reference.load_state_dict(system.state_dict())
    output = system(*inputs())
    logits, fused = reference(*inputs())
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ((output.logits * weights).sum() + output.fused.square().sum()).backward()
    ((logits * weights).sum() + fused.square().sum()).backward()
    wanted = dict(reference.named_parameters())
    for name, parameter in system.named_parameters():
        scale = wanted[name].grad.abs().max()
        assert torch.allclose(parameter.grad, wanted[name].grad, rtol=0, atol=1e-8 * scale.item() + 1e-9), (
            name
        )


@pytest.mark.parametrize("size", [(24, 40), (25, 37), (48, 80), (6, 10)])
def test_a_convolution_of_an_upsampled_map_without_the_map(size: tuple[int, int]) -> None:
    coarse = torch.randn(2, 3, 6, 10, dtype=torch.float64)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    added = torch.randn(2, 4, *size, dtype=torch.float64)
    wanted = added + nn.functional.conv2d(upsample(coarse, size), weight, padding=1)
    assert torch.allclose(upsampled_convolution(coarse, weight, added), wanted, atol=1e-12)


# --- variants, ablations and other readings


def test_variants_are_the_two_columns() -> None:
    published = build("amdanet", 4, variant="as-published", encoder="mit_tiny")
    clean = build("amdanet", 4, variant="clean", encoder="mit_tiny")
    ours, theirs = (
        {**system.network_options, **asdict(system.given_training)} for system in (clean, published)
    )
    assert {key for key, value in ours.items() if theirs[key] != value} == {
        *("swap_streams", "gate", "similarity_scale", "train_lambda", "stage2_depth", "norm_eps"),
        "alignment_start",
        *("norm_momentum", "evaluation_norm_eps", "masked_in_evaluation", "padding"),
        *("dice_ignored_as_zero", "dice_classes", "fusion_mean"),
    }
    assert clean.network_options == build("amdanet", 4, encoder="mit_tiny").network_options
    assert (
        build("amdanet", 4, variant="as-published", encoder="mit_tiny", tau=0.2).network_options["tau"] == 0.2
    )


def test_the_default_is_deterministic_and_does_not_look_at_batch_mates() -> None:
    system = amdanet()
    visible, infrared = inputs(batch=3)
    together = system(visible, infrared)
    torch.manual_seed(99)
    again = system(visible, infrared)
    assert torch.equal(together.logits, again.logits)
    assert torch.equal(together.fused, again.fused)
    alone = system(visible[1:2], infrared[1:2])
    assert torch.allclose(together.logits[1:2], alone.logits, atol=1e-10)
    assert torch.allclose(together.fused[1:2], alone.fused, atol=1e-10)


def test_masked_decoding_in_evaluation_changes_no_output() -> None:
    plain, masking = amdanet(), amdanet(masked_in_evaluation=True)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    output = masking(*inputs())
    assert torch.equal(output.logits, plain(*inputs()).logits)
    assert output.branches == {}
    assert not torch.equal(torch.get_rng_state(), state)
    assert masking(*inputs(), features=True).branches["masked"].shape == output.logits.shape


def test_streams_can_be_exchanged_as_published() -> None:
    """With everything between the bands off, the visible band runs through the infrared encoder and back."""
    off = {"local_alignment": "none", "tau": -1.1}
    plain, swapping = amdanet(**off), amdanet(**off, swap_streams=True)
    levels = [system(*inputs(), features=True).features.levels for system in (plain, swapping)]
    enc = swapping.enc
    infrared = inputs()[1]
    embedded = enc.ir.embed(1, infrared.expand(-1, 3, -1, -1))
    in_visible_place = enc.rgb.blocks(1, embedded).permute(0, 2, 3, 1)
    assert torch.allclose(levels[1].own[0][0], in_visible_place)
    assert not torch.allclose(levels[0].own[0][0], in_visible_place)


@pytest.mark.parametrize(("choice", "wanted"), [("none", False), ("encoder", True), ("auto", False)])
def test_input_normalisation_of_a_mix_transformer(choice: str, wanted: bool) -> None:
    system = amdanet(input_normalisation=choice)
    plain = amdanet(input_normalisation="none")
    differs = not torch.allclose(system(*inputs()).logits, plain(*inputs()).logits)
    assert differs == wanted == (system.band_input is not None)


def test_other_encoders_get_what_their_weights_expect() -> None:
    assert amdanet(encoder="mobilenetv3_small_050").band_input is not None
    assert amdanet(encoder="mobilenetv3_small_050", input_normalisation="none").band_input is None


@pytest.mark.parametrize("encoder", ["pvt_v2_b0", "resnet18", "mit_b0"])
def test_encoders_of_other_kinds_and_widths(encoder: str) -> None:
    torch.manual_seed(0)
    system = build("amdanet", CLASSES, encoder=encoder, decoder_channels=16).eval()
    visible, infrared = images(32, 64)
    with torch.no_grad():
        output = system(visible, infrared)
        assert output.logits.shape == (2, CLASSES, 32, 64)
        # Something comes through the alignment from a random start, from either band.
        for other in (system(1 - visible, infrared), system(visible, 1 - infrared)):
            assert not torch.allclose(output.logits, other.logits, atol=1e-4)
            assert not torch.allclose(output.fused, other.fused, atol=1e-4)


def test_head_norms_may_change_their_eps_in_evaluation() -> None:
    norm = HeadNorm(2, eps=0.01, evaluation_eps=1e-5)
    norm.running_var.fill_(0.02)
    x = torch.randn(4, 2, 5, 5)
    weight, bias = torch.eye(2)[..., None, None], torch.zeros(2)

    def layer(weight: Tensor, bias: Tensor) -> Tensor:
        return nn.functional.conv2d(x, weight, bias)

    assert torch.allclose(norm.eval().after(layer, weight, bias), x / (0.02 + 1e-5) ** 0.5, rtol=1e-4)
    trained = norm.train().after(layer, weight, bias)
    mean, var = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, correction=0)
    assert torch.allclose(trained, (x - mean) / (var + 0.01).sqrt(), atol=1e-5)
    system = amdanet(norm_eps=0.01, norm_momentum=0.02)
    norms = [m for m in system.modules() if isinstance(m, HeadNorm)]
    assert len(norms) == 10
    assert all((m.eps, m.momentum, m.evaluation_eps) == (0.01, 0.02, 0.01) for m in norms)


def test_stage_2_can_have_the_published_rates() -> None:
    def rates(stage2_depth: str, band: str) -> list[float]:
        with torch.device("meta"):
            system = build("amdanet", 4, encoder="mit_b2", stage2_depth=stage2_depth)
        stage = getattr(system.enc, band).stage2
        return [block.drop_path.drop_prob for block in stage]

    # Of 16 blocks the second stage has the fourth to the seventh: a ramp of 0.1 / 15 per block.
    assert rates("ramp", "rgb") == pytest.approx([0.1 * i / 15 for i in (3, 4, 5, 6)])
    assert rates("published", "rgb") == pytest.approx([0.1 * 3 / 15] * 4)
    assert rates("published", "ir") == pytest.approx([0.1 * 4 / 15] * 4)


@pytest.mark.parametrize("row", ABLATIONS)
def test_every_row_of_the_ablation_tables_is_a_system_of_its_own(row: str) -> None:
    system = amdanet(**ABLATIONS[row])
    assert torch.isfinite(system(*inputs()).logits).all()
    values = {**system.network_options, **asdict(system.given_training)}
    settings = {key: value for key, value in values.items() if key in ABLATIONS[row]}
    assert settings == ABLATIONS[row]


def test_ablations_differ_from_the_whole() -> None:
    count = count_parameters(amdanet())
    counts = {row: count_parameters(amdanet(**ABLATIONS[row])) for row in ABLATIONS}
    structural = {row for row in counts if row.startswith(("w/o", "with"))}
    assert {row for row, number in counts.items() if number != count} == structural
    assert len({counts[row] for row in structural}) == len(structural)
    assert len(ABLATIONS) == 1 + 3 * 3 + 3 + 3 + 2


# --- one band


def test_the_band_that_is_there_stands_in_for_the_other() -> None:
    system = amdanet()
    visible, infrared = inputs()
    assert system.supports == {"both": "designed", "infrared": "fallback", "visible": "fallback"}
    alone, both = system(None, infrared), system(infrared.expand(-1, 3, -1, -1), infrared)
    assert torch.equal(alone.logits, both.logits)
    assert torch.equal(alone.fused, both.fused)
    grey = (0.299 * visible[:, 0] + 0.587 * visible[:, 1] + 0.114 * visible[:, 2])[:, None]
    alone, both = system(visible, None), system(visible, grey)
    assert torch.allclose(alone.logits, both.logits, atol=1e-9)
    assert torch.allclose(alone.fused, both.fused, atol=1e-9)
    assert alone.reliability == {}


# --- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": "batch"}, "amdanet.gate must be one of sample, batch-any, always, not 'batch'"),
        ({"stage2_depth": "flat"}, "stage2_depth must be one of"),
        ({"stage2_depth": "published", "encoder": "mobilenetv3_small_050"}, "set it to ramp for encoder"),
        ({"variant": "as-published", "encoder": "pvt_v2_b0"}, "set it to ramp for encoder 'pvt_v2_b0'"),
        ({"input_normalisation": "imagenet"}, "input_normalisation must be one of"),
        ({"local_alignment": "senet"}, "local_alignment must be one of local, none, cbam, danet"),
        ({"dice_classes": "some"}, "dice_classes must be one of"),
        ({"gradient_target": "larger"}, "gradient_target must be one of"),
        ({"fusion_mean": "mask"}, "fusion_mean must be one of"),
        ({"mask_site": "paper"}, "mask_site must be one of code, modality"),
        ({"mask_keep": 0.0}, r"mask_keep must lie in \(0, 1\], not 0.0"),
        ({"stochastic_depth": 1.0}, r"stochastic_depth must lie in \[0, 1\), not 1.0"),
        ({"norm_eps": 0.0}, "norm_eps must be above 0, not 0.0"),
        ({"norm_momentum": 1.5}, r"norm_momentum must lie in \[0, 1\], not 1.5"),
        ({"fusion_gamma": 0.0}, "fusion_gamma must be above 0, not 0.0"),
        ({"swap_streams": True, "reconstruction": True}, "leave one of them out"),
        ({"encoder": "mit_b9"}, "mit_b9"),
    ],
    ids=str,
)
def test_values_that_do_not_exist_are_refused_when_it_is_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        amdanet(**options)
