"""A report whole: what is written into the folder of a run, and what the terminal shows of it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

from anoseg_bench.report import experiments, notes, plots, tables
from anoseg_bench.report.cache import FRAMES, NOTE, PAGE, files_of_report
from anoseg_bench.report.compare import comparison_table, rank_figure
from anoseg_bench.report.data import written_tables
from anoseg_bench.report.document import document, said_apart
from anoseg_bench.report.findings import findings
from anoseg_bench.report.frame import MARK, FileNames, defects_frame, results_frame
from anoseg_bench.report.gallery import write_gallery
from anoseg_bench.report.latency import latency_figure, latency_table
from anoseg_bench.report.page import write_page
from anoseg_bench.report.paper import paper_table
from anoseg_bench.report.paper_choice import PaperChoice
from anoseg_bench.report.protocol import protocol_lines
from anoseg_bench.report.published import published_table, reproduction_table
from anoseg_bench.report.published_values import USUAL
from anoseg_bench.report.render import Table, console, escape_markdown
from anoseg_bench.report.results import Results, intervals_frame
from anoseg_bench.report.verdict import decision_table
from anoseg_bench.store.files import put_in_place, staged, write_by, write_file
from anoseg_bench.store.latency import NAME as LATENCY

__all__ = ["console_table", "write_report"]

#: Tables of which there is one, by their file names.
SINGLE = (
    *("decisions", "summary", "comparison", "paper", "robustness", "cost", "latency"),
    *("data", "masks", "shortcuts", "published", "reproduction"),
)
USUAL_PAPER = PaperChoice()


def table_sections(
    results: Results, published: Sequence[str], experiment: experiments.ExperimentReport | None, paper: PaperChoice
) -> dict[str, list[Table]]:
    """Return the tables of a report by the sections of its document, in order: a new one is an entry here."""
    names = FileNames()
    for taken in ("all", *SINGLE):
        names(taken)
    return {
        "What to deploy": [decision_table(results, "decisions")],
        "The experiment": [experiment.table, *experiment.more] if experiment else [],
        "Summary and comparison": [tables.summary_table(results), comparison_table(results)],
        "For a paper": [paper_table(results, published, paper)],
        "Metric by metric": tables.metric_tables(results, names),
        "At both thresholds": tables.threshold_tables(results, names),
        "By defect type": tables.defect_tables(results, names),
        "Threshold robustness": [tables.robustness_table(results)],
        "Cost": [
            tables.cost_table(results),
            *([latency_table(results, results.latencies)] if results.latencies else []),
        ],
        "The images": written_tables(results.run.info.data),
        "Beside published numbers": [*filter(None, [reproduction_table(results), published_table(results, published)])],
    }


def all_tables(
    results: Results, published: Sequence[str], experiment: experiments.ExperimentReport | None, paper: PaperChoice = USUAL_PAPER
) -> list[Table]:
    """Return the tables of a report, in order."""
    return [table for section in table_sections(results, published, experiment, paper).values() for table in section]


def write_report(results: Results, *, published: Sequence[str] = USUAL, paper: PaperChoice = USUAL_PAPER) -> list[Path]:
    """Write all tables, figures, galleries and the page of a run into its folder; files of an earlier report go.

    They are written aside and put in place together: stopped before that, the earlier report is whole; killed within it, the note
    of what it was (`anoseg_bench.report.cache`) and its page are gone, so that no mixture passes for a report.

    Parameters
    ----------
    results : Results
        Of the run; failed cells are shown as missing.
    published : sequence of str
        Published methods whose numbers stand beside the run's, in sections of their own.
    paper : PaperChoice
        What the compact table shows.

    Returns
    -------
    list of Path
        The files written, tables first.
    """
    run = results.run
    with staged(run.path, "report") as folder:
        files = [run.path / file.relative_to(folder) for file in _write(results, folder, published, paper)]
        earlier = files_of_report(run.path)
        note, page, *rest = (run.path / name for name in (NOTE, PAGE, *FRAMES))
        put_in_place(folder, run.path, [note, page, *rest, *sorted(earlier - set(files))])
    return files


def write_tables(results: Results, sections: Mapping[str, Sequence[Table]], sentences: Sequence[str], folder: Path) -> list[Path]:
    """Write all tables, the document of them, and what the run says in words; return the files."""
    tables = [table for section in sections.values() for table in section]
    reading = notes.reading(results, [cell.text for table in tables for line in table.lines for cell in line.cells[1:]])
    apart = said_apart(tables, reading)
    files = [path for table in tables for path in table.write(folder, apart)]
    files.append(write_file(folder / "all.tex", document(results, sections, sentences, reading)))
    said = {"findings": sentences, "protocol": [f"{heading}: {text}" for heading, text in protocol_lines(results)]}
    return [
        *files,
        *(write_file(folder / f"{name}.md", "".join(f"- {escape_markdown(s)}\n" for s in of)) for name, of in said.items()),
    ]


def _write(results: Results, folder: Path, published: Sequence[str], paper: PaperChoice) -> list[Path]:
    """Write the files of a report into a folder, and return them, tables first."""
    run = results.run
    with matplotlib.rc_context(plots.STYLE):
        experiment = experiments.experiment_report(results)
    sentences = findings(results)
    files = write_tables(results, table_sections(results, published, experiment, paper), sentences, folder / "tables")
    frames = zip(FRAMES, (results_frame(run), defects_frame(run), intervals_frame(results)), strict=True)
    files += [write_file(folder / name, frame.to_csv(index=False, lineterminator="\n")) for name, frame in frames]
    with matplotlib.rc_context(plots.STYLE):
        files += plots.write_plots(results, folder / "plots")
        for name in tables.MAIN:
            if figure := rank_figure(results, name):
                files += plots.save(figure, folder / "plots", f"ranks_{name}")
        if results.latencies and (figure := latency_figure(results, results.latencies)):
            files += plots.save(figure, folder / "plots", LATENCY)
        if experiment and experiment.figure:
            files += plots.save(experiment.figure, folder / "plots", experiment.table.name)
    names = FileNames()
    for category, picture in experiment.pictures.items() if experiment else ():
        path = folder / "plots" / f"{names(f'{experiment.table.name}_{category}')}.png"  # type: ignore[union-attr]
        files.append(write_by(path, lambda file, picture=picture: picture.save(file, "PNG")))  # type: ignore[misc]
    with matplotlib.rc_context({"text.parse_math": False}):  # names may hold dollar signs
        files += [path for c in results.categories for path in write_gallery(results, c, folder / "maps", names)]
    return [*files, write_page(results, sentences, published, folder, experiment)]


def console_table(results: Results) -> str:
    """Return the summary as plain text for the terminal, with pixel AUROC / IoU-max per category where it fits."""
    room = shutil.get_terminal_size((120, 24)).columns

    def fits(text: str) -> bool:
        return max(map(len, text.split("\n"))) <= room

    experiment = experiments.experiment_report(results)
    whole = [tables.summary_table(results, tables.MAIN[:n]) for n in range(len(tables.MAIN), 1, -1)]
    summaries = [one for table in whole for one in (table, table.without(tables.WEIGHTS))]  # which the mark says, too
    summary = next((table for table in summaries if fits(console(table))), summaries[-1])
    blocks = ["\n".join(textwrap.fill(f"* {s}", room, subsequent_indent="  ") for s in findings(results))]
    blocks += [experiment.table.title, console(experiment.table), ""] if experiment else []
    blocks += [summary.title, console(summary)]
    below = [f"{MARK} rests on weights trained on other images."] if results.pretrained else []
    below += ["More columns: tables/summary.md."] if {*whole[0].header} - {*summary.header, tables.WEIGHTS} else []
    blocks += [" ".join(below)] if below else []
    if fits(detail := console(tables.compact_table(results))):
        blocks += ["Pixel AUROC / IoU-max (%)", detail]
    return "\n\n".join([*blocks, *notes.failures(results)]) + "\n"
