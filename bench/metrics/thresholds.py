"""Thresholds from held-out normal images alone: what a user could deploy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from anoseg_bench.metrics.counts import allowed, as_floats, check_repeatable, just_above

#: What deployable thresholds allow: a share of the pixels of held-out images; the probability to call a normal image defective.
ALLOWED_FPR, ALLOWED_ALARMS = 1e-3, 0.05
#: False-positive rates on the held-out images, as multiples of the allowed one, at whose thresholds their pixels are counted.
AROUND = np.logspace(-2, 1.5, 43)


@dataclass(frozen=True)
class HeldOut:
    """What is kept of the maps of N held-out normal images.

    Attributes
    ----------
    threshold : float
        The smallest t at which at most the allowed share of all pixels is >= t (above ties); NaN where there is no map, or where no
        finite threshold is high enough.
    peaks : numpy.ndarray
        The largest score of each map, float32 or float64, (N,).
    thresholds : numpy.ndarray
        Descending, (K,), of the type of the scores: those of the rates `AROUND` the allowed one, and the threshold itself.
    counts : numpy.ndarray
        int64, (N, K): pixels >= each of them.
    pixels : numpy.ndarray
        int64, (N,).
    """

    threshold: float = math.nan
    peaks: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    thresholds: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    counts: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.int64))
    pixels: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


def pixel_threshold(normal_maps: Iterable[np.ndarray], rate: float) -> HeldOut:
    """Return the threshold that keeps to a false-positive rate on normal images, and what is needed to see how sure it is.

    Parameters
    ----------
    normal_maps : iterable of numpy.ndarray
        float, (H, W); read twice, one at a time. Memory is that of one map and of 32 times `rate` of all pixels.
    rate : float
        The allowed share of all pixels, in 0..1.

    Raises
    ------
    ValueError
        If a map holds NaN, or the maps can be read once only.
    """
    check_repeatable("normal_maps", normal_maps)
    pixels = []
    for number, scores in enumerate(normal_maps):
        if np.ndim(scores) != 2 or np.size(scores) == 0:
            raise ValueError(f"Expected a map (H, W) for held-out normal image number {number}, but got {np.shape(scores)}.")
        pixels.append(np.size(scores))
    total = sum(pixels)
    if total == 0:
        return HeldOut()
    kept = int(allowed(min(1.0, rate * AROUND[-1]), total))
    largest: list[np.ndarray] = []  # of each image what is among the `kept` + 1 largest of the images so far
    peaks: list[np.floating] = []
    smallest: np.floating = np.float32(np.inf)
    bar: np.floating = np.float32(-np.inf)
    for scores in normal_maps:
        flat = as_floats(scores).ravel()
        peaks.append(flat.max())
        if np.isnan(peaks[-1]):
            raise ValueError(f"Expected maps without NaN, but held-out normal image number {len(peaks) - 1} has one.")
        smallest = min(smallest, flat.min())
        largest.append(flat[flat >= bar])
        if sum(map(len, largest)) > 2 * (kept + 1):
            bar = _largest(np.concatenate(largest), kept)
            largest = [some[some >= bar] for some in largest]
    top = np.sort(np.concatenate(largest))[::-1]

    def at(share: float) -> np.ndarray:
        above = int(allowed(share, total))
        return just_above(top[above : above + 1]) if above < total else np.array([smallest], top.dtype)

    threshold = at(rate)
    around = [at(share) for share in np.minimum(1.0, rate * AROUND)]
    thresholds = np.unique(np.concatenate([threshold, *around]))[::-1]
    thresholds = thresholds[~np.isnan(thresholds)]
    ordered = [np.sort(some) for some in largest]
    counts = np.array([len(some) - np.searchsorted(some, thresholds, "left") for some in ordered], np.int64)
    return HeldOut(float(threshold[0]), np.array(peaks), thresholds, counts, np.array(pixels, np.int64))


def _largest(scores: np.ndarray, number: int) -> np.floating:
    """Return the score that `number` others reach or exceed."""
    return np.partition(scores, len(scores) - 1 - number)[len(scores) - 1 - number]


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
    if len(normal_scores) < needed_scores(level):
        return math.nan
    rank = conformal_rank(len(normal_scores), level)
    return float(just_above(np.sort(as_floats(normal_scores))[rank - 1 : rank])[0])


def conformal_rank(number: int, level: float) -> int:
    """Return which of the ascending held-out scores `image_threshold` is just above, counted from 1."""
    return math.ceil((number + 1) * (1 - level) - 1e-9)
