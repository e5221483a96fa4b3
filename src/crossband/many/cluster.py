"""A Ray cluster: the one that runs, or one that is started here and ended."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from crossband.errors import OptionError, first_line


@dataclass(frozen=True)
class Launcher:
    """Who does the jobs.

    name: "local" is this process, one after another; "ray" a cluster. address: of a running cluster, "auto"
    for the one on this machine; None starts one here, and ends it. cpus: processors that a job takes of it.
    """

    name: Literal["local", "ray"] = "local"
    address: str | None = None
    cpus: int = 1


@contextmanager
def cluster(address: str | None) -> Iterator[Any]:
    """Ray itself, connected. One that was connected before is left so.

    Raises OptionError if Ray is not installed or there is no such cluster.
    """
    # Its C++ parts have loggers of their own, which warn of what Ray itself does.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = _ray()
    # Ray reports the use of every cluster to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ours = not ray.is_initialized()
    if ours:
        try:
            local: dict[str, Any] = {} if address else {"include_dashboard": False}
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise OptionError(f"no Ray cluster at address {address}: {first_line(error)}") from error
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def check_room(there: Mapping[str, float], cpus: int, gpus: int) -> None:
    """Raise OptionError for jobs that would wait for ever. there: the cluster's resources, by name."""
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        amount = int(there.get(name, 0))
        if wanted > amount:
            raise OptionError(f"a job takes {wanted} {name}s, but the Ray cluster has {amount} in all")


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise OptionError(
            "--launcher ray needs Ray, which is not installed: pip install 'crossband[ray]'"
        ) from error
    return ray
