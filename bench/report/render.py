"""One neutral table, and how it is written as LaTeX, Markdown, CSV and plain text."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from anoseg_bench.store.files import write_file

DASH = "–"
_LATEX = {
    **{c: "\\" + c for c in "#$%&_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "{''}", "[": "{[}", "*": "{*}"},
    **{
        DASH: r"\textendash{}",
        "—": r"\textemdash{}",
        "±": r"$\pm$",
        "≈": r"$\approx$",
        "≥": r"$\ge$",
        "≤": r"$\le$",
        "×": r"$\times$",
        "…": r"\dots{}",
        "·": r"$\cdot$",
        "†": r"\dag{}",
    },
}
_PREAMBLE = [
    r"\documentclass[a4paper,10pt]{article}",
    r"\usepackage[utf8]{inputenc}",
    r"\usepackage[margin=2cm]{geometry}",
    r"\usepackage{booktabs,graphicx}",
    r"\begin{document}",
]
#: Below U+0180, but not in LaTeX's default font encoding.
_NOT_IN_OT1 = set("«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ")


@dataclass(frozen=True)
class TableCell:
    """What stands in one place of a table."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Line:
    """A row; rows of one `group` stand together under its name, `rule` draws a line above."""

    cells: list[TableCell]
    group: str = ""
    rule: bool = False


@dataclass(frozen=True)
class Table:
    """A table before it has a format: texts are raw, renderers escape them."""

    name: str
    title: str
    header: list[str]
    lines: list[Line]
    notes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> list[Path]:
        """Write the table as ``.tex``, ``.md`` and ``.csv``, and return the files."""
        texts = {"tex": latex(self), "md": markdown(self), "csv": comma_separated(self)}
        return [write_file(folder / f"{self.name}.{extension}", text) for extension, text in texts.items()]


def _with_headings(table: Table) -> list[tuple[str, Line | None]]:
    """Return the lines with a heading (a name and no line) where a group begins, if there are groups."""
    lines: list[tuple[str, Line | None]] = []
    group = ""
    for line in table.lines:
        if line.group and line.group != group:
            lines.append((line.group, None))
        group = line.group
        lines.append(("", line))
    return lines


def escape_latex(text: str, breakable: bool = False) -> str:
    r"""Return text as LaTeX, with `breakable` allowing lines to break in paths.

    Examples
    --------
    >>> print(escape_latex("a_b & 50 %"))
    a\_b \& 50 \%
    """

    def one(character: str) -> str:
        if character in _LATEX:
            return _LATEX[character]
        known = character.isascii() or (0xA0 <= ord(character) < 0x180 and character not in _NOT_IN_OT1)
        return character if known and character.isprintable() else f"U+{ord(character):04X}"

    escaped = re.sub("-(?=-)", "-{}", "".join(one(c) for c in text))
    return re.sub(r"(/|\\_)", r"\1\\allowbreak{}", escaped) if breakable else escaped


def _latex_header(text: str) -> str:
    parts = [escape_latex(part) for part in _broken(text)]
    return parts[0] if len(parts) == 1 else r"\begin{tabular}[b]{@{}r@{}}" + r"\\".join(parts) + r"\end{tabular}"


def _broken(heading: str) -> list[str]:
    return textwrap.wrap(heading, 9, break_long_words=False) or [""]


def latex(table: Table) -> str:
    """Return a ``table`` environment to be input; it needs the packages booktabs and graphicx."""
    width = len(table.header)

    def row(line: Line) -> str:
        cells = [escape_latex(cell.text) for cell in line.cells]
        return " & ".join(rf"\textbf{{{t}}}" if c.bold else t for t, c in zip(cells, line.cells, strict=True)) + r" \\"

    body: list[str] = []
    for heading, line in _with_headings(table):
        if line is None:
            body += [r"\midrule"] if body else []
            body.append(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escape_latex(heading)}}}}} \\")
        else:
            body += [r"\midrule"] * line.rule + [row(line)]
    head = [escape_latex(table.header[0]), *map(_latex_header, table.header[1:])]
    body_text = "\n".join(body)
    notes = " \\par\n".join(escape_latex(note, breakable=True) for note in table.notes)
    return rf"""\begin{{table}}[htbp]
\centering\small\setlength{{\tabcolsep}}{{4pt}}
\caption{{{escape_latex(table.title)}}}
\label{{tab:{table.name}}}
\resizebox{{\ifdim\width>\linewidth\linewidth\else\width\fi}}{{!}}{{%
\begin{{tabular}}{{l{"r" * (width - 1)}}}
\toprule
{" & ".join(head)} \\
\midrule
{body_text}
\bottomrule
\end{{tabular}}}}
\par\medskip
\parbox{{\linewidth}}{{\footnotesize\raggedright
{notes}}}
\end{{table}}
"""


def latex_document(tables: list[Table], sentences: Sequence[str] = ()) -> str:
    """Return a document that says some sentences and inputs all tables from its own folder."""
    said = (
        [r"\begin{itemize}", *(r"\item " + escape_latex(s, breakable=True) for s in sentences), r"\end{itemize}"]
        if sentences
        else []
    )
    inputs = [rf"\input{{{table.name}.tex}}" + r"\clearpage" * (i % 8 == 7) for i, table in enumerate(tables)]
    return "\n".join([*_PREAMBLE, *said, *inputs, r"\end{document}", ""])


def escape_markdown(text: str) -> str:
    """Return text as Markdown that shows it literally, also within a table."""
    for character, entity in {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.items():
        text = text.replace(character, entity)
    return re.sub(r"([\\|*_`\[\]~$#])", r"\\\1", text)


def markdown(table: Table) -> str:
    """Return title, pipe table and notes."""

    def row(line: Line) -> list[str]:
        return [f"**{escape_markdown(c.text)}**" if c.bold else escape_markdown(c.text) for c in line.cells]

    rows = [
        [f"*{escape_markdown(heading)}*"] + [""] * (len(table.header) - 1) if line is None else row(line)
        for heading, line in _with_headings(table)
    ]
    header = [escape_markdown(text) for text in table.header]
    notes = [f"- {escape_markdown(note)}" for note in table.notes]
    return "\n".join([f"### {escape_markdown(table.title)}", "", _grid(header, rows, "pipe"), "", *notes, ""])


def comma_separated(table: Table) -> str:
    """Return the table as CSV, its groups in a first column."""
    grouped = any(line.group for line in table.lines)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["group"] * grouped + table.header)
    writer.writerows([line.group] * grouped + [cell.text for cell in line.cells] for line in table.lines)
    return file.getvalue()


def console(table: Table) -> str:
    """Return the table as plain text with headings broken into lines."""
    header = [table.header[0], *("\n".join(_broken(text)) for text in table.header[1:])]
    return _grid(header, [[cell.text for cell in line.cells] for line in table.lines], "simple")


def _grid(header: list[str], rows: list[list[str]], style: str) -> str:
    align = ["left"] + ["right"] * (len(header) - 1) if rows else None
    return tabulate(rows, headers=header, tablefmt=style, disable_numparse=True, colalign=align)
