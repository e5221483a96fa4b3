"""``crossband evaluate --fusion`` as a user meets it."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import refused
from crossband.cli import main
from crossband.cli.evaluate import evaluate_arguments
from crossband.cli.scoring import named_runs
from crossband.loading import load
from crossband.metrics import PROTOCOLS, fusion_scores
from crossband.metrics.fusion import CONVENTIONS
from crossband.pairs.base import Classes
from crossband.pairs.export import export_folder
from crossband.terminal import Parser
from crossband.weights import make_card, save_run
from tiny_systems import CLASSES, tiny

FEW = ["--metrics", "SD, MI", "--workers", "0", "--device", "cpu"]

ALONE = ["visible alone", "infrared alone"]
"""Each band by itself stands in every table."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "pairs"
    export_folder("scenes,train=1,val=0,test=4,size=40x56", folder)
    return folder


def write_run(folder: Path, scaling: str = "full-range", name: str = "amdanet") -> str:
    """A run folder as a training leaves it, with the weights of a random start."""
    classes = Classes(tuple(f"class {i}" for i in range(CLASSES)), tuple((i, 0, 0) for i in range(CLASSES)))
    system = tiny(name)
    save_run(folder, system, make_card(system, classes, scaling, {"data": "none"}))
    return str(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_run(tmp_path_factory.mktemp("runs") / "mine")


def fusion(pairs: Path, *arguments: str) -> list[str]:
    return ["evaluate", *arguments, "--fusion", "--data", f"folder:{pairs}", *FEW]


def values(out: Path) -> dict[tuple[str, str, str], float]:
    with open(out / "fusion.csv", newline="", encoding="utf-8") as file:
        return {(r["method"], r["pair"], r["metric"]): float(r["value"]) for r in csv.DictReader(file)}


def test_runs_systems_and_folders_stand_side_by_side(
    run: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pictures that `crossband fuse` saved score as the system itself, and as a direct call says."""
    test = pairs / "test"
    saved = tmp_path / "saved"
    given = ["--visible", str(test / "visible"), "--infrared", str(test / "infrared"), "--device", "cpu"]
    assert main(["fuse", run, *given, "--out", str(saved)]) == 0
    out = tmp_path / "out"
    folders = ["--fused", str(saved), "--fused", f"again={saved}"]
    assert main([*fusion(pairs, run, "average"), *folders, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    rows = [re.split(r"  +", line)[0] for line in text.partition("───\n")[2].splitlines()]
    assert rows[:6] == ["mine", "average", "saved", "again", "visible alone", "infrared alone"]
    page = (out / "fusion.html").read_text()
    named = re.findall(r'<tr(?: class="(\w+)")?><th scope="row" class="left">([^<]*)</th>', page)
    assert named[:6] == [(("ruled" if row == "visible alone" else ""), row) for row in rows[:6]]
    assert "Fused pictures of 4 methods on" in page
    # What is fused, and the bands once.
    assert set(re.findall(r"<figcaption>([^<]*)</figcaption></figure>", page)) >= {"visible", "mine"}
    assert "<figcaption>visible alone</figcaption>" not in page
    found = values(out)
    names = [path.stem for path in sorted((test / "visible").iterdir())]
    assert len(found) == (4 + len(ALONE)) * len(names) * 2
    predictor = load("average", device="cpu")
    for name in names:
        visible, infrared, picture = (
            np.array(Image.open(folder / f"{name}.png"))
            for folder in (test / "visible", test / "infrared", saved)
        )
        fused = predictor(visible, infrared).fused
        for metric in ("SD", "MI"):
            direct = fusion_scores(picture, visible, infrared)[metric]
            for method in ("mine", "saved", "again"):
                assert found[method, name, metric] == pytest.approx(direct, rel=1e-9)
            direct = fusion_scores(fused, visible, infrared)[metric]
            assert found["average", name, metric] == pytest.approx(direct, rel=1e-9)
    told = json.loads((out / "fusion.json").read_text())
    assert told["methods"]["mine"]["origin"] == "amdanet"
    assert told["methods"]["saved"]["origin"] == str(saved)
    assert told["provenance"]["infrared scaling"] == "full-range"
    assert told["provenance"]["training"] == {"mine": {"data": "none"}}
    assert (out / "fusion.txt").read_text() in text
    assert {path.suffix for path in out.iterdir()} == {".json", ".csv", ".txt", ".html"}


def test_one_run_keeps_its_scores_beside_its_weights(run: str, pairs: Path) -> None:
    assert main([*fusion(pairs, run), "--stretch", "--by", "none", "--batch_size", "2"]) == 0
    kept = (Path(run) / "fusion-test" / "fusion.json").read_bytes()
    told = json.loads(kept)
    assert told["conditions"] == []
    assert told["methods"]["mine"]["stretched"] is True
    assert main([*fusion(pairs, run), "--precision", "bfloat16", "--by", "none"]) == 0
    assert (Path(run) / "fusion-test" / "fusion.json").read_bytes() == kept
    rough = json.loads((Path(run) / "fusion-test-bfloat16" / "fusion.json").read_text())
    assert rough["provenance"]["precision"] == "bfloat16"


def test_a_folder_alone_needs_neither_run_nor_flag(pairs: Path, tmp_path: Path) -> None:
    visible = pairs / "test" / "visible"
    arguments = ["evaluate", "--fused", f"copy={visible}", "--data", f"folder:{pairs}", *FEW]
    assert main([*arguments, "--convention", "cddfuse", "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "fusion.json").read_text())
    assert list(told["methods"]) == ["copy", *ALONE]
    assert told["convention"]["name"] == "cddfuse"
    assert told["metrics"]["MI"]["unit"] == "nats"


def test_infrared_is_read_by_the_rule_of_the_run_or_of_the_option(pairs: Path, tmp_path: Path) -> None:
    stretching = write_run(tmp_path / "stretching", "minmax")
    assert main([*fusion(pairs, stretching, "average"), "--out", str(tmp_path / "a")]) == 0
    arguments = [*fusion(pairs, "average"), "--infrared-scaling", "minmax", "--out", str(tmp_path / "b")]
    assert main(arguments) == 0
    assert main([*fusion(pairs, "average"), "--out", str(tmp_path / "c")]) == 0
    a, b, c = (values(tmp_path / name) for name in "abc")
    ours = [key for key in a if key[0] == "average"]
    assert [a[key] for key in ours] == [b[key] for key in ours]
    assert [b[key] for key in ours] != [c[key] for key in ours]
    assert (
        json.loads((tmp_path / "a" / "fusion.json").read_text())["provenance"]["infrared scaling"] == "minmax"
    )


def test_one_rule_is_chosen_where_none_is_named(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(pairs / "test", tmp_path / "deep" / "test")
    for path in (tmp_path / "deep" / "test" / "infrared").iterdir():
        levels = 5000 + np.asarray(Image.open(path)).astype(np.uint16)
        Image.fromarray(levels).save(path)
    for number, extra in enumerate([[], ["--infrared_scaling", "auto"]]):
        out = tmp_path / str(number)
        assert main([*fusion(tmp_path / "deep", "average"), *extra, "--out", str(out)]) == 0
        rule = json.loads((out / "fusion.json").read_text())["provenance"]["infrared scaling"]
        low, high = (float(limit) for limit in rule.removeprefix("fixed(").removesuffix(")").split(","))
        assert 5000 <= low < high <= 5255
        assert f"infrared scaling: {rule}\n" in capsys.readouterr().out


def test_two_spellings_of_a_rule_are_one(pairs: Path, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, rule) for name, rule in [("a", "fixed(0,1)"), ("b", "fixed(0, 1)")]]
    assert main([*fusion(pairs, *runs), "--out", str(tmp_path / "out")]) == 0


def test_runs_of_equal_names_are_told_apart(run: str, pairs: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "elsewhere" / "mine")
    assert main([*fusion(pairs, run, other), "--out", str(tmp_path / "out")]) == 0
    assert list(json.loads((tmp_path / "out" / "fusion.json").read_text())["methods"]) == [run, other, *ALONE]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fusion"], "name what to score"),
        (["--fusion", "average"], "give --out"),
        (["--stretch", "--fusion", "average"], "give --out"),
        (["average", "--fusion"], "give --out"),
        (
            ["average", "--fusion", "--out", "OUT", "--fused", "average=PAIRS"],
            "two methods are called 'average'",
        ),
        (["average", "average", "--fusion", "--out", "OUT"], "average was named twice"),
        (["--fused", "PAIRS/test/visible", "--fused", "visible=x", "--out", "OUT"], "are called 'visible'"),
        (["--fused", "nowhere", "--out", "OUT"], "nowhere: there is no such folder of fused pictures"),
        (["--fused", "a=nowhere", "--out", "OUT"], "nowhere: there is no such folder of fused pictures"),
        (["--fused", "PAIRS/train/visible", "--out", "OUT"], "3 of 4 pairs have no picture"),
        (["average", "--fusion", "--metrics", "SD,XY", "--out", "OUT"], "has no metrics 'XY'"),
        (["average", "--fusion", "--split", "x", "--out", "OUT"], "no split 'x'"),
        (
            ["average", "--fusion", "--protocol", "all-nan", "--out", "OUT"],
            "--protocol all-nan does not apply",
        ),
        (["average", "--fusion", "--bands", "infrared", "--out", "OUT"], "--bands infrared does not apply"),
        (["average", "--fusion", "--infrared_scaling", "x", "--out", "OUT"], "no infrared scaling 'x'"),
        (["--fused", "no/such", "--stretch", "--out", "OUT"], "--stretch is of a run or a system"),
        (["--fused", "no/such", "--precision", "bfloat16", "--out", "OUT"], "--precision is of a run"),
        (["--fused", "no/such", "--runtime", "openvino", "--out", "OUT"], "--runtime is of a run"),
        (["no/such/run", "--fusion", "--out", "OUT"], "no/such/run"),
        (["csknet", "--fusion", "--out", "OUT"], "csknet must be trained"),
        ([], "name the run folder to evaluate"),
        (["a", "b"], "one run at a time, but 2 were named"),
        (["a", "--stretch"], "--stretch belongs to fused pictures"),
        (["a", "--convention", "vifb"], "--convention belongs to fused pictures"),
        (["a", "--metrics_preset", "vifb", "--convention", "cddfuse"], "give one of them"),
        (["average"], "average only fuses, so it has no labels to score: add --fusion"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [text.replace("OUT", str(tmp_path / "out")).replace("PAIRS", str(pairs)) for text in arguments]
    few = ["--workers", "0", "--device", "cpu"]
    assert message in refused(["evaluate", *given, "--data", f"folder:{pairs}", *few], capsys)
    assert not list(tmp_path.iterdir())


def test_runs_that_read_infrared_differently_are_refused(
    run: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_run(tmp_path / "other", "percentile(1, 99)")
    line = refused([*fusion(pairs, run, other), "--out", str(tmp_path / "out")], capsys)
    assert line.startswith("mine reads infrared by full-range, but other by percentile(1, 99)")
    line = refused([*fusion(pairs, run), "--infrared_scaling", "minmax"], capsys)
    assert line.startswith("mine reads infrared by full-range, but --infrared_scaling by minmax")
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_named_twice_is_refused(
    run: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused([*fusion(pairs, run, f"{run}/"), "--out", str(tmp_path / "out")], capsys)
    assert line.startswith(f"{run} and {run}/ are one run; name each run or system once")
    assert not (tmp_path / "out").exists()


def test_a_run_that_does_not_fuse_is_refused(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segments = write_run(tmp_path / "segments", name="deeplabv3plus")
    assert "deeplabv3plus gives no fused picture" in refused(fusion(pairs, segments), capsys)


def test_a_damaged_picture_leaves_no_results(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fused = tmp_path / "fused"
    fused.mkdir()
    for path in sorted((pairs / "test" / "visible").iterdir()):
        (fused / path.name).write_bytes(path.read_bytes())
    (fused / path.name).write_bytes(path.read_bytes()[:100])
    arguments = ["evaluate", "--fused", str(fused), "--data", f"folder:{pairs}", *FEW]
    assert path.name in refused([*arguments, "--out", str(tmp_path / "out")], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("option", "names"), [("convention", CONVENTIONS), ("protocol", PROTOCOLS)])
def test_every_declared_name_is_a_choice(option: str, names: Mapping[str, object]) -> None:
    parser = Parser()
    evaluate_arguments(parser)
    for name in names:
        assert parser.parse_args(["--data", "x", f"--{option}", name])[option] == name


def test_the_old_spelling_of_the_convention_goes_on_with_a_note(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*fusion(pairs, "average"), "--metrics-preset", "cddfuse", "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "fusion.json").read_text())["convention"]["name"] == "cddfuse"
    assert "note: --metrics_preset is the old spelling of --convention\n" in capsys.readouterr().err


def test_labels_are_not_looked_at(pairs: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "pairs" / "test"
    for band in ("visible", "infrared"):
        (damaged / band).parent.mkdir(parents=True, exist_ok=True)
        (damaged / band).symlink_to(pairs / "test" / band)
    (damaged / "label").mkdir()
    (damaged / "label" / "stray.png").write_bytes(b"no image")
    out = tmp_path / "out"
    assert main([*fusion(damaged.parent, "average"), "--out", str(out)]) == 0
    assert len(values(out)) == (1 + len(ALONE)) * 4 * 2


def test_runs_are_named_by_their_folder_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a/run", "b/run", "a/other"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "run")
    assert named_runs([".", "average"]) == {"run": ".", "average": "average"}
    assert named_runs(["..", "../other"]) == {"a": "..", "other": "../other"}
    assert named_runs([".", "../../b/run"]) == {".": ".", "../../b/run": "../../b/run"}
