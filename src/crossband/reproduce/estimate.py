"""How long jobs will take, before they run."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean, median

import torch

from crossband.errors import CrossbandError
from crossband.info import count_flops, followed_flops
from crossband.pairs.opening import open_pairs
from crossband.reproduce.folders import is_trained, run_of
from crossband.reproduce.jobs import Job
from crossband.reproduce.settings import Compute
from crossband.run_card import read_card
from crossband.systems import create
from crossband.text import counted
from crossband.training.options import TrainOptions
from crossband.training.resolving import resolve

BACKWARD = 3
"""A training step costs about three forward passes: one forward, and two to send gradients back."""
_PROBE_SIZE = (96, 128)
_PROBE_PAIRS = 4
_LEAST_SECONDS = 0.1
"""What a card's seconds, which are rounded to tenths, are taken to be at least."""


@dataclass(frozen=True)
class Estimate:
    """seconds: of training. origin: what they rest on."""

    seconds: float
    origin: str


def estimate_jobs(jobs: Mapping[str, Job], out: Path, compute: Compute) -> dict[str, Estimate]:
    """How long each job will train, by name: as finished ones of its system did, else by its operations.

    These are taken to be done as fast as finished jobs of other systems did theirs; with none, as fast as a
    small network trains now. Jobs that cannot be set up are left out. Scoring and the reading of pairs are
    not in it.
    """
    finished: dict[tuple[str, str], list[float]] = {}
    trained: list[tuple[Job, float]] = []
    for name, job in jobs.items():
        if is_trained(out, job):
            seconds = float(read_card(run_of(out, name)).training["seconds"])
            finished.setdefault(_kind(job), []).append(seconds)
            trained.append((job, seconds))

    operations: dict[str, float] = {}

    def operations_of(job: Job) -> float:
        if job.identity not in operations:
            operations[job.identity] = training_operations(job.options, set(job.reuses))
        return operations[job.identity]

    @cache
    def speed(devices: int) -> tuple[float, str]:
        if trained:
            each = [operations_of(job) / max(seconds, _LEAST_SECONDS) for job, seconds in trained]
            return median(each), f"as {counted(len(each), 'finished job')} had"
        return measured_speed(compute.device) * devices, "as measured now"

    estimates = {}
    for name, job in jobs.items():
        if (known := finished.get(_kind(job))) is not None:
            origin = f"{counted(len(known), 'finished job')} of {job.options.system}"
            estimates[name] = Estimate(mean(known), origin)
            continue
        try:
            needed = operations_of(job)
        except CrossbandError:
            continue
        per_second, told = speed(job.options.devices)
        origin = f"its operations at {per_second / 1e9:.2g} GFLOP/s, {told}"
        estimates[name] = Estimate(needed / per_second, origin)
    return estimates


def _kind(job: Job) -> tuple[str, str]:
    return job.name.split("/")[0], job.options.system


def training_operations(options: TrainOptions, reused: set[str]) -> float:
    """Floating-point operations of a training: those of a forward pass, times 3, per pair and epoch.

    Counted without computing anything. reused: phases that are not trained. What a loss reads besides the
    network that is kept, such as a teacher, is not in it.
    """
    pairs = open_pairs(options.data, options.split)
    kept = len(pairs) if options.validation else math.ceil(len(pairs) * (1 - options.hold_out))
    total = 0.0
    # Without values, so that neither a large network nor a large image costs anything.
    with torch.device("meta"):
        training = resolve(options)
        network = {**training.network, "encoder_weights": None}
        system = create(options.system, len(pairs.classes or ()), **network)
        phases = system.phases(training.training)
    for phase in phases:
        if phase.name not in reused:
            recipe = training.recipe(phase.name)
            size = training.augmentation(phase.name).crop or pairs[0].size
            batches = max(1, round(kept / recipe.batch_size))
            forward = followed_flops(phase.keeps, phase.validate[0], size)
            total += BACKWARD * forward * batches * recipe.batch_size * recipe.epochs
    return total


def measured_speed(device: str) -> float:
    """Operations per second of a small DeepLabV3+ in training, measured for about two seconds."""
    system = create("deeplabv3plus", classes=9, encoder="tf_efficientnet_lite0", decoder_channels=64)
    forward = count_flops(system, "visible", _PROBE_SIZE)
    system.to(device).train()
    image = torch.rand(_PROBE_PAIRS, 3, *_PROBE_SIZE, device=device)
    seconds: list[float] = []
    started = time.monotonic()
    while time.monotonic() - started < 2 or len(seconds) < 2:
        before = time.monotonic()
        logits = system(visible=image).logits
        assert logits is not None
        logits.square().mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - before)
    return BACKWARD * forward * _PROBE_PAIRS / median(seconds)
