"""Convolutions of a training step on a CPU: the outputs and gradients of PyTorch's own."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.pairs.batch import Batch
from crossband.recipe import Recipe
from crossband.systems.base import Phase
from crossband.training.cpu_convolutions import CPUConvolutions
from crossband.training.phase_module import PhaseModule
from tiny_systems import CLASSES, labelled, tiny

DEPTHWISE = [
    {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    for kernel, stride, padding, dilation in [
        (5, 1, 2, 1),
        (5, 1, 4, 2),
        (3, 1, 2, 2),
        (5, 2, 2, 1),
        (3, 2, 0, 1),
        (3, 1, 1, 1),
        (5, 1, 0, 1),
        (3, 1, 9, 9),
        (3, (1, 2), (1, 2), (1, 2)),
        (3, 2, 3, 1),
    ]
]


def gradients(inputs: list[Tensor], output: Tensor) -> list[Tensor]:
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return list(torch.autograd.grad((output * weight).sum(), inputs))


def nearly(ours: Tensor, true: Tensor) -> bool:
    return ours.shape == true.shape and (ours - true).abs().max().item() <= 1e-5 * true.abs().max().item()


@pytest.mark.parametrize("places", DEPTHWISE, ids=str)
@pytest.mark.parametrize("size", [(14, 17), (15, 20)], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_depthwise(places: dict, size: tuple[int, int], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    rest = {name: value for name, value in places.items() if name != "kernel"}
    image = torch.randn(2, 6, *size).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(6, 1, places["kernel"], places["kernel"], requires_grad=True)
    true = F.conv2d(image, weight, groups=6, **rest)
    with CPUConvolutions():
        ours = F.conv2d(image, weight, groups=6, **rest)
    assert torch.equal(ours, true)
    for one, other in zip(gradients([image, weight], ours), gradients([image, weight], true), strict=True):
        assert nearly(one, other)


@pytest.mark.parametrize("bias", [False, True])
def test_one_by_one(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(24, 40, 1, stride=2, bias=bias)
    image = torch.randn(2, 24, 15, 20, requires_grad=True)
    true = layer(image)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with CPUConvolutions():
            ours = layer(image)
        inputs = [image, *layer.parameters()]
        assert nearly(ours, true)
        for one, other in zip(gradients(inputs, ours), gradients(inputs, true), strict=True):
            assert nearly(one, other)
    finally:
        torch.set_num_threads(threads)


def test_only_what_is_slow_is_another_operation() -> None:
    image = torch.randn(1, 4, 9, 9)
    layers = {
        "large": nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False),
        "dilated": nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False),
        "strided": nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=4, bias=False),
        "plain": nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        "grouped": nn.Conv2d(4, 8, 5, padding=2, groups=2, bias=False),
        "dense": nn.Conv2d(4, 4, 5, padding=2, bias=False),
        "double": nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False).double(),
    }
    taken = {}
    for name, layer in layers.items():
        with CPUConvolutions():
            output = layer(image.to(layer.weight.dtype))
        taken[name] = output.grad_fn.name() != "ConvolutionBackward0"
    assert taken == {name: name in ("large", "dilated") for name in layers}


def test_a_frozen_layer_stays_as_it_is_and_passes_the_gradient_on() -> None:
    layer = nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False).requires_grad_(False)
    image = torch.randn(1, 4, 9, 9, requires_grad=True)
    with CPUConvolutions():
        output = layer(image)
    assert nearly(*gradients([image], output), *gradients([image], layer(image)))


def test_mixed_precision_stays_as_it_is() -> None:
    layer, image = nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False), torch.randn(1, 4, 9, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with CPUConvolutions():
            ours = layer(image)
        true = layer(image)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, true)


@pytest.mark.parametrize(("compiled", "taken"), [(False, True), (True, False)])
def test_a_phase_is_trained_by_them_unless_it_is_compiled(compiled: bool, taken: bool) -> None:
    layer = nn.Conv2d(3, 3, 5, padding=2, groups=3, bias=False)
    loss: dict[str, Tensor] = {}

    def convolved(batch: Batch) -> dict[str, Tensor]:
        loss["output"] = layer(batch.visible)
        return {"mean": loss["output"].mean()}

    phase = Phase("only", trained=layer, keeps=tiny("deeplabv3plus"), loss=convolved)
    module = PhaseModule(phase, Recipe(), CLASSES, seed=0, compiled=compiled)
    terms = module.terms(labelled())
    assert terms["mean"].requires_grad
    assert (loss["output"].grad_fn.name() != "ConvolutionBackward0") == taken
