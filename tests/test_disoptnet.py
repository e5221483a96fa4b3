"""DisOptNet: its size, what reads what, and that a student can be taken out of it."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.errors import OptionError
from crossband.info import count_all
from crossband.systems import create
from crossband.systems.deeplabv3plus import DeepLabV3Plus
from crossband.systems.disoptnet.encoder_tail import EncoderTail
from crossband.systems.disoptnet.excited_fusion import ExcitedFusion, excitation
from crossband.systems.disoptnet.network import DisOptNet
from crossband.weights import count_parameters
from tiny_systems import images, randomise_norms, tiny


def disoptnet(**options: Any) -> DisOptNet:
    system = tiny("disoptnet", **options)
    assert isinstance(system, DisOptNet)
    return system


# --- size


@pytest.mark.parametrize(
    ("classes", "kernel", "fused", "student"),
    [
        # As published. The student alone is a DeepLabV3+ with another head: 8 x 256 weights more for a class.
        (9, 3, 22_823_248, 11_682_241 + 9 * 8 * 256),
        (26, 3, 22_940_803, 11_686_610 + 26 * 8 * 256),
        # All heads as a DeepLabV3+ has them: the 11.68 M of CSK-Net's table.
        (9, 1, 22_767_952, 11_682_241),
        (26, 1, 22_781_059, 11_686_610),
    ],
)
def test_published_size(classes: int, kernel: Literal[1, 3], fused: int, student: int) -> None:
    with torch.device("meta"):
        whole = create("disoptnet", classes=classes, head_kernel=kernel)
        part = create("disoptnet", classes=classes, head_kernel=kernel, deploy="student")
        teacher = count_parameters(whole.baseline("visible"))
        counts = [count_all(system)["infrared"] for system in (whole, part)]
    assert count_parameters(*whole.deployed("infrared")) == fused
    assert count_parameters(*part.deployed("infrared")) == student
    # Both train the same network, and beside it a teacher, which is a DeepLabV3+ like the student.
    assert [(count.deployed, count.dead) for count in counts] == [(fused, 592_896), (student, 592_896)]
    assert teacher == count_parameters(create("deeplabv3plus", classes=classes))
    assert [count.training_only for count in counts] == [teacher, teacher + fused - student]


def test_size_of_every_part() -> None:
    with torch.device("meta"):
        system = create("disoptnet", classes=9)
    assert count_parameters(system.tail) == 9_939_642
    assert count_parameters(system.fusion) == 157_747
    assert count_parameters(excitation(256)) == 8_721
    assert count_parameters(system.imitating_decoder) == count_parameters(system.student.decoder) == 983_696
    assert count_parameters(system.imitating_head) == count_parameters(system.fused_head) == 2305 * 9


# --- blocks


def test_excited_fusion_by_hand() -> None:
    torch.manual_seed(0)
    block = ExcitedFusion(32).double().eval()
    randomise_norms(block)
    a, b = torch.randn(2, 2, 32, 5, 7, dtype=torch.float64)

    def excite(module: nn.Module, x: Tensor) -> Tensor:
        first, second, place = (layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
        assert first.out_channels == 2
        hidden = F.relu(x.mean(dim=(2, 3)) @ first.weight.flatten(1).T + first.bias)
        channels = torch.sigmoid(hidden @ second.weight.flatten(1).T + second.bias)
        places = torch.sigmoid(torch.einsum("bchw,c->bhw", x, place.weight.flatten()) + place.bias)
        return x * channels[:, :, None, None] + x * places[:, None]

    convolution, norm, _ = block.mix
    joined = torch.cat([excite(block.first, a), excite(block.second, b)], dim=1)
    mixed = torch.einsum("bchw,oc->bohw", joined, convolution.weight.flatten(1))
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None]
    mixed = F.relu((mixed - norm.running_mean[:, None, None]) * scale + norm.bias[:, None, None])
    assert torch.allclose(block(a, b), excite(block.excite, mixed), atol=1e-12)


@pytest.mark.parametrize("encoder", ["efficientnet-b3", "mobilenetv3_small_050", "resnet18", "mobilenet_v2"])
def test_the_tail_is_a_copy_of_the_encoders_last_stages(encoder: str) -> None:
    torch.manual_seed(0)
    name = encoder if encoder in smp.encoders.encoders else f"tu-{encoder}"
    original = smp.DeepLabV3Plus(name, encoder_weights=None, encoder_output_stride=16).encoder.eval()
    randomise_norms(original)
    tail = EncoderTail(original, 4).eval()
    with torch.no_grad():
        maps = original(torch.randn(1, 3, 64, 96))
        copied = tail(maps[3])
        assert len(copied) == 2
        for ours, theirs in zip(copied, maps[4:], strict=True):
            assert torch.equal(ours, theirs)
        # Both of stride 16: the copy is dilated as the original is.
        assert copied[0].shape[-2:] == copied[1].shape[-2:] == (4, 6)
        for parameter in original.parameters():
            parameter.zero_()
        assert all(torch.equal(ours, again) for ours, again in zip(copied, tail(maps[3]), strict=True))


def test_stochastic_depth_goes_on_in_the_tail_where_the_encoder_stands() -> None:
    """Blocks 8 to 25 of 26, with rates of 0.2 i / 26."""
    with torch.device("meta"):
        system = create("disoptnet", classes=9)
    rates: list[float] = []
    for module in (block for stage in system.tail.stages for block in stage):
        module.forward = lambda x, drop_connect_rate: (rates.append(drop_connect_rate), x)[1]
    system.tail(torch.zeros(1, 48, 4, 4))
    assert rates == pytest.approx([0.2 * index / 26 for index in range(8, 26)])


def test_an_encoder_that_cannot_be_cut_is_named() -> None:
    with pytest.raises(OptionError, match=r"encoder 'mobileone_s0' does not fit.*chain of five stages"):
        create("disoptnet", classes=3, encoder="mobileone_s0", decoder_channels=16)


# --- what reads what


def test_the_student_does_not_read_the_tail_and_the_prediction_does() -> None:
    system = disoptnet().eval()
    infrared = images(64, 96)[1]
    with torch.no_grad():
        before = system(infrared=infrared, features=True)
        for part in (system.tail, system.imitating_decoder):
            for parameter in part.parameters():
                parameter.mul_(1.5)
        after = system(infrared=infrared, features=True)
    assert torch.equal(after.branches["student"], before.branches["student"])
    assert not torch.allclose(after.branches["imitating"], before.branches["imitating"], atol=1e-3)
    assert not torch.allclose(after.logits, before.logits, atol=1e-3)
    assert torch.equal(after.logits, after.branches["fused"])


def test_the_network_is_written_out() -> None:
    system = disoptnet().eval()
    randomise_norms(system)
    infrared = images(64, 96)[1]
    image = (infrared.repeat(1, 3, 1, 1) - system.band_input.mean) / system.band_input.std
    with torch.no_grad():
        output = system(infrared=infrared, features=True)
        _, f1, f2, f3, f4, f5 = system.student.encoder(image)
        g4, g5 = system.tail(f3)
        own = system.student.decoder([image, f1, f2, f3, f4, f5])
        imitated = system.imitating_decoder([image, f1, f2, f3, g4, g5])
        wanted = {
            "student": system.student.segmentation_head(own),
            "imitating": system.imitating_head(imitated),
            "fused": system.fused_head(system.fusion(own, imitated)),
        }
        assert torch.equal(system(infrared=infrared).logits, wanted["fused"])
    assert output.branches.keys() == wanted.keys()
    for name, logits in wanted.items():
        assert torch.allclose(output.branches[name], logits, atol=1e-6), name
    maps = (*output.features.tail, output.features.decoder)
    for ours, theirs in zip(maps, (g4, g5, imitated), strict=True):
        assert torch.equal(ours, theirs)


def test_deployed_as_a_student_it_is_a_plain_deeplabv3plus_and_runs_nothing_else() -> None:
    system = disoptnet(head_kernel=1).eval()
    randomise_norms(system)
    infrared = images(41, 55)[1]
    plain = system.student_system()
    assert isinstance(plain, DeepLabV3Plus)
    assert not plain.training
    ran: set[str] = set()
    for name, module in system.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.add(name.split(".")[0]))
    with torch.no_grad():
        fused = system(infrared=infrared).logits
        assert {"tail", "imitating_decoder", "fusion", "fused_head"} <= ran
        ran.clear()
        # One attribute, whatever the system was trained as; what is saved follows it.
        system.deploy = "student"
        assert system.network_options["deploy"] == "student"
        logits = system(infrared=infrared).logits
        assert ran == {"", "band_input", "student"}
        assert torch.equal(logits, plain(infrared=infrared).logits)
        assert torch.allclose(logits, system(infrared=infrared, features=True).logits, atol=1e-6)
    assert not torch.allclose(logits, fused, atol=1e-3)
    assert not {p.data_ptr() for p in plain.parameters()} & {p.data_ptr() for p in system.parameters()}


def test_a_student_with_another_head_is_no_deeplabv3plus() -> None:
    system = disoptnet(deploy="student").eval()
    infrared = images(41, 55)[1]
    with torch.no_grad():
        assert torch.equal(
            system(infrared=infrared).logits, system(infrared=infrared, features=True).branches["student"]
        )
    with pytest.raises(OptionError, match=r"disoptnet: a student whose head_kernel is 3 is no deeplabv3plus"):
        system.student_system()


def test_a_trained_system_cannot_deploy_what_does_not_exist() -> None:
    system = disoptnet()
    with pytest.raises(OptionError, match=r"disoptnet\.deploy must be one of fused, student, not 'teacher'"):
        system.deploy = "teacher"  # type: ignore[assignment]
    assert system.deploy == "fused"
