"""Answers to the paper's questions: for each experiment one table and one figure, from the store alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from anoseg_bench.datasets.base import GOOD
from anoseg_bench.formatting import one_line
from anoseg_bench.metrics import metric
from anoseg_bench.metrics.separation import separation
from anoseg_bench.report.conditions import by_level
from anoseg_bench.report.frame import opened
from anoseg_bench.report.plots import (
    COLOURS,
    MARKERS,
    ONE_COLUMN,
    TWO_COLUMNS,
    axes,
    bar_style,
    iou_figure,
    legend,
    title_of,
)
from anoseg_bench.report.render import DASH, Line, Table, TableCell
from anoseg_bench.report.results import Number, Results, summarise
from anoseg_bench.report.shift import break_table, shift_figure, shift_numbers, shift_sheets, strength_tables
from anoseg_bench.report.tables import WEIGHTS, WIDTHS, cells, dataset_of, percent, table_notes, weights_column
from anoseg_bench.store.cells import CellResult, Row


@dataclass(frozen=True)
class ExperimentReport:
    """What an experiment says: one table and one figure, and beside them `more` tables, and pictures of each category."""

    table: Table
    figure: Figure | None
    more: list[Table] = field(default_factory=list)
    pictures: dict[str, Image.Image] = field(default_factory=dict)


def experiment_report(results: Results) -> ExperimentReport | None:
    """Return the table and the figure of the run's experiment; None where it is none."""
    name = results.run.info.experiment
    return _REPORTS[name](results) if name in _REPORTS else None


def _difference(value: float) -> str:
    return DASH if math.isnan(value) else f"{100 * value:+.1f}"


# --- ablation -----------------------------------------------------------------------------------------------------------

_ABLATION = ["pixel_auroc", "iou_max", "iou_0.5", "iou_deployable", "image_auroc"]


def _ablation(results: Results) -> ExperimentReport:
    """Return metrics step by step, means over categories; each step has all that stands above it."""
    everything = list(range(len(results.categories)))
    numbers = {name: results.numbers(name, everything) for name in _ABLATION}
    columns = {metric(name).title: cells(numbers[name], results.allow_partial) for name in _ABLATION}
    gains = {name: np.diff([n.mean if n.complete else math.nan for n in numbers[name]], prepend=math.nan) for name in _ABLATION[:2]}
    lines = [
        Line(
            [
                TableCell(title),
                *(column[i] for column in columns.values()),
                *(TableCell(_difference(gain[i])) for gain in gains.values()),
            ]
        )
        for i, title in enumerate(results.titles)
    ]
    own = ["Cumulative: each row adds to all rows above it. Gain: against the row above. (ours): not from the paper."]
    header = ["variant", *columns, "gain, pixel AUROC", "gain, IoU-max"]
    title = f"Ablation of AnoSeg on {dataset_of(results)}: means over {len(everything)} categories (%)"
    table = Table(
        f"experiment_{results.run.info.experiment}", title, header, lines, table_notes(results, lines, own, _ABLATION, True)
    )
    return ExperimentReport(table, _steps_figure(results, numbers))


def _steps_figure(results: Results, numbers: dict[str, list[Number]]) -> Figure:
    title = title_of(results, "Ablation: each row adds a part to those above it")
    figure, ax = axes(title, f"percent, {results.over_all}", "", TWO_COLUMNS, 1.2 + 0.2 * len(results.variants))
    places = np.arange(len(results.variants))
    handles = []
    for i, name in enumerate(_ABLATION):
        values = [100 * n.mean if n.complete or (results.allow_partial and n.n) else math.nan for n in numbers[name]]
        spreads = 100 * np.array([n.reach for n in numbers[name]]).T
        handles.append(
            ax.errorbar(values, places, xerr=spreads, color=COLOURS[i], marker=MARKERS[i], markersize=4, linewidth=0.8, capsize=1.5)
        )
    ax.set_yticks(places, results.titles)
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    legend(figure, handles, [metric(name).title for name in _ABLATION])
    return figure


