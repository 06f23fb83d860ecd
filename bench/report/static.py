"""What the page of a run shows without its script: verdicts and protocol; where no script runs, main tables and pictures, too."""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anoseg_bench.experiments import EXPERIMENTS
from anoseg_bench.formatting import one_line, percent
from anoseg_bench.metrics import VALUE_GRID
from anoseg_bench.report.experiments import ExperimentReport
from anoseg_bench.report.protocol import protocol_lines
from anoseg_bench.report.render import DASH, Table
from anoseg_bench.report.results import Results
from anoseg_bench.report.verdict import Verdict, decision_table, verdict_text, verdicts_of

#: Longest side of a picture, px, the gap between two, and their quality.
SIDE, GAP, QUALITY = 96, 4, 70


def verdict_cards(results: Results) -> str:
    """Return what to deploy in each category as HTML, a card for each."""
    return "\n".join(
        f'<article class="verdict" data-category="{c}"><h3>{html.escape(one_line(name))}</h3>'
        + "".join(_decision(results, given) for given in verdicts_of(results, c))
        + "</article>"
        for c, name in enumerate(results.categories)
    )


def _decision(results: Results, given: Verdict) -> str:
    kind = {"fit for use": "fit", "not fit for use": "unfit", "not proven": "open"}[given.fitness]
    badge = f'<span class="badge {kind}">{given.fitness}</span>'
    text = html.escape(verdict_text(results, given).removeprefix("Not fit for use, as ").removeprefix("No decision: "))
    return f"<p><strong>{html.escape(given.decision.title)}</strong> {badge}<br>{text[:1].upper() + text[1:]}</p>"


def decisions_table(results: Results) -> str:
    """Return what thresholds were asked for and what they did as HTML, with its notes."""
    table = decision_table(results, "decisions")
    return _whole(table, ' id="asked"', by_category=True) + f'<p class="note">{html.escape(table.notes[0])}</p>'


def _whole(table: Table, attributes: str = "", by_category: bool = False) -> str:
    """Return a table as HTML, its groups under their names; those of categories are marked for the page's script."""
    lines = []
    for number, (group, members) in enumerate(itertools.groupby(table.lines, lambda line: line.group)):
        of = f' data-category="{number}"' if by_category else ""
        if group:
            lines.append(f'<tr{of}><th scope="rowgroup" colspan="{len(table.header)}">{html.escape(group)}</th></tr>')
        for line in members:
            first, *rest = (f"<b>{html.escape(cell.whole)}</b>" if cell.bold else html.escape(cell.whole) for cell in line.cells)
            lines.append(f'<tr{of}><th scope="row">{first}</th>{"".join(f"<td>{text}</td>" for text in rest)}</tr>')
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in table.flat_header)
    body = f"<table{attributes}><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(table.title, quote=True)}">{body}</div>'


def experiment_section(results: Results, said: ExperimentReport | None, plots: Path) -> str:
    """Return what a run's experiment says as a section of the page, "" where there is none; the figure lies in `plots`."""
    if said is None:
        return ""
    question = EXPERIMENTS[results.run.info.experiment or ""].summary
    parts = [f"<p>{html.escape(question[:1].upper() + question[1:])}</p>"]
    parts += [f"<h3>{html.escape(said.table.title)}</h3>{_whole(said.table)}{_notes(said.table)}"]
    figure = plots / f"{said.table.name}.png"
    if said.figure is not None and figure.is_file():
        parts.append(_figure("png", figure.read_bytes(), one_line(said.figure.get_suptitle())))
    parts += [f"<details><summary>{html.escape(more.title)}</summary>{_whole(more)}{_notes(more)}</details>" for more in said.more]
    for category, picture in list(said.pictures.items())[:1]:  # those of all would take much room
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=85)
        text = f"{one_line(category)}; of other categories in the folder plots"
        parts.append(_figure("jpeg", file.getvalue(), text) + f'<p class="note">{html.escape(text)}</p>')
    return f'<section aria-labelledby="experiment">\n<h2 id="experiment">The experiment</h2>\n{"".join(parts)}\n</section>'


def _notes(table: Table) -> str:
    return "".join(f'<p class="note">{html.escape(note)}</p>' for note in table.notes[:2])


