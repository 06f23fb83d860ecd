"""The metric suite: `evaluate` turns maps and masks into numbers and curves; usable without the rest of the project."""

from bench.metrics.suite import (
    METRICS,
    RATE_GRID,
    VALUE_GRID,
    VERSION,
    Evaluation,
    Metric,
    evaluate,
)

__all__ = ["METRICS", "RATE_GRID", "VALUE_GRID", "VERSION", "Evaluation", "Metric", "evaluate"]
