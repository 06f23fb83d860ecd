"""The commands: run, status, list, report, score, predict, preview."""

from __future__ import annotations

import functools
import shlex
import sys
import traceback
from argparse import Namespace
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from anoseg_bench.console import Console
from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import Dataset
from anoseg_bench.errors import DataError, UsageError, describe
from anoseg_bench.evaluation.inspection import Inspected, inspect
from anoseg_bench.execution.engines import Setup, check_engine, make_engine
from anoseg_bench.execution.loop import Execution, log_of
from anoseg_bench.execution.schedule import (
    RERUN,
    check_workers,
    forecast,
    modules_of,
    parse_duration,
    parse_shard,
    settle_stored,
    share_out,
)
from anoseg_bench.execution.worker import Job
from anoseg_bench.experiments import EXPERIMENTS, find_experiment
from anoseg_bench.formatting import duration
from anoseg_bench.methods import METHODS
from anoseg_bench.plan import PROFILES, is_stale, match_methods, parse_methods, validated
from anoseg_bench.registry import nearest
from anoseg_bench.report.cache import PAGE, kept_report
from anoseg_bench.report.published_values import choose_published
from anoseg_bench.store.cells import MANIFEST, Row, Run, Store, slug
from anoseg_bench.store.claims import Holder
from anoseg_bench.store.provenance import commit
from anoseg_bench.validation import choose_categories, choose_device, choose_folder, open_dataset, parse_seeds


def console(arguments: Namespace) -> Console:
    """Return the console for -q and -v."""
    return Console(-1 if arguments.quiet else int(arguments.verbose))


def run_command(arguments: Namespace) -> int:
    """Run a grid of methods, categories and seeds, and report."""
    out = console(arguments)
    if arguments.profile not in PROFILES:
        raise UsageError(f"Unknown profile '{arguments.profile}'. {nearest(arguments.profile, PROFILES)}")
    if arguments.experiment:
        arguments.methods = find_experiment(arguments.experiment).methods
    if arguments.rerun not in RERUN:
        raise UsageError(f"Unknown --rerun '{arguments.rerun}'. {nearest(arguments.rerun, RERUN)}")
    timeout = parse_duration(arguments.timeout)
    choose_published(arguments.published)
    parse_shard(arguments.shard)
    check_engine(arguments.engine)
    check_workers(arguments)
    if not 0 <= arguments.holdout < 1:
        raise UsageError(f"Expected --holdout in 0..1 (below 1), but got {arguments.holdout}.")
    seeds = parse_seeds(arguments.seeds)
    match_methods(arguments.methods)  # before the settings, which may be those of a class in a file
    name, dataset, settings = open_dataset(arguments)
    variants = parse_methods(arguments.methods, arguments.profile, settings)
    for unused in sorted(set(settings) - {v.method for v in variants} - {name}):
        config = METHODS[unused].load_config()
        validated(functools.partial(config.of_profile, arguments.profile), unused, config, settings[unused])
        out.error(f"note: the settings of {unused} have no effect, as --methods does not name it")
    categories = choose_categories(dataset, arguments.category)
    device = choose_device(arguments.device, here=arguments.engine == "local")
    if device == "cuda" and arguments.memory is not None:
        raise UsageError("--memory limits the address space, of which CUDA takes more than it uses; leave it out on cuda.")
    path = choose_folder(
        arguments.out
        or Path("results")
        / slug(f"{dataset.label}-{arguments.profile}{f'-{arguments.experiment}' if arguments.experiment else ''}")
    )
    revision, dirty = commit()
    info = {
        "command": "python run_bench.py " + shlex.join(sys.argv[1:]),
        "profile": arguments.profile,
        "dataset": dataset.label,
        "synthetic": name == "synthetic",
        "holdout": arguments.holdout,
        "seeds": seeds,
        "device": device,
        "commit": revision and revision + " with uncommitted changes" * dirty,
        "experiment": arguments.experiment,
    }
    where = "the embedded synthetic set" if name == "synthetic" else f"{dataset.label} in {dataset.root}"
    out.line(f"{len(variants)} methods, {len(categories)} categories of {where}, profile {arguments.profile}, on {device}")
    rows = [Row(v.label, v.method, dataset.label, category, seed) for v in variants for category in categories for seed in seeds]
    current = Run(path, info, rows)
    inspected = inspect_all(dataset, categories, current.store, arguments.exclude, out)
    info["excluded"] = sorted(name for found in inspected.values() if isinstance(found, Inspected) for name in found.excluded)
    workers, arguments.threads = share_out(len(rows), arguments, device)
    jobs = settle_stored(current, {v.label: v for v in variants}, dataset, inspected, arguments, out)
    if arguments.dry_run:
        return show_plan(current, jobs, max(1, workers), out)
    current.save()
    for row in rows:
        if row.status == "cached":
            out.line(f"{row.title}: stored already")
    if jobs:
        setup = Setup(workers, device, modules_of(jobs), arguments.ray_address, arguments.gpus_per_cell)
        engine = make_engine(arguments.engine, setup)
        Execution(current, jobs, engine, Narrator(current, out, engine.slots), timeout).go()
        current.save()
    if arguments.shard:
        done = sum(row.result is not None for row in rows)
        out.result(
            f"{done} of {len(rows)} cells are stored. When all shards are done: python run_bench.py report {shlex.quote(str(path))}"
        )
        return name_missing(current, out)
    return finish(current, arguments, out)


