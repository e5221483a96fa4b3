"""How speed is measured: alternatives in turn, results as ratios, peak memory in a process of its own.

Nothing heavy is imported here, so that run.py can set the number of threads before PyTorch starts.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

Clock = Literal["wall", "processor"]
Better = Literal["less", "more"]
Result = TypeVar("Result")
MEGABYTE = 1e6

REFERENCES = Path(__file__).resolve().parents[1] / "tests" / "references"
if str(REFERENCES) not in sys.path:
    # The plain implementations that the tests hold ours to are what it is timed against, too.
    sys.path.append(str(REFERENCES))


@dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    size: (height, width) in pixels. repeats: rounds that each alternative is timed in.
    clock: on a CPU, "wall" or this process's "processor" time, which leaves out the time that other
        programs had the core. A GPU is always timed by its own events.
    """

    encoder: str
    size: tuple[int, int]
    batch_size: int
    device: str
    repeats: int
    clock: Clock


@dataclass(frozen=True)
class Row:
    """One line of the table: what of ours, against which reference, and the ratio of every round.

    floor: the least time, or the highest rate, that this machine's rates allow ours, and how far ours is from
    it; empty where nothing is known.
    """

    what: str
    against: str
    ours: str
    reference: str
    ratios: tuple[float, ...]
    better: Better
    floor: str = ""

    def cells(self) -> tuple[str, ...]:
        ratio = f"{statistics.median(self.ratios):.2f}"
        if len(self.ratios) > 1:
            ratio += f" ({min(self.ratios):.2f} to {max(self.ratios):.2f})"
        return self.what, self.against, self.ours, self.reference, ratio, self.better, self.floor


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table that also reads well as plain text."""
    header = ("what", "reference", "ours", "reference's", "ratio: median (range)", "better is", "floor")
    lines = [header, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def compare(
    task: str,
    measured: Mapping[str, Sequence[float]],
    against: str,
    write: Callable[[float], str],
    better: Better,
    floors: Mapping[str, float] | None = None,
) -> list[Row]:
    """A row for every alternative but the reference; a round's ratio is taken within the round.

    task: what all of them did. measured: values by alternative, one per round. write: a value as text,
        with its unit. floors: of some alternatives, the least value that the machine allows (the highest,
        where more is better), as `Rates` gives it.
    """
    floors = floors or {}
    reference = measured[against]
    return [
        Row(
            f"{task}: {name}",
            against,
            write(statistics.median(values)),
            write(statistics.median(reference)),
            tuple(ours / theirs for ours, theirs in zip(values, reference, strict=True)),
            better,
            _floor_cell(statistics.median(values), floors[name], write, better) if name in floors else "",
        )
        for name, values in measured.items()
        if name != against
    ]


def _floor_cell(ours: float, floor: float, write: Callable[[float], str], better: Better) -> str:
    """The floor, and how many times it ours takes: ``267 ms (2.4 x)``."""
    times = ours / floor if better == "less" else floor / ours
    return f"{write(floor)} ({times:.{0 if times >= 10 else 1}f} x)"


@dataclass(frozen=True)
class Rates:
    """What this machine does in this process, on as many threads as it has.

    products: operations per second of a product of matrices, by data type, a multiplication and an addition
    being two. copies: bytes per second that a copy in memory reads and writes, together.
    """

    products: Mapping[str, float]
    copies: float

    def of_operations(self, count: float, dtype: str = "float32") -> float:
        """Seconds that so many operations take at least."""
        return count / self.products[dtype]

    def of_bytes(self, count: float) -> float:
        """Seconds that it takes at least to read and write so many bytes."""
        return count / self.copies

    def __str__(self) -> str:
        products = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in self.products.items())
        copies = f"{self.copies / 1e9:.1f} GB/s"
        return f"floors by a matrix product of {SIDE} x {SIDE}: {products}; by a copy: {copies}"


SIDE = 2048
"""Of the matrices whose product is timed."""
COPIED = 1 << 28
"""Bytes of the array whose copy is timed, far above a processor's cache."""
ATTEMPTS = 5
"""Of which the fastest counts: a floor is what the machine can do."""


def measure_rates(settings: Settings, dtypes: Sequence[str] = ("float32",)) -> Rates:
    """The rates of the settings' device, by their clock."""
    import torch

    several = replace(settings, repeats=ATTEMPTS)
    products = {}
    for name in dtypes:
        matrix = torch.ones(SIDE, SIDE, dtype=getattr(torch, name), device=settings.device)
        (seconds,) = time_in_turn({"product": lambda matrix=matrix: matrix @ matrix}, several).values()
        products[name] = 2 * SIDE**3 / min(seconds)
    source = torch.zeros(COPIED, dtype=torch.uint8, device=settings.device)
    target = torch.empty_like(source)
    (seconds,) = time_in_turn({"copy": lambda: target.copy_(source)}, several).values()
    return Rates(products, 2 * COPIED / min(seconds))


def count_operations(run: Callable[[], object]) -> int:
    """Operations of one run, by PyTorch: those of its convolutions and products, and attention on a GPU.

    For inference see `crossband.info.count_flops`, which counts attention on a CPU too.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

    def back_through_convolution(
        grad: list[int], image: list[int], weights: list[int], *others: Any, out_shape: object = None
    ) -> int:
        # PyTorch's own count takes one of many groups for a convolution of all channels.
        transposed, wanted = others[4], others[7]
        return conv_flop_count(image, weights, grad, transposed) * sum(wanted[:2])

    mapping = {torch.ops.aten.convolution_backward: back_through_convolution}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return int(counter.get_total_flops())


def time_in_turn(runs: Mapping[str, Callable[[], object]], settings: Settings) -> dict[str, list[float]]:
    """Seconds that each run takes, in A B C A B C order, after one untimed round."""
    for run in runs.values():
        run()
    measure = _cuda_seconds if settings.device.startswith("cuda") else _cpu_seconds
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(settings.repeats):
        for name, run in runs.items():
            seconds[name].append(measure(run, settings.clock))
    return seconds


def _cpu_seconds(run: Callable[[], object], clock: Clock) -> float:
    now = time.process_time if clock == "processor" else time.perf_counter
    begin = now()
    run()
    return now() - begin


def _cuda_seconds(run: Callable[[], object], clock: Clock) -> float:
    import torch

    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def in_child(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a module-level function in a fresh process, which inherits nothing but the environment."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def peak_memory(work: Callable[[], object], device: str) -> float:
    """Megabytes (10^6 bytes) that the work takes at its peak. Call it in a fresh process: see `in_child`.

    GPU: the allocator's peak, with everything that lives on the device. CPU: how far the process's peak
    resident memory rises above what it was before, which includes the libraries' own buffers; Linux only.
    """
    import torch

    # The first convolution loads libraries and makes buffers that are nobody's in particular.
    with torch.enable_grad():
        torch.nn.Conv2d(3, 8, 3).to(device)(torch.ones(1, 3, 32, 32, device=device)).sum().backward()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / MEGABYTE
    before = peak_resident()
    work()
    return peak_resident() - before


def peak_resident() -> float:
    """Megabytes (10^6 bytes) of this process's memory at its peak so far; Linux only."""
    # Not getrusage's ru_maxrss: on Linux a new process inherits it from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / MEGABYTE


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{1000 * seconds:.0f} ms"


def megabytes(size: float) -> str:
    return f"{size:.0f} MB"


def per_second(rate: float) -> str:
    return f"{rate:.0f} pairs/s"
