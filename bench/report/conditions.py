"""Methods over the levels of a condition: few training images, contaminated ones, image sizes; one table and one figure each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from anoseg_bench.errors import DataError
from anoseg_bench.experiments import EXPERIMENTS
from anoseg_bench.formatting import one_line
from anoseg_bench.metrics import metric
from anoseg_bench.report.frame import MARK
from anoseg_bench.report.plots import COLOURS, DASHES, MARKERS, TWO_COLUMNS, legend, title_of
from anoseg_bench.report.render import DASH, Line, Table, TableCell
from anoseg_bench.report.results import Results
from anoseg_bench.report.tables import cells, dataset_of, plain_number, table_notes
from anoseg_bench.store.cells import CellResult

METRICS = ("pixel_auroc", "aupro_0.3", "iou_max", "iou_deployable", "image_auroc")
#: How far apart methods stand at a level of a figure, as a share of the distance of two levels.
DODGE = 0.06

_COSTS = ("training (s)", "latency, one image (ms)")


@dataclass(frozen=True)
class Shown:
    """What is shown of an experiment.

    Attributes
    ----------
    title, axis : str
        Of its table and figure; of the levels.
    panels : tuple of str
        The metrics drawn.
    counts : dict of str to callable
        Columns of the table about the images, by heading: what to read of a cell.
    note : str
        How the levels were made, for the table.
    costs : bool
        Whether costs stand beside quality.
    """

    title: str
    axis: str
    panels: tuple[str, ...]
    counts: dict[str, Callable[[CellResult], float]]
    note: str
    costs: bool = False


def _trained(cell: CellResult) -> float:
    return math.nan if cell.record.images.train is None else cell.record.images.train


def _contaminated(cell: CellResult) -> float:
    return cell.record.images.contaminated


def _taken_for_normal(cell: CellResult) -> float:
    return _trained(cell) + cell.record.images.held_out


SHOWN = {
    "few": Shown(
        "Few training images",
        "share of the training images",
        ("pixel_auroc", "iou_max", "image_auroc"),
        {"images": _trained},
        "Images: learned from, after the hold-out, which is the same for all shares of a seed. A smaller share is a part of a "
        "larger one of the same seed; each seed draws and trains anew. Held-out images, and with them deployable thresholds, "
        "are not fewer at smaller shares.",
    ),
    "noisy": Shown(
        "Defective images among those taken for normal",
        "share of defective images",
        ("pixel_auroc", "iou_deployable", "image_auroc"),
        {"taken for normal": _taken_for_normal, "of them defective": _contaminated},
        "Taken for normal: learned from and held out. Defective images are drawn from the test by the seed, the same share of each "
        "defect type, and are left out of it at every level, so that all levels of a seed are tested on the same images; the first "
        "of them join the images taken for normal before the hold-out is drawn, as nobody would know. Deployable thresholds "
        "therefore rest on contaminated images, too. Other runs test on more images: numbers compare within this table.",
    ),
    "resolution": Shown(
        "Image size",
        "image size (px)",
        ("aupro_0.3", "iou_max", "image_auroc"),
        {},
        "Image size: what images are resized to before a method sees them; maps are evaluated at the images' own size. Latency: "
        "of the method alone, without reading and resizing files.",
        costs=True,
    ),
}


def by_level(results: Results) -> tuple[Table, Figure]:
    """Return the table and the figure of an experiment whose variants are methods at levels, those of a method together."""
    name = str(results.run.info.experiment)
    shown, levels = SHOWN[name], list(EXPERIMENTS[name].levels)
    variants = [results.variants[i : i + len(levels)] for i in range(0, len(results.variants), len(levels))]
    if any(
        [variant.endswith(f" at {level}") for variant, level in zip(of, levels, strict=False)] != [True] * len(levels)
        for of in variants
    ):
        raise DataError(
            f"The run '{results.run.path}' has other levels of '{name}' than this version ({', '.join(levels)}); run it again."
        )
    methods = [one_line(of[0].removesuffix(f" at {levels[0]}")) + MARK * bool(results.pretrained & set(of)) for of in variants]
    return _table(results, f"experiment_{name}", shown, levels, methods), _figure(results, shown, levels, methods)


def _table(results: Results, name: str, shown: Shown, levels: Sequence[str], methods: Sequence[str]) -> Table:
    """Return the methods at each level: counts of images, metrics with the best of the level bold, costs."""
    everything, lines = list(range(len(results.categories))), []
    counts = {heading: results.cube(read) for heading, read in shown.counts.items()}
    costs = {heading: results.costs[heading] for heading in _COSTS} if shown.costs else {}
    numbers = {m: results.numbers(m, everything) for m in METRICS}
    for i, level in enumerate(levels):
        members = range(i, len(results.variants), len(levels))
        columns = [[TableCell(_span(cube[v])) for v in members] for cube in counts.values()]
        for m in METRICS:
            resamples = results.intervals.of(m, everything)
            ties: set[int] = set()
            if resamples is not None:
                ties = resamples.ties({v: numbers[m][v].mean if numbers[m][v].complete else math.nan for v in members})
            columns.append(cells([replace(numbers[m][v], tie=v in ties) for v in members], results.allow_partial))
        columns += [[TableCell(_mean_text(cube[v])) for v in members] for cube in costs.values()]
        lines += [
            Line([TableCell(method), TableCell(level), *(c[k] for c in columns)], rule=k == 0 < i)
            for k, method in enumerate(methods)
        ]
    header = ["method", "level", *counts, *(metric(m).title for m in METRICS), *costs]
    title = f"{shown.title}, on {dataset_of(results)}: means over {len(everything)} categories (%)"
    title = title if len(everything) > 1 else f"{shown.title}, on {results.categories[0]} of {dataset_of(results)} (%)"
    own_notes = [shown.note, "Bold: the best at its level."]
    return Table(name, title, header, lines, table_notes(results, lines, own_notes, METRICS))


def _span(values: np.ndarray) -> str:
    """Return the numbers of cells as text, ``"9–19"`` where they differ."""
    known = values[np.isfinite(values)]
    ends = dict.fromkeys(f"{end:.0f}" for end in (known.min(), known.max())) if len(known) else [DASH]
    return "–".join(ends)


def _mean_text(values: np.ndarray) -> str:
    return plain_number(float(values.mean())) if np.isfinite(values).all() else DASH


def _figure(results: Results, shown: Shown, levels: Sequence[str], methods: Sequence[str]) -> Figure:
    """Return one panel for each metric, and one of costs: a line for each method, its range over seeds as bars."""
    panels = {metric(m).title + " (%)": 100 * results.values(m) for m in shown.panels}
    panels |= {_COSTS[1]: results.costs[_COSTS[1]]} if shown.costs else {}
    rows = 1 if len(panels) <= 3 else 2
    figure = Figure(figsize=(TWO_COLUMNS, 0.7 + 1.75 * rows), layout="constrained")
    draws = "; bars: range over seeds" if len(results.seeds) > 1 else ""
    figure.suptitle(title_of(results, f"{shown.title}, {results.over_all}{draws}"))
    handles: list[Any] = []
    axes = figure.subplots(rows, -(-len(panels) // rows), squeeze=False)
    for ax, (title, cube) in zip(axes.flat, panels.items(), strict=True):
        drawn = _panel(ax, cube.reshape(len(methods), len(levels), *cube.shape[1:]))
        handles = handles or drawn
        ax.set_ylabel(title)
        ax.set_xticks(range(len(levels)), [level.removesuffix(" noise").removesuffix(" px") for level in levels])
        ax.set_xlim(-0.3, len(levels) - 0.7)
        if title in _COSTS and np.isfinite(cube).any():
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.grid(color="0.9")
        ax.set_axisbelow(True)
    for ax in axes[-1]:
        ax.set_xlabel(shown.axis)
    legend(figure, handles, methods)
    return figure


def _panel(ax: Axes, block: np.ndarray) -> list[Any]:
    """Draw means over categories of (methods, levels, C, S) with their ranges over seeds; return a handle of each method."""
    handles = []
    for k, cells_of in enumerate(block):
        seeds = cells_of.mean(axis=1)
        mean = seeds.mean(axis=1)  # NaN where a cell is missing: no point
        places = np.arange(len(mean)) + DODGE * (k - (len(block) - 1) / 2)
        style = {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)], "marker": MARKERS[k % len(MARKERS)]}
        style |= {"linewidth": 1.2, "markersize": 3.5, "capsize": 1.5, "elinewidth": 0.7}
        reach = np.stack([mean - seeds.min(axis=1), seeds.max(axis=1) - mean]) if seeds.shape[1] > 1 else None
        reach = None if reach is None else np.where(reach < 0, 0, reach)  # the mean of equal numbers may be rounded
        handles.append(ax.errorbar(places, mean, reach, **style))
    return handles