def show_plan(current: Run, jobs: list[tuple[Row, Job]], slots: int, out: Console) -> int:
    """Print the cells, which are stored already, and the time that the rest should take."""
    todo = {id(row) for row, _ in jobs}
    for row in current.rows:
        state = "to run" if id(row) in todo else "stored" if row.result else f"{row.status}: {row.error}"
        out.result(f"{row.title:<50} {state}")
    out.result(f"{len(jobs)} of {len(current.rows)} cells to run: {forecast(jobs, current.store, slots)}.")
    if failed := sum(row.status == "failed" for row in current.rows):
        out.error(f"error: {failed} of {len(current.rows)} cells cannot run; the reasons stand above")
    return int(bool(failed))


class Narrator:
    """Tells on the console how the cells of a run go, `slots` of them at once."""

    def __init__(self, current: Run, out: Console, slots: int = 1) -> None:
        self.current, self.out, self.slots = current, out, max(1, slots)
        self.took: dict[str, list[float]] = defaultdict(list)
        self.number = {id(row): n for n, row in enumerate(sorted(current.rows, key=lambda row: row.category), 1)}

    def _title(self, row: Row) -> str:
        return f"[{self.number[id(row)]}/{len(self.number)}] {row.title}"

    def started(self, row: Row) -> None:
        """Tell that a cell runs."""
        self.out.line(self._title(row))

    def progress(self, row: Row, holder: Holder) -> None:
        """Tell how far it is."""
        self.out.progress(self._title(row), holder.stage, holder.done, holder.total, holder.loss)

    def elsewhere(self, row: Row, holder: Holder | None) -> None:
        """Tell that another command is at it."""
        who = f" (process {holder.pid} on {holder.host.split()[0]})" if holder else ""
        self.out.line(f"{self._title(row)}: another command is at it{who}; its result will be taken")

    def ended(self, row: Row, seconds: float, trace: str) -> None:
        """Tell what came of it."""
        title = self._title(row)
        self.out.close(title)
        if row.result is None:
            self.out.error(f"{title}: failed: {row.error}")
            if trace and self.out.verbosity > 0:
                self.out.error(trace)
            if (log := log_of(self.current, row)).exists():
                self.out.error(f"  log: {log}")
            return
        numbers = ", ".join(f"{n} {row.result.value(n):.3f}" for n in ("pixel_auroc", "iou_max", "image_auroc"))
        how = f"{seconds:.0f} s" if row.status == "done" else "by another command"
        if row.status == "done":
            self.took[row.variant].append(seconds)
        self.out.line(f"{title}: {numbers}; {how}{self._left()}")
        if (maps := row.result.folder / "maps").is_dir():
            self.out.line(f"  maps: {maps}")

    def _left(self) -> str:
        """Return in words how long the waiting cells should take, once one of each variant has been timed."""
        waiting = {row.key: self.took.get(row.variant) for row in self.current.rows if row.status == "waiting"}
        if not waiting or not all(waiting.values()):
            return ""
        seconds = [fmean(times or []) for times in waiting.values()]
        return f"; about {duration(max(sum(seconds) / self.slots, *seconds))} left"