# --- coordinates --------------------------------------------------------------------------------------------------------

_BY_DEFECT = {name: metric(name).title for name in ("pixel_auroc", "aupro_0.3", "image_auroc")}


def _defects(results: Results) -> list[tuple[bool, int, str]]:
    """Return (does position decide, index of the category, defect type): those where it does first."""
    keys = set()
    for row, result in results.done:
        positional = result.record.positional
        for defect in result.record.defects:
            keys.add((defect in positional, results.categories.index(row.category), defect))
    return sorted(keys, key=lambda key: (not key[0], *key[1:]))


def _of_defect(results: Results, category: int, defect: str, name: str) -> list[Number]:
    """Return a number of one defect type for every variant."""
    return results.numbers(name, [category], defect)


def _coordinates(results: Results) -> ExperimentReport:
    """Return metrics of each defect type with and without coordinates, those where position decides apart."""
    lines, shown = [], []
    for positional, category, defect in _defects(results):
        row = []
        for name in _BY_DEFECT:
            numbers = _of_defect(results, category, defect, name)
            row += cells(numbers, results.allow_partial)
            if len(numbers) == 2:
                row.append(TableCell(_difference(numbers[0].mean - numbers[1].mean) if all(n.complete for n in numbers) else DASH))
        group = "Position decides" if positional else "Position does not decide"
        label = f"{one_line(results.categories[category])}: {one_line(defect)}"
        lines.append(Line([TableCell(label), *row], group))
        shown.append((label, positional, _of_defect(results, category, defect, "pixel_auroc")))
    heads = [*results.titles, *(["gain"] if len(results.variants) == 2 else [])]
    header = ["defect type", *(f"{title}, {head}" for title in _BY_DEFECT.values() for head in heads)]
    own = [
        "Each defect type against all normal pixels or images of its category. Position decides: a normal part in a wrong place, "
        "as the dataset's adapter names it."
    ]
    table = Table("experiment_coordinates", f"Coordinates: {dataset_of(results)} by defect type (%)", header, lines,
                  table_notes(results, lines, own))  # fmt: skip
    return ExperimentReport(
        table, _dumbbells(results, shown, "Pixel AUROC by defect type; bold: position decides", "pixel AUROC (%)")
    )


def _dumbbells(results: Results, shown: Sequence[tuple[str, bool, list[Number]]], title: str, label: str) -> Figure | None:
    """Draw numbers of every variant on one line for each (name, is it bold, numbers)."""
    if not shown:
        return None
    width = ONE_COLUMN if max(len(name) for name, _, _ in shown) <= 20 else TWO_COLUMNS
    figure, ax = axes(title_of(results, title, width), label, "", width, 1.2 + 0.17 * len(shown))
    handles = []
    for i in range(len(results.variants)):
        values = [100 * n[i].mean if n[i].complete else math.nan for _, _, n in shown]
        handles += ax.plot(values, range(len(shown)), linestyle="", marker=MARKERS[i], color=COLOURS[i], markersize=4.5, alpha=0.9)
    for place, (_, _, numbers) in enumerate(shown):
        means = [100 * n.mean for n in numbers if n.complete]
        if means:
            ax.plot([min(means), max(means)], [place, place], color="0.6", linewidth=1.2, zorder=1)
    ax.set_yticks(range(len(shown)), [label for label, _, _ in shown])
    for text, (_, positional, _) in zip(ax.get_yticklabels(), shown, strict=True):
        text.set_fontweight("bold" if positional else "normal")
    ax.set_ylim(len(shown) - 0.5, -0.5)
    legend(figure, handles, results.titles)
    return figure


# --- detection ----------------------------------------------------------------------------------------------------------

ImageScores = tuple[np.ndarray, np.ndarray]  # of test and of held-out images


