"""Time, memory and rates of Crossband as ratios to plain references of the same run, in one table.

    python speed/run.py                          # make speed
    python speed/run.py --quick                  # a first look
    python speed/run.py --device cuda --batch-size 8
    python speed/run.py --only training memory --encoder resnet34

The README beside this file says what is measured, and how.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import replace

from measuring import Rates, Row, Settings, markdown, measure_rates

SECTIONS = ("training", "memory", "contrast", "inference", "metrics", "loader", "scenes")
QUICK = {"encoder": "mobilenet_v2", "size": (192, 256), "repeats": 3}
QUICK_PAIRS, PAIRS = 16, 64


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="efficientnet-b3")
    parser.add_argument("--size", type=parse_size, default=(480, 640), metavar="HEIGHTxWIDTH")
    parser.add_argument("--batch-size", type=int, help="pairs in a batch; 2 on a CPU and 8 on a GPU")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU; all cores if not given")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of every comparison")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="see README.md")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK['encoder']} at 192x256 in three rounds, for a first look",
    )
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update(QUICK)
    for name in ("batch_size", "threads", "repeats"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    if arguments.batch_size == 1:
        parser.error("--batch-size must be at least 2: DeepLabV3+ has batch norms after a global pooling")
    return arguments


def parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"write HEIGHTxWIDTH, such as 480x640, not {text!r}")
    # Plain smp takes nothing else.
    height, width = (int(side) for side in match.groups())
    if not height or not width or height % 16 or width % 16:
        raise argparse.ArgumentTypeError(f"height and width must be multiples of 16, not {text}")
    return height, width


def describe(settings: Settings) -> str:
    """Hardware, versions, commit and settings: what a number means nothing without."""
    import torch

    from crossband.weights import git_revision

    hardware = f"{platform.machine()} CPU, {os.cpu_count()} cores, PyTorch on {torch.get_num_threads()}"
    if settings.device.startswith("cuda"):
        hardware = f"{torch.cuda.get_device_name(settings.device)}; {hardware}"
    clock = "the GPU's" if settings.device.startswith("cuda") else settings.clock
    memory = "allocator's peak" if settings.device.startswith("cuda") else "peak resident, own process"
    height, width = settings.size
    return "\n".join(
        [
            f"hardware: {hardware}",
            f"torch {torch.__version__}, Python {platform.python_version()}, "
            f"Crossband commit {(git_revision() or 'unknown')[:12]}",
            f"{settings.encoder}, {height} x {width}, batch of {settings.batch_size}, float32, "
            f"{settings.repeats} rounds",
            f"time: {clock} time; memory: {memory}; scenes by processor time",
        ]
    )


def sections(settings: Settings, pairs: int, rates: Rates) -> dict[str, Callable[[], list[Row]]]:
    """Every part of the table, by name."""
    import inference
    import loader_speed
    import metrics_speed
    import scenes_speed
    import training_step

    # A batch's matrix takes a millisecond, and rounds cost nothing.
    many = replace(settings, repeats=10 * settings.repeats)
    return {
        "training": lambda: training_step.time_rows(settings, rates),
        "memory": lambda: training_step.memory_rows(settings),
        "contrast": lambda: training_step.contrast_rows(settings),
        "inference": lambda: inference.time_rows(settings, rates),
        "metrics": lambda: metrics_speed.time_rows(many, rates),
        "loader": lambda: loader_speed.rate_rows(pairs, settings.repeats, (0, 2), settings.clock, rates),
        "scenes": lambda: scenes_speed.rate_rows(2 * pairs, rates),
    }


def main() -> None:
    arguments = parse()
    if arguments.threads is not None:
        # Read when PyTorch starts, here and in the processes that measure memory.
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    settings = Settings(
        encoder=arguments.encoder,
        size=arguments.size,
        batch_size=arguments.batch_size or (8 if arguments.device.startswith("cuda") else 2),
        device=arguments.device,
        repeats=arguments.repeats,
        clock=arguments.clock,
    )
    rates = measure_rates(settings)
    print(f"{describe(settings)}\n{rates}\n", flush=True)
    rows = []
    for name, measure in sections(settings, QUICK_PAIRS if arguments.quick else PAIRS, rates).items():
        if name in arguments.only:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            rows += measure()
    print(markdown(rows))


if __name__ == "__main__":
    main()