def inspect_all(
    dataset: Dataset, categories: list[str], store: Store, exclude: list[str], out: Console
) -> dict[str, Inspected | str]:
    """Inspect the categories before anything is trained; a bad one is kept as the line that says why.

    Raises
    ------
    UsageError
        If a pattern of `exclude` matches no image.
    """
    inspected: dict[str, Inspected | str] = {}
    for category in categories:
        progress = functools.partial(out.progress, category, "reading")
        try:
            inspected[category] = inspect(dataset, category, store.root / "content", exclude, progress)
        except (DataError, OSError) as error:
            inspected[category] = describe(error)
            out.error(f"{category}: {describe(error)}")
    sound = [found for found in inspected.values() if isinstance(found, Inspected)]
    unused = set(exclude) - {pattern for found in sound for pattern in found.excluded.values()}
    if unused and len(sound) == len(inspected):
        raise UsageError(
            f"--exclude '{sorted(unused)[0]}' matches no image; expected <category>/<image>, e.g. bottle/test/crack/003."
        )
    return inspected


def fail(current: Run, row: Row, title: str, error: Exception, out: Console) -> None:
    """Mark a row as failed, and keep the traceback in a log, for which call this while the exception is handled."""
    row.result, row.status, row.error = None, "failed", describe(error)
    out.error(f"{title}: failed: {row.error}")
    if out.verbosity > 0:
        out.error(traceback.format_exc())
    log = current.path / "logs" / f"{slug(f'{row.variant}-{row.category}-{row.seed}')}.log"
    try:
        log.parent.mkdir(exist_ok=True)
        log.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as problem:
        out.error(f"  its traceback could not be kept: {problem}")
    else:
        out.error(f"  traceback: {log}")


def finish(current: Run, arguments: Namespace, out: Console, anew: bool = False) -> int:
    """Write the report, unless it is there already, print the table, the paths and what failed; return the exit code."""
    allow_partial, published = arguments.allow_partial, choose_published(arguments.published)
    kept = kept_report(current, [allow_partial, published])
    if anew or not kept.is_current():
        from anoseg_bench.report.compose import console_table, write_report

        files = write_report(current, allow_partial=allow_partial, published=published)
        kept.keep(files, console_table(current, allow_partial=allow_partial))
    out.result()
    out.result(kept.text)
    out.result()
    info = current.info
    if info.get("synthetic"):
        out.result("Dataset: the embedded synthetic set, made by this project; its numbers say nothing about real images.")
    if info.get("profile") not in ("full", None):
        out.result(f"Profile: {info['profile']}, for a first look; results to publish need --profile full.")
    out.result(f"Written to {current.path}:")
    for folder in sorted({file.parent for file in kept.files} | {current.path}):
        names = sorted(file.name for file in kept.files if file.parent == folder)
        shown = ", ".join(names[:6]) + (f", ... ({len(names)} files)" if len(names) > 6 else "")
        out.result(f"  {folder}: {shown or MANIFEST}")
    out.result(f"To look at, in a browser: {current.path / PAGE}")
    return name_missing(current, out)


def name_missing(current: Run, out: Console) -> int:
    """Name the cells without a result that are not left to another shard, and return the exit code."""
    missing = [row for row in current.rows if row.result is None and row.status != "skipped"]
    if missing:
        failed = sum(row.status == "failed" for row in missing)
        out.error(f"{failed} of {len(current.rows)} cells failed, {len(missing) - failed} were not run to their end:")
        for row in missing:
            out.error(f"  {row.variant}, {row.category}, seed {row.seed}: {row.error}")
    return 1 if missing else 0


def report_command(arguments: Namespace) -> int:
    """Write tables and plots of a run again, from what is stored."""
    current = Run.load(arguments.run)
    return finish(current, arguments, console(arguments), anew=True)


def status_command(arguments: Namespace) -> int:
    """Print where the cells of a run stand, also while another command works at it."""
    from anoseg_bench.commands.status import table

    console(arguments).result(table(Run.load(arguments.run)))
    return 0


def predict_command(arguments: Namespace) -> int:
    """Use a stored model on images: maps, overlays and a table of scores and decisions."""
    from anoseg_bench.evaluation.predict import choose_row, find_images, load_method, predict_images, write_predictions

    out = console(arguments)
    for plugin in arguments.plugin:
        METHODS.match(plugin)
    run = Run.load(arguments.run)
    row = choose_row(run, arguments.method, arguments.category, arguments.seed)
    files = find_images(arguments.images)
    method, result = load_method(run, row, choose_device(arguments.device))
    if is_stale(row.method, result.record):
        out.error(f"note: the code of {row.variant} has changed since it was trained; its maps may not fit the thresholds")
    decided, problems = predict_images(method, files)
    for problem in problems:
        out.error(f"error: {problem}")
    if decided:
        path = write_predictions(decided, method, result, arguments.out)
        reason = result.record["reasons"].get("image_threshold_deployable")
        threshold = result.value("image_threshold_deployable")
        if reason:
            out.error(f"note: no image is decided on: {reason}; train with a larger --holdout, or more normal images")
        else:
            defective = sum(d.score >= threshold for d in decided)
            out.result(f"{defective} of {len(decided)} images reach the deployable threshold {threshold:.4g} of {row.title}")
        out.result(f"Written to {arguments.out}: {path.name}, maps, overlays")
    return 1 if problems else 0


