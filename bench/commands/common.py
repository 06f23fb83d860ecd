"""What several commands share: groups of arguments, and the end of a command that writes a report. Imports nothing heavy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from anoseg_bench.console import Console
    from anoseg_bench.datasets.base import Dataset
    from anoseg_bench.store.cells import CellResult, Row, Run


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which guesses no option from its beginning."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | options)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and exit with 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")

    def print_help(self, file: Any = None) -> None:
        """Print the help; an error of the stream is told, which argparse would pass over."""
        print(self.format_help(), end="", file=file, flush=True)


def program() -> str:
    """Return the command as it is typed here: ``"python run_bench.py"`` in a checkout, ``"anoseg-bench"`` where it is installed."""
    return "python run_bench.py" if Path(sys.argv[0]).name == "run_bench.py" else "anoseg-bench"


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a dataset and settings."""
    parser.add_argument("--dataset", default="synthetic", help="a dataset of `list`, or file.py:Class (default: the embedded one)")
    parser.add_argument("--data-root", type=Path, help="folder of a real dataset (default: the environment's BENCH_DATA_ROOT)")
    parser.add_argument("--config", type=Path, metavar="FILE.yaml", help="settings: 'method: {key: value}'")
    parser.add_argument(
        "--set", action="append", default=[], metavar="METHOD.KEY=VALUE", help="one setting, after --config; repeatable"
    )


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose categories and leave images out."""
    parser.add_argument("--category", default="all", help="names separated by commas, or all (default)")
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out images, e.g. 'bottle/test/crack/003'; repeatable",
    )


def add_note(parser: argparse.ArgumentParser) -> None:
    """Add the option that gives a text about the data."""
    parser.add_argument(
        "--data-note",
        type=Path,
        metavar="FILE",
        help="a text about the data, with lines 'licence: ...' and 'split: ...' (default: DATASET.md beside them, if it is there)",
    )


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add -q and -v."""
    parser.add_argument("-q", "--quiet", action="store_true", help="results and errors only")
    parser.add_argument("-v", "--verbose", action="store_true", help="tracebacks of what failed")


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the options of a report."""
    parser.add_argument("--allow-partial", action="store_true", help="print means over incomplete columns, with n/N")
    parser.add_argument(
        "--published",
        metavar="NAMES",
        help="show these published methods, in a section of their own, e.g. "
        "'NSA*,DRAEM,patchcore*', or none (default, on MVTec AD: a few)",
    )
    parser.add_argument(
        "--tables",
        metavar="WHAT",
        help="metrics of the compact table, tables/paper.tex, e.g. 'paper:pixel_auroc,aupro_0.3'; 'intervals' among them puts "
        "these beneath the numbers (default: paper, with four metrics)",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a kept model, but for its method."""
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="a run that was made with --keep-models")
    parser.add_argument("--category", required=True, help="the category that it was trained on")
    parser.add_argument("--seed", type=int, help="which seed, if the run has several (default: the first)")
    parser.add_argument("--plugin", action="append", default=[], metavar="file.py:Class", help="where a method of yours is defined")


