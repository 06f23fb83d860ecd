"""What changed between runs of the same cells: differences on the same resamples, and in what the runs differ themselves.

Paired are the cells of one variant, dataset, category and seed with a result in both runs on the same images, by their content.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from anoseg_bench.errors import UsageError
from anoseg_bench.formatting import counted, named, one_line, percent
from anoseg_bench.metrics import metric
from anoseg_bench.metrics.catalogue import names_resampled
from anoseg_bench.registry import nearest
from anoseg_bench.report.render import DASH, Line, Table, TableCell
from anoseg_bench.report.results import Results
from anoseg_bench.report.tables import MAIN
from anoseg_bench.store.cells import Row, Run
from anoseg_bench.store.records import CellRecord

#: Why cells of both runs are not compared.
OTHER_IMAGES = "the images, for training or test, are not the same in both, or not known"

#: Two cells of the same, the first run's and the other's.
Pair = tuple[Row, Row]


@dataclass(frozen=True)
class Change:
    """A number in two runs, in 0..1.

    Attributes
    ----------
    category : str
        "" for the mean over `cells`' categories.
    first, other : float
        The number in each run, NaN where a cell has none.
    low, high : float
        The 95 % interval of other - first.
    cells : int
        How many cells (categories and seeds) each is the mean of.
    """

    metric: str
    variant: str
    category: str
    first: float
    other: float
    low: float
    high: float
    cells: int

    @property
    def difference(self) -> float:
        """The other run's number less the first one's."""
        return self.other - self.first

    @property
    def _ends(self) -> tuple[float, float]:
        """The interval, or the difference alone where there is none: a fall is not passed over for want of an interval."""
        return (self.difference, self.difference) if math.isnan(self.low) else (self.low, self.high)

    @property
    def verdict(self) -> str:
        """``"worse"`` or ``"better"`` where the interval excludes zero and the difference shows, "lost" where no number is left."""
        if math.isnan(self.other) and not math.isnan(self.first):
            return "lost"
        low, high = self._ends
        if math.isnan(low) or float(percent(self.difference)) == 0 or low <= 0 <= high:
            return ""
        return "worse" if (low > 0) == metric(self.metric).falls else "better"

    def has_fallen(self, points: float) -> bool:
        """Whether it is lost, or measurably worse by more than so many percentage points: its whole interval lies beyond."""
        low, high = self._ends
        least = low if metric(self.metric).falls else -high
        return self.verdict == "lost" or (self.verdict == "worse" and 100 * least > points)

    @property
    def texts(self) -> list[str]:
        """What a table shows of the numbers, in percent."""
        values = [DASH if math.isnan(value) else percent(value) for value in (self.first, self.other)]
        difference = DASH if math.isnan(self.difference) else _signed(self.difference)
        interval = DASH if math.isnan(self.low) else f"{_signed(self.low)} to {_signed(self.high)}"
        return [*values, difference, interval, self.verdict]

    def __str__(self) -> str:
        first, other, difference, interval, _ = self.texts
        where = f"{self.variant} on {self.category or 'all categories'}"
        return f"{metric(self.metric).title} of {one_line(where)}: {first} before, {other} now ({difference}; {interval})"


@dataclass(frozen=True)
class RunComparison:
    """What changed from one run to another.

    Attributes
    ----------
    first, other : str
        The runs.
    pairs : list of (Row, Row)
        The cells that are compared.
    changes : list of Change
        By metric, variant, and category; the mean over the categories first, where there are several.
    missing, extra : dict of str to list of Row
        By reason, the cells of the first run that had a result and are not compared; and those of the other.
    differences : dict of (str, str, str) to list of Row
        In what cells differ beside their numbers: what, in the first run, in the other, and the cells.
    """

    first: str
    other: str
    pairs: list[Pair]
    changes: list[Change]
    missing: dict[str, list[Row]]
    extra: dict[str, list[Row]]
    differences: dict[tuple[str, str, str], list[Row]]

    @property
    def frame(self) -> pd.DataFrame:
        """All changes in long form, in 0..1."""
        names = ["metric", "variant", "category", "first", "other", "difference", "low", "high", "cells", "verdict"]
        return pd.DataFrame([[getattr(change, name) for name in names] for change in self.changes], columns=names)

    def fallen(self, points: float = 0.0) -> list[Change]:
        """Return what is lost or has become worse by measurably more than so many percentage points."""
        return [change for change in self.changes if change.has_fallen(points)]

    @cached_property
    def reasons(self) -> list[str]:
        """In words, in what the compared cells differ, beside their numbers."""
        rows = [row for row, _ in self.pairs]
        lines = [f"{what}: {old} -> {new}{_where(of, rows)}" for (what, old, new), of in self.differences.items()]
        return lines or ["nothing (code and settings of the methods, commit, packages, device)"]

    @cached_property
    def left_out(self) -> list[str]:
        """In words, which cells are not compared, and why."""
        groups = ((self.missing, f"of '{self.first}'"), (self.extra, f"of '{self.other}'"))
        return [
            f"{counted(len(rows), 'cell')} {whose} not compared ({_places(rows)}): {reason}"
            for of, whose in groups
            for reason, rows in of.items()
        ]

    def table(self, whole: bool = False) -> Table:
        """Return the changes as a table: means over categories and what changed measurably within one, or all."""
        several = {change.variant for change in self.changes if not change.category}
        shown = [c for c in self.changes if whole or not c.category or c.variant not in several or c.verdict]
        lines = [
            Line(
                [
                    TableCell(text)
                    for text in (metric(c.metric).title, one_line(c.variant), one_line(c.category or "mean"), *c.texts)
                ]
            )
            for c in shown
        ]
        header = ["metric", "method", "category", "first", "other", "difference", "95 % interval", "verdict"]
        notes = [
            f"Compared: {counted(len(self.pairs), 'cell')} ({_places([row for row, _ in self.pairs])}).",
            *[f"{line}." for line in self.left_out],
            *(["Categories without a measurable change are not shown."] if len(shown) < len(self.changes) else []),
            *[f"Different beside the numbers: {reason}." for reason in self.reasons],
            self._reading,
        ]
        return Table("changes", f"{self.other} (other) against {self.first} (first), in percent", header, lines, notes)

    @property
    def _reading(self) -> str:
        """How the intervals are to be read."""
        seeds = {row.seed for row, _ in self.pairs}
        images, training = "test images and seeds", ""
        if len(seeds) == 1:
            images = "test images"
            training = " With one seed they tell the runs apart on these images, but not from another training of the same method."
        return (
            f"Intervals: of the difference, on the same resamples of {images} for both runs; worse or better where they exclude "
            f"zero, which of unchanged numbers about one in twenty does by chance.{training}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all that is known, for JSON."""

        def titles(groups: Mapping[str, list[Row]]) -> list[dict[str, Any]]:
            return [{"reason": reason, "cells": [row.title for row in rows]} for reason, rows in groups.items()]

        differences = [
            {"what": what, "first": old, "other": new, "cells": [row.title for row in rows]}
            for (what, old, new), rows in self.differences.items()
        ]
        return {
            "first": self.first,
            "other": self.other,
            "compared": [row.title for row, _ in self.pairs],
            "changes": self.frame.to_dict("records"),
            "differences": differences,
            "missing": titles(self.missing),
            "extra": titles(self.extra),
        }


