"""The figures of a run: IoU over the threshold, ROC and PRO curves, bars per metric; each as PDF and PNG."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from bench.metrics.suite import METRICS
from bench.report.frame import GRIDS, Names, Number, Results, plain, summarise
from bench.report.render import DASH
from bench.report.tables import cell_text, percent
from bench.store import slug

#: Okabe and Ito's colours, told apart with every kind of colour vision; the pale ones last.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#F0E442"]
DASHES: list[Any] = ["-", (0, (6, 2)), (0, (2, 1.5)), "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (10, 3)), (0, (1, 1))]
MARKERS = "osD^vPX*<>"
BARS_PER_ROW = 36


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PDF and PNG, the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.pdf", folder / f"{name}.png"]
    figure.savefig(paths[0], metadata={"CreationDate": None})
    figure.savefig(paths[1], dpi=130, metadata={"Software": None})
    return paths


def _style(index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "linewidth": 1.6,
        "markersize": 5,
    }


def _title(results: Results, what: str) -> str:
    info = results.run.info
    seeds = f"{len(results.seeds)} seeds" if len(results.seeds) > 1 else f"seed {results.seeds[0]}"
    text = f"{what}\n{plain(info.get('dataset', ''))}, profile {info.get('profile', 'unknown')}, {seeds}"
    return "\n".join("\n".join(textwrap.wrap(line, 90)) for line in text.split("\n"))


def _legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put the legend below the axes, in as many columns as fit; a leading underscore would hide a label."""
    shown = [textwrap.shorten(plain(label), 60, placeholder="…") for label in labels]
    width = max(map(len, shown)) * 0.075 + 0.6
    columns = max(1, min(len(shown), int(figure.get_figwidth() / width)))
    figure.legend(handles, [" " * s.startswith("_") + s for s in shown], loc="outside lower center", ncols=columns, fontsize=8)


def _draw_curves(results: Results, ax: Axes, x: np.ndarray, block: np.ndarray, percent: bool) -> tuple[list[Any], list[str]]:
    """Draw the mean curve (V, C, S, points) of each variant with its range over seeds; return handles and labels."""
    handles, labels = [], []
    for i, variant in enumerate(results.variants):
        cells = block[i]
        complete = np.isfinite(cells).all(axis=-1)
        label = f"{variant}{' *' if percent and variant in results.scaled else ''}"
        if not complete.any() or not (complete.all() or results.allow_partial):
            label += f": no mean ({complete.sum()}/{complete.size})" if complete.any() else ": –"
            handles.append(ax.plot([], [], **_style(i))[0])
            labels.append(label)
            continue
        scale = 100 if percent else 1
        mean = scale * cells[complete].mean(axis=0)
        every = (0.01 + 0.1 * i / len(results.variants), 0.1)  # by length on paper, staggered
        handles.append(ax.plot(x, mean, markevery=every, **_style(i))[0])
        labels.append(label if complete.all() else f"{label} ({complete.sum()}/{complete.size})")
        if complete.all() and len(results.seeds) > 1:
            seeds = scale * cells.mean(axis=0)
            ax.fill_between(x, seeds.min(axis=0), seeds.max(axis=0), color=_style(i)["color"], alpha=0.2, linewidth=0)
    return handles, labels


def _axes(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 5), layout="constrained")
    ax = figure.subplots()
    ax.set_title(title, fontsize=10)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(color="0.9")
    ax.set_axisbelow(True)
    return figure, ax


def _band(results: Results) -> str:
    return "; band: range over seeds" if len(results.seeds) > 1 else ""


def iou_figure(results: Results, members: list[int], what: str) -> Figure | None:
    """Return IoU over the threshold, the mean over some categories; None where there is no curve."""
    block = results.curves["iou"][:, members]
    if not np.isfinite(block).any():
        return None
    label = "threshold on the map's value (* map scaled to 0..1 on the test set)" if results.scaled else "threshold"
    figure, ax = _axes(_title(results, f"IoU over the threshold, {what}{_band(results)}"), label, "IoU (%)")
    _legend(figure, *_draw_curves(results, ax, GRIDS["iou"], block, percent=True))
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    return figure


