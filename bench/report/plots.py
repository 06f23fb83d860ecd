"""The figures of a run: IoU over the threshold, ROC and PRO curves, bars per metric; each as PDF and PNG.

They are drawn at the width of one or of two columns of a paper, in letters that are read at that size, and what they compare is
told apart by dashes, marks or hatches as well as by colour. The PDF has no title: a paper has captions.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from anoseg_bench.formatting import one_line
from anoseg_bench.metrics import THRESHOLDS, metric
from anoseg_bench.report.frame import GRIDS, MARK, FileNames, opened
from anoseg_bench.report.render import DASH
from anoseg_bench.report.results import Number, Results
from anoseg_bench.report.tables import SUMMARY, cell_text, percent
from anoseg_bench.store.cells import slug
from anoseg_bench.store.files import write_by

#: Okabe and Ito's colours, told apart with every kind of colour vision; the pale ones last.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#F0E442"]
DASHES: list[Any] = ["-", (0, (6, 2)), (0, (2, 1.5)), "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (10, 3)), (0, (1, 1))]
MARKERS = "osD^PX<>"  # neither of THRESHOLD_MARKS
HATCHES = ["", "/////", ".....", "xxxxx", "\\\\\\\\\\", "-----", "ooo", "|||||", "+++++", "***"]
THRESHOLD_MARKS = {"oracle": "*", "deployable": "v"}
#: Widths in inches of one and of two columns of a paper, and bars that have room in them.
ONE_COLUMN, TWO_COLUMNS = 3.3, 6.9
BARS = {ONE_COLUMN: 18, TWO_COLUMNS: 48}
#: Letters of 7 and 8 points, in fonts that printers take; names may hold dollar signs.
STYLE: dict[Any, Any] = {
    **{"text.parse_math": False, "pdf.fonttype": 42, "figure.dpi": 200, "hatch.linewidth": 0.5},
    **dict.fromkeys(["font.size", "figure.titlesize", "axes.titlesize", "axes.labelsize"], 8),
    **dict.fromkeys(["xtick.labelsize", "ytick.labelsize", "legend.fontsize"], 7),
    **dict.fromkeys(["axes.linewidth", "grid.linewidth", "xtick.major.width", "ytick.major.width", "xtick.minor.width"], 0.6),
}


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG and, without its title, as PDF, the same bytes each time."""
    png = write_by(folder / f"{name}.png", lambda file: figure.savefig(file, metadata={"Software": None}))
    figure.set_layout_engine("none")  # laid out already
    width, height = figure.get_size_inches()
    about = {"CreationDate": None, "Title": figure.get_suptitle().replace("\n", ", ")}
    for title in figure.texts:
        height = min(height, title.get_window_extent().y0 / figure.dpi)
        title.set_visible(False)
    page = Bbox([[0, 0], [width, height]])
    pdf = write_by(folder / f"{name}.pdf", lambda file: figure.savefig(file, format="pdf", metadata=about, bbox_inches=page))
    return [pdf, png]


def _style(index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "linewidth": 1.2,
        "markersize": 3.5,
    }


def bar_style(index: int) -> dict[str, Any]:
    """Return colour and hatch of bars; light lines on dark colours."""
    colour = COLOURS[index % len(COLOURS)]
    dark = float(np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722))) < 0.5
    return {"color": colour, "hatch": HATCHES[index % len(HATCHES)], "edgecolor": "white" if dark else "black", "linewidth": 0.3}


def title_of(results: Results, what: str, width: float = TWO_COLUMNS) -> str:
    """Return the title of a figure of some width, with dataset, profile and seeds."""
    info = results.run.info
    seeds = f"{len(results.seeds)} seeds" if len(results.seeds) > 1 else f"seed {results.seeds[0]}"
    marks = f"; {MARK} on pretrained weights" if results.pretrained else ""
    text = f"{what}\n{one_line(info.dataset)}, {f'profile {info.profile}, ' if info.profile else ''}{seeds}{marks}"
    return "\n".join("\n".join(textwrap.wrap(line, int(16 * width))) for line in text.split("\n"))


def legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put the legend below the axes and make room for it, in as many columns as fit; a leading underscore would hide a label."""
    shown = [textwrap.shorten(one_line(label), 60, placeholder="…") for label in labels]
    each = max(map(len, shown)) * 0.055 + 0.48
    columns = max(1, min(len(shown), int(figure.get_figwidth() / each)))
    figure.set_figheight(figure.get_figheight() + 0.05 + 0.14 * math.ceil(len(shown) / columns))
    texts = [" " * s.startswith("_") + s for s in shown]
    figure.legend(handles, texts, loc="outside lower center", ncols=columns, handlelength=2.6, borderpad=0.3, columnspacing=1.5)


def _draw_curves(results: Results, ax: Axes, x: np.ndarray, block: np.ndarray, percent: bool) -> tuple[list[Any], list[str]]:
    """Draw the mean curve (V, C, S, points) of each variant with its range over seeds; return handles and labels."""
    handles, labels = [], []
    for i, variant in enumerate(results.variants):
        cells = block[i]
        complete = np.isfinite(cells).all(axis=-1)
        label = f"{results.titles[i]}{' *' if percent and variant in results.scaled else ''}"
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


def axes(title: str, xlabel: str, ylabel: str, width: float = ONE_COLUMN, height: float = 2.6) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.subplots()
    figure.suptitle(title)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(color="0.9")
    ax.set_axisbelow(True)
    return figure, ax


def _band(results: Results) -> str:
    return "; band: range over seeds" if len(results.seeds) > 1 else ""


def _power(value: float, _: object) -> str:
    """Return a tick of a logarithmic axis."""
    return f"{value:g}".replace("e-0", "e-")


def iou_figure(results: Results, members: list[int], what: str) -> Figure | None:
    """Return IoU over both threshold axes, the mean over some categories; None where there is no curve.

    For one category both thresholds are marked on each curve.
    """
    blocks = {axis: results.curves[axis][:, members] for axis in ("iou", "iou_fpr")}
    if not any(np.isfinite(block).any() for block in blocks.values()):
        return None
    figure = Figure(figsize=(TWO_COLUMNS, 2.8), layout="constrained")
    figure.suptitle(title_of(results, f"IoU over the threshold, {what}{_band(results)}"))
    panels = dict(zip(blocks, figure.subplots(1, 2, sharey=True), strict=True))
    handles: list[Any] = []
    labels: list[str] = []
    for axis, ax in panels.items():
        handles, labels = _draw_curves(results, ax, GRIDS[axis], blocks[axis], percent=True)
        ax.grid(color="0.9")
        ax.set_axisbelow(True)
    note = "\n(* scaled to 0..1 on the test set)" if results.scaled else ""
    panels["iou"].set(xlabel=f"threshold on the map's value{note}", ylabel="IoU (%)", xlim=(0, 1), ylim=(0, None))
    edge = "; thresholds beyond it stand at its edge" if len(members) == 1 else ""
    label = f"false-positive rate on pixels of normal images\n(logarithmic{edge})"
    panels["iou_fpr"].set(xlabel=label, xscale="log", xlim=(1e-5, 1e-1))
    panels["iou_fpr"].xaxis.set_major_formatter(_power)
    if len(members) == 1:
        for which, marker in THRESHOLD_MARKS.items():
            marked = [_mark(results, panels, i, members[0], which, marker) for i in range(len(results.variants))]
            if not any(marked):
                continue
            handles.append(panels["iou"].plot([], [], color="0.4", linestyle="", markersize=6, marker=marker)[0])
            labels.append(THRESHOLDS[which])
    legend(figure, handles, labels)
    return figure


def _mark(results: Results, panels: dict[str, Axes], variant: int, category: int, which: str, marker: str) -> bool:
    """Mark a threshold of each seed on both axes, if there is one; what lies beyond an axis stands at its edge."""
    marked = False
    for seed in results.seeds:
        result = results.get(results.variants[variant], results.categories[category], seed)
        if result is None:
            continue
        height, threshold = 100 * result.value(f"iou_{which}"), result.value(f"threshold_{which}")
        with opened(result) as arrays:
            ends = arrays["thresholds_value"][[0, -1]] if "thresholds_value" in arrays else np.array([0.0, 1.0])
        places = {
            "iou": (threshold - ends[0]) / (ends[1] - ends[0]) if ends[1] > ends[0] else math.nan,
            "iou_fpr": result.value(f"normal_fpr_{which}"),
        }
        for axis, x in places.items():
            if math.isfinite(x) and math.isfinite(height):
                inside = min(max(x, GRIDS[axis][0]), GRIDS[axis][-1])
                style = {"color": _style(variant)["color"], "markeredgecolor": "black", "markeredgewidth": 0.5}
                panels[axis].plot(inside, height, marker=marker, markersize=6, clip_on=False, zorder=5, **style)
                marked = True
    return marked


@dataclass(frozen=True)
class _Rate:
    """How a curve of rates is drawn."""

    title: str
    xlabel: str
    ylabel: str
    low: float
    high: float
    log: bool = False


_FPR = "false-positive rate of pixels"
RATES = {
    "roc": _Rate("ROC curve", f"{_FPR}, logarithmic", "true-positive rate of pixels", 1e-4, 1, True),
    "pro": _Rate("PRO curve", _FPR, "per-region overlap", 0, 0.3),
    "precision": _Rate("Precision-recall curve", "recall of pixels", "precision of pixels", 0, 1),
}


def rate_figure(results: Results, name: str) -> Figure | None:
    """Return the ROC, PRO or precision-recall curve, the mean over categories; None where there is none."""
    block, how = results.curves[name], RATES[name]
    if not np.isfinite(block).any():
        return None
    title = title_of(results, f"{how.title} of pixels, {results.over_all}{_band(results)}", ONE_COLUMN)
    figure, ax = axes(title, how.xlabel, how.ylabel)
    keep = (GRIDS[name] >= 0.9 * how.low) & (GRIDS[name] <= 1.1 * how.high)
    x = GRIDS[name][keep]
    handles, labels = _draw_curves(results, ax, x, block[..., keep], percent=False)
    if how.log:
        handles += ax.plot(x, x, color="0.5", linewidth=1, linestyle=":")
        labels.append("chance")
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(_power)
    legend(figure, handles, labels)
    ax.set_xlim(how.low, how.high)
    ax.set_ylim(0, 1.01)
    return figure


def bar_figure(results: Results, name: str) -> Figure:
    """Return grouped bars of a metric: one group per category and one for the mean, broken into rows."""
    count, everything = len(results.variants), range(len(results.categories))
    groups = [*((one_line(c), [i]) for i, c in enumerate(results.categories)), ("mean", list(everything))]
    numbers = [results.numbers(name, members) for _, members in groups]
    width = ONE_COLUMN if len(groups) * count <= BARS[ONE_COLUMN] else TWO_COLUMNS
    rows = math.ceil(len(groups) / max(1, BARS[width] // count))
    per_row = math.ceil(len(groups) / rows)
    figure = Figure(figsize=(width, 0.6 + 1.5 * rows), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    shown = [n for group in numbers for n in group]
    kept = "; (n/N): from n of N cells" if results.allow_partial else "; –: no value, or not from every cell"
    missing = "" if all(n.complete for n in shown) else kept
    figure.suptitle(title_of(results, f"{metric(name).title}{missing}", width))
    upright = count * per_row <= 4 * (width - 0.5)
    top = max([1.0, *(100 * (n.high if math.isfinite(n.high) else n.mean) for n in shown if n.n)]) * (1.12 if upright else 1.3)
    room = max(6, int(16 * width / per_row))
    for row, ax in enumerate(axes):
        part = slice(row * per_row, (row + 1) * per_row)
        ax.set_ylim(0, top)
        ax.set_yticks([tick for tick in ax.get_yticks() if tick <= min(100, top)])
        _bars(results, ax, numbers[part], upright)
        labels = ["\n".join(textwrap.wrap(g, room, max_lines=3, placeholder="…")) for g, _ in groups[part]]
        ax.set_xticks(range(len(labels)), labels)
        ax.set_xlim(-0.5, per_row - 0.5)
        ax.set_ylabel("percent")
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
    legend(figure, [bars for bars in axes[0].containers if isinstance(bars, BarContainer)], results.titles)
    return figure


def _bars(results: Results, ax: Axes, groups: list[list[Number]], upright: bool) -> None:
    count = len(results.variants)
    size, margin = 0.86 / count, 0.015 * ax.get_ylim()[1]
    for i in range(count):
        numbers = [group[i] for group in groups]
        places = np.arange(len(groups)) + (i - (count - 1) / 2) * size
        heights = np.array([100 * n.mean if n.complete or (results.allow_partial and n.n) else 0.0 for n in numbers])
        reach = 100 * np.array([n.reach for n in numbers]).T
        ax.bar(places, heights, size * 0.92, **bar_style(i))
        ax.errorbar(places, heights, reach, linestyle="", color="0.3", linewidth=0.7, capsize=1.2, capthick=0.7)
        for place, end, number in zip(places, heights + reach[1], numbers, strict=True):
            text = percent(number.mean) if math.isfinite(number.low) else cell_text(number, results.allow_partial)
            turned = 0 if upright or text == DASH else 90
            ax.text(place, end + margin, text, ha="center", va="bottom", fontsize=7, rotation=turned)


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Write all figures that have something to show."""
    names = FileNames()
    everything = list(range(len(results.categories)))
    figures = {names("iou_mean"): iou_figure(results, everything, results.over_all)}
    for i, category in enumerate(results.categories):
        figures[names(f"iou_{slug(category)}")] = iou_figure(results, [i], one_line(category))
    figures |= {names(name): rate_figure(results, name) for name in RATES}
    figures |= {
        names(f"bars_{name}"): bar_figure(results, name)
        for name, cube in results.metrics.items()
        if name in SUMMARY and np.isfinite(cube).any()
    }
    return [path for name, figure in figures.items() if figure for path in save(figure, folder, name)]
