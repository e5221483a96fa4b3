"""Reports: one self-contained HTML page of tables, charts and pictures."""

from crossband.report.charts import learning_curves, per_class_iou_chart
from crossband.report.evaluation_page import evaluation_page, write_evaluation
from crossband.report.page import Cell, Page

__all__ = ["Cell", "Page", "evaluation_page", "learning_curves", "per_class_iou_chart", "write_evaluation"]