def rate_figure(results: Results, name: str) -> Figure | None:
    """Return the ROC or PRO curve, the mean over categories; None where there is none."""
    block = results.curves[name]
    if not np.isfinite(block).any():
        return None
    roc = name == "roc"
    title = _title(results, f"{name.upper()} curve of pixels, mean over categories{_band(results)}")
    xlabel = "false-positive rate of pixels" + (", logarithmic" if roc else "")
    figure, ax = _axes(title, xlabel, "true-positive rate of pixels" if roc else "per-region overlap")
    low, high = (1e-4, 1) if roc else (0, 0.3)
    keep = (GRIDS[name] >= 0.9 * low) & (GRIDS[name] <= 1.1 * high)
    x = GRIDS[name][keep]
    handles, labels = _draw_curves(results, ax, x, block[..., keep], percent=False)
    if roc:
        handles += ax.plot(x, x, color="0.5", linewidth=1, linestyle=":")
        labels.append("chance")
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _legend(figure, handles, labels)
    ax.set_xlim(low, high)
    ax.set_ylim(0, 1.01)
    return figure


def bar_figure(results: Results, name: str) -> Figure:
    """Return grouped bars of a metric: one group per category and one for the mean, broken into rows."""
    count, everything = len(results.variants), range(len(results.categories))
    groups = [*((plain(c), [i]) for i, c in enumerate(results.categories)), ("mean", list(everything))]
    numbers = [[summarise(block) for block in results.metrics[name][:, members]] for _, members in groups]
    rows = math.ceil(len(groups) * count / BARS_PER_ROW)
    per_row = math.ceil(len(groups) / rows)
    width = min(11, max(5, 1.2 + 0.24 * count * per_row + 0.1 * per_row))
    figure = Figure(figsize=(width, 1.2 + 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    shown = [n for group in numbers for n in group]
    kept = "; (n/N): from n of N cells" if results.allow_partial else "; –: no value, or not from every cell"
    missing = "" if all(n.complete for n in shown) else kept
    figure.suptitle(_title(results, f"{METRICS[name].title}{missing}"), fontsize=10)
    upright = count * per_row <= 10
    top = max([1.0, *(100 * (n.mean + np.nan_to_num(n.spread)) for n in shown if n.n)]) * (1.12 if upright else 1.3)
    room = max(6, int(11 * width / per_row))
    for row, ax in enumerate(axes):
        part = slice(row * per_row, (row + 1) * per_row)
        ax.set_ylim(0, top)
        ax.set_yticks([tick for tick in ax.get_yticks() if tick <= min(100, top)])
        _bars(results, ax, numbers[part], upright)
        labels = ["\n".join(textwrap.wrap(g, room, max_lines=3, placeholder="…")) for g, _ in groups[part]]
        ax.set_xticks(range(len(labels)), labels, fontsize=8)
        ax.set_xlim(-0.5, per_row - 0.5)
        ax.set_ylabel("percent")
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
    _legend(figure, [bars for bars in axes[0].containers if isinstance(bars, BarContainer)], results.variants)
    return figure


def _bars(results: Results, ax: Axes, groups: list[list[Number]], upright: bool) -> None:
    count = len(results.variants)
    size, margin = 0.86 / count, 0.015 * ax.get_ylim()[1]
    for i in range(count):
        places = np.arange(len(groups)) + (i - (count - 1) / 2) * size
        heights = [100 * g[i].mean if g[i].complete or (results.allow_partial and g[i].n) else 0.0 for g in groups]
        ax.bar(places, heights, size * 0.92, color=COLOURS[i % len(COLOURS)], edgecolor="0.2", linewidth=0.4)
        for place, height, number in zip(places, heights, (g[i] for g in groups), strict=True):
            text, top = cell_text(number, results.allow_partial), height + margin
            if math.isfinite(number.spread):
                ax.errorbar(place, height, 100 * number.spread, color="0.2", linewidth=0.8, capsize=1.5)
                text, top = percent(number.mean), top + 100 * number.spread + margin
            turned = 0 if upright or text == DASH else 90
            ax.text(place, top, text, ha="center", va="bottom", fontsize=7, rotation=turned)


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Write all figures that have something to show."""
    names = Names()
    everything = list(range(len(results.categories)))
    figures = {names("iou_mean"): iou_figure(results, everything, "mean over categories")}
    for i, category in enumerate(results.categories):
        figures[names(f"iou_{slug(category)}")] = iou_figure(results, [i], plain(category))
    figures |= {names(name): rate_figure(results, name) for name in ("roc", "pro")}
    figures |= {
        names(f"bars_{name}"): bar_figure(results, name) for name, cube in results.metrics.items() if np.isfinite(cube).any()
    }
    return [path for name, figure in figures.items() if figure for path in save(figure, folder, name)]
