"""Numbers and curves as functions of counts."""

from __future__ import annotations

import numpy as np

from anoseg_bench.metrics.counts import Counts

#: Shared false-positive rates between which AUPIMO is taken.
PIMO_RANGE = (1e-5, 1e-4)


def auroc(c: Counts) -> float:
    """Return the area under the ROC curve: P(defective > normal) + P(defective = normal) / 2.

    This is the Mann-Whitney statistic (Hanley and McNeil 1982), equal to the trapezoidal area.
    """
    hits = np.diff(c.tp, prepend=0)
    below = 2 * c.negatives - (c.fp + c.fp_above)
    return float(np.dot(hits.astype(np.float64), below) / (2.0 * c.positives * c.negatives))


def iou(tp: np.ndarray, fp: np.ndarray, positives: int | np.ndarray) -> np.ndarray:
    """Return TP / (TP + FP + FN), the intersection over union of the defective pixels, pooled."""
    return tp / (positives + fp)


def f1(tp: np.ndarray, fp: np.ndarray, positives: int) -> np.ndarray:
    """Return 2 TP / (2 TP + FP + FN), the F1 score (Dice coefficient) of the defective pixels, pooled."""
    return 2 * tp / (tp + fp + positives)


def pro_curve(c: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Return the curve of per-region overlap over the false-positive rate, from (0, 0) to (1, 1).

    Every corner of the curve is kept: just above each threshold and at it.

    Returns
    -------
    fpr, overlap : numpy.ndarray
        float64, (2 K + 2,), not decreasing.
    """
    return _corners(c, c.overlap)


def roc_curve(c: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Return the true-positive rate over the false-positive rate, from (0, 0) to (1, 1), as `pro_curve` does."""
    return _corners(c, c.tp / c.positives)


def _corners(c: Counts, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = np.empty(2 * len(y) + 2)
    heights = np.empty_like(x)
    x[0], x[-1], x[1:-1:2], x[2:-1:2] = 0, 1, c.fp_above, c.fp
    x[1:-1] /= c.negatives
    heights[0], heights[1], heights[-1], heights[3:-1:2], heights[2:-1:2] = 0, 0, 1, y[:-1], y
    return x, heights


def limited_area(x: np.ndarray, y: np.ndarray, limit: float) -> np.ndarray:
    """Return the area under curves up to x = `limit`, interpolated there, divided by `limit`.

    AUPRO@0.3 (Bergmann et al. 2021, "The MVTec anomaly detection dataset", section 4.2) is this with limit 0.3.

    Parameters
    ----------
    x, y : numpy.ndarray
        float64, (..., K), x not decreasing.
    """
    needed = int((x < limit).reshape(-1, x.shape[-1]).any(axis=0).sum()) + 1 if x.ndim > 1 else int(np.searchsorted(x, limit)) + 1
    x, y = x[..., :needed], y[..., :needed]
    steps = np.diff(x)
    covered = np.clip(limit - x[..., :-1], 0, steps)
    with np.errstate(invalid="ignore"):
        fraction = np.where(steps > 0, covered / steps, 0)
    heights = y[..., :-1] + 0.5 * fraction * np.diff(y)
    return np.minimum(1.0, np.vecdot(covered, heights) / limit)  # rounding may lead just above 1


def log_area(x: np.ndarray, y: np.ndarray, limits: tuple[float, float] = PIMO_RANGE) -> np.ndarray:
    """Return the mean of curves over log x between two limits; between its points a curve is linear in x.

    AUPIMO (Bertoldo et al. 2024, arXiv 2401.01984) is this with x the false-positive rate shared by all images, the mean
    over normal images of their own, and y the share of one image's defective pixels that is found. Linear in x, as
    ties are in a ROC curve: random scores give (U - L) / ln(U / L).

    Parameters
    ----------
    x, y : numpy.ndarray
        float64, (..., K), x not decreasing.
    """
    low, high = limits
    some = np.any((x[..., 1:] > np.maximum(x[..., :-1], low)) & (x[..., :-1] < high), axis=tuple(range(x.ndim - 1)))
    inside = np.flatnonzero(some)
    x0, x1, y0, y1 = x[..., inside], x[..., inside + 1], y[..., inside], y[..., inside + 1]
    left, right = np.clip(x0, low, high), np.clip(x1, low, high)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.where(x1 > x0, (y1 - y0) / (x1 - x0), 0)
    area = (y0 - slope * x0) * np.log(right / left) + slope * (right - left)
    return np.clip(area.sum(axis=-1) / np.log(high / low), 0, 1)
