"""Thresholds from held-out normal images alone: what a user could deploy."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from anoseg_bench.metrics.counts import allowed, as_floats, check_repeatable, just_above


def pixel_threshold(normal_maps: Iterable[np.ndarray], rate: float) -> tuple[float, np.ndarray]:
    """Return the smallest t at which at most a share `rate` of all pixels is >= t (above ties).

    Parameters
    ----------
    normal_maps : iterable of numpy.ndarray
        float, (H, W); read twice, one at a time. Memory is that of one map and of a share `rate` of all pixels.
    rate : float
        In 0..1.

    Returns
    -------
    threshold : float
        NaN where there is no map, or where no finite threshold is high enough.
    peaks : numpy.ndarray
        The largest score of each map, float32 or float64.

    Raises
    ------
    ValueError
        If a map holds NaN, or the maps can be read once only.
    """
    check_repeatable("normal_maps", normal_maps)
    pixels = 0
    for number, scores in enumerate(normal_maps):
        if np.ndim(scores) != 2 or np.size(scores) == 0:
            raise ValueError(f"Expected a map (H, W) for held-out normal image number {number}, but got {np.shape(scores)}.")
        pixels += np.size(scores)
    if pixels == 0:
        return math.nan, np.empty(0, np.float32)
    above = int(allowed(rate, pixels))
    top = np.empty(0, np.float32)
    peaks: list[np.floating] = []
    smallest: np.floating = np.float32(np.inf)
    for scores in normal_maps:
        flat = as_floats(scores).ravel()
        peaks.append(flat.max())
        if np.isnan(peaks[-1]):
            raise ValueError(f"Expected maps without NaN, but held-out normal image number {len(peaks) - 1} has one.")
        smallest = min(smallest, flat.min())
        top = np.concatenate([top, flat[flat > top[0]] if len(top) > above else flat])
        if len(top) > above:
            top = np.partition(top, len(top) - 1 - above)[len(top) - 1 - above :]
    threshold = just_above(top[:1])[0] if len(top) > above else smallest
    return float(threshold), np.array(peaks)


def needed_scores(level: float) -> int:
    """Return how many held-out scores `image_threshold` needs at a level."""
    return math.ceil(1 / level - 1 - 1e-9)


def image_threshold(normal_scores: np.ndarray, level: float) -> float:
    """Return the smallest t that an image like the held-out ones reaches with probability <= `level`.

    This is split conformal prediction (Vovk et al. 2005; as a detector of anomalies Laxhammar and Falkman 2010): just
    above the ceil((n + 1) (1 - level))-th smallest of n scores, valid for any method if the images are exchangeable.

    Returns
    -------
    float
        NaN where there are fewer than `needed_scores`.
    """
    rank = math.ceil((len(normal_scores) + 1) * (1 - level) - 1e-9)
    if len(normal_scores) < needed_scores(level):
        return math.nan
    return float(just_above(np.sort(as_floats(normal_scores))[rank - 1 : rank])[0])
