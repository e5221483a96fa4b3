"""Time and peak memory of AMDANet on both bands, against the plain formulas at equal outputs.

    python speed/amdanet.py                                   # B1, B2, B4 at 480x640, inference
    python speed/amdanet.py --threads 1 --clock processor     # on a machine that is busy otherwise
    python speed/amdanet.py --sizes mit_b1 --parts training   # forward and backward pass
    python speed/amdanet.py --device cuda

The reference is `reference_amdanet.py`, with the weights of ours; the run stops if the two disagree. The
README beside this file says how things are measured.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from measuring import (
    Rates,
    Row,
    Settings,
    compare,
    in_child,
    markdown,
    measure_rates,
    megabytes,
    milliseconds,
    peak_memory,
    time_in_turn,
)

CLASSES = 9
OURS, REFERENCE = "AMDANet", "plain formulas"
TOLERANCE = 1e-5
"""Most that logits may differ by, in units of the largest one, and fused pictures by, in float32."""

Pass = Callable[[], object]


def passes(settings: Settings, part: str, names: tuple[str, ...] = (OURS, REFERENCE)) -> dict[str, Pass]:
    """A function for each implementation that runs it once. Raises RuntimeError if their outputs differ."""
    import torch

    from crossband.systems import create
    from reference_amdanet import ReferenceAMDANet

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    shape = (settings.batch_size, settings.size)
    visible = torch.rand(shape[0], 3, *shape[1], generator=generator).to(settings.device)
    infrared = torch.rand(shape[0], 1, *shape[1], generator=generator).to(settings.device)
    networks: dict[str, Callable[[], tuple[torch.Tensor, torch.Tensor]]] = {}
    weights = None
    if OURS in names:
        ours = create(
            "amdanet",
            classes=CLASSES,
            encoder=settings.encoder,
            stochastic_depth=0.0,
            dropout=0.0,
            alignment_start="published",
        ).to(settings.device)
        weights = ours.state_dict()
        ours.train(part == "training")

        def run_ours() -> tuple[torch.Tensor, torch.Tensor]:
            output = ours(visible, infrared, features=False)
            return output.logits, output.fused

        networks[OURS] = run_ours
    if REFERENCE in names:
        reference = ReferenceAMDANet(CLASSES, settings.encoder).to(settings.device).train(part == "training")
        if weights is not None:
            reference.load_state_dict(weights)
        networks[REFERENCE] = lambda: reference(visible, infrared)
    if len(networks) == 2:
        with torch.no_grad():
            (logits, fused), (wanted_logits, wanted_fused) = (networks[name]() for name in (OURS, REFERENCE))
        difference = ((logits - wanted_logits).abs().max() / wanted_logits.abs().max()).item()
        difference = max(difference, (fused - wanted_fused).abs().max().item())
        if not difference < TOLERANCE:
            raise RuntimeError(f"{settings.encoder}: ours and the plain formulas differ by {difference:.2g}")
        print(f"{settings.encoder}, {part}: outputs differ by {difference:.1g} at most", flush=True)

    def inference(network: Callable[[], tuple[torch.Tensor, torch.Tensor]]) -> None:
        with torch.inference_mode():
            network()

    def training(network: Callable[[], tuple[torch.Tensor, torch.Tensor]]) -> None:
        logits, fused = network()
        (logits.square().mean() + fused.mean()).backward()

    once = training if part == "training" else inference
    return {name: lambda network=network: once(network) for name, network in networks.items()}


def pass_memory(settings: Settings, part: str, name: str) -> float:
    """Peak megabytes of making a network and running it twice."""

    def work() -> None:
        run = passes(settings, part, (name,))[name]
        run()
        run()

    return peak_memory(work, settings.device)


def rows(settings: Settings, part: str, rates: Rates) -> list[Row]:
    what = f"{part}, {settings.encoder}"
    seconds = time_in_turn(passes(settings, part), settings)
    # The operations of a backward pass through a CPU's attention are not counted by anyone.
    floors = {OURS: rates.of_operations(_operations(settings))} if part == "inference" else {}
    peaks = {name: [in_child(pass_memory, settings, part, name)] for name in (OURS, REFERENCE)}
    return [
        *compare(f"time of {what}", seconds, REFERENCE, milliseconds, "less", floors),
        *compare(f"memory of {what}", peaks, REFERENCE, megabytes, "less"),
    ]


def _operations(settings: Settings) -> int:
    from crossband.info import count_flops
    from crossband.systems import create

    system = create("amdanet", classes=CLASSES, encoder=settings.encoder)
    return settings.batch_size * count_flops(system, "both", settings.size)


def main() -> None:
    from run import describe, parse_size

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["mit_b1", "mit_b2", "mit_b4"], metavar="ENCODER")
    parser.add_argument("--parts", nargs="+", choices=("inference", "training"), default=["inference"])
    parser.add_argument("--size", type=parse_size, default=(480, 640), metavar="HEIGHTxWIDTH")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU; all cores if not given")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of every comparison")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        # Before PyTorch starts, and for the processes that memory is measured in.
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    results: list[Row] = []
    for encoder in arguments.sizes:
        settings = Settings(
            encoder=encoder,
            size=arguments.size,
            batch_size=arguments.batch_size,
            device=arguments.device,
            repeats=arguments.repeats,
            clock=arguments.clock,
        )
        if not results:
            rates = measure_rates(settings)
            print(f"{describe(settings)}\n{rates}", flush=True)
        for part in arguments.parts:
            results += rows(settings, part, rates)
    print(markdown(results))


if __name__ == "__main__":
    main()
