"""The tables of a run: one per metric, one per category by defect type, and a summary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from anoseg_bench.formatting import counted, one_line, percent
from anoseg_bench.metrics import THRESHOLDS, metric, names_shown
from anoseg_bench.report import notes
from anoseg_bench.report.frame import COSTS, FileNames
from anoseg_bench.report.render import DASH, Line, Table, TableCell
from anoseg_bench.report.results import Number, Results, summarise
from anoseg_bench.store.cells import slug

Form = Callable[[float], str]
#: Marks what cannot be told from the best.
TIE = "≈"
#: The metrics for the terminal, the first to go last, and those of the summary, beside times.
MAIN = names_shown("main")
SUMMARY = names_shown("main", "summary")
#: Numbers at a threshold: of which the best is bold, and the others.
AT_THRESHOLD = {"iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall", "fpr": "of all normal ones"}
#: The column that says which weights a method begins with.
WEIGHTS = "weights"
WIDTHS = ("iou_width", "iou_width_fpr")


def plain_number(value: float) -> str:
    """Return a number with three significant digits, or all digits before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def cells(numbers: Sequence[Number], allow_partial: bool, form: Form = percent, best: bool = True) -> list[TableCell]:
    """Return numbers as cells, the best of the complete ones bold (all that are equal as shown), ties with it marked.

    A mean over some of the cells asked for is a dash with n/N, unless `allow_partial`.
    """
    complete = [float(form(number.mean)) if number.complete else math.nan for number in numbers]
    comparable = best and np.isfinite(complete).sum() > 1
    shown = []
    for number, value in zip(numbers, complete, strict=True):
        bold = bool(comparable and value == np.nanmax(complete))
        mark = f" {TIE}" if comparable and number.tie and not bold else ""
        shown.append(TableCell(cell_text(number, allow_partial, form) + mark, bold))
    return shown


def cell_text(number: Number, allow_partial: bool, form: Form = percent) -> str:
    """Return a mean with its interval, ``"96.5 (94.1–97.9)"``, or a dash, with n/N where some cells have a value."""
    if number.n == 0:
        return DASH
    if not number.complete:
        return f"{form(number.mean) if allow_partial else DASH} ({number.n}/{number.total})"
    return with_interval(number, form)


def with_interval(number: Number, form: Form = percent) -> str:
    """Return a mean with its interval, where it has one."""
    return form(number.mean) + (f" ({form(number.low)}–{form(number.high)})" if math.isfinite(number.low) else "")


def dataset_of(results: Results) -> str:
    """Return the dataset's name."""
    return one_line(results.run.info.dataset)


def small_percent(value: float) -> str:
    """Return a rate as percent with two decimals: most of what matters lies below 0.1."""
    return percent(value, 2)


def table_notes(
    results: Results, lines: list[Line], own: Sequence[str], undefined: Sequence[str] = (), on_value_axis: bool = False
) -> list[str]:
    """Return a table's own notes, and those that all have."""
    return [
        *own,
        *notes.reading(results, [cell.text for line in lines for cell in line.cells[1:]]),
        notes.protocol(results),
        *(notes.scaled(results) if on_value_axis else []),
        notes.setup(results),
        *notes.origin(results),
        *notes.deviations(results),
        *notes.pretrained(results),
        *notes.conditions(results),
        *notes.undefined(results, undefined),
        *notes.failures(results),
    ]


def metric_table(results: Results, name: str, file: str) -> Table:
    """Return one metric: categories by variants, with means."""
    shown = metric(name)

    def line(label: str, members: list[int], group: str = "", rule: bool = False) -> Line:
        return Line([TableCell(label), *cells(results.numbers(name, members), results.allow_partial)], group, rule)

    groups = results.groups()
    lines = []
    for group, members in groups.items():
        lines += [line(one_line(results.categories[i]), [i], group) for i in members]
        lines += [line(f"mean of {group}", members, group)] if len(groups) > 1 else []
    lines.append(line("mean", list(range(len(results.categories))), rule=True))
    return Table(
        file,
        f"{shown.title} (%) on {dataset_of(results)}",
        ["category", *results.titles],
        lines,
        table_notes(results, lines, [f"{shown.title}: {shown.definition}."], [name], name in notes.ON_VALUE_AXIS),
    )


def _count(results: Results) -> str:
    return counted(len(results.categories), "category", "categories")


def _cost_columns(results: Results, headings: Sequence[str]) -> dict[str, list[TableCell]]:
    numbers = {heading: [summarise(block) for block in results.costs[heading]] for heading in headings}
    return {heading: cells(column, results.allow_partial, plain_number, best=False) for heading, column in numbers.items()}


