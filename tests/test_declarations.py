"""A score is declared once: what is declared reaches every file, and the documentation has a row for it."""

import json
import re
from html import escape
from pathlib import Path

import pytest
import torch

from crossband.evaluation import BandResult, Evaluation
from crossband.metrics import PROTOCOLS, SCORES
from crossband.metrics.fusion import CONVENTIONS, METRICS
from crossband.pairs.base import Classes
from crossband.report import write_evaluation

DOCS = Path(__file__).parents[1] / "docs"


def rows(page: str, columns: int) -> dict[str, list[str]]:
    """The rows of a page's tables that have so many columns, by their first cell without its marks."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in (DOCS / page).read_text().splitlines()]
    cells = [[cell.strip() for cell in line] for line in lines if len(line) == columns]
    return {line[0].split(" (")[0].strip("`"): line for line in cells}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metrics_row_names_its_function_and_direction(metric):
    row = rows("fusion-metrics.md", 6)[metric.name]
    assert row[1] == f"`{metric.source.split('.')[1]}`"
    assert row[4] == metric.better


def test_every_convention_and_protocol_has_a_row():
    assert set(rows("fusion-metrics.md", 3)) >= set(CONVENTIONS)
    assert set(rows("evaluating.md", 3)) >= set(PROTOCOLS)
    for name, protocol in PROTOCOLS.items():
        assert rows("evaluating.md", 3)[name][2] == protocol.users


def test_what_is_declared_is_told_in_every_file(tmp_path):
    confusion = torch.tensor([[3, 1], [0, 4]])
    classes = Classes(("road", "car"), ((0, 0, 0), (9, 9, 9)))
    results = {"both": BandResult("both", "designed", confusion)}
    write_evaluation(Evaluation("s", "x", "test", classes, 1, "float32", results), tmp_path)
    text, csv, page = ((tmp_path / f"evaluation.{s}").read_text("utf-8") for s in ("txt", "csv", "html"))
    document = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))["results"]["both"]["overall"]
    for name, protocol in PROTOCOLS.items():
        assert name in text
        assert f",mean_iou,{name}," in csv
        assert escape(protocol.meaning) in page
        assert escape(protocol.users) in page
    assert list(document["mean_iou"]) == list(PROTOCOLS)
    for name, score in SCORES.items():
        assert f",{name}," in csv
        assert name in document
        assert escape(score.title) in page
        assert escape(score.meaning) in page
        assert score.short in text or (score.per_class and not score.headline)
