"""Methods side by side: differences to the best with intervals, ranks, and tests over categories.

Over categories: the Wilcoxon signed-rank test of each pair, Holm's correction, average ranks and the critical-difference diagram
(Demsar 2006, "Statistical comparisons of classifiers over multiple data sets"), by SciPy and scikit-posthocs. With few categories
no outcome whatever could be significant; then that is said, and nothing is tested.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scikit_posthocs
from matplotlib.figure import Figure
from scipy.stats import rankdata

from anoseg_bench.formatting import counted
from anoseg_bench.metrics import metric
from anoseg_bench.report.plots import COLOURS, TWO_COLUMNS
from anoseg_bench.report.render import DASH, Line, Table, TableCell
from anoseg_bench.report.results import Results
from anoseg_bench.report.tables import MAIN, TIE, dataset_of, percent, table_notes

ALPHA = 0.05


@dataclass(frozen=True)
class Test:
    """What a test over categories says of all pairs of variants.

    Attributes
    ----------
    variants : list of int
        Those that have a value in every category; ranks and p-values are of these, in this order.
    ranks : numpy.ndarray
        Average ranks over categories, 1 for the best.
    p : numpy.ndarray or None
        Holm-corrected p-values of all pairs, (V, V), 1 on the diagonal; None where there are too few categories.
    needed : int
        With how many categories some outcome could be significant.
    """

    variants: list[int]
    ranks: np.ndarray
    p: np.ndarray | None
    needed: int


def needed_categories(pairs: int) -> int:
    """Return with how many categories the exact signed-rank test can reach `ALPHA` after Holm's correction for so many pairs.

    The smallest p-value of n differences is 2 / 2^n.
    """
    return math.ceil(math.log2(2 * max(1, pairs) / ALPHA))


def test_over_categories(values: np.ndarray) -> Test:
    """Test variants against each other over categories.

    Parameters
    ----------
    values : numpy.ndarray
        float, (V, C), larger is better, NaN where missing.
    """
    variants = [v for v in range(len(values)) if np.isfinite(values[v]).all()]
    some = values[variants]
    count = len(variants)
    needed = needed_categories(count * (count - 1) // 2)
    ranks = rankdata(-some, axis=0).mean(axis=1) if count else np.empty(0)
    if count < 2 or values.shape[1] < needed:
        return Test(variants, ranks, None, needed)
    long = pd.DataFrame({"value": some.ravel(), "variant": np.repeat(np.arange(count), some.shape[1])})
    p = scikit_posthocs.posthoc_wilcoxon(long, "value", "variant", zero_method="zsplit").to_numpy(float)
    return Test(variants, ranks, _holm(np.nan_to_num(p, nan=1.0)), needed)


def _holm(p: np.ndarray) -> np.ndarray:
    """Return symmetric p-values (V, V), corrected for the number of pairs (Holm 1979).

    scikit-posthocs would have statsmodels do it, which collects all of Python's garbage first: a second in a large process.
    """
    pairs = np.triu_indices(len(p), 1)
    order = np.argsort(p[pairs])
    ordered = np.maximum.accumulate(p[pairs][order] * np.arange(len(order), 0, -1))
    corrected = np.ones_like(p)
    corrected[pairs[0][order], pairs[1][order]] = np.minimum(ordered, 1)
    return np.minimum(corrected, corrected.T)


def comparison_table(results: Results) -> Table:
    """Return per metric the variants by mean, rank, difference to the best with its interval, and p-value."""
    members = list(range(len(results.categories)))
    lines: list[Line] = []
    needed = 0
    for name in MAIN:
        numbers = results.numbers(name, members)
        samples = results.intervals.of(name, members)
        means = [n.mean if n.complete else math.nan for n in numbers]
        if samples is None or np.isfinite(means).sum() < 2:
            continue
        best = int(np.nanargmax(means))
        test = test_over_categories(results.metrics[name].mean(axis=2))
        needed = max(needed, test.needed)
        for v in range(len(results.variants)):
            if not math.isfinite(means[v]):
                continue
            interval = samples.difference(v, best)
            rank = f"{test.ranks[test.variants.index(v)]:.2f}" if v in test.variants else DASH
            known = test.p is not None and v in test.variants and best in test.variants
            p = float(test.p[test.variants.index(v), test.variants.index(best)]) if known and test.p is not None else math.nan
            told = DASH if not math.isfinite(interval.low) else f"{100 * interval.low:+.1f} .. {100 * interval.high:+.1f}"
            row = [
                TableCell(results.titles[v]),
                TableCell(percent(means[v]), v == best),
                TableCell(rank),
                TableCell("best" if v == best else f"{100 * (means[v] - means[best]):+.1f}"),
                TableCell("" if v == best else told + (f" {TIE}" if interval.holds_zero else "")),
                TableCell("" if v == best else DASH if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"),
            ]
            lines.append(Line(row, metric(name).title))
    count = len(members)
    tested = (
        f"p: Wilcoxon signed-rank test over {count} categories against the best, Holm's correction over all pairs."
        if count >= needed
        else f"Too few categories for a test over them: {count}, where {needed} are needed for any outcome to be significant."
    )
    own = [f"Difference to the best, and its 95 % interval on the same resamples. Rank: the average over categories. {tested}"]
    header = ["method", "mean", "rank", "difference", "95 % interval", "p over categories"]
    title = f"Comparison on {dataset_of(results)}: means over {counted(count, 'category', 'categories')} (%)"
    return Table("comparison", title, header, lines, table_notes(results, lines, own, MAIN))


def rank_figure(results: Results, name: str) -> Figure | None:
    """Return the critical-difference diagram of a metric, None where there are too few categories for a test."""
    test = test_over_categories(results.metrics[name].mean(axis=2))
    if test.p is None or len(test.variants) < 3:
        return None
    names = [results.titles[v] for v in test.variants]
    figure = Figure(figsize=(TWO_COLUMNS, 0.7 + 0.17 * len(names)), layout="constrained")
    ax = figure.subplots()
    p = pd.DataFrame(test.p, index=names, columns=names)
    ranks = dict(zip(names, test.ranks, strict=True))
    colours = {name: COLOURS[v % len(COLOURS)] for name, v in zip(names, test.variants, strict=True)}
    props = {"label_props": {"fontsize": 8}, "elbow_props": {"linewidth": 1}, "marker_props": {"s": 12}}
    drawn = scikit_posthocs.critical_difference_diagram(ranks, p, ax=ax, color_palette=colours, **props)
    for label in drawn["labels"]:
        label.set_color("black")  # pale letters cannot be read
    count = len(results.categories)
    figure.suptitle(
        f"{metric(name).title}: average ranks over {count} categories, 1 is best; joined: not told apart (Wilcoxon, Holm)"
    )
    return figure
