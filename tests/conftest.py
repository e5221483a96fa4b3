"""Fixtures that several test modules share."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from terminal import take_signals_of_a_terminal

take_signals_of_a_terminal()
# Before PyTorch starts its threads: tiny networks crawl if idle threads spin on a machine that is not idle.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
if "PYTEST_XDIST_WORKER" in os.environ:
    # As many workers as cores: more than one thread in each would wait for the others.
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real image pairs: CROSSBAND_DATA, or ``../shared/data`` beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CROSSBAND_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real image pairs: {folder} is not there (set CROSSBAND_DATA to where they are)")
    return folder


@pytest.fixture(scope="session")
def street_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CSK-Net with random weights, which nobody changes (`serving.small_run`)."""
    # Late: most tests need no network.
    from serving import small_run

    return small_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def street_pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Three generated pairs by band, which nobody changes (`serving.small_pairs`)."""
    from serving import small_pairs

    return small_pairs(tmp_path_factory.mktemp("images"))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """Say how a process of tests crashed: what faulthandler sees it tells, and SIGKILL it does not see."""
    if error:
        try:
            code = node.gateway._io.popen.wait(timeout=10)
        except subprocess.TimeoutExpired:
            code = "nothing: it still runs"
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        print(f"\n{node.gateway.id} ended with {code}; {free:.1f} GiB of memory free", file=sys.stderr)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """The same names of tests in every process: a set's own order changes from one to the next."""
    if isinstance(val, set | frozenset):
        return str(sorted(val, key=str))
    return None
