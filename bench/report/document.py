"""All tables of a run as one LaTeX document: title, findings, how to read, then a section for each kind of table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from anoseg_bench.formatting import counted, one_line
from anoseg_bench.report import notes
from anoseg_bench.report.protocol import protocol_lines
from anoseg_bench.report.render import Table, typeset
from anoseg_bench.report.results import Results

#: Tables do not float here, so that they stand in their order; notes that many share are said in a section of their own.
_PREAMBLE = r"""\documentclass[a4paper,10pt]{article}
\usepackage[utf8]{inputenc}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs,graphicx,siunitx}
\usepackage[hidelinks]{hyperref}
\newcommand*\notesapart{}
\makeatletter
\renewenvironment{table}[1][]{\par\bigskip\noindent\minipage{\linewidth}\def\@captype{table}}{\endminipage\par}
\renewenvironment{table*}[1][]{\table}{\endtable}
\makeatother
\setlength{\emergencystretch}{3em}
\raggedbottom
"""


def shared_notes(tables: Sequence[Table], reading: Sequence[str]) -> list[str]:
    """Return the notes that more than one table has, without those of which every sentence stands in `reading`."""
    times = Counter(note for table in tables for note in dict.fromkeys(table.notes))
    said = {sentence for note in reading for sentence in _sentences(note)}
    return [note for note, count in times.items() if count > 1 and not _sentences(note) <= said]


def _sentences(note: str) -> set[str]:
    return set(re.split(r"(?<=\.) ", note))


def said_apart(tables: Sequence[Table], reading: Sequence[str]) -> set[str]:
    """Return the notes that a document need not repeat under each table."""
    said = {sentence for note in [*reading, *shared_notes(tables, reading)] for sentence in _sentences(note)}
    return {note for table in tables for note in table.notes if _sentences(note) <= said}


def document(results: Results, sections: Mapping[str, Sequence[Table]], sentences: Sequence[str], reading: Sequence[str]) -> str:
    """Return a document that inputs all tables from its own folder.

    Parameters
    ----------
    sections : mapping of str to sequence of Table
        Tables by the title of their section, in order.
    sentences : sequence of str
        What the run says in words.
    reading : sequence of str
        How numbers are read, for all tables together.
    """
    info = results.run.info
    tables = [table for section in sections.values() for table in section]
    size = [counted(len(results.variants), "method"), counted(len(results.categories), "category", "categories")]
    seeds = f"{'seed' if len(results.seeds) == 1 else 'seeds'} {', '.join(map(str, results.seeds))}"
    of = [*size, seeds, *([f"profile {info.profile}"] if info.profile else []), f"commit {_commit(results)}"]
    in_protocol = (notes.protocol(results), notes.setup(results))
    body = [
        r"\begin{document}",
        rf"\title{{Anomaly segmentation on {typeset(one_line(info.dataset))}}}",
        rf"\author{{{typeset(', '.join(of))}}}",
        r"\date{}",
        r"\maketitle",
        r"\tableofcontents",
        r"\section{Findings}",
        *_items(sentences),
        r"\section{How to read the tables}",
        *_items([*reading, *(note for note in shared_notes(tables, reading) if note not in in_protocol)]),
        r"\section{Protocol}",
        *_items([f"{heading}: {text}" for heading, text in protocol_lines(results)]),
    ]
    for title, section in sections.items():
        body += [rf"\section{{{typeset(title)}}}", *(rf"\input{{{table.name}.tex}}" for table in section)] if section else []
    return "\n".join([_PREAMBLE, *body, r"\clearpage", r"\listoftables", r"\end{document}", ""])


def _commit(results: Results) -> str:
    commits = dict.fromkeys(result.record.provenance.revision for _, result in results.done)
    return ", ".join(commits) or results.run.info.commit or "unknown"


def _items(texts: Sequence[str]) -> list[str]:
    return [r"\begin{itemize}", *(r"\item " + typeset(text, breakable=True) for text in texts), r"\end{itemize}"] if texts else []
