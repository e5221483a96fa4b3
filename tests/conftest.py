"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest

# Before PyTorch starts its threads: tiny networks crawl if idle threads spin on a machine that is not idle.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real image pairs: CROSSBAND_DATA, or ``../shared/data`` beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CROSSBAND_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real image pairs: {folder} is not there (set CROSSBAND_DATA to where they are)")
    return folder
