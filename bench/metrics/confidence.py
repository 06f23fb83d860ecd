r"""Confidence intervals of the numbers of one category, as draws that can be averaged over categories and seeds.

A *confidence distribution* of a number puts its 2.5 % and 97.5 % quantiles at the ends of the 95 % interval, and likewise for all
other levels. B draws of it, stratified, are kept of each number; a mean over categories has the means of these draws, and its
interval their quantiles. For discrete data there are two distributions, one for each end (`Draws`). Which interval stands behind:

* rates of images: Clopper and Pearson (1934), exact;
* AUROC of images: the union of Newcombe's and DeLong's intervals (`anoseg_bench.metrics.separation`);
* all others: the bootstrap's spread on the scale of the logit with a quantile of Student's t (`of_resamples`).

Differences of two methods on the same resamples: the bootstrap's spread with a quantile of Student's t (`around_mean`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import expit, logit, ndtri

from anoseg_bench.metrics.separation import ends_of_auroc

#: Resamples may differ by this much on the scale of the logit (a standard deviation); beyond, that scale says nothing.
WIDEST_LOGIT = 1.5
#: Levels, as quantiles of the normal distribution, at which the interval of an AUROC is computed; between, it is interpolated.
_QUANTILES = np.unique(np.append(np.linspace(0, 3.75, 16), ndtri(0.975)))


def _rate_end(hits: np.ndarray | int, number: np.ndarray | int, share: np.ndarray | float, upper: bool) -> np.ndarray:
    """Return a quantile of the lower or the upper confidence distribution of a rate; NaN of none."""
    hits, number = np.asarray(hits, float), np.asarray(number, float)
    one = (hits + upper, number - hits + (not upper))
    with np.errstate(invalid="ignore"):
        inside = stats.beta.ppf(share, *(np.maximum(parameter, 1e-12) for parameter in one))
    ends = np.where(hits >= number, 1.0, inside) if upper else np.where(hits <= 0, 0.0, inside)
    return np.where(number > 0, ends, np.nan)


@dataclass(frozen=True)
class Draws:
    """Draws of a number's confidence distributions, float64, (B,), NaN where it is undefined: of the lower and the upper end."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def none(cls, number: int) -> Draws:
        """Return draws of an undefined number."""
        undefined = np.full(number, np.nan)
        return cls(undefined, undefined)


def shares(number: int, rng: np.random.Generator) -> np.ndarray:
    """Return the quantiles that draws stand for, 0..1 evenly, in random order: (B,)."""
    return rng.permutation(np.linspace(0, 1, number))


def of_rate(hits: np.ndarray, number: np.ndarray, quantiles: np.ndarray) -> Draws:
    """Return draws of a rate, `hits` of `number`, which may vary with what else is resampled, as the threshold: (B,) each.

    Their quantiles are the ends of the exact interval (Clopper and Pearson 1934).
    """
    return Draws(_rate_end(hits, number, quantiles, False), _rate_end(hits, number, quantiles, True))


def of_auroc(high: np.ndarray, low: np.ndarray, quantiles: np.ndarray) -> Draws:
    """Return draws of the AUROC of scores `high` (m,) of defective images against `low` (n,) of normal ones."""
    first, last = ends_of_auroc(high, low, _QUANTILES)
    where = np.clip(ndtri(quantiles), -_QUANTILES[-1], _QUANTILES[-1])
    curve = np.concatenate([first[::-1], last[1:]])
    values = np.interp(where, np.concatenate([-_QUANTILES[::-1], _QUANTILES[1:]]), curve)
    return Draws(values, values)


