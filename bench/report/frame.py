"""The cells of a run as arrays (V variants, C categories, S seeds) and as long frames."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from anoseg_bench.datasets.base import GOOD
from anoseg_bench.formatting import one_line
from anoseg_bench.metrics import FPR_GRID, RATE_CURVE, RECALL_GRID, VALUE_GRID, metric, tabled
from anoseg_bench.store.cells import CellResult, Row, Run, slug
from anoseg_bench.store.latency import Latencies, latencies_of

TIMING = [
    *("train_s", "predict_s", "images_per_s_1", "images_per_s_16"),
    *("parameters", "multiply_adds", "model_mib", "train_peak_mib", "predict_peak_mib"),
]
#: What methods cost, as shown: heading, name in a record's timing, factor, power of what the record has.
COSTS = [
    ("latency, one image (ms)", "images_per_s_1", 1000, -1),
    ("images/s, 16 at once", "images_per_s_16", 1, 1),
    ("training (s)", "train_s", 1, 1),
    ("parameters (millions)", "parameters", 1e-6, 1),
    ("multiply-adds per image (10^9)", "multiply_adds", 1e-9, 1),
    ("model on disk (MiB)", "model_mib", 1, 1),
    ("peak memory in training (MiB)", "train_peak_mib", 1, 1),
    ("peak memory in prediction (MiB)", "predict_peak_mib", 1, 1),
]
#: Marks what rests on weights trained on other images.
MARK = "†"
GRIDS = {"iou": VALUE_GRID, "iou_fpr": RATE_CURVE, "roc": FPR_GRID, "pro": FPR_GRID, "precision": RECALL_GRID}


class FileNames:
    """Gives file names (without extension) that are safe and unique, also where case does not count."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        """Return `name` as a file name, with a number behind it where it is taken."""
        base = candidate = slug(name, 80)
        number = 1
        while candidate.casefold() in self._taken:
            number += 1
            candidate = f"{base}_{number}"
        self._taken.add(candidate.casefold())
        return candidate


def timing_of(result: CellResult, name: str) -> float:
    """Return one of a cell's costs, NaN where it is not known."""
    return math.nan if result.record.timing is None else float(getattr(result.record.timing, name))


@contextlib.contextmanager
def opened(result: CellResult) -> Iterator[Mapping[str, np.ndarray]]:
    """Give the arrays of a cell, then close their file: a run has more cells than a process may hold open."""
    try:
        yield result.arrays
    finally:
        arrays: Any = vars(result).pop("arrays", None)
        if isinstance(arrays, np.lib.npyio.NpzFile):
            arrays.close()


