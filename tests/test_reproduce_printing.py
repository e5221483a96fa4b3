"""Filled tables as they are printed, held against texts written by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from crossband.info import Parameters
from crossband.metrics.resampling import Interval
from crossband.reproduce.filling import Block, Filled, FilledRow, Ours
from crossband.reproduce.printing import to_csv, to_markdown, write_table
from crossband.reproduce.settings import Settings
from crossband.reproduce.table import Cell, Column, Row, Table, Use

MSRS, ACCURACY = Column("msrs"), Column("msrs", "mAP", "mean_class_accuracy", digits=1)
ROWS = (
    Row(
        "One",
        "visible",
        "deeplabv3plus",
        published=(Cell("50.00", "Doubtful."), Cell("60.0", source="A letter")),
        group="Baseline",
        parameters=Cell("11.68", "Counted twice."),
    ),
    Row("Two", "both", "csknet", published=("70.50", ""), group="Methods", notes=("Ours.", "Doubtful.")),
)
TABLE = Table(
    name="paper/table-9",
    title="Some | rows",
    paper="A paper",
    source="A paper, table 9",
    columns=(MSRS, ACCURACY),
    rows=ROWS,
    protocol="all-nan",
    protocol_note="Not stated.",
    uses={"msrs": Use(note="The official split."), "fmb": Use(note="Not of this table.")},
    notes=("A note.",),
    prints_parameters=True,
)


def filled(*, on: str | None = None) -> Filled:
    blocks = tuple(Block((column,), comparable=on is None) for column in TABLE.columns)
    one = {
        (0, "all-nan"): Ours((0.4, 0.52, 0.46), interval=Interval(0.46, 0.3112, 0.6)),
        (0, "present"): Ours((0.5,)),
        (1, None): Ours((0.61, 0.63)),
    }
    two = dict.fromkeys(one, Ours(problem="not finished"))
    rows = (
        FilledRow(ROWS[0], one, Parameters(11_682_241, 592_896, 0), Parameters(3000, 0, 10)),  # type: ignore[arg-type]
        FilledRow(ROWS[1], two, None, None, fallback=True),  # type: ignore[arg-type]
    )
    settings = Settings(budget="quick" if on else "paper", on=on)
    return Filled(TABLE, settings, blocks, rows, {"data": "msrs", "command": "crossband reproduce"})


GOLDEN = """\
# paper/table-9: Some | rows

Published: A paper. Mean IoU and accuracies in percent.

Ours: mean over seeds (lowest to highest, number of seeds), and ours less published.

After 95 %: the interval of the mean, by a bootstrap over the test pairs, with the spread of the seeds \
where there are two or more. With one seed, it does not say what another one would give.

Protocol: Not stated.

| setting | row | bands | MSRS mIoU, published | ours, all-nan | difference | ours, present \
| MSRS mAP, published | ours, mean class accuracy | difference |
|---|---|---|---|---|---|---|---|---|---|
| Baseline | One | visible | 50.00 [1] | 46.00 (40.00 to 52.00, n = 3; 95 %: 31.12 to 60.00) \
| −4.00 | 50.00 (n = 1) | 60.0 \
| 62.0 (61.0 to 63.0, n = 2) | +2.0 |
| Methods | Two [2] [1] | both (fallback) | 70.50 | – [3] | – | – [3] | – | – [3] | – |

## Parameters

Parameters, counted alike for every row: deployed is what inference on these bands touches, shared ones \
once; dead is what nothing reads; training only is what else its training holds, such as a teacher. \
First at the paper's size, with the classes of the table's first benchmark, then as run here.

| row | bands | published | deployed | of them dead | training only | as run: deployed | as run: dead \
| as run: training only |
|---|---|---|---|---|---|---|---|---|
| One | visible | 11.68 M [4] | 11,682,241 | 592,896 | 0 | 3,000 | 0 | 10 |
| Two | both | – | – | – | – | – | – | – |

## Notes

1. Doubtful.
2. Ours.
3. None of ours: not finished.
4. Counted twice.
5. A note.
6. The official split.

## What ours were made with

- data: msrs
- command: `crossband reproduce`
"""


def test_markdown_is_as_written_by_hand() -> None:
    assert to_markdown(filled()) == GOLDEN


def test_on_other_data_there_is_no_difference() -> None:
    text = to_markdown(filled(on="scenes,seed=0"))
    assert "Ours: on generated scenes" in text
    assert "A difference between the two would mean nothing" in text
    assert "| difference" not in text
    assert "−4.00" not in text
    assert "The official split." not in text
    assert "Budget quick" in text
    assert all(row["difference"] == "" for row in csv.DictReader(io.StringIO(to_csv(filled(on="scenes")))))


def test_csv_has_a_figure_a_line() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(filled()))))
    first = rows[0]
    assert first == {
        "table": "paper/table-9",
        "row": "One",
        "system": "deeplabv3plus",
        "bands": "visible",
        "benchmark": "msrs",
        "measure": "mean_iou",
        "protocol": "all-nan",
        "published": "50.00",
        "source": "A paper, table 9",
        "ours_mean": "46.0000",
        "ours_min": "40.0000",
        "ours_max": "52.0000",
        "seeds": "3",
        "difference": "-4.0000",
        "ours_on": "msrs",
        "problem": "",
        "ours_low": "31.1200",
        "ours_high": "60.0000",
    }
    # The paper's protocol alone is held against the paper.
    assert [row["difference"] for row in rows if row["row"] == "One"][1:3] == ["", "2.0000"]
    # What is not the table's own figure says where it is from.
    assert {row["measure"]: row["source"] for row in rows if row["row"] == "One"} == {
        "mean_iou": "A paper, table 9",
        "mean_class_accuracy": "A letter",
        "parameters_millions": "A paper, table 9",
        **dict.fromkeys((row["measure"] for row in rows if row["measure"].startswith("parameters_d")), ""),
        **dict.fromkeys((row["measure"] for row in rows if row["measure"].startswith("parameters_t")), ""),
    }
    sizes = {row["measure"]: row["ours_mean"] for row in rows if row["measure"].startswith("parameters")}
    assert sizes == {
        "parameters_millions": "",
        "parameters_deployed": "11682241",
        "parameters_dead": "592896",
        "parameters_training_only": "0",
        "parameters_deployed_as_run": "3000",
        "parameters_dead_as_run": "0",
        "parameters_training_only_as_run": "10",
    }
    assert [row["problem"] for row in rows if row["row"] == "Two"] == ["not finished"] * 3


def test_the_page_shows_what_the_text_does(tmp_path: Path) -> None:
    path = write_table(filled(), tmp_path)
    assert path.name == "paper-table-9.md"
    assert path.read_text(encoding="utf-8") == GOLDEN
    page = (tmp_path / "paper-table-9.html").read_text(encoding="utf-8")
    for text in (
        "46.00 (40.00 to 52.00, n = 3; 95 %: 31.12 to 60.00)",
        "−4.00",
        "[4] Counted twice.",
        "11,682,241",
        "Some | rows",
    ):
        assert text in page
    assert page.count('class="ruled"') == 1


@pytest.mark.parametrize("suffix", ["md", "csv", "html"])
def test_files_are_the_same_each_time(tmp_path: Path, suffix: str) -> None:
    for folder in ("a", "b"):
        write_table(filled(), tmp_path / folder)
    a, b = (tmp_path / folder / f"paper-table-9.{suffix}" for folder in "ab")
    assert a.read_bytes() == b.read_bytes()
