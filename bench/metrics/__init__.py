"""The metric suite: `evaluate` turns maps and masks into numbers and curves; usable without the rest of the project."""

from anoseg_bench.metrics.axes import FPR_GRID, RATE_CURVE, RATE_GRID, RECALL_GRID, VALUE_GRID
from anoseg_bench.metrics.suite import METRICS, VERSION, Evaluation, Metric, evaluate

__all__ = [
    "FPR_GRID",
    "METRICS",
    "RATE_CURVE",
    "RATE_GRID",
    "RECALL_GRID",
    "VALUE_GRID",
    "VERSION",
    "Evaluation",
    "Metric",
    "evaluate",
]
