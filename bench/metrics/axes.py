"""The two axes of threshold robustness, and the grids that are kept of them."""

from __future__ import annotations

import numpy as np

#: Points of the map's value, 0..1, and of the false-positive rate on pixels of normal images, even in its logarithm. Means and
#: widths are taken over them.
VALUE_AXIS = np.linspace(0, 1, 10001)
RATE_AXIS = np.logspace(-5, -1, 4001)
RATE_AXIS[::1000] = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]  # exactly: a rate of 1e-5 allows one of 100,000 pixels
VALUE_STEP, RATE_STEP = 50, 25
#: What is kept of them for plots and for statistics per image; the rates go on to 1 so that ROC can be made of them.
VALUE_GRID = VALUE_AXIS[::VALUE_STEP]
RATE_CURVE = RATE_AXIS[::RATE_STEP]
RATE_GRID = np.concatenate([RATE_CURVE, np.linspace(0.125, 0.975, 35)])
#: False-positive rates at which ROC and PRO curves are kept for plots, and recalls for precision.
FPR_GRID = np.concatenate([[0.0], np.logspace(-5, 0, 251)])
RECALL_GRID = np.linspace(0, 1, 201)


def value_thresholds(low: float, high: float, scaled: bool, axis: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return thresholds on the map's value, of a type: `axis` itself, or stretched over the scores; none if those are infinite."""
    if not scaled:
        return axis.astype(dtype)
    if not np.isfinite(high - low):
        return np.empty(0, dtype)
    return np.where(axis == 1, high, low + axis * (high - low)).astype(dtype)