def weights_column(results: Results) -> list[TableCell]:
    """Return whether each variant rests on weights that were trained on other images, or begins with random ones."""
    known = {row.variant for row, result in results.done if not result.record.maps}  # not another tool's, nor where all failed
    words = {v: DASH if v not in known else "pretrained" if v in results.pretrained else "from scratch" for v in results.variants}
    return [TableCell(word) for word in words.values()]


def _devices(results: Results) -> str:
    machines = dict.fromkeys(result.record.provenance.machine for _, result in results.done)
    return "; ".join(machines) or "unknown devices"


def cost_table(results: Results) -> Table:
    """Return what training and prediction cost, means over cells: variants by costs."""
    columns = {WEIGHTS: weights_column(results)} | _cost_columns(results, [heading for heading, *_ in COSTS])
    lines = [Line([TableCell(title), *(column[i] for column in columns.values())]) for i, title in enumerate(results.titles)]
    own = [
        f"Per cell, on {_devices(results)}. Latency and images/s: the method alone, without reading and resizing files, in batches "
        "no larger than its own. Model: its state, as it is stored. Multiply-adds: convolutions and matrix products of one "
        "prediction. Peak memory: on CUDA what torch has allocated, else the whole process, with torch itself and the images; a "
        "dash where the system does not tell.",
        notes.setup(results),
        *notes.pretrained(results),
        *notes.conditions(results),
        *notes.failures(results),
    ]
    title = f"Cost on {dataset_of(results)}: means over {_count(results)}"
    return Table("cost", title, ["method", *columns], lines, own)


def summary_table(results: Results, names: Sequence[str] | None = None) -> Table:
    """Return the means over categories and seeds of the main (or some) metrics, and times: variants by numbers."""
    names = [name for name in results.metrics if name in (SUMMARY if names is None else names)]
    columns = {metric(name).title: _means(results, name) for name in names}
    columns |= _cost_columns(results, ["training (s)", "images/s, 16 at once"])
    columns = {WEIGHTS: weights_column(results)} | columns if results.pretrained else columns
    lines = [Line([TableCell(title), *(column[i] for column in columns.values())]) for i, title in enumerate(results.titles)]
    return Table(
        "summary",
        f"Means over {_count(results)} of {dataset_of(results)} (%), and times",
        ["method", *columns],
        lines,
        table_notes(
            results,
            lines,
            [
                " ".join(f"{metric(name).title}: {metric(name).definition}." for name in names),
                f"Times per cell, on {_devices(results)}.",
            ],
            names,
            True,
        ),
    )


def _means(results: Results, name: str, best: bool = True) -> list[TableCell]:
    return cells(results.numbers(name, range(len(results.categories))), results.allow_partial, best=best)


def threshold_table(results: Results, members: list[int], what: str, file: str) -> Table:
    """Return what happens at both thresholds, the mean over some categories: variants by numbers, pixels and images."""
    lines = []
    undefined = []
    for prefix, whose in (("", "Pixels"), ("image_", "Images")):
        for which, threshold in THRESHOLDS.items():
            columns = []
            if len(members) == 1:
                at = results.numbers(f"{prefix}threshold_{which}", members)
                columns.append(cells(at, results.allow_partial, plain_number, best=False))
            for number in AT_THRESHOLD:
                if prefix and number == "iou":
                    columns.append([TableCell("")] * len(results.variants))
                    continue
                numbers = results.numbers(f"{prefix}{number}_{which}", members)
                form = small_percent if number == "fpr" else percent
                columns.append(cells(numbers, results.allow_partial, form, best=number in ("iou", "f1")))
            undefined += [f"{prefix}threshold_{which}", f"{prefix}precision_{which}"]
            lines += [
                Line([TableCell(title), *(column[i] for column in columns)], f"{whose}, {threshold}")
                for i, title in enumerate(results.titles)
            ]
    own = [
        "Deployable thresholds keep to what a user has: pixels, the smallest with a false-positive rate of at most 1e-3 on "
        "held-out normal images; images, the conformal quantile of their scores at level 0.05. Thresholds are in units of the "
        "map, or of the image score. Of all normal ones: the share "
        "of all normal pixels (also around defects), or of the normal images, of the test set that reaches the threshold.",
    ]
    return Table(
        file,
        f"At both thresholds: {what} (%)",
        ["method", *["threshold"] * (len(members) == 1), *AT_THRESHOLD.values()],
        lines,
        table_notes(results, lines, own, undefined),
    )


