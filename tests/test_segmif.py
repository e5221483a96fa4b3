"""SegMiF's networks: counts, the interaction beside its formulas, SegFormer beside transformers', bands."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from crossband.blocks.luma import luma, with_luma
from crossband.blocks.mix_transformer import SIZES
from crossband.errors import OptionError
from crossband.info import count_all
from crossband.losses.fusion import chroma
from crossband.systems import create
from crossband.systems.segmif.network import SegFormer, SegMiF
from crossband.systems.segmif.pseudo_target import TargetKind, pseudo_target
from crossband.systems.segmif.semantic_fusion import DilatedDenseBlock, SemanticFusion, SemanticInteraction
from crossband.weights import count_parameters
from tiny_systems import CLASSES, build, images, tiny


def segmif(**options: Any) -> SegMiF:
    system = tiny("segmif", **options)
    assert isinstance(system, SegMiF)
    return system


def published(classes: int = 9, **options: Any) -> SegMiF:
    """One without memory for its weights: only to be counted."""
    with torch.device("meta"):
        system = build("segmif", classes, **options)
    assert isinstance(system, SegMiF)
    return system


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- parameters


@pytest.mark.parametrize(("classes", "total"), [(9, 45_639_243), (15, 45_643_857)])
def test_parameters_of_the_published_networks(classes: int, total: int) -> None:
    system = published(classes)
    assert count_parameters(system) == total
    assert count_parameters(system.fusion) == 1_034_370
    assert count_parameters(system.segmenter) == total - 1_034_370
    if classes == 9:
        assert count_parameters(system.segmenter) == 44_604_873


def test_parameters_of_the_fusion_network_by_part() -> None:
    fusion = published().fusion
    parts = {name: count_parameters(part) for name, part in fusion.named_children()}
    dense = {f"{band}_dense{number}": 198_880 for band in ("visible", "infrared") for number in (1, 2)}
    assert parts == dense | {
        "visible_stem": 640,
        "infrared_stem": 640,
        "semantic1": 4_160,
        "semantic2": 8_256,
        "interaction1": 66_304,
        "interaction2": 66_304,
        "mix1": 73_792,
        "mix2": 18_464,
        "mix3": 289,
        "activation": 1,
    }


def test_what_nothing_reads_is_told_apart_and_can_be_left_out() -> None:
    system = published()
    assert [count_parameters(module) for module in system.dead()] == [66_304, 4_608]
    for count in count_all(system).values():
        assert (count.deployed, count.dead, count.training_only) == (45_639_243, 70_912, 0)
    without = published(published_extras=False)
    assert without.dead() == []
    assert count_parameters(without) == 45_639_243 - 70_912
    own = published(shared_interaction=False)
    assert count_parameters(own) == 45_639_243
    assert [count_parameters(module) for module in own.dead()] == [4_608]
    assert count_parameters(published(shared_interaction=False, published_extras=False)) == 45_634_635


# --- the fusion network


def test_a_dense_block_is_its_formula() -> None:
    block = DilatedDenseBlock(8, 4)
    x = draw(2, 8, 9, 7)
    maps = [x]
    for convolution in block.grow:
        maps.append(F.conv2d(torch.cat(maps, 1), convolution.weight, convolution.bias, 1, 2, 2).relu())
    shrunk = F.conv2d(torch.cat(maps, 1), block.shrink.weight, block.shrink.bias)
    assert torch.allclose(block(x), x + shrunk.relu(), atol=1e-6)


def plain_interaction(hia: SemanticInteraction, grids: dict[str, Tensor]) -> list[Tensor]:
    """The published formulas, token by token and head by head, in the order in which they are written."""
    tokens = {name: grid.flatten(1, 2) for name, grid in grids.items()}
    halves = {name: hia.get_submodule(f"{name}_halves")(t).relu() for name, t in tokens.items()}
    y = {name: both[..., : both.shape[-1] // 2] for name, both in halves.items()}
    u = {name: both[..., both.shape[-1] // 2 :] for name, both in halves.items()}

    def attended(query: Tensor, source: Tensor, kv: nn.Module) -> Tensor:
        keys, values = kv(source).chunk(2, dim=-1)
        heads = []
        for start in range(0, query.shape[-1], 8):
            part = slice(start, start + 8)
            context = keys[..., part].transpose(1, 2) @ values[..., part] / math.sqrt(8)
            heads.append(query[..., part] @ context.softmax(dim=1))
        return torch.cat(heads, dim=-1)

    results = []
    for band in ("visible", "infrared"):
        p = attended(y["semantic"], y[band], hia.get_submodule(f"{band}_kv"))
        o = attended(u[band], u["semantic"], hia.get_submodule("semantic_kv"))
        end = hia.get_submodule(f"{band}_end")(torch.cat([p, o], dim=-1))
        normed = hia.get_submodule(f"{band}_norm")(tokens[band] + end)
        results.append(normed.reshape(grids[band].shape))
    return results


def test_the_interaction_is_its_formula() -> None:
    torch.manual_seed(0)
    hia = SemanticInteraction(16).double()
    names = ("visible", "infrared", "semantic")
    grids = {name: draw(2, 3, 5, 16, seed=seed).double() for seed, name in enumerate(names)}
    for found, wanted in zip(hia(**grids), plain_interaction(hia, grids), strict=True):
        assert torch.allclose(found, wanted, atol=1e-10)


class Largest(TorchDispatchMode):
    """The number of values of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, Tensor):
                self.values = max(self.values, each.numel())
        return result


