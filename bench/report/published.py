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


def published_table(results: Results, methods: Sequence[str]) -> Table | None:
    """Return a table of its own of what is published of some methods on the run's categories; None where nothing is."""
    numbers = {name: beside(results, name, methods) for name in tabled()}
    columns = [method for method in methods if any(method in there for there in numbers.values())]
    if not columns:
        return None
    rows = {one_line(category): [category] for category in results.categories}
    rows |= {"mean": results.categories} if len(results.categories) > 1 else {}
    lines = [
        Line(
            [TableCell(label), *(TableCell(mean_text(there.get(m, {}), of)) for m in columns)], metric(name).title, label == "mean"
        )
        for name, there in numbers.items()
        if there
        for label, of in rows.items()
    ]
    named = {m: {f"{name} {c}": p for name, there in numbers.items() for c, p in there.get(m, {}).items()} for m in columns}
    title = f"Published numbers on {dataset_of(results)} (%)"
    return Table("published", title, ["category", *(one_line(method) for method in columns)], lines, sources(named))


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
    held_out = f", {100 * share:.3g} % of the training images held out" if (share := results.run.info.holdout) else ""
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
                known = f"Known differences of {one_line(variant)}: {differs}{held_out}."
                notes[f"{name}: published in {one_line(there.source)}. {known}"] = None
    if not lines:
        return None
    header = ["category", "published", "ours", "difference"]
    title = f"Reproduction on {dataset_of(results)} (%)"
    return Table("reproduction", title, header, lines, table_notes(results, lines, list(notes)))
