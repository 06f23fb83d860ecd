"""Reduction of maps and masks to counts.

Notation: a test set has P defective and N normal pixels. A pixel is positive where score >= t. Ranks change only at
scores of defective pixels, so the K distinct ones, in descending order, are the only thresholds that areas and maxima
need: between two of them, a lower t only adds false positives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Counts:
    """Counts at the K distinct scores of defective pixels, in descending order.

    Attributes
    ----------
    thresholds : numpy.ndarray
        float32, (K,).
    tp, fp, fp_above : numpy.ndarray
        int64, (K,): defective pixels >= t; normal pixels >= t; normal pixels > t.
    overlap : numpy.ndarray
        float64, (K,): mean over regions of the share of a region >= t (per-region overlap).
    positives, negatives : int
        P and N.
    """

    thresholds: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fp_above: np.ndarray
    overlap: np.ndarray
    positives: int
    negatives: int


def at_least(ordered: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return how many of the ascending `ordered` are >= each threshold, int64."""
    return len(ordered) - np.searchsorted(ordered, thresholds, side="left").astype(np.int64)


def count(defective: np.ndarray, normal: np.ndarray, weights: np.ndarray | None = None) -> Counts:
    """Reduce scores to counts.

    Parameters
    ----------
    defective : numpy.ndarray
        float32, (P,), scores of defective pixels (or images), in any order.
    normal : numpy.ndarray
        float32, (N,), scores of normal ones, **ascending**.
    weights : numpy.ndarray, optional
        float64, (P,), share of each defective pixel in the overlap; equal shares by default.
    """
    order = np.argsort(-defective, kind="stable")
    ranked = defective[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.empty(0, np.int64)
    thresholds = ranked[last]
    share = np.full(len(ranked), 1 / max(1, len(ranked))) if weights is None else weights[order]
    fp_above = len(normal) - np.searchsorted(normal, thresholds, side="right").astype(np.int64)
    overlap = np.cumsum(share, dtype=np.float64)[last]
    return Counts(thresholds, last.astype(np.int64) + 1, at_least(normal, thresholds), fp_above, overlap, len(ranked), len(normal))


def region_labels(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label the 8-connected regions of a mask.

    Parameters
    ----------
    mask : numpy.ndarray
        bool, (H, W).

    Returns
    -------
    labels : numpy.ndarray
        int, one per pixel of the mask in row-major order, from 0.
    sizes : numpy.ndarray
        int64, pixels of each region.
    """
    labels, number = ndimage.label(mask, structure=np.ones((3, 3)))
    flat = labels[mask] - 1
    return flat, np.bincount(flat, minlength=number)
