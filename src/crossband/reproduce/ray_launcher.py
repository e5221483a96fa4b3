"""Jobs as tasks of a Ray cluster, whose workers share the output folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crossband.errors import first_line
from crossband.many.cluster import Launcher, check_room, cluster
from crossband.reproduce.folders import is_finished
from crossband.reproduce.jobs import Job
from crossband.reproduce.running import POLL_SECONDS, Say, attempt, spoken_failure
from crossband.reproduce.settings import Compute
from crossband.text import counted


def work_on_ray(
    jobs: Mapping[str, Job],
    out: Path,
    compute: Compute,
    say: Say,
    after: Callable[[], None],
    launcher: Launcher,
) -> dict[str, str]:
    """Do all jobs that are not finished on a Ray cluster; returns why some could not be, by name.

    launcher: which cluster, and how many processors a job takes. It takes as many GPUs as it has devices, if
    it is to use any.

    A job starts when those that it reuses have ended. A task whose worker died is started again, and goes
    on where that one was. Raises OptionError if Ray is not installed or there is no such cluster.
    """
    with cluster(launcher.address) as ray:
        # The cluster's GPUs count, not those of the machine that this was started on.
        there = ray.cluster_resources()
        takes = compute.accelerator == "gpu" or (compute.accelerator == "auto" and there.get("GPU", 0) > 0)
        gpus = max((job.options.devices for job in jobs.values()), default=1) if takes else 0
        check_room(there, launcher.cpus, gpus)
        task = ray.remote(num_cpus=launcher.cpus, num_gpus=gpus, max_retries=3)(do_task)
        ends: dict[str, Any] = {}
        for name, job in jobs.items():
            if not is_finished(out, job):
                needs = {need: ends[need] for need in job.reuses.values() if need in ends}
                ends[name] = task.remote(job, out, compute, list(needs), *needs.values())
        room = f"{counted(launcher.cpus, 'CPU')} and {counted(gpus, 'GPU')}"
        say(f"{counted(len(ends), 'job')} on Ray: {room} each")
        return _gather(ray, ends, say, after)


def _gather(ray: Any, ends: Mapping[str, Any], say: Say, after: Callable[[], None]) -> dict[str, str]:
    names = {end: name for name, end in ends.items()}
    failed: dict[str, str] = {}
    waiting = list(ends.values())
    while waiting:
        (end, *_), waiting = ray.wait(waiting, num_returns=1)
        name = names[end]
        try:
            problem = ray.get(end)
        except ray.exceptions.RayError as error:
            problem = f"its worker was lost: {first_line(error)}"
        if problem is None:
            say(f"{name}: finished")
            after()
        else:
            failed[name] = problem
            say(f"{name}: failed: {problem}")
    return failed


def do_task(job: Job, out: Path, compute: Compute, needs: list[str], *problems: str | None) -> str | None:
    """A job, on a worker of the cluster: None, or why it cannot be done.

    needs: the jobs that it reuses; problems: for each of them, None or why it could not be done.
    """
    for need, problem in zip(needs, problems, strict=True):
        if problem is not None:
            return f"it needs {need}: {problem}"
    try:
        while not attempt(job, out, compute, lambda line: None):
            time.sleep(POLL_SECONDS)
    except Exception as error:
        return spoken_failure(error)
    return None
