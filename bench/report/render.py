"""One neutral table, and how it is written as LaTeX, Markdown, CSV and plain text."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
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
        "σ": r"$\sigma$",
    },
}
#: A number with an exponent, and the minus sign of a number; neither within a name.
_EXPONENT = re.compile(r"(?<![\w=])(?<!\d\.)(-?)(\d+(?:\.\d+)?)e([+-]?\d+)(?!\w)")
_MINUS = re.compile(r"(?<![\w{}=.-])-(?=\.?\d)")
#: What a column of decimals aligns: a number, with a mark behind it.
_DECIMAL = re.compile(r"([+-]?)(\d+)(?:\.(\d+))?(?: (\D))?")
#: Rows and characters of a row that a LaTeX table has on one page, a little reduced; characters in one of two columns, on a page.
ROWS, WIDTH, COLUMN, PAGE = 60, 130, 60, 110
#: Below U+0180, but not in LaTeX's default font encoding.
_NOT_IN_OT1 = set("«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ")


@dataclass(frozen=True)
class TableCell:
    """What stands in one place of a table, `beneath` it in small."""

    text: str
    bold: bool = False
    beneath: str = ""

    @property
    def whole(self) -> str:
        """All of it in one line."""
        return f"{self.text} ({self.beneath})" if self.beneath else self.text


@dataclass(frozen=True)
class Line:
    """A row; rows of one `group` stand together under its name, `rule` draws a line above."""

    cells: list[TableCell]
    group: str = ""
    rule: bool = False


@dataclass(frozen=True)
class Table:
    """A table before it has a format: texts are raw, renderers escape them.

    Attributes
    ----------
    spans : list of (str, int)
        Headings above those of the columns behind the first, each with the number of columns that it spans.
    decimals : bool
        Whether LaTeX aligns the columns behind the first at their decimal points, by siunitx.
    """

    name: str
    title: str
    header: list[str]
    lines: list[Line]
    notes: list[str] = field(default_factory=list)
    spans: list[tuple[str, int]] = field(default_factory=list)
    decimals: bool = False

    def without(self, heading: str) -> Table:
        """Return the table without the column of a heading, itself where it has none; it has no spans."""
        if heading not in self.header:
            return self
        place = self.header.index(heading)

        def kept(of: list) -> list:
            return [*of[:place], *of[place + 1 :]]

        return replace(self, header=kept(self.header), lines=[replace(line, cells=kept(line.cells)) for line in self.lines])

    def write(self, folder: Path, said_apart: Collection[str] = ()) -> list[Path]:
        """Write the table as ``.tex`` (see `latex`), ``.md`` and ``.csv``, and return the files."""
        texts = {"tex": latex(self, said_apart), "md": markdown(self), "csv": comma_separated(self)}
        return [write_file(folder / f"{self.name}.{extension}", text) for extension, text in texts.items()]

    @property
    def flat_header(self) -> list[str]:
        """The headings of the columns, each with what spans it."""
        above = [f"{text}, " for text, columns in self.spans for _ in range(columns)] or [""] * (len(self.header) - 1)
        return [self.header[0], *(span + text for span, text in zip(above, self.header[1:], strict=True))]


def _with_headings(lines: Sequence[Line]) -> list[tuple[str, Line | None]]:
    """Return the lines with a heading (a name and no line) where a group begins, if there are groups."""
    rows: list[tuple[str, Line | None]] = []
    group = ""
    for line in lines:
        if line.group and line.group != group:
            rows.append((line.group, None))
        group = line.group
        rows.append(("", line))
    return rows


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


def typeset(text: str, breakable: bool = False) -> str:
    r"""Return text as LaTeX, negative numbers with a minus sign and exponents raised.

    Examples
    --------
    >>> print(typeset("-0.3 at 1e-3, a-1"))
    $-$0.3 at $10^{-3}$, a-1
    """

    def raised(match: re.Match[str]) -> str:
        sign, factor, exponent = match.groups()
        return f"${sign}{'' if factor == '1' else factor + chr(92) + 'cdot '}10^{{{int(exponent)}}}$"

    powers = re.sub(r"10\\textasciicircum\{\}(\d+)", r"$10^{\1}$", escape_latex(text, breakable))
    return _MINUS.sub("$-$", _EXPONENT.sub(raised, powers))


def _broken(heading: str) -> list[str]:
    return textwrap.wrap(heading, 9, break_long_words=False) or [""]


def _stacked(lines: Sequence[str], align: str) -> str:
    return lines[0] if len(lines) == 1 else rf"\begin{{tabular}}[b]{{@{{}}{align}@{{}}}}" + r"\\".join(lines) + r"\end{tabular}"


def latex(table: Table, said_apart: Collection[str] = ()) -> str:
    r"""Return a ``table`` environment to be input; it needs the packages booktabs and graphicx, and siunitx for decimals.

    A table that is too long for a page becomes several, one that is too large is made smaller. Of its notes, those that are
    `said_apart` are left out in a document that defines ``\notesapart``.
    """
    parts = [part for narrow in _of_width(table) for part in _of_height(narrow)]
    return "\n".join(_latex_part(part, i, len(parts), said_apart) for i, part in enumerate(parts))


def _of_width(table: Table) -> list[Table]:
    """Return a table in parts of about `WIDTH` characters, the first column in each; one of decimals is left as it is."""
    widths = _widths(table)
    parts = 1 if table.decimals else math.ceil(sum(widths[1:]) / max(1, WIDTH - widths[0]))
    if parts <= 1:
        return [table]
    size = math.ceil(len(widths[1:]) / parts)
    chosen = [(0, *range(1, len(widths))[i : i + size]) for i in range(0, len(widths) - 1, size)]

    def of(columns: tuple[int, ...]) -> Table:
        lines = [replace(line, cells=[line.cells[i] for i in columns]) for line in table.lines]
        return replace(table, header=[table.header[i] for i in columns], lines=lines)

    return [of(columns) for columns in chosen]


def _widths(table: Table) -> list[int]:
    """Return about how many characters wide each column is, with what stands between columns."""

    def texts(i: int, head: str) -> list[str]:
        beneath = [line.cells[i].beneath[2:] for line in table.lines]  # smaller letters
        return [*_broken(head), *(line.cells[i].text for line in table.lines), *beneath]

    return [max(map(len, texts(i, head))) + 2 for i, head in enumerate(table.header)]


def _of_height(table: Table) -> list[Table]:
    """Return a table in parts of at most `ROWS`, or half as many where something stands beneath, groups whole where they fit."""
    most = ROWS // 2 if any(cell.beneath for line in table.lines for cell in line.cells) else ROWS
    parts: list[list[Line]] = [[]]
    for _, members in itertools.groupby(table.lines, lambda line: line.group):
        group = list(members)
        if parts[-1] and len(parts[-1]) + len(group) > most:
            parts.append([])
        while len(group) > most:
            parts[-1], group = group[:most], group[most:]
            parts.append([])
        parts[-1] += group
    return [replace(table, lines=part) for part in parts if part or not table.lines]


def _latex_part(table: Table, number: int, count: int, said_apart: Collection[str]) -> str:
    body: list[str] = []
    for heading, line in _with_headings(table.lines):
        if line is None:
            body += [r"\midrule"] if body else []
            body.append(rf"\multicolumn{{{len(table.header)}}}{{l}}{{\emph{{{typeset(heading)}}}}} \\")
        else:
            body += [r"\midrule"] * (line.rule and bool(body)) + _latex_rows(table, line)
    end = "" if table.decimals else r"\par"  # in a paper, room is scarce
    notes = {kind: [typeset(n, True) + end for n in table.notes if (n in said_apart) == kind] for kind in (False, True)}
    said = [*notes[False], *([r"\ifdefined\notesapart\else", *notes[True], r"\fi"] if notes[True] else [])]
    wide = table.decimals and sum(_widths(table)) > COLUMN
    environment, rows = "table*" if wide else "table", "\n".join(body)
    caption = typeset(table.title) + (f" ({number + 1} of {count})" if count > 1 else "")
    label = "" if number else rf"\label{{tab:{table.name}}}"
    decimals = r"\sisetup{detect-weight,mode=text}\protected\def\best{\bfseries}" if table.decimals else ""
    below = "\n".join(said) if number == count - 1 else ""
    return rf"""\begin{{{environment}}}[htbp]
