"""Doing jobs: train what is missing, go on with what was interrupted, score, and never twice at once.

A job is done under the lock of its folder. So several workers can share an output folder, and one that
crashed blocks nobody.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from crossband.errors import CrossbandError, FolderInUseError, OptionError
from crossband.evaluation import evaluate
from crossband.evaluation.pair_counts import write_pair_counts
from crossband.interruption import ENDING, Interrupted
from crossband.locks import folder_lock
from crossband.pairs.opening import open_pairs
from crossband.pairs.writing import write_text
from crossband.report import evaluation_dict
from crossband.reproduce.folders import (
    counts_of,
    folder_of,
    is_begun,
    is_finished,
    is_trained,
    run_of,
    scores_of,
)
from crossband.reproduce.jobs import Job, Scoring
from crossband.reproduce.settings import Compute
from crossband.run_card import WEIGHTS_NAME
from crossband.systems import create
from crossband.systems.base import System
from crossband.training.engine import resume, train
from crossband.training.options import TrainOptions
from crossband.training.resolving import resolve
from crossband.weights import load_weights, read_whole_card

POLL_SECONDS = 2.0

Say = Callable[[str], None]


def work(
    jobs: Mapping[str, Job], out: Path, compute: Compute, say: Say, after: Callable[[], None]
) -> dict[str, str]:
    """Do all jobs that are not finished, with whoever else works on the folder.

    jobs: those that others reuse first. after: called when a job of ours is finished.
    Returns why jobs could not be done, by name; each is tried once.
    """
    waiting = {name: job for name, job in jobs.items() if not is_finished(out, job)}
    failed: dict[str, str] = {}
    while waiting:
        before = len(waiting)
        for name, job in list(waiting.items()):
            if is_finished(out, job):
                del waiting[name]
                continue
            if broken := [need for need in job.reuses.values() if need in failed]:
                failed[name] = f"it needs {broken[0]}: {failed[broken[0]]}"
                del waiting[name]
                continue
            if not all(is_trained(out, need) for need in job.reuses.values()):
                continue  # Another worker is at it.
            try:
                if not attempt(job, out, compute, say):
                    continue
                after()
            except Exception as error:
                # Whatever it is, it is this job's alone: the others go on.
                failed[name] = spoken_failure(error)
                say(f"{name}: failed: {failed[name]}")
            del waiting[name]
        if len(waiting) == before:
            time.sleep(POLL_SECONDS)
    return failed


def spoken_failure(error: Exception) -> str:
    """Why a job failed, in one line. An error that is not ours is named by its kind."""
    if isinstance(error, CrossbandError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "the device's memory does not hold it; train and score it on a larger one"
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"


def attempt(job: Job, out: Path, compute: Compute, say: Say) -> bool:
    """Do a job if nobody else is at it; whether we did. Raises CrossbandError where it cannot be done."""
    folder = folder_of(out, job)
    with ExitStack() as held:
        try:
            lock = held.enter_context(folder_lock(folder))
        except FolderInUseError:
            return False
        if not is_trained(out, job):
            _train(job, out, compute, lock, say)
        missing = [test for test in job.scorings if not scores_of(out, job, test).is_file()]
        for test in missing:
            say(f"{job.name}: scoring {test.name}")
            score(job, test, out, compute)
        return True


def _train(job: Job, out: Path, compute: Compute, lock: int, say: Say) -> None:
    run = run_of(out, job)
    options = replace(
        job.options,
        out=str(run),
        reuse={phase: str(run_of(out, name)) for phase, name in job.reuses.items()},
        accelerator=compute.accelerator,
        workers=compute.workers,
    )
    begun = is_begun(out, job)
    if run.exists() and not begun:
        shutil.rmtree(run)  # Killed before it had written what it is.
    say(f"{job.name}: {'going on with' if begun else 'training'} {job.switches}")
    if begun:
        # All but how to compute is what it was; that may change from call to call.
        write_text(run / "config.yaml", resolve(options).named().to_yaml())
    if options.devices > 1:
        _train_apart(options, begun, folder_of(out, job), lock)
    elif begun:
        resume(run)
    else:
        train(options)


def _train_apart(options: TrainOptions, begun: bool, folder: Path, lock: int) -> None:
    """Train in a process of its own: Lightning starts the program of every further device by itself.

    It inherits the lock, so that nobody takes the job should this process die alone.
    """
    config = folder / "config.yaml"
    write_text(config, options.to_yaml())
    what = ["--resume", options.out] if begun else ["--config", str(config)]
    done = subprocess.run(
        [sys.executable, "-m", "crossband", "train", *what],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        pass_fds=(lock,),
    )
    number = -done.returncode if done.returncode < 0 else done.returncode - 128
    if number in (signal.SIGINT, *ENDING):
        raise Interrupted(number)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CrossbandError(
            f"training on {options.devices} devices ended with code {done.returncode}: "
            + last.removeprefix("crossband: error: ")
        )


def score(job: Job, test: Scoring, out: Path, compute: Compute) -> None:
    """Score a job's trained network, and write what `evaluation_dict` says of it.

    Raises OptionError if the split that is scored lacks a band.
    """
    run = run_of(out, job)
    card = read_whole_card(run)
    system: System = create(
        card.system,
        None if card.classes is None else len(card.classes),
        **{**card.network, **dict(test.options)},
    )
    load_weights(system, run / WEIGHTS_NAME)
    pairs = open_pairs(job.options.data, job.split, infrared_scaling=card.infrared_scaling)
    missing = {"visible", "infrared"} - set(pairs.bands) if test.bands == "both" else set()
    if missing:
        raise OptionError(f"{pairs.source} has no {missing.pop()} images, which {test.name} needs")
    evaluation = evaluate(system.eval(), pairs, bands=[test.bands], by=None, device=compute.device)
    assert evaluation.counts is not None
    document = evaluation_dict(evaluation)
    # The scores last, since they say that the test is done.
    write_pair_counts(counts_of(out, job, test), evaluation.counts)
    write_text(scores_of(out, job, test), json.dumps(document, indent=1, allow_nan=False) + "\n")
