"""The store of cells, and runs as manifests of cells.

A cell is a folder ``<store>/<method>-<key>/`` with ``cell.json`` and ``arrays.npz`` (and ``maps/`` on request), written
whole or not at all. A run is ``<run>/run.json``, which names the cells it consists of. Reports read nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError, UsageError

STORE_NAME = ".cells"
MANIFEST = "run.json"


def to_json(value: Any) -> str:
    """Return readable JSON; NaN becomes null."""

    def clean(v: Any) -> Any:
        if isinstance(v, Mapping):
            return {str(k): clean(x) for k, x in v.items()}
        if isinstance(v, (list, tuple)):
            return [clean(x) for x in v]
        if isinstance(v, np.generic):
            return clean(v.item())
        return None if isinstance(v, float) and not math.isfinite(v) else v

    return json.dumps(clean(value), indent=1, sort_keys=True, allow_nan=False, default=str) + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@dataclass
class CellResult:
    """What a finished cell left behind.

    Attributes
    ----------
    folder : Path
        Where it lies in the store.
    record : dict
        ``cell.json``: ``method``, ``config``, ``dataset``, ``category``, ``group``, ``seed``, ``values``, ``reasons``,
        ``defects``, ``scaled``, ``images`` (counts), ``items`` (names and defect types of the test images),
        ``content``, ``timing``, ``training_curve``, ``deviations``, ``provenance``.
    """

    folder: Path
    record: dict[str, Any]

    def value(self, name: str) -> float:
        """Return a number of the evaluation, NaN where it is undefined."""
        value = self.record["values"].get(name)
        return math.nan if value is None else float(value)

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """The arrays of an evaluation, ``held_out_score``, ``score/<name>``, ``held_out_score/<name>`` and ``map/<i>``.

        ``map/<i>`` is the map of test image i, float16 or float32, reduced to at most `bench.cell.THUMBNAIL` px.
        """
        return np.load(self.folder / "arrays.npz", allow_pickle=False)


@dataclass(frozen=True)
class Store:
    """The store of cells in one folder."""

    root: Path

    def folder(self, method: str, key: str) -> Path:
        """Return the folder of a cell."""
        return self.root / f"{slug(method)}-{key}"

    def get(self, method: str, key: str) -> CellResult | None:
        """Return a finished cell, or None where there is none."""
        folder = self.folder(method, key)
        try:
            record = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise BenchError(
                f"Expected a stored cell, but '{folder}/cell.json' cannot be read ({error}); delete the folder."
            ) from error
        return CellResult(folder, record)

    @contextlib.contextmanager
    def writing(self, method: str, key: str) -> Iterator[Path]:
        """Give a temporary folder that becomes the cell's when the block ends well, and vanishes when it does not."""
        self.root.mkdir(parents=True, exist_ok=True)
        temporary = self.root / f".tmp-{uuid.uuid4().hex}"
        temporary.mkdir()
        try:
            yield temporary
            self._publish(temporary, self.folder(method, key))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _publish(self, temporary: Path, target: Path) -> None:
        """Put a whole cell in its place; where another process was quicker with the same cell, its one stays."""
        aside = self.root / f".tmp-{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, aside)
        try:
            os.rename(temporary, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(temporary)
        shutil.rmtree(aside, ignore_errors=True)

    def previews(self, content: str) -> Path:
        """Return the file with reduced test images of a category: ``image/<i>`` and ``mask/<i>``, uint8."""
        return self.root / "previews" / f"{content}.npz"


def slug(name: str) -> str:
    """Return a name as a file name: letters, digits, dot, dash, underscore."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "unnamed"


@dataclass
class Row:
    """One cell of a run: what was asked for, and what came of it.

    Attributes
    ----------
    variant : str
        The name in tables; differs from `method` for variants of one method.
    status : {"done", "cached", "failed"}
        `result` is None for "failed", and `error` says why in one line (also for what was not reached).
    """

    variant: str
    method: str
    dataset: str
    category: str
    seed: int
    key: str = ""
    status: str = "failed"
    error: str = "not run: the command was stopped before"
    result: CellResult | None = None


@dataclass
class Run:
    """A run: its folder, how it was asked for, its rows in the order of methods, categories, seeds.

    All rows that were asked for are there from the start, so that a mean never passes for complete when it is not.

    Attributes
    ----------
    info : dict
        ``command``, ``profile``, ``dataset``, ``holdout``, ``seeds``, ``device``, ``commit``, ``synthetic``, ``excluded``.
    """

    path: Path
    info: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def save(self) -> None:
        """Write the manifest."""
        rows = [{k: v for k, v in asdict(row).items() if k != "result"} for row in self.rows]
        write_atomically(self.path / MANIFEST, to_json({"info": self.info, "cells": rows}))

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read a run with its cells.

        Raises
        ------
        UsageError
            If the folder holds no run.
        """
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            rows = [Row(**cell) for cell in manifest["cells"]]
            run = cls(path, {"profile": "unknown", "synthetic": False, **manifest["info"]}, rows)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UsageError(f"Expected a run in '{path}', but there is no {MANIFEST}; give the folder of a run.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"Expected a run's manifest in '{path / MANIFEST}', but it cannot be read ({error}).") from error
        for row in rows:
            try:
                row.result = run.store.get(row.method, row.key) if row.key else None
            except BenchError as error:
                row.status, row.error = "failed", str(error)
            if row.result is None and row.status != "failed":
                row.status, row.error = "failed", f"its cell is no longer in '{run.store.root}'; run the command again"
        if rows and all("no longer in" in row.error for row in rows):
            raise UsageError(f"Expected the cells of '{path}' in '{run.store.root}', but none is there; was the run moved?")
        return run

    @property
    def store(self) -> Store:
        """The store beside the run."""
        return Store(self.path.resolve().parent / STORE_NAME)
