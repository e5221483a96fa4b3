"""`crossband data check`: hold a source against what it should be."""

from crossband.pairs.check.checking import check_source
from crossband.pairs.check.report import CheckReport, Problem, SplitReport

__all__ = ["CheckReport", "Problem", "SplitReport", "check_source"]
