"""How well one number alone separates two groups: AUROC with an interval that holds for few images and at 0 and 1."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit, logit, ndtri


def separation(high: np.ndarray, low: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    r"""Return the probability that a value of `high` is above one of `low` (ties count half), and its confidence interval.

    Parameters
    ----------
    high, low : numpy.ndarray
        float, (m,) and (n,), finite, with m, n >= 1.
    level : float
        Confidence, in 0..1.

    Notes
    -----
    The interval is the union of two, as each fails where the other holds. The one of Newcombe (2006, method 5) has all
    :math:`\theta` with :math:`|\hat\theta - \theta| \le z \sqrt{V(\theta)}`,

    .. math:: V(\theta) = \frac{\theta (1 - \theta)}{mn}
        \left(1 + s \left(\frac{1 - \theta}{2 - \theta} + \frac{\theta}{1 + \theta}\right)\right),
        \qquad s = \frac{m + n}{2} - 1,

    which is no single point where the groups are apart altogether, but too narrow where one spreads much more than the other. That
    of DeLong et al. (1988), on the scale of the logit, knows their spread, and nothing where they are apart.

    References
    ----------
    R. G. Newcombe. Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2: asymptotic methods
    and evaluation. Statistics in Medicine 25, 2006.
    E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson. Comparing the areas under two or more correlated receiver operating
    characteristic curves: a nonparametric approach. Biometrics 44, 1988.

    Examples
    --------
    >>> separation(np.array([2.0, 3.0]), np.array([1.0, 2.0]))[0]
    0.875
    >>> [round(number, 2) for number in separation(np.arange(20) + 500.0, np.arange(200.0))]
    [1.0, 0.95, 1.0]
    """
    area = float(_placements(high, low).mean())
    first, last = ends_of_auroc(high, low, np.array([ndtri((1 + level) / 2)]))
    return area, float(first[0]), float(last[0])


def ends_of_auroc(high: np.ndarray, low: np.ndarray, quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of `separation`'s interval at some levels, given as quantiles z of the normal distribution: (K,) each."""
    of_high, of_low = _placements(high, low), 1 - _placements(low, high)
    area = float(of_high.mean())
    first, last = _newcombe(area, len(high), len(low), quantiles)
    if 0 < area < 1 and min(len(high), len(low)) > 1:
        deviation = math.sqrt(of_high.var(ddof=1) / len(high) + of_low.var(ddof=1) / len(low)) / (area * (1 - area))
        first = np.minimum(first, expit(logit(area) - quantiles * deviation))
        last = np.maximum(last, expit(logit(area) + quantiles * deviation))
    return first, last


def _placements(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return of each value the share of the others that it is above, ties counting half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(others))


def _newcombe(area: float, m: int, n: int, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of Newcombe's interval at quantiles z, by bisection."""
    s = (m + n) / 2 - 1

    def outside(theta: np.ndarray) -> np.ndarray:
        variance = theta * (1 - theta) / (m * n) * (1 + s * ((1 - theta) / (2 - theta) + theta / (1 + theta)))
        return abs(area - theta) > z * np.sqrt(variance)

    def between(out: float) -> np.ndarray:
        far, near = np.full(len(z), out), np.full(len(z), area)
        for _ in range(50):
            middle = (far + near) / 2
            is_out = outside(middle)
            far, near = np.where(is_out, middle, far), np.where(is_out, near, middle)
        return near

    return between(0.0), between(1.0)
