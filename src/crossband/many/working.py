"""Parts given out to the workers of a Ray cluster, by Ray Data."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from crossband.errors import OptionError, first_line
from crossband.many.cluster import Launcher, check_room, cluster
from crossband.many.jobs import Done, Job, as_columns, begun
from crossband.many.parts import settle


class Worker:
    """An actor of Ray Data: loads the run once, and does one part after another."""

    def __init__(self, job: Job):
        self._attempt = begun(job)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return as_columns([(int(index), self._attempt(int(index))) for index in batch["item"]])


def do_parts(
    job: Job,
    launcher: Launcher,
    *,
    gpus: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Done:
    """Do the parts of a job that are not done yet, and tell of all: their pairs, and those that failed.

    gpus: that each worker takes. progress: called with (pairs done, pairs in all). Parts that are there are
    left alone, so that the same call goes on where another one ended. A part whose worker died is begun
    again by another.

    Raises OptionError if Ray is not installed, there is no such cluster or it has no room for a worker, and,
    when all other parts are done, for the first part that cannot be done.
    """
    cut = job.cut
    settle(job.out, cut)
    there = {index: done for index in range(len(cut)) if (done := job.done(index)) is not None}
    waiting = [index for index in range(len(cut)) if index not in there]
    report = progress or (lambda done, total: None)
    pairs, failed = (sum(getattr(done, name) for done in there.values()) for name in ("pairs", "failed"))
    problems = []
    report(pairs, cut.pairs)
    if waiting:
        with cluster(launcher.address) as ray:
            check_room(ray.cluster_resources(), launcher.cpus, gpus)
            try:
                for row in _rows(ray, job, waiting, launcher.cpus, gpus):
                    pairs, failed = pairs + row["pairs"], failed + row["failed"]
                    if row["problem"]:
                        problems.append((row["part"], row["problem"]))
                    report(pairs, cut.pairs)
            except ray.exceptions.RayError as error:
                raise OptionError(
                    f"the workers were lost ({first_line(error)}); the same command does what is missing"
                ) from error
    if problems:
        _, first = min(problems)
        raise OptionError(
            f"{len(problems)} of {len(cut)} parts could not be done, the first for this: {first}; the same "
            "command does those that are missing"
        )
    return Done(pairs, failed)


def _rows(ray: Any, job: Job, waiting: list[int], cpus: int, gpus: int) -> Any:
    """What became of each part, as it is done. Ray Data begins a part, and a worker, again when it died."""
    import ray.data

    # Of its own workings; what ends in an error is raised.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    there = ray.cluster_resources()
    room = min(int(there[name]) // each for name, each in (("CPU", cpus), ("GPU", gpus)) if each)
    parts = ray.data.from_items(waiting, override_num_blocks=len(waiting))
    return parts.map_batches(
        Worker,
        fn_constructor_args=(job,),
        batch_size=1,
        concurrency=(1, max(1, min(room, len(waiting)))),
        num_cpus=cpus,
        num_gpus=gpus,
    ).iter_rows()