def compare_results(first: Results, other: Results, metrics: Sequence[str] | None = None) -> RunComparison:
    """Return what changed from one run to another.

    Parameters
    ----------
    metrics : sequence of str or None
        Names in the catalogue, of metrics that have intervals; None for the main ones.

    Raises
    ------
    UsageError
        If a metric is unknown or has no interval, or the runs have no cell in common.
    """
    names = list(dict.fromkeys(MAIN if metrics is None else metrics))
    for name in names:
        if name not in names_resampled():
            raise UsageError(f"Expected metrics that have intervals, but got '{name}'. {nearest(name, names_resampled())}")
    old, new = first.run, other.run
    pairs, missing = _paired(old, new)
    extra = {reason: rows for reason, rows in _paired(new, old)[1].items() if reason != OTHER_IMAGES}
    if not pairs:
        why = "; ".join(f"{_places(rows)}: {reason}" for reason, rows in (missing or extra).items()) or "neither has a result"
        raise UsageError(f"Expected two runs of the same cells, but none of '{new.path}' can be compared with '{old.path}': {why}.")
    by_variant = defaultdict(list)
    for pair in pairs:
        by_variant[pair[0].variant].append(pair)
    changes = [change for variant, own in by_variant.items() for change in _changes(variant, own, names, old)]
    changes.sort(key=lambda change: names.index(change.metric))
    return RunComparison(str(old.path), str(new.path), pairs, changes, missing, extra, _differences(pairs, old, new))


def _key(row: Row) -> tuple[str, str, str, int]:
    return row.variant, row.dataset, row.category, row.seed


def _paired(run: Run, with_: Run) -> tuple[list[Pair], dict[str, list[Row]]]:
    """Return the cells of a run with their partners, and by reason those that have a result and no partner."""
    theirs = {_key(row): row for row in with_.rows}
    pairs, left_out = [], defaultdict(list)
    for row in run.rows:
        if row.result is None:
            continue
        partner = theirs.get(_key(row))
        if partner is None:
            left_out[f"not in '{with_.path}'"].append(row)
        elif partner.result is None:
            left_out[f"without a result in '{with_.path}': {one_line(partner.error)}"].append(row)
        elif _images(row.result.record) != _images(partner.result.record):
            left_out[OTHER_IMAGES].append(row)
        else:
            pairs.append((row, partner))
    return pairs, dict(left_out)