def add_run_data(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where the images of a run are."""
    parser.add_argument(
        "--data-root", type=Path, metavar="DIR", help="where the run's images are now (default: as its command says)"
    )


def images_of(run: Run, row: Row, result: CellResult, arguments: argparse.Namespace) -> list[tuple[str, Callable[[], np.ndarray]]]:
    """Return images by name, with what reads each: those of ``--images``, else the test images of the row.

    Raises
    ------
    UsageError
        If they are not there, or not those of the run.
    """
    from functools import partial

    from anoseg_bench.datasets.images import read_image
    from anoseg_bench.errors import DataError, UsageError
    from anoseg_bench.evaluation.inspection import inspect
    from anoseg_bench.evaluation.predict import find_images, reading_of

    if arguments.images:
        files, _ = find_images(arguments.images)
        return [(str(path), partial(read_image, path, reading_of(result))) for path in files]
    try:
        dataset = dataset_of(run, arguments.data_root)
        found = inspect(dataset, row.category, run.store.root / "content", run.info.excluded)
    except (UsageError, DataError) as error:
        raise UsageError(f"The images of '{run.path}' are not here, so give --data-root or --images: {error}") from error
    if found.content != result.record.content:
        raise UsageError(
            f"The images of '{row.category}' in '{dataset.root}' are not those of '{run.path}'; give --data-root or --images."
        )
    return [(item.name, item.load_image) for item in found.category.test]


def dataset_of(run: Run, data_root: Path | None) -> Dataset:
    """Return the dataset of a run by the command that made it, in another folder if one is given.

    Raises
    ------
    UsageError
        If that command cannot be read, or the dataset is not there.
    """
    import contextlib
    import shlex

    from anoseg_bench.datasets import DATASETS
    from anoseg_bench.errors import UsageError
    from anoseg_bench.methods import METHODS
    from anoseg_bench.validation import open_dataset
    from anoseg_bench.variants import read_settings

    parser = Parser(add_help=False)
    add_data(parser)
    try:
        with contextlib.redirect_stderr(None):
            asked, _ = parser.parse_known_args(shlex.split(run.info.command))
    except (SystemExit, ValueError) as error:
        raise UsageError(f"the run's command cannot be read: {run.info.command}") from error
    chosen = DATASETS.one(asked.dataset)
    return open_dataset(chosen, data_root or asked.data_root, read_settings(asked.config, asked.set, chosen, METHODS))


def console_of(arguments: argparse.Namespace) -> Console:
    """Return the console for -q and -v."""
    from anoseg_bench.console import Console

    return Console(-1 if arguments.quiet else int(arguments.verbose))


def report_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the options of a report choose, as `write_report` takes them, or raise UsageError."""
    from anoseg_bench.report.paper_choice import choose_paper
    from anoseg_bench.report.published_values import choose_published

    return {
        "allow_partial": arguments.allow_partial,
        "published": choose_published(arguments.published),
        "paper": choose_paper(arguments.tables),
    }


def finish(current: Run, arguments: argparse.Namespace, out: Console, anew: bool = False) -> int:
    """Write the report, unless it is there already, print the table, the paths and what failed; return the exit code."""
    from anoseg_bench.formatting import shown_path
    from anoseg_bench.report.cache import PAGE, report_cache
    from anoseg_bench.store.cells import MANIFEST
    from anoseg_bench.store.latency import why_unread

    if damage := why_unread(current):
        out.error(f"note: {damage}")
    options = report_options(arguments)
    cache = report_cache(current, [*options.values()])
    if not any(row.result for row in current.rows):
        out.error("no cell has a result, so there is nothing to report")
        cache.remove()
        return name_missing(current, out)
    if anew or not cache.is_current():
        from anoseg_bench.report.compose import console_table, write_report
        from anoseg_bench.report.results import Results

        results = Results(current, options.pop("allow_partial"))
        text = console_table(results)
        cache.keep(write_report(results, **options), text)
    out.result()
    out.result(cache.text)
    out.result()
    info = current.info
    if info.synthetic:
        out.result("Dataset: the embedded synthetic set, made by this project; its numbers say nothing about real images.")
    if info.profile not in ("full", None):
        out.result(f"Profile: {info.profile}, for a first look; results to publish need --profile full.")
    out.result(f"Written to {shown_path(current.path)}:")
    for folder in sorted({file.parent for file in cache.files} | {current.path}):
        names = sorted(file.name for file in cache.files if file.parent == folder)
        shown = ", ".join(names[:6]) + (f", ... ({len(names)} files)" if len(names) > 6 else "")
        out.result(f"  {shown_path(folder)}: {shown or MANIFEST}")
    out.result(f"Open in a browser: {shown_path(current.path / PAGE)}")
    return name_missing(current, out)


def name_missing(current: Run, out: Console) -> int:
    """Name the cells without a result that are not left to another shard, each reason once; return the exit code."""
    missing = [row for row in current.rows if row.result is None and row.status != "skipped"]
    if not missing:
        return 0
    failed = sum(row.status == "failed" for row in missing)
    out.error(f"{failed} of {len(current.rows)} cells failed, {len(missing) - failed} did not finish:")
    for reason in dict.fromkeys(row.error for row in missing):
        out.error(f"  {', '.join(row.title for row in missing if row.error == reason)}: {reason}")
    return 1
