"""Which method is better than which, and where: wins, ties and losses by the interval of the paired difference."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anoseg_bench.metrics import metric
from anoseg_bench.report.results import Results

#: Of the first method of a pair: its whole interval of the difference above zero, below zero, zero inside; no interval.
WIN, LOSS, TIE, UNDEFINED = "w", "l", "t", "-"


@dataclass(frozen=True)
class Wins:
    """A metric's comparisons of all pairs of methods, ``(0, 1), (0, 2), ..., (1, 2), ...``, at each place.

    Attributes
    ----------
    places : list of (int, str)
        Category and defect type, ``""`` for the whole category; a category's defect types follow it.
    outcomes : list of str
        For each place one letter per pair: `WIN`, `LOSS`, `TIE`, `UNDEFINED`.
    differences : numpy.ndarray
        float64, (places, pairs, 2): the 95 % interval of the difference, NaN where undefined.
    """

    metric: str
    places: list[tuple[int, str]]
    outcomes: list[str]
    differences: np.ndarray


def outcome(low: float, high: float) -> str:
    """Return what the interval of a difference says of the first of two methods.

    Examples
    --------
    >>> outcome(0.01, 0.2), outcome(-0.2, -0.01), outcome(-0.1, 0.2)
    ('w', 'l', 't')
    """
    if math.isnan(low):
        return UNDEFINED
    return WIN if low > 0 else LOSS if high < 0 else TIE


def wins(results: Results, names: Sequence[str]) -> list[Wins]:
    """Return the comparisons by some metrics, of which more is better, on all categories and defect types."""
    pairs = list(itertools.combinations(range(len(results.variants)), 2))
    found = []
    for name in names:
        by_defect = metric(name).by_defect
        places = [
            (c, defect)
            for c, category in enumerate(results.categories)
            for defect in ["", *(results.defects(category) if by_defect else [])]
        ]
        differences = np.full((len(places), len(pairs), 2), math.nan)
        for place, (category, defect) in enumerate(places):
            resamples = results.intervals.of(name, [category], defect)
            for pair, (v, other) in enumerate(pairs if resamples else []):
                interval = resamples.difference(v, other)  # type: ignore[union-attr]
                differences[place, pair] = interval.low, interval.high
        outcomes = ["".join(outcome(*interval) for interval in of_place) for of_place in differences.tolist()]
        found.append(Wins(name, places, outcomes, differences))
    return found
