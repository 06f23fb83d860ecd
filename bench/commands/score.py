"""`score`: maps that any tool saved, in a run of their own or beside the methods of another."""

from __future__ import annotations

import argparse
import contextlib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from anoseg_bench.commands.common import add_data, add_images, add_report, add_verbosity, console_of, finish, report_options

if TYPE_CHECKING:
    from anoseg_bench.console import Console
    from anoseg_bench.datasets.base import Dataset
    from anoseg_bench.evaluation.inspection import Inspection
    from anoseg_bench.evaluation.maps import Area
    from anoseg_bench.evaluation.score import Source
    from anoseg_bench.store.cells import Row, Run

USAGE, HELP = "--maps DIR", "the same numbers for maps that any other tool saved"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    for add in (add_data, add_verbosity, add_report, add_images):
        add(parser)
    parser.description = (
        "Score maps with the suite of a run: float TIFF, npy, npz, PNG of 16 bit; named like the images (test/crack/003.tiff, or "
        "a unique ending of it), in one folder per category or one for all; resized to their image."
    )
    parser.add_argument("--maps", type=Path, required=True, metavar="DIR", help="folder of maps; those of normal images that are "
                       "not in the test set (train/good/...) give thresholds: they must not have been trained on")  # fmt: skip
    parser.add_argument("--normal-maps", type=Path, metavar="DIR", help="folder of these maps, if they are elsewhere")
    parser.add_argument("--scores", type=Path, metavar="FILE.csv", help="image scores, columns name and score (default: "
                       "scores.csv in the folder of maps or of the category, else the largest value of each map)")  # fmt: skip
    parser.add_argument("--probability", action=argparse.BooleanOptionalAction, help="whether the maps are probabilities "
                       "(default: what maps.json beside them says, else not)")  # fmt: skip
    parser.add_argument("--map-area", metavar="AREA", help="what a map of another aspect ratio covers: whole (the image, resized "
                       "without keeping it), centre (its largest centred part) or centre:SHARE of that")  # fmt: skip
    parser.add_argument("--name", help="the name in tables (default: that of the folder)")
    parser.add_argument("--seed", type=int, help="the seed that the maps were made with, one of the run's (default: what maps.json "
                       "says, else the run's first, else 0)")  # fmt: skip
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--add-to", type=Path, metavar="RUN", help="an existing run, beside whose methods the maps are shown: "
                       "same --dataset, images and categories")  # fmt: skip
    place.add_argument("--out", type=Path, help="folder of a run of its own (default: results/scored-NAME)")


def main(arguments: argparse.Namespace) -> int:
    """Score maps that any tool saved, in a run of their own or beside the methods of another."""
    with contextlib.ExitStack() as place:
        return score(arguments, console_of(arguments), place)


def score(arguments: argparse.Namespace, out: Console, place: contextlib.ExitStack) -> int:
    """Score maps in a run's folder, which is this command's alone from then on until `place` is closed; return the exit code."""
    from anoseg_bench.datasets import DATASETS
    from anoseg_bench.errors import UsageError
    from anoseg_bench.evaluation.datareport import note_data, read_note
    from anoseg_bench.evaluation.inspection import inspect_all
    from anoseg_bench.evaluation.score import SCORED, Source
    from anoseg_bench.methods import METHODS
    from anoseg_bench.store.cells import Row, Run
    from anoseg_bench.store.folders import working_at
    from anoseg_bench.validation import choose_categories, open_dataset, parse_seeds
    from anoseg_bench.variants import read_settings

    report_options(arguments)  # what is wrong is told before anything is scored
    earlier = None
    if arguments.add_to is not None:
        Run.asked(arguments.add_to)
        place.enter_context(working_at(arguments.add_to, arguments.command_line, tell=out.error))
        earlier = Run.load(arguments.add_to)
    chosen = DATASETS.one(arguments.dataset)
    dataset = open_dataset(chosen, arguments.data_root, read_settings(arguments.config, arguments.set, chosen, METHODS))
    if earlier and earlier.info.dataset != dataset.label:
        raise UsageError(f"The run '{earlier.path}' is on {earlier.info.dataset}, not on {dataset.label}; name it by --dataset.")
    categories = choose_categories(dataset, arguments.category)
    area = parse_area(arguments.map_area)
    source = Source(arguments.maps, dataset.categories(), arguments.normal_maps, arguments.scores, arguments.probability, area)
    source.check(categories)
    name = " ".join((arguments.name if arguments.name is not None else source.maps.resolve().name).split())
    if not name:
        raise UsageError("Expected a name that can be seen in --name, but got a blank one.")
    parse_seeds(str(arguments.seed or 0))
    noted = source.about(categories[0]).get("seed")
    seed = next((s for s in (arguments.seed, noted, *(earlier.info.seeds if earlier else [])) if s is not None), 0)
    current = earlier
    if current is None:
        path = folder_of_its_own(arguments, name)
        place.enter_context(working_at(path, arguments.command_line, tell=out.error))
        current = run_of_its_own(path, arguments, dataset, seed)
    inspected = inspect_all(dataset, categories, current.store.root / "content", arguments.exclude, out)
    if earlier:
        check_same_test_sets(earlier, name, SCORED, seed, inspected)
    note_data(current.info, inspected, None, seed, read_note(None, dataset.root, dataset.origin), out)
    failed = 0
    for category, checked in inspected.items():
        row = Row(name, SCORED, dataset.label, category, seed)
        if not score_row(row, checked, source, current, arguments.command_line, out):
            failed += 1
    if failed == len(inspected):
        out.error(f"nothing was scored; '{current.path}' is as it was")
        return 1
    if earlier is None and (replaced := current.replaced()):
        out.error(f"note: {replaced}")
    current.save()
    return max(finish(current, arguments, out), int(failed > 0))