def robustness_table(results: Results) -> Table:
    """Return how IoU holds over thresholds, on both axes: variants by means and widths."""
    columns = {metric("iou_max").title: _means(results, "iou_max")}
    for mean, width in zip(("iou_mean", "iou_mean_fpr"), WIDTHS, strict=True):
        columns[metric(mean).title] = _means(results, mean)
        columns[metric(width).title] = _means(results, width, best=False)
    lines = [Line([TableCell(title), *(column[i] for column in columns.values())]) for i, title in enumerate(results.titles)]
    own = [
        "Mean IoU over thresholds on two axes: the map's value 0..1, and log10 of the false-positive rate on pixels of normal "
        "images, 1e-5..1e-1, which no rescaling of the map changes. Width: the share of the axis on which IoU ≥ 0.9 IoU-max; "
        "read it beside the mean, as a bad map can be wide.",
    ]
    names = ["iou_mean", "iou_mean_fpr"]
    title = f"Threshold robustness on {dataset_of(results)}: means over {_count(results)} (%)"
    return Table("robustness", title, ["method", *columns], lines, table_notes(results, lines, own, names, True))


#: What a table by defect type shows, with headings.
BY_DEFECT = {
    "pixel_auroc": "Pixel AUROC",
    "spro_0.05": metric("spro_0.05").title,
    "image_auroc": "Image AUROC",
    **{f"recall_{which}": f"Recall of pixels, {threshold}" for which, threshold in THRESHOLDS.items()},
    **{f"image_recall_{which}": f"Recall of images, {threshold}" for which, threshold in THRESHOLDS.items()},
}


def defect_table(results: Results, category: str, file: str) -> Table | None:
    """Return AUROC and recall at both thresholds of each defect type of a category, None where there is no defect."""
    index = results.categories.index(category)
    lines = []
    for name, heading in BY_DEFECT.items():
        if metric(name).optional and name not in results.metrics:
            continue
        for defect, images in results.defects(category).items():
            numbers = results.numbers(name, [index], defect)
            head = [TableCell(one_line(defect)), TableCell(str(images))]
            best = "recall" not in name  # a threshold that everything reaches finds all
            lines.append(Line([*head, *cells(numbers, results.allow_partial, best=best)], heading))
    if not lines:
        return None
    return Table(
        file,
        f"{one_line(category)} of {dataset_of(results)} by defect type (%)",
        ["defect type", "images", *results.titles],
        lines,
        table_notes(
            results,
            lines,
            [
                "Each defect type against all normal pixels (pixel AUROC) or normal images (image AUROC) of the category"
                f"{', AU-sPRO against those of normal images and its own' * ('spro_0.05' in results.metrics)}; "
                f"recall: the share of its own pixels or images that reach the threshold.{_regions(results, category)}"
            ],
            [f"{prefix}threshold_{which}" for prefix in ("", "image_") for which in THRESHOLDS],
        ),
    )


def _regions(results: Results, category: str) -> str:
    for row, result in results.done:
        regions = result.record.regions
        if row.category == category and regions.number:
            sizes = [f"{size:,.0f}" for size in (regions.smallest, regions.median, regions.largest)]
            return f" Defective regions: {regions.number}, of {sizes[0]} to {sizes[2]} pixels (median {sizes[1]})."
    return ""


def metric_tables(results: Results, names: FileNames) -> list[Table]:
    """Return a table of each metric."""
    return [metric_table(results, name, names(name)) for name in results.metrics]


def threshold_tables(results: Results, names: FileNames) -> list[Table]:
    """Return what happens at both thresholds: over all categories and, where there are several, of each."""
    everything = list(range(len(results.categories)))
    where = dataset_of(results)
    tables = [threshold_table(results, everything, f"means over {_count(results)} of {where}", names("thresholds"))]
    if len(everything) > 1:
        for i, category in enumerate(results.categories):
            file = names(f"thresholds_{slug(category)}")
            tables.append(threshold_table(results, [i], f"{one_line(category)} of {where}", file))
    return tables


def defect_tables(results: Results, names: FileNames) -> list[Table]:
    """Return a table by defect type of each category that has defects."""
    tables = [defect_table(results, category, names(f"defects_{slug(category)}")) for category in results.categories]
    return [table for table in tables if table]


def compact_table(results: Results) -> Table:
    """Return pixel AUROC / IoU-max of each category, for the terminal."""
    lines = []
    for i, category in enumerate(results.categories):
        numbers = [[summarise(block) for block in results.metrics[name][:, [i]]] for name in ("pixel_auroc", "iou_max")]
        texts = [" / ".join(cell_text(n, results.allow_partial) for n in pair) for pair in zip(*numbers, strict=True)]
        lines.append(Line([TableCell(one_line(category)), *map(TableCell, texts)]))
    return Table("compact", "Pixel AUROC / IoU-max (%)", ["category", *results.titles], lines)
