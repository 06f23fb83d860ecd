"""The tables of a run: one per metric, one per category by defect type, and a summary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from bench.metrics.suite import METRICS
from bench.report import notes
from bench.report.frame import Names, Number, Results, number_of, plain, summarise
from bench.report.render import DASH, Cell, Line, Table
from bench.store import CellResult, slug

Form = Callable[[float], str]
#: The metrics for the terminal, the first to go last.
MAIN = ["pixel_auroc", "iou_max", "image_auroc", "iou_deployable", "aupro_0.3", "iou_0.5"]


def percent(value: float) -> str:
    """Return a share as percent with one decimal, the field's custom."""
    return f"{100 * value:.1f}"


def plain_number(value: float) -> str:
    """Return a number with three significant digits, or all digits before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def cells(numbers: Sequence[Number], allow_partial: bool, form: Form = percent, best: bool = True) -> list[Cell]:
    """Return numbers as cells, the best of the complete ones bold (all that tie as shown).

    A mean over some of the cells asked for is a dash with n/N, unless `allow_partial`.
    """
    complete = [float(form(number.mean)) if number.complete else math.nan for number in numbers]
    comparable = best and np.isfinite(complete).sum() > 1
    return [
        Cell(cell_text(number, allow_partial, form), bool(comparable and value == np.nanmax(complete)))
        for number, value in zip(numbers, complete, strict=True)
    ]


def cell_text(number: Number, allow_partial: bool, form: Form = percent) -> str:
    """Return a mean with its spread, or a dash, with n/N where some cells have a value."""
    if number.n == 0:
        return DASH
    if not number.complete:
        return f"{form(number.mean) if allow_partial else DASH} ({number.n}/{number.total})"
    return form(number.mean) + (f" ± {form(number.spread)}" if math.isfinite(number.spread) else "")


def _dataset(results: Results) -> str:
    return plain(results.run.info.get("dataset", "unknown"))


def _texts(lines: list[Line]) -> list[str]:
    return [cell.text for line in lines for cell in line.cells[1:]]


def metric_table(results: Results, name: str, file: str) -> Table:
    """Return one metric: categories by variants, with means."""
    metric, cube = METRICS[name], results.metrics[name]

    def line(label: str, members: list[int], group: str = "", rule: bool = False) -> Line:
        numbers = [summarise(block) for block in cube[:, members]]
        return Line([Cell(label), *cells(numbers, results.allow_partial)], group, rule)

    groups = results.groups()
    lines = []
    for group, members in groups.items():
        lines += [line(plain(results.categories[i]), [i], group) for i in members]
        lines += [line(f"mean of {group}", members, group)] if len(groups) > 1 else []
    lines.append(line("mean", list(range(len(results.categories))), rule=True))
    return Table(
        file,
        f"{metric.title} (%) on {_dataset(results)}",
        ["category", *map(plain, results.variants)],
        lines,
        [
            f"{metric.title}: {metric.definition}.",
            *notes.reading(results, _texts(lines)),
            notes.protocol(results),
            *(notes.scaled(results) if name in notes.ON_THRESHOLD_AXIS else []),
            notes.setup(results),
            *notes.deviations(results),
            *notes.undefined(results, [name]),
            *notes.failures(results),
        ],
    )


def _timing(results: Results) -> dict[str, np.ndarray]:
    def milliseconds(result: CellResult) -> float:
        rate = number_of((result.record.get("timing") or {}).get("images_per_s"))
        return 1000 / rate if rate > 0 else math.nan

    def training(result: CellResult) -> float:
        return number_of((result.record.get("timing") or {}).get("train_s"))

    return {"training (s)": results.cube(training), "prediction (ms/image)": results.cube(milliseconds)}


def summary_table(results: Results, names: Sequence[str] | None = None) -> Table:
    """Return the means over categories and seeds of all (or some) metrics, and times: variants by numbers."""
    names = [name for name in results.metrics if names is None or name in names]
    columns = {METRICS[name].title: _means(results, results.metrics[name]) for name in names}
    for title, cube in _timing(results).items():
        numbers = [replace(summarise(block), spread=math.nan) for block in cube]
        columns[title] = cells(numbers, results.allow_partial, plain_number, best=False)
    lines = [
        Line([Cell(plain(variant)), *(column[i] for column in columns.values())]) for i, variant in enumerate(results.variants)
    ]
    devices = dict.fromkeys(plain((result.record.get("provenance") or {}).get("device_name", "")) for _, result in results.done)
    count = len(results.categories)
    return Table(
        "summary",
        f"Means over {count} {'category' if count == 1 else 'categories'} of {_dataset(results)} (%), and times",
        ["method", *columns],
        lines,
        [
            " ".join(f"{METRICS[name].title}: {METRICS[name].definition}." for name in names),
            *notes.reading(results, _texts(lines)),
            f"Times per cell, on {', '.join(filter(None, devices)) or 'unknown devices'}.",
            notes.protocol(results),
            *notes.scaled(results),
            notes.setup(results),
            *notes.deviations(results),
            *notes.undefined(results, names),
            *notes.failures(results),
        ],
    )


def _means(results: Results, cube: np.ndarray) -> list[Cell]:
    return cells([summarise(block) for block in cube], results.allow_partial)


def _defects(results: Results, category: str) -> dict[str, int]:
    """Return the defect types of a category and their numbers of images."""
    found: dict[str, int] = {}
    for row, result in results.done:
        if row.category == category:
            for defect, numbers in (result.record.get("defects") or {}).items():
                found.setdefault(defect, numbers.get("images") or 0)
    return found


def defect_table(results: Results, category: str, file: str) -> Table | None:
    """Return pixel and image AUROC of each defect type of a category, None where there is no defect."""
    index = results.categories.index(category)
    lines = []
    for name in ("pixel_auroc", "image_auroc"):
        for defect, images in _defects(results, category).items():

            def read(result: CellResult, defect: str = defect, name: str = name) -> float:
                return number_of((result.record.get("defects") or {}).get(defect, {}).get(name))

            numbers = [summarise(block) for block in results.cube(read)[:, [index]]]
            head = [Cell(plain(defect)), Cell(str(images))]
            lines.append(Line([*head, *cells(numbers, results.allow_partial)], METRICS[name].title))
    if not lines:
        return None
    return Table(
        file,
        f"{plain(category)} of {_dataset(results)} by defect type: AUROC (%)",
        ["defect type", "images", *map(plain, results.variants)],
        lines,
        [
            "Each defect type against all normal pixels (pixel AUROC) or normal images (image AUROC) of the category.",
            *notes.reading(results, _texts(lines)),
            notes.protocol(results),
            notes.setup(results),
            *notes.deviations(results),
            *notes.failures(results),
        ],
    )


def all_tables(results: Results) -> list[Table]:
    """Return the tables: summary, metrics, categories."""
    names = Names()
    names("all"), names("summary")
    metrics = [metric_table(results, name, names(name)) for name in results.metrics]
    by_defect = [defect_table(results, category, names(f"defects_{slug(category)}")) for category in results.categories]
    return [summary_table(results), *metrics, *(table for table in by_defect if table)]


def compact_table(results: Results) -> Table:
    """Return pixel AUROC / IoU-max of each category, for the terminal."""
    cubes = [results.metrics[name] for name in ("pixel_auroc", "iou_max")]
    lines = []
    for i, category in enumerate(results.categories):
        blocks = np.stack([cube[:, i] for cube in cubes], axis=1)  # (V, metrics, S)
        numbers = [[replace(summarise(row[None]), spread=math.nan) for row in block] for block in blocks]
        texts = [" / ".join(cell_text(n, results.allow_partial) for n in pair) for pair in numbers]
        lines.append(Line([Cell(plain(category)), *map(Cell, texts)]))
    return Table("compact", "Pixel AUROC / IoU-max (%)", ["category", *map(plain, results.variants)], lines)