def test_memory_grows_with_the_pixels_and_not_with_their_square() -> None:
    network = SemanticFusion((8, 16), width=8)

    def largest(side: int) -> int:
        grey, semantic = torch.rand(1, 1, side, side), [torch.rand(1, 8, 8, 8), torch.rand(1, 16, 4, 4)]
        with torch.no_grad(), Largest() as seen:
            network(grey, grey, semantic)
        return seen.values

    # The widest map is a dense block's, of 3 1/2 times the width.
    assert largest(128) == 4 * largest(64) == 28 * 128 * 128


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sums_over_a_large_image_do_not_overflow_in_half_precision(dtype: torch.dtype) -> None:
    hia = SemanticInteraction(8)
    grids = [100 * draw(1, 64, 64, 8, seed=seed).abs() for seed in range(3)]
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        assert all(torch.isfinite(result).all() for result in hia(*grids))


@pytest.mark.parametrize("interaction", ["replaces", "adds"])
def test_the_fusion_network_is_its_parts_in_order(interaction: str) -> None:
    fusion = segmif(interaction=interaction).fusion.double()
    luma_of, infrared = (draw(2, 1, 8, 12, seed=seed).double() for seed in (0, 1))
    semantics = [each.double() for each in _semantics(fusion)]

    def bent(values: Tensor) -> Tensor:
        return torch.where(values < 0, fusion.activation.weight * values, values)

    maps = {"visible": bent(fusion.visible_stem(luma_of)), "infrared": bent(fusion.infrared_stem(infrared))}
    for number, semantic in enumerate(semantics, start=1):
        maps = {band: fusion.get_submodule(f"{band}_dense{number}")(each) for band, each in maps.items()}
        upsampled = F.interpolate(semantic, size=(8, 12), mode="bilinear", align_corners=False)
        maps["semantic"] = fusion.get_submodule(f"semantic{number}")(upsampled)
        grids = {name: each.permute(0, 2, 3, 1) for name, each in maps.items()}
        found = plain_interaction(fusion.interaction1, grids)
        maps = {
            band: each.permute(0, 3, 1, 2) + (maps[band] if interaction == "adds" else 0)
            for band, each in zip(("visible", "infrared"), found, strict=True)
        }
    fused = torch.cat([maps["visible"], maps["infrared"]], dim=1)
    for convolution in (fusion.mix1, fusion.mix2, fusion.mix3):
        fused = bent(convolution(fused))
    assert torch.allclose(fusion(luma_of, infrared, semantics), fused, atol=1e-9)


@pytest.mark.parametrize("shared", [True, False])
def test_both_places_use_one_interaction_unless_told_otherwise(shared: bool) -> None:
    fusion = segmif(shared_interaction=shared).fusion
    assert fusion.interaction2 is not None
    used: list[nn.Module] = []
    for module in (fusion.interaction1, fusion.interaction2):
        module.register_forward_hook(lambda module, *_: used.append(module))
    grey = images(16, 16)[1]
    fusion(grey, grey, _semantics(fusion))
    assert used == [fusion.interaction1, fusion.interaction1 if shared else fusion.interaction2]


