"""The metric suite: `evaluate` turns maps and masks into numbers and curves; usable without the rest of the project."""

from anoseg_bench.metrics.axes import FPR_GRID, RATE_CURVE, RATE_GRID, RECALL_GRID, VALUE_GRID
from anoseg_bench.metrics.catalogue import THRESHOLDS, Metric, metric, names_shown, tabled
from anoseg_bench.metrics.suite import VERSION, Evaluation, evaluate

__all__ = [
    "FPR_GRID",
    "RATE_CURVE",
    "RATE_GRID",
    "RECALL_GRID",
    "THRESHOLDS",
    "VALUE_GRID",
    "VERSION",
    "Evaluation",
    "Metric",
    "evaluate",
    "metric",
    "names_shown",
    "tabled",
]
