"""Networks and losses exactly as published: the numbers of plain formulas that know nothing of ours.

Same random weights in both, float64. The formulas are in `references`, written from the papers' and the
specifications' words.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from crossband.errors import OptionError
from crossband.export.deployable import Deployable
from crossband.pairs.batch import Batch
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.systems.base import System
from crossband.systems.cddfuse.losses import ssim_loss
from crossband.systems.disoptnet.network import DisOptNet
from crossband.systems.segmif.network import SegMiF
from crossband.systems.segmif.pseudo_target import imitation_loss, pseudo_target
from crossband.words import Band, LevelType
from references import reference_cddfuse, reference_disoptnet, reference_mrfs, reference_segmif
from references.reference_amdanet import ReferenceAMDANet
from tiny_systems import CLASSES, build, images, randomise_norms

TRANSFORMER = {"encoder": "mit_tiny", "decoder_channels": 16}
AS_PUBLISHED = {"variant": "as-published", "dropout": 0.0, "stochastic_depth": 0.0, **TRANSFORMER}
SIZES = [(64, 96), (49, 83), (29, 120), (70, 33)]
"""Heights and widths: multiples of 32, and others, the last of which round otherwise at each level."""


def made(name: str, classes: int | None = CLASSES, **options: Any) -> System:
    """One with random weights everywhere, so that nothing is 0 or 1 by its start."""
    torch.manual_seed(0)
    system = build(name, classes, **options).double().eval()
    randomise_norms(system)
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return system


def inputs(height: int, width: int) -> tuple[Tensor, Tensor]:
    visible, infrared = images(height, width)
    return visible.double(), infrared.double()


def same(ours: Tensor, wanted: Tensor) -> bool:
    assert wanted.std() > 0.01
    return torch.allclose(ours, wanted, rtol=0, atol=1e-10 * max(1.0, wanted.abs().max().item()))


# --- SegMiF


def segmif(**options: Any) -> SegMiF:
    sizes = {"fusion_width": 16, "stochastic_depth": 0.0, "dropout": 0.0}
    system = made("segmif", **{**TRANSFORMER, **sizes, **options})
    assert isinstance(system, SegMiF)
    return system


@torch.no_grad()
def test_segmif_is_its_formulas() -> None:
    system, (visible, infrared) = segmif(), inputs(64, 96)
    # In the middle of the range, so that little of the picture is clipped.
    system.fusion.mix3.bias.fill_(0.5)  # type: ignore[union-attr]
    system.fusion.mix3.weight.mul_(0.1)
    output = system(visible, infrared, features=True)
    weights = system.state_dict()
    logits, picture = reference_segmif.segmif(weights, visible, infrared)
    assert ((picture > 0) & (picture < 1)).double().mean() > 0.2
    assert same(output.features.grey, reference_segmif.fused_grey(weights, visible, infrared))
    assert same(output.fused, picture)
    assert same(output.logits, logits)


@torch.no_grad()
def test_the_target_that_segmif_looks_at_is_its_formula() -> None:
    visible, infrared = inputs(64, 96)
    found = pseudo_target(reference_segmif.luma(visible), infrared)
    assert same(found, reference_segmif.target(visible, infrared))


@torch.no_grad()
def test_what_segmif_looks_at_is_the_same_in_training_as_at_test() -> None:
    system, (visible, infrared) = segmif(), inputs(64, 96)
    at_test = system.fuse(visible, infrared)
    assert torch.equal(system.train().fuse(visible, infrared), at_test)


def test_the_first_fusion_of_segmif_is_trained_on_its_formula() -> None:
    fused, target = (image[:, :1] for image in inputs(40, 50))
    terms = imitation_loss(fused, target)
    intensity, gradient = reference_segmif.first_fusion_loss(fused, target)
    assert terms["intensity"].item() == pytest.approx(intensity.item(), abs=1e-12)
    assert terms["gradient"].item() == pytest.approx(gradient.item(), abs=1e-10)
    # An edge counts by its strength, whichever side is the brighter one.
    assert imitation_loss(fused, 1 - fused)["gradient"].item() < terms["gradient"].item()


def test_the_attention_of_segmif_starts_small_and_without_biases() -> None:
    torch.manual_seed(0)
    system = build("segmif", CLASSES, encoder="mit_tiny", fusion_width=64)
    assert isinstance(system, SegMiF)
    for name, parameter in system.fusion.interaction1.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif "norm" not in name:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1)


# --- DisOptNet


@torch.no_grad()
def test_disoptnet_is_its_formulas() -> None:
    system = made("disoptnet", encoder="resnet18", decoder_channels=16)
    infrared = inputs(64, 96)[1]
    output = system(infrared=infrared, features=True)
    wanted = reference_disoptnet.disoptnet(system.state_dict(), infrared)
    assert output.branches.keys() == wanted.keys()
    for name, logits in wanted.items():
        assert same(output.branches[name], logits), name
    assert same(output.logits, wanted["fused"])


def test_the_heads_of_disoptnet_are_what_is_asked_for() -> None:
    for kernel in (1, 3):
        system = made("disoptnet", encoder="resnet18", decoder_channels=16, head_kernel=kernel)
        assert isinstance(system, DisOptNet)
        heads = (system.student.segmentation_head, system.imitating_head, system.fused_head)
        assert [head[0].kernel_size for head in heads] == [(kernel, kernel)] * 3
        # The teacher is a plain DeepLabV3+.
        (teacher,) = system.phases()[1].frozen
        assert isinstance(teacher, nn.Module)
        assert teacher.network.segmentation_head[0].kernel_size == (1, 1)


# --- MRFS and AMDANet as published


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_mrfs_as_published_is_its_formulas(size: tuple[int, int]) -> None:
    system, (visible, infrared) = made("mrfs", **AS_PUBLISHED), inputs(*size)
    output = system(visible, infrared)
    logits, fused = reference_mrfs.mrfs(system.state_dict(), visible, infrared)
    assert output.logits.shape[-2:] == size
    assert same(output.logits, logits)
    assert same(output.fused, fused)


@torch.no_grad()
def test_mrfs_as_published_has_another_eps_in_training() -> None:
    """Statistics of a batch are such that it shows."""
    system, (visible, infrared) = made("mrfs", **AS_PUBLISHED).train(), inputs(49, 83)
    weights = {name: value.clone() for name, value in system.state_dict().items()}
    output = system(visible, infrared)
    logits, fused = reference_mrfs.mrfs(weights, visible, infrared, eps=0.01, training=True)
    assert same(output.logits, logits)
    assert same(output.fused, fused)
    other, _ = reference_mrfs.mrfs(weights, visible, infrared, training=True)
    assert not torch.allclose(output.logits, other, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_amdanet_as_published_is_its_formulas(size: tuple[int, int]) -> None:
    system, (visible, infrared) = made("amdanet", **AS_PUBLISHED), inputs(*size)
    reference = ReferenceAMDANet(CLASSES, "mit_tiny", 16, published=True).double().eval()
    reference.load_state_dict(system.state_dict())
    output = system(visible, infrared)
    logits, fused = reference(visible, infrared)
    assert output.logits.shape[-2:] == size
    assert same(output.logits, logits)
    assert same(output.fused, fused)


@pytest.mark.parametrize("name", ["amdanet", "mrfs"])
def test_padding_belongs_to_the_default_alone(name: str) -> None:
    padding, as_it_is = (made(name, **TRANSFORMER, padding=padding) for padding in ("edge", "none"))
    with torch.no_grad():
        for size, alike in (((64, 96), True), ((49, 83), False)):
            ours, theirs = (system(*inputs(*size)).logits for system in (padding, as_it_is))
            assert torch.allclose(ours, theirs, atol=1e-8) is alike
        padding(*inputs(20, 120))
        with pytest.raises(OptionError, match=rf"{name}: without padding.*29 pixels.*not 28 x 120"):
            as_it_is(*inputs(28, 120))


@pytest.mark.parametrize("name", ["amdanet", "mrfs"])
def test_the_published_variant_is_trained_on_any_size(name: str) -> None:
    system = build(name, CLASSES, **AS_PUBLISHED)
    (phase,) = system.phases()
    terms = phase.loss(_batch(49, 83))
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(term) for term in terms.values())


def _deployable(name: str) -> Deployable:
    types: dict[Band, LevelType] = {"visible": "uint8", "infrared": "uint8"}
    return Deployable(build(name, CLASSES, **AS_PUBLISHED), "both", InfraredScaling(), types)


@pytest.mark.parametrize("name", ["amdanet", "mrfs"])
def test_what_a_graph_of_the_published_variant_gives_is_known(name: str) -> None:
    assert _deployable(name).outputs == ("labels", "confidence", "fused")


@pytest.mark.slow
def test_a_graph_of_amdanet_as_published_leaves_the_masked_pass_out() -> None:
    deployable = _deployable("amdanet")
    generator = torch.Generator().manual_seed(0)
    visible = torch.randint(0, 256, (1, 49, 83, 3), dtype=torch.uint8, generator=generator)
    given = {"visible": visible, "infrared": visible[..., 0]}
    with torch.no_grad():
        made = torch.export.export(deployable, (), given, strict=False).module()(**given)
        wanted = deployable(**given)
    assert torch.allclose(made["confidence"], wanted["confidence"], atol=1e-5)


def _batch(height: int, width: int) -> Batch:
    visible, infrared = images(height, width)
    label = torch.randint(0, CLASSES, (2, height, width), generator=torch.Generator().manual_seed(0))
    return Batch(visible=visible, infrared=infrared, label=label)


# --- CDDFuse


def test_the_ssim_term_of_cddfuse_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(14, 17, generator=generator, dtype=torch.float64)
    other = 0.7 * image + 0.3 * torch.rand(14, 17, generator=generator, dtype=torch.float64)
    for restored in (other, 1 - other, 0.5 * other + 0.5 * image.flip(0)):
        found = ssim_loss(restored[None, None], image[None, None])
        assert found.item() == pytest.approx(reference_cddfuse.ssim_loss(restored, image).item(), abs=1e-10)
    # What is unlike costs no more than what is unrelated.
    assert ssim_loss((1 - image)[None, None], image[None, None]).item() == pytest.approx(0.5)