def _semantics(fusion: SemanticFusion) -> list[Tensor]:
    return [torch.rand(2, each.in_channels, 4, 4) for each in (fusion.semantic1, fusion.semantic2)]


def test_one_weight_bends_every_activation() -> None:
    fusion = segmif().fusion
    assert [p.numel() for p in fusion.activation.parameters()] == [1]
    seen: list[object] = []
    fusion.activation.register_forward_hook(lambda *_: seen.append(None))
    grey = images(16, 16)[1]
    fusion(grey, grey, _semantics(fusion))
    assert len(seen) == 5


# --- the segmentation network


def test_segformer_is_that_of_transformers(tmp_path: Path) -> None:
    import transformers

    torch.manual_seed(0)
    size = SIZES["mit_tiny"]
    config = transformers.SegformerConfig(
        depths=list(size.depths),
        hidden_sizes=list(size.channels),
        decoder_hidden_size=12,
        num_labels=CLASSES,
    )
    reference = transformers.SegformerForSemanticSegmentation(config).eval()
    nn.init.normal_(reference.decode_head.batch_norm.running_mean)
    reference.segformer.save_pretrained(tmp_path)
    ours = SegFormer(
        CLASSES,
        "mit_tiny",
        tmp_path / "model.safetensors",
        12,
        dropout=0.1,
        stochastic_depth=0.1,
        unused_classifier=False,
    ).eval()
    theirs = reference.decode_head
    ours.head.classify.load_state_dict(theirs.classifier.state_dict())
    ours.head.fuse_conv.load_state_dict(theirs.linear_fuse.state_dict())
    ours.head.fuse_bn.load_state_dict(theirs.batch_norm.state_dict())
    projections = [module for module in theirs.modules() if isinstance(module, nn.Linear)]
    for level, projection in enumerate(projections, start=1):
        ours.head.get_submodule(f"embed{level}").load_state_dict(projection.state_dict())
    picture = images(64, 96)[0]
    with torch.no_grad():
        wanted = reference(ours.band_input(picture)).logits
        found = ours(picture)
    wanted = F.interpolate(wanted, size=(64, 96), mode="bilinear", align_corners=False)
    assert (found - wanted).abs().max() < 1e-3 * wanted.abs().max()


def test_semantics_are_the_first_two_maps_as_in_evaluation_and_leave_no_trace() -> None:
    system = segmif().train()
    picture = images(64, 64)[0].requires_grad_()
    before = {key: value.clone() for key, value in system.state_dict().items()}
    modes = [module.training for module in system.modules()]
    maps = system.segmenter.semantics(picture)
    assert [module.training for module in system.modules()] == modes
    assert not any(each.requires_grad for each in maps)
    assert all(torch.equal(value, before[key]) for key, value in system.state_dict().items())
    system.eval()
    wanted = system.segmenter.encoder(picture)[:2]
    assert all(torch.equal(one, other) for one, other in zip(maps, wanted, strict=True))
    assert [each.shape[-1] for each in maps] == [16, 8]


@pytest.mark.parametrize("encoder", ["mit_tiny", "pvt_v2_b0", "resnet18"])
def test_any_pyramid_will_do(encoder: str) -> None:
    system = build("segmif", 3, encoder=encoder, decoder_channels=8, fusion_width=8).eval()
    with torch.no_grad():
        output = system(*images(40, 50))
    assert output.logits is not None
    assert output.logits.shape == (2, 3, 40, 50)


# --- the picture


