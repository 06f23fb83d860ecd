"""Numbers and curves as functions of counts."""

from __future__ import annotations

import numpy as np

from bench.metrics.counts import Counts, at_least


def auroc(c: Counts) -> float:
    """Return the area under the ROC curve: P(defective > normal) + P(defective = normal) / 2.

    This is the Mann-Whitney statistic (Hanley and McNeil 1982), equal to the trapezoidal area.
    """
    hits = np.diff(c.tp, prepend=0).astype(np.float64)
    below = c.negatives - (c.fp + c.fp_above) / 2
    return float((hits * below).sum() / (float(c.positives) * c.negatives))


def average_precision(c: Counts) -> float:
    """Return the step-wise average precision, sum of (R_k - R_{k-1}) P_k, not interpolated."""
    return float((np.diff(c.tp, prepend=0) * (c.tp / (c.tp + c.fp))).sum() / c.positives)


def iou(tp: np.ndarray, fp: np.ndarray, positives: int) -> np.ndarray:
    """Return TP / (TP + FP + FN), the intersection over union of the defective pixels, pooled."""
    return tp / (positives + fp)


def f1(tp: np.ndarray, fp: np.ndarray, positives: int) -> np.ndarray:
    """Return 2 TP / (2 TP + FP + FN), the F1 score (Dice coefficient) of the defective pixels, pooled."""
    return 2 * tp / (tp + fp + positives)


def pro_curve(c: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Return the curve of per-region overlap over the false-positive rate, from (0, 0) to (1, 1).

    With equal shares of all pixels as weights it is the ROC curve. Every corner of the curve is kept: just above
    each threshold and at it.

    Returns
    -------
    fpr, overlap : numpy.ndarray
        float64, (2 K + 2,), not decreasing.
    """
    before = np.concatenate([[0.0], c.overlap[:-1]])
    fpr = np.column_stack([c.fp_above, c.fp]).ravel() / c.negatives
    overlap = np.column_stack([before, c.overlap]).ravel()
    return np.concatenate([[0.0], fpr, [1.0]]), np.concatenate([[0.0], overlap, [1.0]])


def limited_area(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    """Return the area under a curve up to x = `limit`, interpolated there, divided by `limit`.

    AUPRO@0.3 (Bergmann et al. 2021, "The MVTec anomaly detection dataset", section 4.2) is this with limit 0.3.
    """
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside < len(x):
        fraction = (limit - x[inside - 1]) / (x[inside] - x[inside - 1])
        x = np.append(x[:inside], limit)
        y = np.append(y[:inside], y[inside - 1] + fraction * (y[inside] - y[inside - 1]))
    return min(1.0, float(np.trapezoid(y, x) / limit))  # rounding may lead just above 1


def smallest_threshold(normal: np.ndarray, rate: float) -> float:
    """Return the smallest float32 t at which at most a share `rate` of the normal scores is >= t (above ties).

    Parameters
    ----------
    normal : numpy.ndarray
        float32, (N,), ascending.
    rate : float
        In 0..1.
    """
    allowed = int(np.floor(rate * len(normal)))
    if allowed >= len(normal):
        return float(normal[0])
    return float(np.nextafter(normal[len(normal) - 1 - allowed], np.float32(np.inf), dtype=np.float32))


def counts_at(defective: np.ndarray, normal: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (TP, FP) at any thresholds for ascending scores."""
    return at_least(defective, thresholds), at_least(normal, thresholds)