def parse_area(text: str | None) -> Area | None:
    """Return what ``--map-area`` says, None for None; UsageError if it cannot be read."""
    from anoseg_bench.errors import UsageError
    from anoseg_bench.evaluation.maps import Area

    try:
        return None if text is None else Area.parse(text)
    except ValueError as error:
        raise UsageError(f"Wrong --map-area '{text}': expected whole, centre or centre:SHARE, above 0 to 1.") from error


def score_row(row: Row, checked: Inspection | str, source: Source, current: Run, command: str, out: Console) -> bool:
    """Score the maps of a category, and put its row into the run; return whether that went well, else the run keeps what it had."""
    from anoseg_bench.evaluation.score import score_category

    title = f"{row.category} {row.variant}"
    if isinstance(checked, str):
        row.error = checked
    else:
        try:
            scored = score_category(source, checked, row.dataset, row.seed, current.store, command)
            row.key, row.status = scored.key, "done"
            row.result = current.store.get(row.method, row.key)
            out.line(f"{title}: {scored.summary}")
            for remark in scored.remarks:
                out.error(f"note: {row.category}: {remark}")
        except Exception as error:  # the boundary of a cell: it must cost nothing but itself
            fail(current, row, title, error, out)
    same = [r for r in current.rows if (r.variant, r.category, r.seed) == (row.variant, row.category, row.seed)]
    if row.result is None and any(r.result for r in same):
        out.error(f"  what '{row.variant}' had for {row.category} before is kept")
        return False
    for old in same:
        if old.result and old.result.record.maps and old.key != row.key:
            folder = old.result.record.maps.folder
            out.error(f"note: {row.category}: the maps of '{folder}' that '{row.variant}' showed give way to these")
    current.rows = [r for r in current.rows if r not in same] + [row]
    return row.result is not None


def fail(current: Run, row: Row, title: str, error: Exception, out: Console) -> None:
    """Mark a row as failed, and keep the traceback in a log, for which call this while the exception is handled."""
    from anoseg_bench.errors import describe

    row.result, row.status, row.error = None, "failed", describe(error)
    out.error(f"{title}: failed: {row.error}")
    if out.verbosity > 0:
        out.error(traceback.format_exc())
    log = current.log_of(row)
    try:
        log.parent.mkdir(exist_ok=True)
        log.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as problem:
        out.error(f"  its traceback could not be kept: {problem}")
    else:
        out.error(f"  traceback: {log}")


def folder_of_its_own(arguments: argparse.Namespace, name: str) -> Path:
    """Return the folder of a run for scored maps, made where there is none."""
    from anoseg_bench.store.cells import slug
    from anoseg_bench.validation import choose_folder, make_folder

    path = choose_folder(arguments.out or Path("results") / slug(f"scored-{name}"))
    make_folder(path)
    return path


def run_of_its_own(path: Path, arguments: argparse.Namespace, dataset: Dataset, seed: int) -> Run:
    """Return a new run for scored maps; one of trained methods is never written over."""
    from anoseg_bench.errors import UsageError
    from anoseg_bench.store.cells import MANIFEST, Run
    from anoseg_bench.store.provenance import revision
    from anoseg_bench.store.records import RunRecord

    if (path / MANIFEST).exists() and Run.load(path).info.holdout is not None:
        raise UsageError(f"'{path}' holds a run of methods; show the maps beside them with --add-to, or give another --out.")
    info = RunRecord(
        command=arguments.command_line,
        dataset=dataset.label,
        profile=None,
        synthetic=dataset.root is None,
        seeds=[seed],
        commit=revision(),
    )
    return Run(path, info)


def check_same_test_sets(run: Run, name: str, scored: str, seed: int, inspected: dict[str, Inspection | str]) -> None:
    """Check that maps may stand beside the methods of a run: its categories, seeds and images, and a name of their own.

    Raises
    ------
    UsageError
        If not: means would be over other cells, or numbers over other images.
    """
    from anoseg_bench.errors import UsageError
    from anoseg_bench.evaluation.inspection import Inspection

    if any(row.variant == name and row.method != scored for row in run.rows):
        raise UsageError(f"'{name}' is a method of the run '{run.path}'; give the maps another --name.")
    if seed not in run.info.seeds:
        raise UsageError(f"The run '{run.path}' has the seeds {run.info.seeds}, not {seed}; give the maps one of them by --seed.")
    for category, checked in inspected.items():
        rows = [row for row in run.rows if row.category == category]
        if not rows:
            raise UsageError(f"The run '{run.path}' has no category '{category}'; name those that it has by --category.")
        contents = {row.result.record.content for row in rows if row.result}
        if isinstance(checked, Inspection) and contents and checked.content not in contents:
            left = f"; it left out {', '.join(run.info.excluded)}" if run.info.excluded else ""
            raise UsageError(
                f"The images of '{category}' are not those of the run '{run.path}'{left}. Give the same --data-root and --exclude."
            )