def test_the_picture_has_the_visible_images_colour_and_the_fused_luma() -> None:
    grey, visible = 0.4 + 0.2 * torch.rand(2, 1, 8, 8), 0.4 + 0.2 * torch.rand(2, 3, 8, 8)
    picture = with_luma(visible, grey)
    assert torch.allclose(luma(picture), grey, atol=1e-6)
    for one, other in zip(chroma(picture), chroma(visible), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert torch.equal(with_luma(visible, torch.full_like(grey, 5.0)), torch.ones_like(picture))


def test_what_is_segmented_is_the_fused_picture() -> None:
    system = segmif().eval()
    visible, infrared = images(64, 96)
    with torch.no_grad():
        output = system(visible, infrared, features=True)
        assert torch.equal(output.fused, with_luma(visible, output.features.grey))
        assert torch.allclose(output.logits, system.segmenter(output.fused), atol=1e-5)
        target = pseudo_target(luma(visible), infrared)
        semantic = system.segmenter.semantics(target.expand(-1, 3, -1, -1))
        grey = system.fusion(luma(visible), infrared, semantic)
    assert torch.allclose(output.features.grey, grey, atol=1e-5)


@pytest.mark.parametrize("kind", ["saliency", "maximum"])
def test_the_picture_that_guides_the_fusion(kind: TargetKind) -> None:
    visible, infrared = images(64, 96)
    target = pseudo_target(luma(visible), infrared, kind=kind)
    systems = {
        semantics: segmif(semantics=semantics, target=kind).eval()
        for semantics in ("grey-target", "target", "visible")
    }
    normalised = systems["visible"].segmenter.band_input
    guides = {
        "grey-target": target.expand(-1, 3, -1, -1),
        "target": normalised(with_luma(visible, target)),
        "visible": normalised(visible),
    }
    with torch.no_grad():
        found = {name: system.fuse(visible, infrared) for name, system in systems.items()}
        for name, system in systems.items():
            wanted = system.fusion(luma(visible), infrared, system.segmenter.semantics(guides[name]))
            assert torch.equal(found[name], wanted)
    assert not torch.allclose(found["grey-target"], found["target"], atol=1e-5)
    assert not torch.allclose(found["grey-target"], found["visible"], atol=1e-5)


def test_a_guide_in_training_counts_what_shows_an_image() -> None:
    """A padded pair is guided by what the pair shows."""
    visible, infrared = images(64, 96)
    valid = torch.ones(2, 64, 96, dtype=torch.bool)
    valid[:, 32:] = False
    system = segmif().eval()
    seen: list[Tensor] = []
    system.segmenter.semantics = lambda image: seen.append(image) or []  # type: ignore[method-assign]
    system.fusion.forward = lambda *_: visible[:, :1]  # type: ignore[method-assign]
    system.fuse(visible, infrared, valid)
    darker = visible.clone()
    darker[:, :, 32:] = 0
    system.fuse(darker, infrared, valid)
    system.fuse(darker, infrared)
    assert torch.allclose(seen[0][:, :, :32], seen[1][:, :, :32])
    assert not torch.allclose(seen[0][:, :, :32], seen[2][:, :, :32], atol=1e-3)


def test_an_untrained_picture_is_not_black() -> None:
    """The last activation lets little through below 0, and what is clipped has no gradient."""
    visible, infrared = images(64, 64)
    for seed in range(5):
        torch.manual_seed(seed)
        fused = build("segmif", 3, encoder="mit_tiny", fusion_width=8)(visible, infrared).fused
        assert fused is not None
        assert (fused > 0).float().mean() > 0.5


# --- bands and options


def test_stand_ins_for_a_missing_band() -> None:
    system = segmif().eval()
    visible, infrared = images(32, 48)
    with torch.no_grad():
        for found, wanted in (
            (system(None, infrared), system(infrared.expand(-1, 3, -1, -1), infrared)),
            (system(visible, None), system(visible, luma(visible))),
        ):
            assert torch.equal(found.logits, wanted.logits)
            assert torch.equal(found.fused, wanted.fused)
    # A picture of infrared alone has no colour.
    grey = system(None, infrared).fused
    assert torch.allclose(grey[:, :1].expand_as(grey), grey, atol=1e-6)
    assert system.supports == {"both": "designed", "infrared": "fallback", "visible": "fallback"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"semantics": "fused"},
            "segmif.semantics must be one of grey-target, visible, target, not 'fused'",
        ),
        ({"interaction": "both"}, "segmif.interaction must be one of replaces, adds, not 'both'"),
        ({"target": "mean"}, "segmif.target must be one of saliency, maximum, not 'mean'"),
        ({"rounds": 0}, "segmif.rounds must be one of 1, 2, 3, 4, 5, 6, 7, not 0"),
        ({"rounds": 8}, "rounds must be one of .* not 8"),
        ({"fusion_width": 12}, "segmif: fusion_width must be a multiple of 8, not 12"),
        ({"fusion_width": 0}, "segmif: fusion_width must be a multiple of 8, not 0"),
    ],
    ids=str,
)
def test_options_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        segmif(**options)


def test_it_needs_classes() -> None:
    with pytest.raises(OptionError, match="segmif segments, so it needs the number of classes"):
        create("segmif")
