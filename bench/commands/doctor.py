"""`doctor`: what is in a dataset and what is wrong with it, before anything is trained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from anoseg_bench.commands.common import add_data, add_images, add_note, add_verbosity, console_of

if TYPE_CHECKING:
    from anoseg_bench.console import Console
    from anoseg_bench.store.records import DataReport

USAGE, HELP = "--dataset NAME", "what is in a dataset and what is wrong with it; trains nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    for add in (add_data, add_verbosity, add_images, add_note):
        add(parser)
    parser.add_argument(
        "--holdout", type=float, default=0.1, help="share of the training images that a run would hold out (default: 0.1)"
    )
    parser.add_argument("--json", metavar="FILE", help="write all that was found as JSON; - for the terminal, in place of tables")
    parser.add_argument(
        "--sheets",
        type=Path,
        metavar="DIR",
        help="folder of the contact sheets, one per category (default: results/doctor-<dataset>)",
    )
    parser.add_argument("--no-sheets", action="store_true", help="draw none")


def main(arguments: argparse.Namespace) -> int:
    """Read a dataset once and tell what was found; return 1 where a finding makes numbers wrong."""
    from anoseg_bench.datasets import DATASETS
    from anoseg_bench.errors import UsageError
    from anoseg_bench.evaluation.datareport import data_report, read_note
    from anoseg_bench.evaluation.inspection import Inspection, inspect_all
    from anoseg_bench.formatting import counted, shown_path
    from anoseg_bench.methods import METHODS
    from anoseg_bench.report.contact_sheet import write_sheet
    from anoseg_bench.store.cells import STORE_NAME, slug, to_json
    from anoseg_bench.store.files import write_atomically
    from anoseg_bench.validation import choose_categories, open_dataset
    from anoseg_bench.variants import read_settings

    out = console_of(arguments)
    if not 0 <= arguments.holdout < 1:
        raise UsageError(f"Expected --holdout in 0..1 (below 1), but got {arguments.holdout}.")
    name = DATASETS.one(arguments.dataset)
    dataset = open_dataset(name, arguments.data_root, read_settings(arguments.config, arguments.set, name, METHODS))
    note = read_note(arguments.data_note, dataset.root, dataset.origin)
    categories = choose_categories(dataset, arguments.category)
    folder = arguments.sheets or Path("results") / slug(f"doctor-{dataset.label}")
    cache = Path("results") / STORE_NAME / "content"
    inspected = inspect_all(dataset, categories, cache, arguments.exclude, out, generated=True)
    report = data_report(inspected, arguments.holdout, 0, note)
    sheets = []
    for category, inspection in inspected.items():
        if isinstance(inspection, Inspection) and not arguments.no_sheets:
            found = [finding for finding in report.findings if finding.category == category]
            sheets.append(write_sheet(inspection.category, found, folder / f"{slug(category)}.png"))
    if arguments.json:
        text = to_json({"dataset": dataset.label} | report.model_dump() | {"sheets": [str(path) for path in sheets]})
        if arguments.json == "-":
            out.result(text.rstrip())
        else:
            write_atomically(Path(arguments.json), text)
    if arguments.json != "-":
        _tell(report, out)
        if sheets:
            out.result(f"\n{counted(len(sheets), 'contact sheet')} to look at: {shown_path(folder)}")
    return int(any(finding.wrong for finding in report.findings))


def _tell(report: DataReport, out: Console) -> None:
    """Print tables, what is said of the data, and findings with what to do."""
    from anoseg_bench.formatting import counted
    from anoseg_bench.report.data import data_tables, finding_line, said_of_data
    from anoseg_bench.report.render import console

    for table in data_tables(report):
        out.result(f"{table.title}\n\n{console(table)}\n")
    for line in [*(f"{data.name}: {data.decisions}; {data.split}." for data in report.categories), *said_of_data(report)]:
        out.result(line)
    for title, wrong in (("Makes numbers wrong", True), ("To read the numbers by", False)):
        findings = [finding for finding in report.findings if finding.wrong == wrong]
        out.result(f"\n{title}: {counted(len(findings), 'finding')}")
        for finding in findings:
            out.result(f"* {finding_line(finding)}\n  To do: {finding.advice}.")
