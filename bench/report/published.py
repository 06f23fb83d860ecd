"""Published numbers beside those of a run: facts with their sources, never ranked, never bold, never tested."""

from __future__ import annotations

import math
from collections.abc import Sequence

from anoseg_bench.formatting import one_line
from anoseg_bench.methods import METHODS
from anoseg_bench.metrics import metric, tabled
from anoseg_bench.report.published_values import DATASET, Published, published_numbers
from anoseg_bench.report.render import DASH, Line, Table, TableCell
from anoseg_bench.report.results import Results
from anoseg_bench.report.tables import cell_text, dataset_of, table_notes


def _published_of(results: Results, method: str, metric: str) -> dict[str, Published]:
    """Return the numbers of a published method by category, none where the run is on another dataset."""
    if results.run.info.dataset != DATASET:
        return {}
    return {row.category: row for row in published_numbers() if (row.method, row.metric) == (method, metric)}


def beside(results: Results, name: str, methods: Sequence[str]) -> dict[str, dict[str, Published]]:
    """Return the numbers of a metric on the run's categories, by published method and category; those without any are left out."""
    published = {m: {c: p for c, p in _published_of(results, m, name).items() if c in results.categories} for m in methods}
    return {method: numbers for method, numbers in published.items() if numbers}


def sources(columns: dict[str, dict[str, Published]]) -> list[str]:
    """Return a note on published numbers in general, and where those of each method are printed; nothing where there are none."""
    if not columns:
        return []
    own = "Published numbers are as printed, by other protocols (image sizes, splits, hold-out); not ranked, not tested."
    return [
        own,
        *(
            f"{one_line(method)}: published, {one_line('; '.join(dict.fromkeys(p.source for p in published.values())))}."
            for method, published in columns.items()
        ),
    ]


def with_published(results: Results, name: str, table: Table, methods: Sequence[str]) -> Table:
    """Return a metric's table with a column for each published method that has numbers of it on these categories."""
    columns = beside(results, name, methods)
    if not columns:
        return table
    members = _members(results)
    lines = [
        Line(
            [*line.cells, *(TableCell(mean_text(published, members[line.cells[0].text])) for published in columns.values())],
            line.group,
            line.rule,
        )
        for line in table.lines
    ]
    header = [*table.header, *(f"{one_line(method)} (published)" for method in columns)]
    return Table(table.name, table.title, header, lines, [*table.notes, *sources(columns)])


def _members(results: Results) -> dict[str, list[str]]:
    """Return the categories of each line of a metric's table by its label."""
    members = {one_line(category): [category] for category in results.categories}
    members |= {f"mean of {group}": [results.categories[i] for i in of] for group, of in results.groups().items()}
    return members | {"mean": results.categories}


def mean_text(published: dict[str, Published], categories: Sequence[str]) -> str:
    """Return the mean over categories as text, a dash with n/N where some are not published."""
    values = [published[c].percent for c in categories if c in published]
    if len(values) < len(categories):
        return DASH if not values or len(categories) == 1 else f"{DASH} ({len(values)}/{len(categories)})"
    return f"{sum(values) / len(values):.1f}"


def reproduction_table(results: Results) -> Table | None:
    """Return published, ours and the difference, for methods that follow a published one; None where there are none."""
    lines: list[Line] = []
    notes: dict[str, None] = {}
    for v, variant in enumerate(results.variants):
        method = next(row.method for row in results.run.rows if row.variant == variant)
        entry = METHODS[method] if method in METHODS.names() else None
        if entry is None or entry.published is None or variant != method:
            continue
        name, differs = entry.published
        for wanted in tabled():
            for category, there in _published_of(results, name, wanted).items():
                if category not in results.categories:
                    continue
                ours = results.numbers(wanted, [results.categories.index(category)])[v]
                gap = 100 * ours.mean - there.percent if ours.complete else math.nan
                row = [
                    TableCell(one_line(category)),
                    TableCell(f"{there.percent:.1f}"),
                    TableCell(cell_text(ours, results.allow_partial)),
                    TableCell(DASH if math.isnan(gap) else f"{gap:+.1f}"),
                ]
                lines.append(Line(row, f"{results.titles[v]} after {name}, {metric(wanted).title}"))
                notes[f"{name}: published in {one_line(there.source)}. Known differences of {one_line(variant)}: {differs}."] = None
    if not lines:
        return None
    header = ["category", "published", "ours", "difference"]
    title = f"Reproduction on {dataset_of(results)} (%)"
    return Table("reproduction", title, header, lines, table_notes(results, lines, list(notes)))