def _images(record: CellRecord) -> Any:
    """Return what tells the images of a cell; what equals nothing, where a record does not."""
    return (record.content, record.items) if record.content else object()


def _changes(variant: str, pairs: Sequence[Pair], names: Sequence[str], run: Run) -> Iterator[Change]:
    """Yield the changes of a variant: over categories, on the seeds that all have, and in each, on its own."""
    seeds: dict[str, list[int]] = defaultdict(list)
    for row, _ in pairs:
        seeds[row.category].append(row.seed)
    shared = tuple(seed for seed in next(iter(seeds.values())) if all(seed in own for own in seeds.values()))
    scopes = [("", shared)] if len(seeds) > 1 and shared else []
    scopes += [(category, tuple(own)) for category, own in seeds.items()]
    joined = {of: _joined([p for p in pairs if p[0].seed in of and {*of} <= {*seeds[p[0].category]}], run) for _, of in scopes}
    for category, of in scopes:
        results = joined[of]
        members = [results.categories.index(category)] if category else list(range(len(results.categories)))
        for name in names:
            numbers, resamples = results.numbers(name, members), results.intervals.of(name, members)
            first, other = (number.mean if number.complete else math.nan for number in numbers)
            if resamples is None or (math.isnan(first) and math.isnan(other)):
                continue
            interval = resamples.difference(1, 0)
            yield Change(name, variant, category, first, other, interval.low, interval.high, len(members) * len(of))


def _joined(pairs: Sequence[Pair], run: Run) -> Results:
    """Return the cells of two runs as one run of two variants, which resampling then treats alike."""
    rows = [replace(row, variant=name) for p in pairs for row, name in zip(p, ("first", "other"), strict=True)]
    return Results(Run(Path(), run.info, rows))


def _differences(pairs: Iterable[Pair], old: Run, new: Run) -> dict[tuple[str, str, str], list[Row]]:
    """Return in what cells differ, beside their numbers: what, before, now, with the cells."""
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row, partner in pairs:
        if row.result is None or partner.result is None:
            continue
        before, now = (
            {"profile": str(run.info.profile)} | _identity(of.record) for run, of in ((old, row.result), (new, partner.result))
        )
        for what in dict.fromkeys([*before, *now]):
            key = (what, before.get(what, "none"), now.get(what, "none"))
            if key[1] != key[2]:
                found[key].append(row)
    return dict(found)


def _identity(record: CellRecord) -> dict[str, str]:
    """Return what a cell's numbers may depend on, beside the images."""
    trained, origin = record.identity.trained or {}, record.provenance
    facts = {
        "version of the metrics": record.identity.metrics,
        "method": record.method,
        "version of the method": trained.get("version"),
        "code of the method": (record.source or "unknown")[:12],
        **_scored(record.identity.scored or {}),
        "share held out": trained.get("holdout"),
        **{f"setting {name}": value for name, value in record.config.items()},
        **{f"condition {name}": value for name, value in record.conditions.items()},
        "deviations": record.deviations,
        "commit": origin.revision,
        "commit of a later evaluation": record.evaluated and record.evaluated.revision,
        "device": origin.device,
        "machine": origin.machine,
        "platform": origin.platform,
        **{f"package {name}": version for name, version in origin.versions.items()},
    }
    return {what: one_line(fact) for what, fact in facts.items()}


def _scored(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what scored numbers depend on: of maps and scores their number, and the beginning of a hash of all."""

    def brief(fact: Any) -> Any:
        whole = hashlib.sha256(json.dumps(fact, sort_keys=True, default=str).encode()).hexdigest()
        return f"{len(fact)} ({whole[:12]})" if isinstance(fact, (dict, list)) else fact

    return {
        f"scored: {name}": brief(fact) for name, fact in facts.items() if name not in ("dataset", "category", "content", "seed")
    }


def _where(rows: Sequence[Row], among: Sequence[Row]) -> str:
    """Return which cells, in brackets; "" for all."""
    return "" if len(rows) == len(among) else f" ({_places(rows)})"


def _places(rows: Sequence[Row]) -> str:
    """Return cells in words: ``"method anoseg, 2 categories (bottle, grid), seed 0"``."""
    methods, categories = named("method", [row.variant for row in rows]), named("category", [row.category for row in rows])
    return f"{methods}, {categories}, {named('seed', [row.seed for row in rows])}"


def _signed(share: float) -> str:
    text = percent(share)
    return "0.0" if float(text) == 0 else text if share < 0 else f"+{text}"
