"""A training step of CSK-Net's second phase, and one of AMDANet, against the formulas written plainly.

    python speed/plain_steps.py                                     # both, with memory
    python speed/plain_steps.py --threads 1 --clock processor       # on a machine that is busy otherwise
    python speed/plain_steps.py --parts csknet --encoder efficientnet-b0 --size 240x320
    python speed/plain_steps.py --channels-last                     # one more row: ours in that memory layout

The references are `reference_csknet_step.py` and `reference_amdanet_step.py` of tests/references, with the
weights of ours; the run stops if losses or gradients differ. A step is the loss of a batch, its backward pass
and the optimiser, which is the recipe's in both. One of AMDANet is two steps, one for each of the cases that
its mutual feature masks draw. The README beside this file says how things are measured.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from measuring import (
    Row,
    Settings,
    compare,
    in_child,
    markdown,
    megabytes,
    milliseconds,
    peak_memory,
    time_in_turn,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

OURS, CHANNELS_LAST, REFERENCE = "ours", "ours, channels_last", "plain formulas"
ENCODERS = {"csknet": "efficientnet-b3", "amdanet": "mit_b1"}
WHAT = {"csknet": "CSK-Net, phase 2", "amdanet": "AMDANet, two steps"}
SEEDS = {"csknet": (0,), "amdanet": (0, 1)}
"""Of the draws of one timed run; AMDANet's first draw is below 1/2 with one and above it with the other."""
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 2e-2
"""Most that the losses, and all gradients as one vector, may differ by, as a share of themselves, in float32.
The last digits decide which of nearly equal pairs the contrastive loss keeps: that alone was seen to move
gradients by 0.005. That the gradient of every parameter is equal is a test's, in float64."""

Loss = Callable[[], "Tensor"]


def ours(part: str, settings: Settings, channels_last: bool = False) -> tuple[nn.Module, Loss, object]:
    """What is trained, its loss of the batch, and its phase."""
    import torch

    from crossband.recipe import Recipe
    from crossband.systems import create
    from crossband.training.phase_module import PhaseModule
    from reference import CLASSES, make_batch

    torch.manual_seed(0)
    options = (
        {"stochastic_depth": 0.0, "dropout": 0.0, "alignment_start": "published"} if part == "amdanet" else {}
    )
    phase = create(part, classes=CLASSES, encoder=settings.encoder, **options).phases()[-1]
    module = PhaseModule(phase, Recipe(), CLASSES, seed=0, channels_last=channels_last)
    module.to(settings.device).train()
    batch = module.on_after_batch_transfer(make_batch(settings), 0)
    return phase.trained, lambda: torch.stack(list(module.terms(batch).values())).sum(), phase


def plain(part: str, settings: Settings, phase: object = None) -> tuple[nn.Module, Loss]:
    """What the reference trains, and its loss of the batch. phase: whose weights it takes, if not its own."""
    from crossband.systems.csknet.contrastive import DEFAULT_SAMPLING, sample_pixels
    from reference import CLASSES, make_batch
    from reference_amdanet import ReferenceAMDANet
    from reference_amdanet_step import step_loss
    from reference_csknet_step import ReferencePhase

    batch = make_batch(settings)
    images = batch.visible, batch.infrared, batch.label
    if part == "amdanet":
        network = ReferenceAMDANet(CLASSES, settings.encoder).to(settings.device).train()
        if phase is not None:
            network.load_state_dict(phase.trained.state_dict())
        return network, lambda: step_loss(network, *images)
    whole = ReferencePhase(
        CLASSES,
        settings.encoder,
        lambda label, prediction: sample_pixels(label, prediction, DEFAULT_SAMPLING),
    )
    if phase is not None:
        whole.students.load_state_dict(phase.trained.state_dict())
        whole.teacher.load_state_dict(phase.frozen[0].network.state_dict())
    whole.to(settings.device).train()
    return whole.students, lambda: whole(*images)


def make_step(part: str, trained: nn.Module, loss: Loss) -> Callable[[], None]:
    import torch

    from crossband.recipe import Recipe

    recipe = Recipe()
    optimizer = (
        torch.optim.AdamW(trained.parameters(), lr=6.3e-5, weight_decay=0.01)
        if part == "amdanet"
        else torch.optim.SGD(
            trained.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )
    )

    def step() -> None:
        for seed in SEEDS[part]:
            torch.manual_seed(seed)
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

    return step


