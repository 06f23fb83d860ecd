"""The compact table of a paper: methods by categories, some metrics, best and ties marked, published numbers apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from anoseg_bench.formatting import one_line
from anoseg_bench.metrics import metric
from anoseg_bench.report.paper_choice import PaperChoice
from anoseg_bench.report.published import beside, mean_text, sources
from anoseg_bench.report.published_values import Published
from anoseg_bench.report.render import DASH, Line, Table, TableCell
from anoseg_bench.report.results import Results
from anoseg_bench.report.tables import cells, dataset_of, percent, table_notes

#: Columns of numbers that fit on the width of a page, alone and with intervals beneath.
ROOM, ROOM_OF_INTERVALS = 17, 12
PUBLISHED = "published, by other protocols; not ranked"

#: A category with its index, or the mean with all of these.
Place = tuple[str, list[int]]
#: Cells of one metric: of each method those of all places, also of published ones by name.
Block = tuple[list[list[TableCell]], dict[str, list[TableCell]]]


def paper_table(results: Results, published: Sequence[str], choice: PaperChoice) -> Table:
    """Return the compact table.

    Methods are rows, categories and their mean columns; the other way round where there are more of these than fit on a page.
    Metrics stand side by side where they fit, else below each other.

    Parameters
    ----------
    published : sequence of str
        Published methods whose numbers stand apart.
    """
    everything = list(range(len(results.categories)))
    places = [(one_line(results.categories[i]), [i]) for i in everything] + [("mean", everything)] * (len(everything) > 1)
    theirs = {name: beside(results, name, published) for name in choice.metrics}
    others = [method for method in published if any(method in there for there in theirs.values())]
    blocks = {
        name: (
            _own(results, name, places, choice.intervals),
            {m: _printed(results, theirs[name].get(m, {}), places) for m in others},
        )
        for name in choice.metrics
    }
    room = ROOM_OF_INTERVALS if choice.intervals else ROOM
    arranged = _by_method if len(places) <= room else _by_category
    header, spans, lines = arranged(results.titles, blocks, [label for label, _ in places], room)
    named = {m: {f"{name} {c}": p for name, there in theirs.items() for c, p in there.get(m, {}).items()} for m in others}
    own = [" ".join(f"{metric(name).title}: {metric(name).definition}." for name in choice.metrics), *sources(named)]
    title = f"{', '.join(metric(name).title for name in choice.metrics)} (%) on {dataset_of(results)}"
    told = [*lines, *_told(results, choice, everything)]
    return Table("paper", title, header, lines, table_notes(results, told, own, choice.metrics), spans, decimals=True)


def _own(results: Results, name: str, places: Sequence[Place], intervals: bool) -> list[list[TableCell]]:
    """Return the cells of each variant at all places, the best of each place bold."""
    columns = []
    for _, members in places:
        numbers = results.numbers(name, members)
        bare = cells([replace(n, low=math.nan, high=math.nan) for n in numbers], results.allow_partial)
        beneath = [f"{percent(n.low)}{DASH}{percent(n.high)}" if intervals and math.isfinite(n.low) else "" for n in numbers]
        columns.append([replace(cell, beneath=text) for cell, text in zip(bare, beneath, strict=True)])
    return [list(row) for row in zip(*columns, strict=True)]


def _printed(results: Results, there: dict[str, Published], places: Sequence[Place]) -> list[TableCell]:
    return [TableCell(mean_text(there, [results.categories[i] for i in members])) for _, members in places]


def _told(results: Results, choice: PaperChoice, everything: list[int]) -> list[Line]:
    """Return numbers with intervals as other tables show them, for the note on intervals; none where there are none."""
    if not choice.intervals:
        return []
    numbers = [n for name in choice.metrics for n in results.numbers(name, everything)]
    return [Line([TableCell(""), *cells(numbers, results.allow_partial, best=False)])]


_Arranged = tuple[list[str], list[tuple[str, int]], list[Line]]


def _by_method(titles: Sequence[str], blocks: dict[str, Block], labels: Sequence[str], room: int) -> _Arranged:
    """Return header, spans and lines: methods are rows."""
    names = list(blocks)
    chunks = [names] if len(names) * len(labels) <= room else [[name] for name in names]
    lines: list[Line] = []
    for chunk in chunks:
        heading = metric(chunk[0]).title if len(chunks) > 1 else ""
        for v, title in enumerate(titles):
            lines.append(Line([TableCell(title), *(cell for name in chunk for cell in blocks[name][0][v])], heading))
        for method in blocks[chunk[0]][1]:
            row = [cell for name in chunk for cell in blocks[name][1][method]]
            apart = f"{heading}, {PUBLISHED}" if heading else PUBLISHED.capitalize()
            lines += [Line([TableCell(one_line(method)), *row], apart)] * any(cell.text != DASH for cell in row)
    if len(labels) == 1:
        return ["method", *(metric(name).title for name in chunks[0])], [], lines
    spans = [(metric(name).title, len(labels)) for name in names] if len(chunks) == 1 < len(names) else []
    return ["method", *list(labels) * len(chunks[0])], spans, lines


def _by_category(titles: Sequence[str], blocks: dict[str, Block], labels: Sequence[str], room: int) -> _Arranged:
    """Return header, spans and lines: categories are rows, metrics below each other."""
    others = list(next(iter(blocks.values()))[1])
    lines = []
    for name, (own, printed) in blocks.items():
        for k, label in enumerate(labels):
            row = [*(of[k] for of in own), *(printed[method][k] for method in others)]
            lines.append(Line([TableCell(label), *row], metric(name).title * (len(blocks) > 1), rule=k == len(labels) - 1))
    spans = [("this run", len(titles)), (PUBLISHED, len(others))] if others else []
    return ["category", *titles, *map(one_line, others)], spans, lines
