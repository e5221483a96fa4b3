"""Reports: evaluations as text, CSV, JSON and self-contained HTML pages, charts and pictures.

The names below load on first use: a contact sheet needs no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossband.report.charts import learning_curves, per_class_iou_chart, spread_chart
    from crossband.report.evaluation_files import evaluation_csv, evaluation_dict, evaluation_text
    from crossband.report.evaluation_html import evaluation_page, write_evaluation
    from crossband.report.fusion_files import fusion_csv, fusion_dict, fusion_text
    from crossband.report.fusion_html import fusion_page, write_fusion_evaluation
    from crossband.report.page import Cell, Page
    from crossband.report.sheet import contact_sheet

_LAZY = {
    "Cell": "page",
    "Page": "page",
    "contact_sheet": "sheet",
    "evaluation_csv": "evaluation_files",
    "evaluation_dict": "evaluation_files",
    "evaluation_page": "evaluation_html",
    "evaluation_text": "evaluation_files",
    "fusion_csv": "fusion_files",
    "fusion_dict": "fusion_files",
    "fusion_page": "fusion_html",
    "fusion_text": "fusion_files",
    "learning_curves": "charts",
    "per_class_iou_chart": "charts",
    "spread_chart": "charts",
    "write_evaluation": "evaluation_html",
    "write_fusion_evaluation": "fusion_html",
}

__all__ = [
    "Cell",
    "Page",
    "contact_sheet",
    "evaluation_csv",
    "evaluation_dict",
    "evaluation_page",
    "evaluation_text",
    "fusion_csv",
    "fusion_dict",
    "fusion_page",
    "fusion_text",
    "learning_curves",
    "per_class_iou_chart",
    "spread_chart",
    "write_evaluation",
    "write_fusion_evaluation",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