def score_command(arguments: Namespace) -> int:
    """Score maps that any tool saved, in a run of their own or beside the methods of another."""
    from anoseg_bench.evaluation.score import SCORED, Source, score_category

    out = console(arguments)
    earlier = Run.load(arguments.add_to) if arguments.add_to else None
    _, dataset, _ = open_dataset(arguments)
    if earlier and earlier.info["dataset"] != dataset.label:
        raise UsageError(f"The run '{earlier.path}' is on {earlier.info['dataset']}, not on {dataset.label}; name it by --dataset.")
    categories = choose_categories(dataset, arguments.category)
    source = Source(arguments.maps, dataset.categories(), arguments.normal_maps, arguments.scores, arguments.probability)
    source.check(categories)
    name = " ".join((arguments.name if arguments.name is not None else source.maps.resolve().name).split())
    if not name:
        raise UsageError("Expected a name that can be seen in --name, but got a blank one.")
    if arguments.seed is not None:
        parse_seeds(str(arguments.seed))
    noted = source.about(categories[0]).get("seed")
    seed = next((s for s in (arguments.seed, noted, *(earlier.info["seeds"] if earlier else [])) if s is not None), 0)
    current = earlier or run_of_its_own(arguments, dataset, name, seed)
    inspected = inspect_all(dataset, categories, current.store, arguments.exclude, out)
    if earlier:
        check_same_test_sets(earlier, name, SCORED, seed, inspected)
    current.info["excluded"] = sorted(n for found in inspected.values() if isinstance(found, Inspected) for n in found.excluded)
    command = "python run_bench.py " + shlex.join(sys.argv[1:])
    failed = 0
    for category, found in inspected.items():
        row = Row(name, SCORED, dataset.label, category, seed, error=found if isinstance(found, str) else "")
        if isinstance(found, Inspected):
            try:
                scored = score_category(source, found, dataset.label, seed, current.store, command)
                row.key, row.status = scored.key, "done"
                row.result = current.store.get(SCORED, row.key)
                out.line(f"{category} {name}: {scored.summary}")
                for remark in scored.remarks:
                    out.error(f"note: {category}: {remark}")
            except Exception as error:  # the boundary of a cell: it must cost nothing but itself
                fail(current, row, f"{category} {name}", error, out)
        failed += row.result is None
        same = [r for r in current.rows if (r.variant, r.category, r.seed) == (name, category, seed)]
        if row.result is None and any(r.result for r in same):
            out.error(f"  what '{name}' had for {category} before is kept")
            continue
        current.rows = [r for r in current.rows if r not in same] + [row]
    if failed == len(inspected):
        out.error(f"nothing was scored; '{current.path}' is as it was")
        return 1
    current.save()
    return max(finish(current, arguments, out), int(failed > 0))


def run_of_its_own(arguments: Namespace, dataset: Dataset, name: str, seed: int) -> Run:
    """Return a new run for scored maps; one of trained methods is never written over."""
    path = choose_folder(arguments.out or Path("results") / slug(f"scored-{name}"))
    if (path / MANIFEST).exists() and "holdout" in Run.load(path).info:
        raise UsageError(f"'{path}' holds a run of methods; show the maps beside them with --add-to, or give another --out.")
    info = {
        "command": "python run_bench.py " + shlex.join(sys.argv[1:]),
        "dataset": dataset.label,
        "profile": None,
        "synthetic": dataset.root is None,
        "seeds": [seed],
        "commit": commit()[0],
    }
    return Run(path, info)


