"""The snippets of the pages are run, in a folder that holds what they name (tests/snippet_world.py).

Python snippets of a page are run in order and share their names; so are the `crossband` lines of its shell
snippets, each of which must end well. `NOT_RUN` and `COMMANDS_NOT_RUN` say what is not run, and why. A
training is checked up to where it would begin. Whether snippets compile and commands parse is tested for all
of them, by tests/test_docs.py.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from crossband.cli import main
from crossband.training.options import TrainOptions
from crossband.training.resolving import resolve
from snippet_world import make_world
from test_docs import commands, snippets

NOT_RUN = {
    "RealClock": "two cameras",
    "hf://": "a download from the Hugging Face Hub",
    'encoder_weights="imagenet"': "a download of ImageNet weights",
}
"""What a Python snippet that is not run has in it, and what it wants."""

GIVEN = {
    "CONTRIBUTING.md": (
        "from dataclasses import dataclass\n"
        "from pathlib import Path\n"
        "from torch import nn\n"
        "from crossband.losses.segmentation import DiceForm\n"
        "from crossband.systems.base import NetworkSettings, Output, Phase, System, Training\n"
    ),
    "README.md": "import torch\nvisible, infrared = torch.rand(1, 3, 64, 96), torch.rand(1, 1, 64, 96)\n",
    "docs/fusion-metrics.md": (
        "import numpy as np\n"
        "fused, visible, infrared = np.random.default_rng(0).integers(0, 256, (3, 64, 96), dtype=np.uint8)\n"
    ),
    "docs/reproducing.md": "from crossband.reproduce.table import Cell, Row\n",
}
"""What the text around a page's snippets takes for given."""

Snippets = dict[str, list[tuple[str, str]]]


def by_page(found: list[tuple[str, str]]) -> Snippets:
    """Snippets or lines with their places, by the page."""
    pages: Snippets = {}
    for place, text in found:
        pages.setdefault(place.partition(":")[0], []).append((place, text))
    return pages


PYTHON = by_page([(place, code) for place, code in snippets("python") if not any(w in code for w in NOT_RUN)])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("snippets") / "world")


@pytest.fixture
def folder(world: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy to work in, so that a page finds nothing that another one made."""
    shutil.copytree(world, tmp_path / "world")
    before = Path.cwd()
    os.chdir(tmp_path / "world")
    yield tmp_path / "world"
    os.chdir(before)


def test_everything_that_is_not_run_is_there() -> None:
    codes = [code for _, code in snippets("python")]
    assert [word for word in NOT_RUN if not any(word in code for code in codes)] == []
    assert [page for page in GIVEN if page not in PYTHON] == []


@pytest.mark.parametrize("page", PYTHON)
@pytest.mark.filterwarnings("error:.*deprecated:DeprecationWarning")
def test_the_python_snippets_of_a_page_run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("snippet")
    # Where dataclasses look for the types that their fields name.
    monkeypatch.setitem(sys.modules, "snippet", module)
    names: dict[str, Any] = vars(module)
    exec(GIVEN.get(page, ""), names)
    for place, code in PYTHON[page]:
        # With the lines of the page, for the traceback.
        exec(compile("\n" * int(place.partition(":")[2]) + code, place.partition(":")[0], "exec"), names)


COMMANDS_NOT_RUN = {
    r"hf://| push ": "the Hugging Face Hub",
    r"bag:|rtsp:|frames:|--realtime|\.mkv|stream ": "cameras or recordings, which their own tests make",
    r"--launcher ray": "a cluster",
    r"crossband serve ": "a server, which does not end by itself",
    r"shards:": "shards, which tests/test_shards.py makes",
    r"crossband (train|reproduce) (?!list|.*size=48x64)": "minutes to days",
    r"--config|\.\.\.": "a file of options, or arguments that the page leaves out",
    r"imagenet": "a download of ImageNet weights",
    r"--precision int8|--check ": "quantisation on calibration pairs, which takes a minute",
    r"robustness ": "minutes; tests/test_robustness_command.py has small ones",
    r"align |--rig|--pair time|\{id\}|celsius|--display agc|data (annotate|labels)": (
        "pictures of a certain kind, which the tests of these commands make"
    ),
    r"runs/(small|robust|plain|table|scenes)|runs/csknet-|corrected|predicted|packed": (
        "a run or a folder that the page tells to make, in minutes"
    ),
    r"runs/(t|deeplabv3plus|cddfuse|cen|disoptnet|mmanet|mrfs|segmif|a/\S*)(?=[ @]|$)": "the same",
    r"PATH|RUN": "a name that the reader fills in",
}
"""What a command that is not run has in it, as a regular expression, and why it is not."""


def run_commands() -> list[tuple[str, str]]:
    return [
        (place, line)
        for place, line in commands()
        if not any(re.search(pattern, line) for pattern in COMMANDS_NOT_RUN)
    ]


def test_enough_commands_are_run() -> None:
    lines = [line for _, line in commands()]
    assert len(run_commands()) > 40
    unused = [p for p in COMMANDS_NOT_RUN if not any(re.search(p, line) for line in lines)]
    assert unused == []


def trainings() -> list[tuple[str, str]]:
    """The lines that train, and have their options in them: not in a file or in the run that goes on."""
    return [
        (place, line)
        for place, line in commands()
        if line.startswith("crossband train ") and not re.search(r"--config|--resume|\.\.\.", line)
    ]


@pytest.mark.parametrize("page", by_page(trainings()))
def test_the_trainings_of_a_page_could_begin(
    page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[TrainOptions] = []

    def begin(options: TrainOptions, command: str) -> None:
        resolve(options)
        begun.append(options)

    monkeypatch.setattr("crossband.training.engine.train", begin)
    # Whether pairs and other runs are there is another matter.
    monkeypatch.setattr("crossband.training.training_pairs.check_splits", lambda options: None)
    monkeypatch.setattr("crossband.run_card.read_card", lambda folder: None)
    for place, line in by_page(trainings())[page]:
        code = main(shlex.split(line, comments=True)[1:])
        assert code == 0, f"{place}: {line}\n{capsys.readouterr().err}"
    assert len(begun) == len(by_page(trainings())[page])


@pytest.mark.slow
@pytest.mark.parametrize("page", by_page(run_commands()))
def test_the_commands_of_a_page_run(page: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, line in by_page(run_commands())[page]:
        arguments = shlex.split(line, comments=True)[1:]
        if arguments[0] in ("fuse", "predict"):
            # Lines of a page that are alternatives write to one place, which holds one of them.
            shutil.rmtree(arguments[arguments.index("--out") + 1], ignore_errors=True)
        code = main(arguments)
        assert code == 0, f"{place}: {line}\n{capsys.readouterr().err}"