def check_equal(part: str, ours: tuple[nn.Module, Loss], reference: tuple[nn.Module, Loss]) -> None:
    """Raises RuntimeError if a loss or the gradient of a parameter differs."""
    import torch

    for seed in SEEDS[part]:
        losses = []
        for trained, loss in (ours, reference):
            trained.zero_grad()
            torch.manual_seed(seed)
            losses.append(loss())
            losses[-1].backward()
        wanted = {name: p.grad for name, p in reference[0].named_parameters() if p.grad is not None}
        found = {name: p.grad for name, p in ours[0].named_parameters() if p.grad is not None}
        if found.keys() != wanted.keys():
            raise RuntimeError(
                f"{part}: {found.keys() ^ wanted.keys()} have a gradient in one of the two only"
            )
        length = _length(wanted.values())
        apart = _length(found[name] - gradient for name, gradient in wanted.items()) / length
        loss_apart = abs(losses[0] - losses[1]).item() / abs(losses[1]).item()
        print(
            f"{part}: losses differ by {loss_apart:.1g} of themselves, all {len(wanted)} gradients as one "
            f"vector by {apart:.1g} of its length",
            flush=True,
        )
        if not (loss_apart < LOSS_TOLERANCE and apart < GRADIENT_TOLERANCE):
            raise RuntimeError(f"{part}: ours and the plain formulas differ")
    for trained, _ in (ours, reference):
        trained.zero_grad()


def _length(tensors: Iterable[Tensor]) -> float:
    return sum(tensor.double().square().sum().item() for tensor in tensors) ** 0.5


def step_memory(part: str, settings: Settings, name: str) -> float:
    """Peak megabytes of making a network and training it for two steps."""

    def work() -> None:
        trained, loss = (
            plain(part, settings) if name == REFERENCE else ours(part, settings, name == CHANNELS_LAST)[:2]
        )
        step = make_step(part, trained, loss)
        step()
        step()

    return peak_memory(work, settings.device)


def rows(part: str, settings: Settings, channels_last: bool, memory: bool) -> list[Row]:
    first = ours(part, settings)
    made = {REFERENCE: plain(part, settings, first[2]), OURS: first[:2]}
    check_equal(part, made[OURS], made[REFERENCE])
    if channels_last:
        made[CHANNELS_LAST] = ours(part, settings, True)[:2]
    steps = {name: make_step(part, trained, loss) for name, (trained, loss) in made.items()}
    what = f"{WHAT[part]}, {settings.encoder}"
    results = compare(f"time: {what}", time_in_turn(steps, settings), REFERENCE, milliseconds, "less")
    if memory:
        peaks = {
            name: [in_child(step_memory, part, settings, name) for _ in range(min(settings.repeats, 3))]
            for name in made
        }
        results += compare(f"memory: {what}", peaks, REFERENCE, megabytes, "less")
    return results


def main() -> None:
    from run import describe, parse_size

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=tuple(ENCODERS), default=tuple(ENCODERS))
    parser.add_argument("--encoder", help=f"of one part; else {ENCODERS}")
    parser.add_argument("--size", type=parse_size, default=(480, 640), metavar="HEIGHTxWIDTH")
    parser.add_argument("--batch-size", type=int, default=2, help="at least 2")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU; all cores if not given")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of every comparison")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--channels-last", action="store_true", help="a row more: ours in this memory layout")
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    arguments = parser.parse_args()
    if arguments.encoder is not None and len(arguments.parts) > 1:
        parser.error("--encoder is of one part; name it, as in --parts csknet")
    if arguments.threads is not None:
        # Before PyTorch starts, and for the processes that memory is measured in.
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    results: list[Row] = []
    for part in arguments.parts:
        settings = Settings(
            encoder=arguments.encoder or ENCODERS[part],
            size=arguments.size,
            batch_size=arguments.batch_size,
            device=arguments.device,
            repeats=arguments.repeats,
            clock=arguments.clock,
        )
        print(describe(settings), flush=True)
        results += rows(part, settings, arguments.channels_last, not arguments.no_memory)
    print(markdown(results))


if __name__ == "__main__":
    main()