def _scores(result: CellResult | None, name: str) -> ImageScores | None:
    """Return stored image scores of the test and of the held-out images, the method's own for ""; None where there are none."""
    if result is None:
        return None
    with opened(result) as arrays:
        test, held_out = (f"{whose}/{name}".rstrip("/") for whose in ("score", "held_out_score"))
        return (arrays[test], arrays[held_out] if held_out in arrays else np.empty(0)) if test in arrays else None


def joined(parts: Sequence[ImageScores | None]) -> ImageScores | None:
    """Return the sum of image scores, each in deviations from the mean of its held-out normal images.

    None where one is missing, or where fewer than two held-out images tell a deviation.
    """
    sums = [np.zeros(1), np.zeros(1)]
    for part in parts:
        if part is None or len(part[1]) < 2:
            return None
        mean, deviation = part[1].mean(dtype=np.float64), part[1].std(ddof=1, dtype=np.float64)
        scale = max(deviation, 1e-6 * max(abs(mean), 1e-12))
        sums = [total + (values - mean) / scale for total, values in zip(sums, part, strict=True)]
    return sums[0], sums[1]


def _auroc(row: Row, scores: ImageScores | None) -> float:
    if scores is None or row.result is None:
        return math.nan
    defective = np.array([defect != GOOD for _, defect in row.result.record.items])
    return separation(scores[0][defective], scores[0][~defective])[0] if 0 < defective.sum() < len(defective) else math.nan


def _detection(results: Results) -> ExperimentReport:
    """Return the image AUROC of scores made with and without AnoSeg's map."""
    row_of = {(row.variant, row.category, row.seed): row for row in results.run.rows}
    with_map, without, *others = results.variants
    of: dict[str, list[tuple[str, str]]] = {
        "maximum of the map": [(with_map, "map_max")],
        "mean of the map's top pixels": [(with_map, "map_top")],
        "detector without the map": [(without, "detector")],
        "detector with the map": [(with_map, "detector")],
        "anoseg's own score": [(with_map, "")],
    }
    groups = dict.fromkeys(of, "AnoSeg")
    for other in others:
        for name, parts in {one_line(other): [], f"{one_line(other)} joined to the map": [(with_map, "map_top")]}.items():
            of[name] = [*parts, (other, "")]
            groups[name] = "Other detectors, alone and joined to AnoSeg's map"
    cube = np.full((len(of), len(results.categories), len(results.seeds)), math.nan)
    for i, parts in enumerate(of.values()):
        for j, category in enumerate(results.categories):
            for k, seed in enumerate(results.seeds):
                rows = [row_of.get((variant, category, seed)) for variant, _ in parts]
                read = [_scores(row.result if row else None, name) for row, (_, name) in zip(rows, parts, strict=True)]
                if rows[0] is not None:
                    cube[i, j, k] = _auroc(rows[0], joined(read) if len(read) > 1 else read[0])
    columns = [[summarise(block) for block in cube[:, [j]]] for j in range(len(results.categories))]
    columns.append([summarise(block) for block in cube])
    shown = [cells(column, results.allow_partial) for column in columns]
    lines = [Line([TableCell(name), *(column[i] for column in shown)], groups[name]) for i, name in enumerate(of)]
    own = [
        "Image AUROC. Top pixels: the hottest 0.2 %. Joined: the sum of both image scores (of AnoSeg, the mean of the top pixels), "
        "each in standard deviations from the mean of the held-out normal images; a dash where fewer than two are held out.",
    ]
    header = ["image score", *map(one_line, results.categories), "mean"]
    title = f"Detection: image AUROC (%) on {dataset_of(results)}"
    table = Table("experiment_detection", title, header, lines, table_notes(results, lines, own))
    return ExperimentReport(table, _bars_of_scores(results, list(of), columns[-1]))