def of_resamples(
    values: np.ndarray, exact: float, slopes: np.ndarray, strata: Sequence[np.ndarray], sizes: np.ndarray | None, units: int
) -> Draws:
    r"""Return draws of a number in 0..1 from its values on resamples.

    On the scale :math:`g` of the logit, with the standard deviation :math:`s` of the resamples, around the number
    :math:`\hat\theta`, the draws are :math:`g^{-1}(g(\hat\theta) + s\,t_\nu)`. The degrees of freedom are those of the estimated
    variance: with the influence :math:`u_i` of each image, its covariance with the number over the resamples (infinitesimal
    jackknife, Efron 2014), the variance of stratum :math:`h` is :math:`V_h = \sum u_i^2`, itself uncertain by the kurtosis
    :math:`\kappa_h` of :math:`u_i`, and :math:`\nu = 2 (\sum V_h)^2 / \sum V_h^2 (\kappa_h / n_h + 2 / (n_h - 1))`, no more than
    the number of images that count (Kish 1965) less one where large ones count more. Where the resamples reach 0 or 1, or lie too
    far apart, the scale is the arc sine of the square root.

    A few images in which a method fails make most of the spread, and a sample without one of them shows nothing of it. So the 95 %
    interval reaches further on either side, by the influence :math:`L = -\min u_i` or :math:`H = \max u_i` of the most extreme
    image, as though another like it were there, times twice its share, :math:`2 L / (L + H)` or :math:`2 H / (L + H)`; other levels
    in proportion. This is ours, and rests on simulation (`tests/tools/coverage`).

    Parameters
    ----------
    values : numpy.ndarray
        float64, (B + 1,), the first of the images themselves.
    exact : float
        The number, which the first value comes near.
    slopes : numpy.ndarray
        (B, M), see `slopes_of`.
    strata : sequence of numpy.ndarray
        Of each stratum the numbers of its images.
    sizes : numpy.ndarray or None
        (M,): how much each image counts; None: all alike.
    units : int
        Images on whom the number rests. Where no resample differs, and all is 0 or 1, the interval is that of a rate of so many.
    """
    number = len(values) - 1
    if not math.isfinite(exact) or not np.isfinite(values).any():
        return Draws.none(number)
    around = np.clip(exact + (values[1:] - values[0]), 0, 1)
    known = np.isfinite(around)
    quantiles = np.linspace(0, 1, number)
    if np.ptp(around[known]) < 1e-12:
        if units < 1 or 1e-9 < exact < 1 - 1e-9:
            return Draws.none(number)
        ends = of_rate(np.full(number, round(exact) * units), np.full(number, units), quantiles)
        return Draws(np.minimum(ends.low, exact), np.maximum(ends.high, exact))
    inside = around[known].min() > 0 and around[known].max() < 1 and 0 < exact < 1
    scaled = logit(around) if inside else np.empty(0)
    if inside and scaled[known].std() <= WIDEST_LOGIT:
        back, centre = expit, float(logit(exact))
    else:
        scaled, centre = np.arcsin(np.sqrt(around)), math.asin(math.sqrt(exact))

        def back(angle: np.ndarray) -> np.ndarray:
            return np.sin(np.clip(angle, 0, math.pi / 2)) ** 2

    influences = influences_of(scaled, slopes, strata)
    _, freedom = uncertainty(influences, sizes)
    draws = np.full(number, np.nan)
    order = np.argsort(scaled[known], kind="stable")
    steps = stats.t.ppf(np.linspace(0, 1, len(order)), freedom)
    low, high = (beyond / stats.t.ppf(0.975, freedom) for beyond in _beyond(influences))
    ranked = np.empty(len(order))
    ranked[order] = back(centre + (scaled[known].std(ddof=1) + np.where(steps < 0, low, high)) * steps)
    draws[known] = ranked
    return Draws(draws, draws)


def slopes_of(weights: np.ndarray) -> np.ndarray:
    """Return what turns values on resamples into influences of images, (B, M), from how often each is in them, (B + 1, M)."""
    drawn = weights[1:]
    return (drawn - drawn.mean(axis=0)) / (np.maximum(drawn.var(axis=0), 1e-12) * len(drawn))


def influences_of(values: np.ndarray, slopes: np.ndarray, strata: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the influences of the images of each stratum of two or more, (n,) each, on values on resamples, (B,)."""
    known = np.isfinite(values)
    deviation = np.where(known, values - values[known].mean(), 0) * (len(values) / known.sum())
    everywhere = deviation @ slopes
    return [everywhere[members] for members in strata if len(members) > 1]


def _beyond(influences: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return how much further than Student's t the lower and the upper end reach."""
    low, high = (max([0.0, *(float((sign * own).max()) for own in influences)]) for sign in (-1, 1))
    both = low + high or 1.0
    return 2 * low**2 / both, 2 * high**2 / both


def uncertainty(influences: Sequence[np.ndarray], sizes: np.ndarray | None) -> tuple[float, float]:
    """Return the variance that influences make, and its degrees of freedom, 2 at least."""
    total, uncertain = 0.0, 0.0
    for influence in influences:
        n = len(influence)
        variance = float(influence @ influence)
        second = float(np.mean((influence - influence.mean()) ** 2))
        kurtosis = max(0.0, float(np.mean((influence - influence.mean()) ** 4)) / second**2 - 3) if second > 0 else 0.0
        total += variance
        uncertain += variance**2 * (kurtosis / n + 2 / (n - 1))
    freedom = 2 * total**2 / uncertain if uncertain > 0 else math.inf
    if sizes is not None and sizes.any():
        freedom = min(freedom, float(sizes.sum()) ** 2 / float(np.square(sizes, dtype=float).sum()) - 1)
    return total, max(2.0, freedom)


def around_mean(values: np.ndarray, parts: Sequence[tuple[float, float]], level: float) -> tuple[float, float]:
    r"""Return the ends of the interval of a difference from its values on resamples.

    Their mean plus and minus their standard deviation times a quantile of Student's t. Differences have no bounds near, so no
    other scale is needed.

    Parameters
    ----------
    values : numpy.ndarray
        float64, (B,), NaN where undefined.
    parts : sequence of (float, float)
        The independent parts of the variance, each :math:`V_k` with its degrees of freedom :math:`\nu_k` (`uncertainty`), which
        together have :math:`(\sum V_k)^2 / \sum V_k^2 / \nu_k` (Satterthwaite 1946).
    level : float
        The share of such intervals that holds the truth, 0..1.
    """
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return math.nan, math.nan
    whole, uncertain = sum(variance for variance, _ in parts), sum(variance**2 / freedom for variance, freedom in parts)
    reach = float(known.std(ddof=1) * stats.t.ppf((1 + level) / 2, whole**2 / uncertain if uncertain > 0 else math.inf))
    return float(known.mean()) - reach, float(known.mean()) + reach