def check_same_test_sets(run: Run, name: str, scored: str, seed: int, inspected: dict[str, Inspected | str]) -> None:
    """Check that maps may stand beside the methods of a run: its categories, seeds and images, and a name of their own.

    Raises
    ------
    UsageError
        If not: means would be over other cells, or numbers over other images.
    """
    if any(row.variant == name and row.method != scored for row in run.rows):
        raise UsageError(f"'{name}' is a method of the run '{run.path}'; give the maps another --name.")
    if seed not in run.info["seeds"]:
        raise UsageError(
            f"The run '{run.path}' has the seeds {run.info['seeds']}, not {seed}; give the maps one of them by --seed."
        )
    for category, found in inspected.items():
        rows = [row for row in run.rows if row.category == category]
        if not rows:
            raise UsageError(f"The run '{run.path}' has no category '{category}'; name those that it has by --category.")
        contents = {row.result.record["content"] for row in rows if row.result}
        if isinstance(found, Inspected) and contents and found.content not in contents:
            left = f"; it left out {', '.join(run.info['excluded'])}" if run.info.get("excluded") else ""
            raise UsageError(
                f"The images of '{category}' are not those of the run '{run.path}'{left}. Give the same --data-root and --exclude."
            )


#: What the pictures of `preview` show.
LEARNED = "synthetic anomalies to learn from. Below each image its mask: white anomalous, grey left out of the loss"
FOREGROUND = "normal images. Below each what is taken for its foreground, in white"


def fact_text(value: Any) -> str:
    """Return a fact of a method's findings for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " to ".join(fact_text(part) for part in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def preview_command(arguments: Namespace) -> int:
    """Write a gallery of the synthetic anomalies that a method learns from, for each category."""
    import torch

    from anoseg_bench.evaluation.cell import resize
    from anoseg_bench.report.gallery import write_examples

    out = console(arguments)
    if arguments.profile not in PROFILES:
        raise UsageError(f"Unknown profile '{arguments.profile}'. {nearest(arguments.profile, PROFILES)}")
    if arguments.number < 1:
        raise UsageError(f"Expected at least 1 in --number, but got {arguments.number}.")
    match_methods(arguments.method)
    _, dataset, settings = open_dataset(arguments)
    variants = parse_methods(arguments.method, arguments.profile, settings)
    if len(variants) > 1:
        raise UsageError(f"Expected one method, but '{arguments.method}' names {', '.join(v.label for v in variants)}.")
    variant = variants[0]
    folder = arguments.out or Path("results") / slug(f"preview-{variant.label}")
    for category in choose_categories(dataset, arguments.category):
        items = dataset.load(category).train
        images = torch.stack([resize(item.load_image(), variant.config.image_size) for item in items])
        method = METHODS[variant.method].load()(variant.config, seed=arguments.seed, device="cpu")
        made = method.examples(images, arguments.number)
        path = folder / f"{slug(category)}.png"
        title = f"{variant.label} on {category}"
        write_examples(made.images.permute(0, 2, 3, 1).numpy(), made.masks.numpy(), f"{title}: {LEARNED}", path)
        out.result(f"{category}: {path}")
        if made.normals is not None and made.foregrounds is not None:
            path = folder / f"{slug(category)}_foreground.png"
            masks = made.foregrounds.float().numpy()
            write_examples(made.normals.permute(0, 2, 3, 1).numpy(), masks, f"{title}: {FOREGROUND}", path)
            out.result(f"  foreground: {path}")
        for what, facts in made.findings.items():
            out.result(f"  {what}: " + ", ".join(f"{name.replace('_', ' ')} {fact_text(value)}" for name, value in facts.items()))
    return 0


def list_command(arguments: Namespace) -> int:
    """Print methods, datasets, the categories found, and profiles."""
    out = console(arguments)
    for title, registry in (("Methods", METHODS), ("Datasets", DATASETS)):
        out.result(f"{title}:")
        for name in registry.names():
            entry = registry[name]
            aliases = f" (also: {', '.join(entry.aliases)})" if entry.aliases else ""
            out.result(f"  {name:<14}{entry.summary}{aliases}")
        out.result(f"  more: file.py:Class or module:Class on the command line, entry points of the group '{registry.group}'")
    name, dataset, _ = open_dataset(arguments)
    out.result(f"Categories of {name}{f' in {dataset.root}' if dataset.root else ''}:")
    for category in dataset.categories():
        try:
            items = dataset.load(category)
        except DataError as error:
            out.result(f"  {category:<14}{error}")
            continue
        good = sum(item.is_good for item in items.test)
        kinds = sorted({item.defect for item in items.test if not item.is_good})
        counts = f"{len(items.train)} training, {good} normal and {len(items.test) - good} defective test images"
        out.result(f"  {category:<14}{counts}: {', '.join(kinds)}")
    out.result("Experiments:")
    for experiment, what in EXPERIMENTS.items():
        out.result(f"  {experiment:<14}{what.summary}")
    out.result("Profiles:")
    for profile, summary in PROFILES.items():
        out.result(f"  {profile:<14}{summary}")
    return 0
