"""The demo, at a size that takes seconds."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from browser import NEEDS_CHROMIUM, assert_fits, assert_in_sight, laid_out
from crossband.demo import FUSIONS, MARK_NAME, ROWS, SHOWN_CONDITIONS, TITLE, DemoSize, run_demo
from crossband.errors import OptionError
from crossband.locks import LOCK_NAME
from crossband.run_card import read_card
from crossband.training.options import TrainOptions

TINY = DemoSize(train=10, test=6, height=32, width=48, epochs=1)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It takes the place of an earlier one, of which some scenes are left, and a lock that nobody holds."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    (out / "scenes" / "test").mkdir(parents=True)
    (out / "scenes" / "left-over").touch()
    (out / MARK_NAME).touch()
    (out / LOCK_NAME).touch()
    run_demo(out, size=TINY, quiet=True)
    return out


def test_it_leaves_scenes_four_finished_runs_and_a_report(demo: Path) -> None:
    assert {entry.name for entry in demo.iterdir()} - {LOCK_NAME, MARK_NAME} == {
        *("scenes", "runs", "report.html")
    }
    assert {entry.name for entry in (demo / "runs").iterdir()} == {"visible", "infrared", "csknet", "amdanet"}
    assert len(list((demo / "scenes" / "test" / "visible").iterdir())) == TINY.test


def test_it_names_the_variant_that_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends_at_a_variant(options: TrainOptions, **_: object) -> None:
        if options.variant is not None:
            raise KeyboardInterrupt

    monkeypatch.setattr("crossband.demo.train", ends_at_a_variant)
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path / "demo", size=TINY)
    assert capsys.readouterr().out.endswith("training csknet: csknet, variant firm\n")


def test_the_teacher_is_the_visible_baseline(demo: Path) -> None:
    card = read_card(demo / "runs" / "csknet")
    assert card.training["checkpoint"]["teacher"] == {"reused": str(demo / "runs" / "visible")}


def test_the_four_are_trained_alike(demo: Path) -> None:
    cards = [read_card(demo / "runs" / run) for run in ("visible", "infrared", "csknet", "amdanet")]
    for key in ("pairs", "validation", "augmentation", "seed"):
        assert len({str(card.training[key]) for card in cards}) == 1
    assert len({str(list(card.training["recipes"].values())[-1]) for card in cards}) == 1
    assert len({card.network["encoder"] for card in cards}) == 1


def test_the_report_is_one_file_with_every_model_and_condition(demo: Path) -> None:
    html = (demo / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"']?https?:", html)
    for row in ROWS:
        assert row.label in html
    assert html.count("fallback") >= 1
    for condition in SHOWN_CONDITIONS:
        assert condition in html
    assert html.count("data:image/") == len(SHOWN_CONDITIONS) * (3 + len(FUSIONS) + len(ROWS))


def test_it_says_the_gains_that_its_table_shows(demo: Path) -> None:
    html = (demo / "report.html").read_text(encoding="utf-8")
    cells = {}
    for row in ROWS:
        found = re.search(re.escape(row.label) + r".*?<td[^>]*>([\d.]+)</td>", html, re.DOTALL)
        assert found is not None
        cells[row.label] = float(found[1])
    gain = cells["CSK-Net firm, both bands"] - max(
        cells["DeepLabV3+, visible"], cells["DeepLabV3+, infrared"]
    )
    said = re.search(r"CSK-Net firm scores ([+-][\d.]+) points against the better", html)
    assert said is not None
    assert float(said[1]) == pytest.approx(gain, abs=0.11)


@NEEDS_CHROMIUM
def test_its_main_comparison_is_in_sight_on_narrow_and_wide_screens(demo: Path, tmp_path: Path) -> None:
    html = (demo / "report.html").read_text(encoding="utf-8")
    for (_, _, scheme), screen in laid_out(tmp_path, {"demo": html}).items():
        assert_fits(screen, scheme)
        table, chart, *_ = screen.boxes
        assert (table.tag, chart.tag) == ("table", "svg")
        assert_in_sight(table, screen)
        assert_in_sight(chart, screen)


def test_the_readme_s_picture_is_of_the_demo_as_it_is() -> None:
    path = Path(__file__).resolve().parents[1] / "docs" / "draw_demo.py"
    spec = importlib.util.spec_from_file_location("draw_demo", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    kept = json.loads(script.FACTS.read_text(encoding="utf-8"))
    mend = "run `crossband demo --out demo` and `python docs/draw_demo.py demo`"
    assert kept["facts"] == json.loads(json.dumps(script.facts())), mend
    assert kept["picture"] == script.picture_checksum(), mend


def test_a_second_demo_replaces_the_first(demo: Path) -> None:
    assert not (demo / "scenes" / "left-over").exists()


@pytest.mark.parametrize(
    ("beside", "mine"),
    [(None, "runs/csknet"), (None, "scenes/train"), (MARK_NAME, "runs/mine"), ("report.html", "runs/mine")],
)
def test_what_no_demo_made_is_not_removed(tmp_path: Path, beside: str | None, mine: str) -> None:
    kept = tmp_path / mine / "kept"
    kept.parent.mkdir(parents=True)
    kept.touch()
    if beside is not None:
        (tmp_path / beside).write_text(TITLE)
    with pytest.raises(OptionError, match="something else"):
        run_demo(tmp_path, size=TINY, quiet=True)
    assert kept.is_file()


def test_the_demo_of_an_earlier_version_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("crossband.demo.export_folder", ends)
    (tmp_path / "runs" / "csknet").mkdir(parents=True)
    (tmp_path / "report.html").write_text(f"<title>{TITLE}</title>")
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path, size=TINY, quiet=True)
    assert {entry.name for entry in tmp_path.iterdir()} == {MARK_NAME}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(OptionError, match="something else"):
        run_demo(tmp_path, size=TINY, quiet=True)
    assert (tmp_path / "thesis.tex").read_text() == "x"
