"""Systems and benchmarks of other packages: a small one is put on the path, as pip would install it."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import crossband as cb
from crossband.errors import OptionError
from crossband.plugins import plugins
from crossband.systems import list_systems, origin, register, system_class
from crossband.systems.registry import registered
from processes import Command
from tiny_systems import tiny

PACKAGE = Path(__file__).parent / "plugin_package"
TINY = ["--encoder", "test_efficientnet", "--network.decoder_channels", "16"]


def install(site: Path, systems: str = "latemean = latemean:LateMean", benchmarks: str = "") -> None:
    """Lay the package where Python looks for modules, with the metadata that pip would write."""
    site.mkdir(parents=True, exist_ok=True)
    shutil.copy(PACKAGE / "latemean.py", site)
    metadata = site / "latemean-0.3.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: latemean\nVersion: 0.3\n")
    (metadata / "entry_points.txt").write_text(
        f"[crossband.systems]\n{systems}\n[crossband.benchmarks]\n{benchmarks}\n"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(folder, benchmarks="yard = latemean:YARD")
    return folder


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("yard")
    for split, count in (("train", 4), ("test", 2)):
        for part, shape in (("rgb", (32, 48, 3)), ("ir", (32, 48)), ("mask", (32, 48))):
            (root / split / part).mkdir(parents=True)
            for number in range(count):
                image = rng.integers(0, 2 if part == "mask" else 256, shape, np.uint8)
                Image.fromarray(image).save(root / split / part / f"{number}.png")
    return root


def printed(site: Path, *arguments: str, module: str = "crossband") -> str:
    """What a command prints that runs with the package on its path, and must succeed."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    # What these tests are run with is not for those of the package.
    environment.pop("PYTEST_ADDOPTS", None)
    process = Command(*arguments, environment=environment, module=module)
    out, error = process.communicate()
    assert process.returncode == 0, out + error
    return out


def test_a_packages_system_and_benchmark_are_used_like_ours(site: Path, yard: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "run", f"yard:{yard}"
    listed = "latemean       the mean of two DeepLabV3+, one per band [from latemean 0.3]"
    assert listed in printed(site, "systems", "--load").splitlines()
    recipe = ["--recipe", "quick", "--recipe.epochs", "1", "--recipe.batch_size", "2", "--workers", "0"]
    given = ["--data", data, "--out", str(run), *TINY, "--loss.dice_form", "global"]
    printed(site, "train", "latemean", *given, *recipe)
    assert f"latemean on {data}" in printed(site, "evaluate", str(run), "--data", data, "--workers", "0")
    images = ["--visible", f"{yard}/test/rgb", "--infrared", f"{yard}/test/ir"]
    printed(site, "predict", str(run), *images, "--out", str(tmp_path / "out"))
    assert len(list((tmp_path / "out" / "label").iterdir())) == 2


@pytest.mark.slow
def test_reproduce_gives_a_packages_system_a_row_in_a_table(site: Path, tmp_path: Path) -> None:
    """Trained and scored under the table's budget and data, beside the printed rows."""
    out = tmp_path / "tables"
    rows = ["--rows", "^latemean", "--budget", "quick", "--seeds", "1", "--epochs", "1"]
    data = ["--on", "scenes,train=4,val=0,test=2,size=32x48", "--recipe.batch_size", "2"]
    more = [*rows, *data, "--workers", "0", "--accelerator", "cpu", "--out", str(out)]
    assert "1 job, 1 to do" in printed(site, "reproduce", "csknet/table-4", "--with", "latemean", *more)
    with (out / "tables" / "csknet-table-4.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["row"] == "latemean"]
    scores = [row for row in rows if row["measure"] == "mean_iou"]
    assert {(row["system"], row["bands"], row["ours_on"]) for row in scores} == {
        ("latemean", "both", "generated scenes")
    }
    assert all(row["ours_mean"] and not row["published"] and not row["source"] for row in scores)
    sizes = [row for row in rows if row["measure"] == "parameters_deployed_as_run"]
    assert len(sizes) == 1
    text = (out / "tables" / "csknet-table-4.md").read_text()
    assert "Not a row of the paper: latemean, from latemean 0.3, with its own defaults." in text


def test_the_contract_of_a_packages_system_is_tested_in_a_few_lines(site: Path) -> None:
    test = PACKAGE / "test_latemean.py"
    assert len(test.read_text().splitlines()) < 20
    given = ["-q", "-p", "no:cacheprovider", "--rootdir", str(site), str(test)]
    assert " passed" in printed(site, *given, module="pytest")


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        ("broken = latemean:Missing", "'broken' of latemean 0.3 cannot be loaded"),
        ("broken = latemean:YARD", "latemean:YARD of latemean 0.3 is no class on crossband.System"),
        ("broken = latemean:LateMean", "the entry point 'broken', but the name 'latemean'; they must agree"),
    ],
)
def test_a_packages_mistake_is_one_line_that_names_it(
    systems: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, systems)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.cache_clear()
    try:
        assert "broken" in list_systems()
        with pytest.raises(OptionError) as caught:
            system_class("broken")
    finally:
        monkeypatch.undo()
        plugins.cache_clear()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_program_can_register_a_system_of_its_own() -> None:
    class Mine(type(tiny("average"))):  # type: ignore[misc]
        name = "mine"

    with registered(Mine):
        assert "mine" in cb.list_systems()
        assert origin("mine") == "this program"
        assert isinstance(cb.create("mine"), Mine)
        assert register(Mine) is Mine, "a notebook's cell can be run twice"
    assert "mine" not in cb.list_systems()
    with pytest.raises(OptionError, match="there is a system 'average' already, from crossband"):
        register(type(tiny("average")))
    with pytest.raises(OptionError, match="is no system"):
        register(int)  # type: ignore[arg-type]