def _bars_of_scores(results: Results, names: list[str], means: list[Number]) -> Figure:
    title = title_of(results, f"Detection of defective images, {results.over_all}")
    figure, ax = axes(title, "image AUROC (%)", "", TWO_COLUMNS, 1.1 + 0.2 * len(names))
    values = [100 * n.mean if n.complete or (results.allow_partial and n.n) else 0.0 for n in means]
    low = min([v for v in values if v], default=0.0)
    left = max(0.0, 10 * math.floor(low / 10 - 0.5))
    for place, (name, value, number) in enumerate(zip(names, values, means, strict=True)):
        kind = 2 if "joined" in name else 0 if "map" in name or name.startswith("anoseg") else 1
        ax.barh(place, value, **bar_style(kind))
        ax.text(max(value, left) + 0.5, place, percent(number.mean) if value else DASH, va="center", fontsize=7)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlim(left, 104)
    return figure


# --- pretraining --------------------------------------------------------------------------------------------------------


def _pretraining(results: Results) -> ExperimentReport:
    """Return metrics of each category and over all, methods from scratch beside those on pretrained weights."""
    columns = ["pixel_auroc", "aupro_0.3", "iou_max", "iou_deployable", "image_auroc"]
    everything = list(range(len(results.categories)))
    members = [
        *((one_line(results.categories[i]), [i]) for i in everything),
        *([("mean", everything)] if len(everything) > 1 else []),
    ]
    lines, shown = [], []
    for title, where in members:
        numbers = {name: results.numbers(name, where) for name in columns}
        block = [weights_column(results), *(cells(of, results.allow_partial) for of in numbers.values())]
        lines += [Line([TableCell(name), *(column[i] for column in block)], title) for i, name in enumerate(results.titles)]
        shown.append((title, title == "mean", numbers["iou_max"]))
    own = [f"{metric(name).title}: {metric(name).definition}." for name in columns]
    header = ["method", WEIGHTS, *(metric(name).title for name in columns)]
    title = f"From scratch or pretrained, on {dataset_of(results)} (%)"
    table = Table("experiment_pretraining", title, header, lines, table_notes(results, lines, own, columns))
    return ExperimentReport(table, _dumbbells(results, shown, "IoU at the best threshold, by category", "IoU-max (%)"))


# --- robustness ---------------------------------------------------------------------------------------------------------


def _robustness(results: Results) -> ExperimentReport:
    """Return mean IoU and widths on both axes for each category and over all."""
    columns = ["iou_max", "iou_mean", "iou_width", "iou_mean_fpr", "iou_width_fpr"]
    everything = list(range(len(results.categories)))
    members = [(one_line(c), [i]) for i, c in enumerate(results.categories) if len(everything) > 1]
    members.append((results.over_all, everything))
    lines = []
    for title, where in members:
        block = [cells(results.numbers(name, where), results.allow_partial, best=name not in WIDTHS) for name in columns]
        lines += [Line([TableCell(shown), *(column[i] for column in block)], title) for i, shown in enumerate(results.titles)]
    own = [
        "Mean IoU over thresholds on the map's value 0..1 and on log10 of the false-positive rate on normal images, 1e-5..1e-1. "
        "Width: the share of the axis on which IoU ≥ 0.9 IoU-max."
    ]
    header = ["method", *(metric(n).title for n in columns)]
    title = f"Threshold robustness by category on {dataset_of(results)} (%)"
    table = Table(
        "experiment_robustness", title, header, lines, table_notes(results, lines, own, ["iou_mean", "iou_mean_fpr"], True)
    )
    return ExperimentReport(table, iou_figure(results, everything, results.over_all))


# --- shift and levels of a condition ------------------------------------------------------------------------------------


def _shift(results: Results) -> ExperimentReport:
    """Return where the deployed decision breaks, and what becomes of it at each strength."""
    numbers = shift_numbers(results)
    return ExperimentReport(break_table(numbers), shift_figure(numbers), strength_tables(numbers), shift_sheets(numbers))


def _levels(results: Results) -> ExperimentReport:
    return ExperimentReport(*by_level(results))


_REPORTS = {
    "ablation": _ablation,
    "parts": _ablation,
    "coordinates": _coordinates,
    "detection": _detection,
    "pretraining": _pretraining,
    "robustness": _robustness,
    "few": _levels,
    "noisy": _levels,
    "resolution": _levels,
    "shift": _shift,
}
