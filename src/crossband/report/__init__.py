"""Reports: one self-contained HTML page of tables, charts and pictures."""

from crossband.report.charts import learning_curves, per_class_iou_chart, spread_chart
from crossband.report.evaluation_page import evaluation_page, write_evaluation
from crossband.report.fusion_page import fusion_page, write_fusion_evaluation
from crossband.report.page import Cell, Page

__all__ = [
    "Cell",
    "Page",
    "evaluation_page",
    "fusion_page",
    "learning_curves",
    "per_class_iou_chart",
    "spread_chart",
    "write_evaluation",
    "write_fusion_evaluation",
]