def _figure(kind: str, content: bytes, text: str) -> str:
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return f'<figure class="whole"><img src="{source}" alt="{html.escape(text, quote=True)}"></figure>'


def protocol_list(results: Results) -> str:
    """Return the protocol of a run as HTML."""
    lines = (f"<dt>{html.escape(heading)}</dt><dd>{html.escape(text)}</dd>" for heading, text in protocol_lines(results))
    return f"<dl>{''.join(lines)}</dl>"


def without_scripts(shown: Mapping[str, Any]) -> str:
    """Return the main tables, with intervals, and the first picture of each category as HTML.

    Parameters
    ----------
    shown : mapping of str to Any
        All that the page's script would show, `anoseg_bench.report.page.page_data`.
    """
    parts = []
    for view in shown["overview"]:
        heading = html.escape(view["category"] or f"All {len(shown['categories'])} categories, means")
        found = view["decisions"]["deployable"]
        numbers = {m["title"]: [_interval(n) for n in view["numbers"][m["name"]]] for m in shown["metrics"]}
        names = [(d["title"], d["name"]) for d in shown["decisions"] if d["name"] in found]
        decisions = {title: [_interval(n, name) for n in found[name]] for title, name in names}
        parts += [
            f"<h2>{heading}</h2>",
            _table("Numbers (%) with 95 % intervals", shown["variants"], numbers),
            _table("At the deployable thresholds (%; thresholds in units of score and map)", shown["variants"], decisions),
            *(_strip(c, shown["variants"], shown["heat"]) for c in shown["categories"] if c["name"] == view["category"]),
        ]
    return "\n".join(parts)


def _table(title: str, names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> str:
    def row(first: str, rest: Sequence[str], kind: str, scope: str) -> str:
        cells = "".join(f"<{kind}>{html.escape(text)}</{kind}>" for text in rest)
        return f'<tr><th scope="{scope}">{html.escape(first)}</th>{cells}</tr>'

    lines = [row(name, [column[v] for column in columns.values()], "td", "row") for v, name in enumerate(names)]
    head = row("method", list(columns), "th", "col")
    caption = f"<caption>{html.escape(title)}</caption>"
    return f'<div class="scroll"><table>{caption}<thead>{head}</thead><tbody>{"".join(lines)}</tbody></table></div>'


def _interval(number: Mapping[str, Any], name: str = "") -> str:
    """Return a number of the page with its interval; thresholds as they are."""
    if not math.isfinite(number["mean"]) or number["n"] < number["total"]:
        return DASH
    if name.endswith("threshold"):
        return f"{number['mean']:.6g}"
    mean, low, high = (percent(number[end], 2 if name == "normal_fpr" else 1) for end in ("mean", "low", "high"))
    return f"{mean} ({low}–{high})" if math.isfinite(number["low"]) else mean


def _strip(category: Mapping[str, Any], names: Sequence[str], heat: Sequence[str]) -> str:
    """Return the first image of a category, its mask and the maps of all methods, side by side in one small picture."""
    if not category["images"]:
        return ""
    first = category["images"][0]
    maps = {name: uri for name, uri in zip(names, first["pictures"]["maps"], strict=True) if uri}
    colours = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in heat], np.uint8)
    parts = [_read(first["pictures"]["image"]), _read(first["pictures"]["mask"])]
    for uri in maps.values():
        share = np.asarray(_read(uri))[..., 0] / len(VALUE_GRID)  # of the thresholds that a pixel reaches
        parts.append(Image.fromarray(colours[np.round(share * (len(colours) - 1)).astype(int)]))
    for part in parts:
        part.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    width, height = parts[0].size
    strip = Image.new("RGB", (len(parts) * (width + GAP) - GAP, height), "white")
    for k, part in enumerate(parts):
        strip.paste(part, (k * (width + GAP), 0))
    order = ", ".join(["image", "mask", *(f"map of {name}" for name in maps)])
    text = html.escape(f"{first['defect']}: {first['name']}. From left to right: {order}", quote=True)
    file = io.BytesIO()
    strip.save(file, "JPEG", quality=QUALITY)
    source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return f'<figure><img src="{source}" alt="{text}"><figcaption>{text}.</figcaption></figure>'


def _read(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))).convert("RGB")