class RunCells:
    """The rows of a run by variant, category and seed.

    Parameters
    ----------
    run : Run
        The run; rows that are missing count like failed ones.
    allow_partial : bool
        Whether a mean over some of the cells asked for is shown.
    """

    def __init__(self, run: Run, allow_partial: bool = False) -> None:
        self.run, self.allow_partial = run, allow_partial
        self.variants = list(dict.fromkeys(row.variant for row in run.rows))
        self.categories = list(dict.fromkeys(row.category for row in run.rows))
        self.seeds = list(dict.fromkeys(row.seed for row in run.rows))
        #: The variants as shown: marked where they rest on weights trained on other images.
        self.titles = [one_line(v) + MARK * (v in self.pretrained) for v in self.variants]
        self._rows = {(row.variant, row.category, row.seed): row for row in run.rows}

    @cached_property
    def pretrained(self) -> set[str]:
        """The variants that rest on weights trained on other images."""
        return {row.variant for row, result in self.done if result.record.pretrained}

    @property
    def frame(self) -> pd.DataFrame:
        """All numbers in long form, in 0..1: see `results_frame`."""
        return results_frame(self.run)

    @property
    def done(self) -> list[tuple[Row, CellResult]]:
        """The rows that have a result, with it."""
        return [(row, row.result) for row in self.run.rows if row.result is not None]

    def get(self, variant: str, category: str, seed: int) -> CellResult | None:
        """Return the result of a cell, or None."""
        row = self._rows.get((variant, category, seed))
        return row.result if row else None

    def cube(self, read: Callable[[CellResult], Any], length: int = 0) -> np.ndarray:
        """Return ``read(result)`` of all cells, (V, C, S) or with `length` (V, C, S, length); NaN without a result."""
        shape = (len(self.variants), len(self.categories), len(self.seeds))
        values = np.full((*shape, length) if length else shape, np.nan)
        for index in np.ndindex(shape):
            result = self.get(self.variants[index[0]], self.categories[index[1]], self.seeds[index[2]])
            if result is not None:
                values[index] = read(result)
        return values

    @cached_property
    def costs(self) -> dict[str, np.ndarray]:
        """What the cells cost, (V, C, S) by the headings of `COSTS`."""
        cubes = {name: self.cube(lambda cell, n=name: timing_of(cell, n)) for _, name, _, _ in COSTS}  # type: ignore[misc]
        return {heading: factor * cubes[name] ** power for heading, name, factor, power in COSTS}

    @property
    def over_all(self) -> str:
        """What a number of all categories is, in words: ``"mean over categories"``, or the name of the only one."""
        return one_line(self.categories[0]) if len(self.categories) == 1 else "mean over categories"

    @cached_property
    def latencies(self) -> Latencies | None:
        """What was measured on the models of the run by `latency`."""
        return latencies_of(self.run)

    def shown(self, category: str) -> tuple[int, dict[str, CellResult | None]]:
        """Return the first seed of which a category has a cell, and its cells by variant; the first seed where all failed."""
        for seed in [*self.seeds, self.seeds[0]]:
            cells = {variant: self.get(variant, category, seed) for variant in self.variants}
            if any(cells.values()):
                break
        return seed, cells

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """The numbers (V, C, S) of each metric, in the order of the catalogue, NaN where undefined; optional ones if defined."""
        values = {name: self.values(name) for name in tabled()}
        return {name: cube for name, cube in values.items() if not metric(name).optional or np.isfinite(cube).any()}

    def values(self, name: str) -> np.ndarray:
        """Return a number of the evaluation, (V, C, S), NaN where undefined."""
        return self.cube(lambda result: result.value(name))

    @cached_property
    def curves(self) -> dict[str, np.ndarray]:
        """The curves (V, C, S, points) on `GRIDS`, NaN where undefined."""
        length = sum(len(grid) for grid in GRIDS.values())
        values = self.cube(_curves, length)
        return dict(zip(GRIDS, np.split(values, np.cumsum([len(grid) for grid in GRIDS.values()])[:-1], axis=-1), strict=True))

    @cached_property
    def scaled(self) -> list[str]:
        """The variants whose threshold axis is scaled on the test set."""
        scaled = {row.variant for row, result in self.done if result.record.scaled}
        return [variant for variant in self.variants if variant in scaled]

    def defects(self, category: str) -> dict[str, int]:
        """Return the defect types of a category and their numbers of images."""
        counts: dict[str, int] = {}
        for row, result in self.done:
            if row.category == category:
                for defect, numbers in result.record.defects.items():
                    counts.setdefault(defect, int(numbers.get("images", 0)))
        return counts

    def tested(self, category: str, variant: int | None = None) -> tuple[int, int]:
        """Return how many test images of a category are defective and how many normal, (0, 0) where no cell is done.

        They are those of one variant, where it is given: under its own conditions it may have fewer.
        """
        among = self.variants if variant is None else [self.variants[variant]]
        items = next((result.record.items for row, result in self.done if row.category == category and row.variant in among), [])
        normal = sum(defect == GOOD for _, defect in items)
        return len(items) - normal, normal

    def groups(self) -> dict[str, list[int]]:
        """Return the indices of the categories of each group; one unnamed group where none is known."""
        known = {row.category: result.record.group for row, result in self.done}
        groups: dict[str, list[int]] = {"textures": [], "objects": [], "other": []}
        for i, category in enumerate(self.categories):
            groups.setdefault(known.get(category) or "other", []).append(i)
        groups = {name: members for name, members in groups.items() if members}
        return {"": list(range(len(self.categories)))} if list(groups) == ["other"] else groups


def _curves(result: CellResult) -> np.ndarray:
    with opened(result) as arrays:
        return np.concatenate([arrays[name] if name in arrays else np.full(len(grid), np.nan) for name, grid in GRIDS.items()])


def _long(run: Run, columns: list[str], entries: Callable[[Row], list[tuple]]) -> pd.DataFrame:
    head = ["method", "variant", "dataset", "category", "seed"]
    rows = [(r.method, r.variant, r.dataset, r.category, r.seed, *entry) for r in run.rows for entry in entries(r)]
    return pd.DataFrame(rows, columns=[*head, *columns])


def results_frame(run: Run) -> pd.DataFrame:
    """Return all numbers in long form, in 0..1; NaN where undefined, and for the metrics of failed cells."""

    def entries(row: Row) -> list[tuple]:
        if row.result is None:
            return [(name, math.nan) for name in tabled()]
        names = dict.fromkeys([*tabled(), *row.result.record.values])
        return [(n, row.result.value(n)) for n in names] + [(n, timing_of(row.result, n)) for n in TIMING]

    return _long(run, ["metric", "value"], entries)


def defects_frame(run: Run) -> pd.DataFrame:
    """Return the numbers of each defect type in long form, in 0..1."""

    def entries(row: Row) -> list[tuple]:
        defects = row.result.record.defects if row.result else {}
        return [(defect, name, value) for defect, numbers in defects.items() for name, value in numbers.items()]

    return _long(run, ["defect", "metric", "value"], entries)
