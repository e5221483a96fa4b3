"""CSK-Net with additions of each band to the shared convolutions: what they are, cost, and fold into."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from crossband.blocks.encoders import unread_modules
from crossband.errors import OptionError
from crossband.export.deployable import Deployable
from crossband.info import count_all, count_flops
from crossband.pairs.base import Classes
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.runtime.pytorch import PyTorchRuntime
from crossband.systems import create
from crossband.systems.csknet.network import CSKNet
from crossband.testing import given
from crossband.weights import count_parameters, load_run, make_card, save_run
from tiny_systems import CLASSES, csknet, images, labelled, randomise_norms

RANK = 2


def trained(**options: Any) -> CSKNet:
    """A system whose additions are not nothing, as after a training; in eval mode."""
    system = csknet(band_rank=RANK, **options)
    randomise_norms(system)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in system.named_parameters():
        if name.endswith("weight.0.up"):
            parameter.data.normal_(0, 0.3, generator=generator)
    return system.eval()


def test_at_the_start_it_is_the_network_without() -> None:
    torch.manual_seed(0)
    plain = csknet().eval()
    drawn = torch.rand(1)
    system = csknet(band_rank=RANK).eval()
    assert torch.equal(torch.rand(1), drawn)
    inputs = images(64, 96)
    with torch.no_grad():
        for bands in plain.supports:
            logits = [network(**given(bands, *inputs)).logits for network in (plain, system)]
            assert torch.equal(*logits)


def shared_and_read(network: smp.DeepLabV3Plus) -> list[nn.Conv2d]:
    """The convolutions of a plain network that two branches share by default."""
    unread = {id(part) for module in unread_modules(network.encoder) for part in module.modules()}
    parts = [*network.encoder.modules(), *network.decoder.aspp.modules()]
    return [part for part in parts if isinstance(part, nn.Conv2d) and id(part) not in unread]


@pytest.mark.parametrize(("rank", "added"), [(1, 949_878), (8, 2_217_840)])
def test_parameters(rank: int, added: int) -> None:
    with torch.device("meta"):
        without = create("csknet", classes=9)
        system = create("csknet", classes=9, band_rank=rank)
        alone = system.folded()
        convolutions = shared_and_read(without.baseline("infrared").network)
    wanted = 0
    for convolution in convolutions:
        outputs, inputs, height, width = convolution.weight.shape
        full = outputs * inputs * height * width
        low = rank * (outputs + inputs * height * width)
        wanted += 2 * (full if convolution.groups > 1 else min(full, low))
    assert count_parameters(system) - count_parameters(without) == wanted == added
    assert count_parameters(*alone.deployed("infrared")) == 11_682_241
    # Folded, the branches share nothing but the size.
    assert count_parameters(alone) == 25_727_627


def test_folded_it_answers_alike_by_plain_convolutions() -> None:
    for options in ({}, {"infrared_norms": "own-statistics"}):
        system = trained(**options).double()
        folded = system.folded()
        assert type(folded.infrared) is type(folded.visible) is smp.DeepLabV3Plus
        assert not any("parametriz" in name for name, _ in folded.named_modules())
        inputs = [image.double() for image in images(64, 96)]
        with torch.no_grad():
            for bands in system.supports:
                ours, theirs = (net(**given(bands, *inputs)).logits for net in (system, folded))
                assert ours.std() > 1e-3
                assert (ours - theirs).abs().max() < 1e-12
        # The system itself is as it was, and its copy shares nothing with it.
        assert any("parametriz" in name for name, _ in system.named_modules())
        pointers = {p.data_ptr() for p in system.parameters()}
        assert not pointers & {p.data_ptr() for p in folded.parameters()}


def test_every_band_has_additions_of_its_own() -> None:
    system = trained()
    inputs = images(64, 96)
    with torch.no_grad():
        before = [system(**given(band, *inputs)).logits for band in ("visible", "infrared")]
        for name, parameter in system.infrared.named_parameters():
            if name.endswith("weight.0.up"):
                parameter.mul_(2)
        after = [system(**given(band, *inputs)).logits for band in ("visible", "infrared")]
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-3)


def test_infrared_alone_is_a_plain_network() -> None:
    system = trained(infrared_norms="own-statistics")
    alone = system.infrared_system()
    infrared = images(64, 96)[1]
    with torch.no_grad():
        assert torch.allclose(alone(infrared=infrared).logits, system(infrared=infrared).logits, atol=1e-6)
    # A DeepLabV3+ takes its state, name by name.
    create("deeplabv3plus", CLASSES, **alone.network_options).load_state_dict(alone.state_dict())


def test_what_is_counted_is_what_is_deployed() -> None:
    system, plain = trained(), csknet().eval()
    counts, usual = (count_all(one)["infrared"] for one in (system, plain))
    assert (counts.deployed, counts.dead) == (usual.deployed, usual.dead)
    assert counts.training_only > usual.training_only
    network = plain.baseline("infrared").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(infrared=torch.zeros(1, 1, 64, 96))
    assert count_flops(system.folded(), "infrared", (64, 96)) == counter.get_total_flops()


def test_a_run_keeps_them_and_predicts_by_the_folded_network(tmp_path: Path) -> None:
    system = trained()
    classes = Classes(tuple(f"class {i}" for i in range(CLASSES)), tuple((i, i, i) for i in range(CLASSES)))
    card = make_card(system, classes, "full-range", {})
    assert card.parameters["infrared"] == count_parameters(system.baseline("infrared"))
    save_run(tmp_path / "run", system, card)
    loaded, _ = load_run(tmp_path / "run")
    assert loaded.settings.band_rank == RANK
    infrared = images(64, 96)[1]
    with torch.no_grad():
        logits = system(infrared=infrared).logits
        assert torch.equal(loaded(infrared=infrared).logits, logits)
    runtime = PyTorchRuntime(loaded, "cpu")
    answer = runtime.answer(None, infrared[:, 0].numpy())
    assert not any("parametriz" in name for name, _ in runtime.system.named_modules())
    assert answer.confidence == pytest.approx(logits.softmax(dim=1).amax(dim=1).numpy(), abs=1e-5)


def infrared_graph(**options: Any) -> Deployable:
    """What an export traces."""
    return Deployable(trained(**options), "infrared", InfraredScaling(), {"infrared": "uint8"})


def test_what_is_exported_has_no_additions() -> None:
    assert not any("parametriz" in name for name, _ in infrared_graph().named_modules())


@pytest.mark.slow
def test_an_exported_graph_has_no_additions() -> None:
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    from crossband.export.onnx_graph import onnx_graph

    deployable = infrared_graph(encoder="test_resnet")
    operators = Counter(node.op_type for node in onnx_graph(deployable).graph.node)
    parts = deployable.system.infrared.modules()
    assert operators["Conv"] == sum(isinstance(part, nn.Conv2d) for part in parts)
    assert not {"MatMul", "Gemm"} & set(operators)


def test_the_teachers_weights_are_a_start() -> None:
    system = csknet(band_rank=RANK, start="teacher", infrared_norms="own-statistics")
    teacher, student = system.phases()
    randomise_norms(teacher.keeps)
    assert student.prepare is not None
    student.prepare(0, 2, [])
    for module in (system, teacher.keeps):
        module.eval()
    visible = images(64, 96)[0]
    with torch.no_grad():
        wanted = teacher.keeps(visible=visible).logits
        assert wanted.std() > 1e-3
        assert torch.equal(system(visible=visible).logits, wanted)
        grey = visible.mean(dim=1, keepdim=True)
        same = teacher.keeps(visible=grey.expand(-1, 3, -1, -1)).logits
        assert torch.allclose(system(infrared=grey).logits, same, atol=1e-5)


def test_a_step_moves_the_shared_weights_and_the_additions() -> None:
    system = csknet(band_rank=RANK)
    _, phase = system.phases()
    torch.stack(list(phase.loss(labelled()).values())).sum().backward()
    torch.optim.SGD(system.parameters(), lr=0.1).step()
    for network in (system.visible, system.infrared):
        ups = [p for name, p in network.named_parameters() if name.endswith("weight.0.up")]
        assert ups
        assert all(up.abs().sum() > 0 for up in ups)


def test_a_rank_below_0_is_refused() -> None:
    with pytest.raises(OptionError, match="band_rank must be 0 or more, not -1"):
        create("csknet", classes=9, band_rank=-1)