\centering\small\setlength{{\tabcolsep}}{{4pt}}{decimals}
\caption{{{caption}}}{label}
\setbox4\hbox{{%
\begin{{tabular}}{{{_columns(table)}}}
\toprule
{_latex_head(table)}
\midrule
{rows}
\bottomrule
\end{{tabular}}}}
\ifdim\wd4>\linewidth\setbox4\hbox{{\resizebox{{\linewidth}}{{!}}{{\box4}}}}\fi
\ifdim\dimexpr\ht4+\dp4>.75\textheight\setbox4\hbox{{\resizebox*{{!}}{{.75\textheight}}{{\box4}}}}\fi
\leavevmode\box4
\par\medskip
\parbox{{\linewidth}}{{\footnotesize\raggedright
{below}
}}
\end{{{environment}}}
"""


def _columns(table: Table) -> str:
    """Return the specification of the columns."""
    if not table.decimals:
        return "l" + "r" * (len(table.header) - 1)
    formats = []
    for column in range(1, len(table.header)):
        found = [m.groups() for line in table.lines if (m := _DECIMAL.fullmatch(line.cells[column].text))]
        sign = "+" if any(s == "+" for s, *_ in found) else "-" if any(s for s, *_ in found) else ""
        whole, decimals = (max((len(digits[i] or "") for digits in found), default=0) for i in (1, 2))
        formats.append(f"S[table-format={sign}{max(whole, 2)}.{decimals}]")
    return "l" + "".join(formats)


def _latex_head(table: Table) -> str:
    """Return the headings, with those that span several columns above them."""
    first, *others = table.header
    if table.decimals and sum(_widths(table)) > PAGE:
        heads = [rf"\rotatebox{{90}}{{{typeset(text)}}}" for text in others]
    else:
        heads = [_stacked([typeset(part) for part in _broken(text)], "c" if table.decimals else "r") for text in others]
    head = " & ".join([typeset(first), *(f"{{{h}}}" if table.decimals else h for h in heads)]) + r" \\"
    if not table.spans:
        return head
    ends = list(itertools.accumulate((columns for _, columns in table.spans), initial=1))
    above = "".join(rf" & \multicolumn{{{columns}}}{{c}}{{{typeset(text)}}}" for text, columns in table.spans)
    rules = "".join(rf"\cmidrule(lr){{{begin + 1}-{end}}}" for begin, end in itertools.pairwise(ends))
    return f"{above} \\\\\n{rules}\n{head}"


def _latex_rows(table: Table, line: Line) -> list[str]:
    """Return a line, and one for what stands beneath its cells."""
    first, *others = line.cells
    texts = [_decimal(cell) if table.decimals else _bold(typeset(cell.text), cell.bold) for cell in others]
    row = " & ".join([_bold(escape_latex(first.text), first.bold), *texts]) + r" \\"
    if not any(cell.beneath for cell in others):
        return [row]
    beneath = " & ".join(["", *(rf"{{\scriptsize {typeset(cell.beneath)}}}" * bool(cell.beneath) for cell in others)])
    return [row + "[-3pt]", beneath + r" \\ \addlinespace[2pt]"]


def _bold(text: str, bold: bool) -> str:
    return rf"\textbf{{{text}}}" if bold else text


def _decimal(cell: TableCell) -> str:
    r"""Return a cell of a column of decimals: bold by ``\best``, which the table defines so that any siunitx can read it."""
    match = _DECIMAL.fullmatch(cell.text)
    if match is None:
        return f"{{{_bold(typeset(cell.text), cell.bold)}}}"
    number, _, mark = cell.text.partition(" ")
    return r"\best " * cell.bold + number + (rf"{{\rlap{{\textsuperscript{{{escape_latex(mark)}}}}}}}" if mark else "")


def escape_markdown(text: str) -> str:
    """Return text as Markdown that shows it literally, also within a table."""
    for character, entity in {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.items():
        text = text.replace(character, entity)
    return re.sub(r"([\\|*_`\[\]~$#])", r"\\\1", text)


def markdown(table: Table) -> str:
    """Return title, pipe table and notes."""

    def row(line: Line) -> list[str]:
        return [f"**{escape_markdown(c.whole)}**" if c.bold else escape_markdown(c.whole) for c in line.cells]

    rows = [
        [f"*{escape_markdown(heading)}*"] + [""] * (len(table.header) - 1) if line is None else row(line)
        for heading, line in _with_headings(table.lines)
    ]
    header = [escape_markdown(text) for text in table.flat_header]
    notes = [f"- {escape_markdown(note)}" for note in table.notes]
    return "\n".join([f"### {escape_markdown(table.title)}", "", _grid(header, rows, "pipe"), "", *notes, ""])


def comma_separated(table: Table) -> str:
    """Return the table as CSV, its groups in a first column."""
    grouped = any(line.group for line in table.lines)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["group"] * grouped + table.flat_header)
    writer.writerows([line.group] * grouped + [cell.whole for cell in line.cells] for line in table.lines)
    return file.getvalue()


def console(table: Table) -> str:
    """Return the table as plain text with headings broken into lines."""
    header = [table.header[0], *("\n".join(_broken(text)) for text in table.header[1:])]
    return _grid(header, [[cell.text for cell in line.cells] for line in table.lines], "simple")


def _grid(header: list[str], rows: list[list[str]], style: str) -> str:
    align = ["left"] + ["right"] * (len(header) - 1) if rows else None
    return tabulate(rows, headers=header, tablefmt=style, disable_numparse=True, colalign=align)
