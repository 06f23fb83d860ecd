"""What the page of a run shows without its script: verdicts and protocol; where no script runs, main tables and pictures, too."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anoseg_bench.formatting import one_line, percent
from anoseg_bench.metrics import VALUE_GRID
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
    fit = given.is_fit
    badge = f'<span class="badge {"fit" if fit else "unfit"}">{"fit for use" if fit else "not fit for use"}</span>'
    text = html.escape(verdict_text(results, given).removeprefix("Not fit for use, as ").removeprefix("No decision: "))
    return f"<p><strong>{html.escape(given.decision.title)}</strong> {badge}<br>{text[:1].upper() + text[1:]}</p>"


def decisions_table(results: Results) -> str:
    """Return what thresholds were asked for and what they did as HTML, with its notes."""
    table = decision_table(results, "decisions")
    lines, group, number = [], "", -1
    for line in table.lines:
        if line.group != group:
            group, number = line.group, number + 1
            heading = f'<th scope="rowgroup" colspan="{len(table.header)}">{html.escape(group)}</th>'
            lines.append(f'<tr data-category="{number}">{heading}</tr>')
        first, *rest = (html.escape(cell.text) for cell in line.cells)
        lines.append(
            f'<tr data-category="{number}"><th scope="row">{first}</th>{"".join(f"<td>{text}</td>" for text in rest)}</tr>'
        )
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in table.header)
    body = f'<table id="asked"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(table.title, quote=True)}">{body}</div>'
    return f'{region}<p class="note">{html.escape(table.notes[0])}</p>'


def experiment_section(table: Table, figure: Path | None) -> str:
    """Return an experiment as HTML: its figure, a PNG file, and its table with the note that is its own."""
    title = html.escape(table.title, quote=True)
    columns = {heading: [line.cells[i].text for line in table.lines] for i, heading in enumerate(table.header)}
    first, *_ = table.header
    names = columns.pop(first)
    groups = [f"{line.group}: " * bool(line.group) for line in table.lines]
    shown = _table(table.title, [group + name for group, name in zip(groups, names, strict=True)], columns, first)
    source = f"data:image/png;base64,{base64.b64encode(figure.read_bytes()).decode()}" if figure else ""
    picture = f'<img id="experiment-figure" src="{source}" alt="{title}; the numbers stand in the table below">' if figure else ""
    region = shown.replace('class="scroll"', f'class="scroll" tabindex="0" role="region" aria-label="{title}"')
    note = f'<p class="note">{html.escape(table.notes[0])}</p>' if table.notes else ""
    return f'<section aria-labelledby="experiment"><h2 id="experiment">The experiment</h2>{picture}{region}{note}</section>'


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


def _table(title: str, names: Sequence[str], columns: Mapping[str, Sequence[str]], first: str = "method") -> str:
    def row(first: str, rest: Sequence[str], kind: str, scope: str) -> str:
        cells = "".join(f"<{kind}>{html.escape(text)}</{kind}>" for text in rest)
        return f'<tr><th scope="{scope}">{html.escape(first)}</th>{cells}</tr>'

    lines = [row(name, [column[v] for column in columns.values()], "td", "row") for v, name in enumerate(names)]
    head = row(first, list(columns), "th", "col")
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
