"""The store of cells, and runs as manifests of cells.

A cell is a folder ``<store>/<method>-<key>/`` with ``cell.json`` and ``arrays.npz`` (and ``maps/`` or ``model.safetensors`` on
request), written whole or not at all. A run is ``<run>/run.json``, which names the cells it consists of. Reports read nothing
else. What went wrong with a cell is noted in ``<store>/failures/``, who works at one in ``<store>/claims/``. The store lies beside
the runs (``.cells``), or within a run that came from elsewhere (``cells``), see `anoseg_bench.store.pack`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from anoseg_bench.errors import BenchError, UsageError
from anoseg_bench.formatting import named, one_line, shown_path
from anoseg_bench.store.claims import Claim, claimed_cells, latest, left_by
from anoseg_bench.store.files import write_atomically
from anoseg_bench.store.records import OLDEST, SCHEMA, CellRecord, RunRecord

#: The store beside runs, and that within a run of its own.
STORE_NAME, OWN_STORE = ".cells", "cells"
MANIFEST = "run.json"
MODEL = "model.safetensors"


class DamagedError(BenchError):
    """A stored cell is cut short or holds something else."""


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


@dataclass
class CellResult:
    """What a finished cell left behind.

    Attributes
    ----------
    folder : Path
        Where it lies in the store.
    record : CellRecord
        Its ``cell.json``.
    """

    folder: Path
    record: CellRecord

    @property
    def has_maps(self) -> bool:
        """Whether all maps were kept."""
        return (self.folder / "maps").is_dir()

    @property
    def has_model(self) -> bool:
        """Whether what the method learned was kept."""
        return (self.folder / MODEL).is_file()

    @property
    def has_shifts(self) -> bool:
        """Whether there are image scores under the shifts of this version."""
        return self.record.is_shifted

    def satisfies(self, maps: bool, model: bool, shifts: bool) -> bool:
        """Whether it has all that a run asks for: numbers of these metrics, the maps, the model, scores under shifts."""
        complete = (self.has_maps or not maps) and (self.has_model or not model) and (self.has_shifts or not shifts)
        return self.record.is_evaluated and complete

    def can_become(self, model: bool, shifts: bool) -> bool:
        """Whether it can be made to satisfy a run that asks for these without training: by its model, or from its maps."""
        return self.has_model or (self.has_maps and not model and (self.has_shifts or not shifts))

    def value(self, name: str) -> float:
        """Return a number of the evaluation, NaN where it is undefined."""
        return self.record.values.get(name, math.nan)

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """The arrays of an evaluation, ``held_out_score``, ``score/<name>``, ``held_out_score/<name>``, and what follows.

        ``shift/<name>``: the scores of the test images under a shift, (N, strengths). ``map/<i>``: the map of test image i, float16
        or float32, reduced to at most `anoseg_bench.evaluation.cell.THUMBNAIL` px.
        """
        try:
            return np.load(self.folder / "arrays.npz", allow_pickle=False)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise DamagedError(
                f"Expected the arrays of a cell in '{self.folder}', but they cannot be read ({reason}); delete it."
            ) from error


@dataclass(frozen=True)
class Store:
    """The store of cells in one folder."""

    root: Path

    @staticmethod
    def name(method: str, key: str) -> str:
        """Return the name of a cell in the store."""
        return f"{slug(method)}-{key}"

    @property
    def claims(self) -> Path:
        """The folder of the claims."""
        return self.root / "claims"

    def folder(self, method: str, key: str) -> Path:
        """Return the folder of a cell."""
        return self.root / self.name(method, key)

    def get(self, method: str, key: str) -> CellResult | None:
        """Return a finished cell, or None where there is none.

        Raises
        ------
        DamagedError
            If what lies there is no whole cell.
        """
        folder = self.folder(method, key)
        if not os.path.lexists(folder):
            return None
        try:
            record = CellRecord.model_validate_json((folder / "cell.json").read_text(encoding="utf-8"))
            if record.method != method:
                raise ValueError(f"it is of the method '{record.method}'")
            for name, size in record.files.items():
                stored_size = (folder / name).stat().st_size
                if stored_size != size:
                    raise ValueError(f"'{name}' has {stored_size} of {size} bytes")
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DamagedError(f"Expected a stored cell in '{folder}', but it cannot be read ({where}: {first['msg']}).") from error
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DamagedError(f"Expected a stored cell in '{folder}', but it cannot be read ({reason}).") from error
        return CellResult(folder, record)

    def all(self) -> Iterator[CellResult]:
        """Yield the finished cells; what is damaged is passed over."""
        for folder in sorted(self.root.glob("*-*")):
            method, _, key = folder.name.rpartition("-")
            with contextlib.suppress(DamagedError):
                if (result := self.get(method, key)) is not None:
                    yield result

    def set_aside(self, method: str, key: str) -> Path:
        """Move what lies in a cell's place out of the way, and return where to."""
        target = self.root / "set-aside" / f"{self.name(method, key)}-{uuid.uuid4().hex[:8]}"
        target.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another command was quicker
            os.rename(self.folder(method, key), target)
        return target

    @contextlib.contextmanager
    def writing(self, method: str, key: str, claim: Claim | None = None, replace: bool = True) -> Iterator[Path]:
        """Give a temporary folder that becomes the cell's when the block ends well, and vanishes when it does not.

        Anything a stopped process left half-written is removed.

        Parameters
        ----------
        claim : Claim or None
            What the cell is written under.
        replace : bool
            Whether it takes the place of one that is there; else that one stays.

        Raises
        ------
        FencedError
            If the claim is no longer held when the block ends: the result is thrown away.
        """
        name = self.name(method, key)
        if claim:
            claim.check()
            self._clear(name)
        self.root.mkdir(parents=True, exist_ok=True)
        temporary = self.root / f".tmp-{name}-{uuid.uuid4().hex}"
        temporary.mkdir()
        try:
            yield temporary
            for path in sorted(temporary.rglob("*"), reverse=True):
                _sync(path)
            _sync(temporary)
            if claim:
                claim.check()
            self._publish(temporary, self.folder(method, key), replace)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _clear(self, cell: str) -> None:
        """Remove what was half-written of a cell; one that was just giving way to it when the writer ended comes back."""
        for old in self.root.glob(f".tmp-{cell}-*-old"):
            if not (self.root / cell).exists():
                os.rename(old, self.root / cell)
        for left in self.root.glob(f".tmp-{cell}-*"):
            shutil.rmtree(left, ignore_errors=True)

    def recover(self, cell: str) -> None:
        """Do what the writer of a cell had left to do when it ended: release its claim, bring back what was giving way to it."""
        with contextlib.suppress(OSError):  # where the store cannot be written now, a later command does it
            if latest(self.claims, cell)[1] is not None:
                self.abandon(cell)
            elif not (self.root / cell).exists() and any(self.root.glob(f".tmp-{cell}-*-old")):
                self._clear(cell)

    def recover_all(self) -> None:
        """Recover every cell that a writer left claimed or half-replaced."""
        replaced = {
            path.name.removeprefix(".tmp-").removesuffix("-old").rpartition("-")[0] for path in self.root.glob(".tmp-*-old")
        }
        for cell in sorted(replaced | set(claimed_cells(self.claims))):
            self.recover(cell)

    def abandon(self, cell: str, pid: int | None = None) -> None:
        """Release the claim of a process of this machine that ended at work, and clear what it had half-written.

        Parameters
        ----------
        pid : int or None
            That process; None for any.
        """
        claim = left_by(self.claims, cell, pid)
        if claim is not None:
            self._clear(cell)
            claim.unlink(missing_ok=True)

    def _publish(self, temporary: Path, target: Path, replace: bool) -> None:
        """Put a whole cell in its place; where another process was quicker with the same cell, its one stays."""
        aside = temporary.with_name(f"{temporary.name}-old")
        if replace:
            with contextlib.suppress(FileNotFoundError):
                os.rename(target, aside)
        try:
            os.rename(temporary, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                with contextlib.suppress(OSError):
                    os.rename(aside, target)
                raise
            shutil.rmtree(temporary)
        _sync(self.root)
        shutil.rmtree(aside, ignore_errors=True)

    def note_failure(self, cell: str, error: str | None) -> None:
        """Keep why a cell failed, for every run that has it; None when it does no longer."""
        path = self.root / "failures" / f"{cell}.txt"
        if error is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, error + "\n")

    def failure(self, cell: str) -> str | None:
        """Return why the last try of a cell failed; None where none did."""
        try:
            return (self.root / "failures" / f"{cell}.txt").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None

    def previews(self, content: str) -> Path:
        """Return the file with reduced test images of a category: ``image/<i>`` and ``mask/<i>``, uint8."""
        return self.root / "previews" / f"{content}.npz"

    def shifted_previews(self, record: CellRecord) -> Path:
        """Return the file with one test image of a cell, reduced: ``0`` as it is, ``<shift>/<strength>`` under its shifts."""
        return self.root / "previews" / f"{record.content}-shifts{record.shifts.version if record.shifts else 0}.npz"


def _sync(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some shared folders cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def slug(name: str, length: int = 100) -> str:
    """Return a name as a file name of letters, digits, dot, dash, underscore; one of more bytes than `length` ends in its hash."""
    return shortened(re.sub(r"[^\w.-]+", "-", name).strip("-.") or "unnamed", length, of=name)


def shortened(text: str, length: int, of: str = "") -> str:
    """Return text as it is, or, where it has more bytes than `length`, cut and with its own hash, or that `of` another name."""
    if len(text.encode()) <= length:
        return text
    return f"{text.encode()[: length - 20].decode(errors='ignore')}-{hashlib.sha256((of or text).encode()).hexdigest()[:8]}"


@dataclass
class Row:
    """One cell of a run: what was asked for, and what came of it.

    Attributes
    ----------
    variant : str
        The name in tables; differs from `method` for variants of one method.
    key : str
        Of the cell in the store; empty where the category could not be read.
    status : {"waiting", "running", "done", "cached", "skipped", "failed"}
        As the last command that had the row left it; "cached" was stored before.
    error : str
        Why there is no result, in one line.
    """

    variant: str
    method: str
    dataset: str
    category: str
    seed: int
    key: str = ""
    status: str = "waiting"
    error: str = "not run: the command was stopped before"
    result: CellResult | None = None

    @property
    def title(self) -> str:
        """The row in words."""
        return f"{self.category} {self.variant} seed {self.seed}"

    def settle(self, status: str, error: str = "", result: CellResult | None = None) -> None:
        """Note what came of the row."""
        self.status, self.error, self.result = status, error, result


@dataclass
class Run:
    """A run: its folder, how it was asked for, its rows in the order of methods, categories, seeds.

    All rows that were asked for are there from the start, so that a mean never passes for complete when it is not.

    Attributes
    ----------
    info : RunRecord
        How it was asked for.
    """

    path: Path
    info: RunRecord = field(default_factory=RunRecord)
    rows: list[Row] = field(default_factory=list)

    @property
    def manifest(self) -> str:
        """What ``run.json`` holds."""
        names = [f.name for f in fields(Row) if f.name != "result"]
        rows = [{name: getattr(row, name) for name in names} for row in self.rows]
        return to_json({"info": self.info.model_dump(), "cells": rows})

    def save(self) -> None:
        """Write the manifest."""
        write_atomically(self.path / MANIFEST, self.manifest)

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read a run with its cells.

        Raises
        ------
        UsageError
            If the folder holds no run.
        """
        run = cls.asked(path)
        for row in run.rows:
            if row.status == "running":
                row.settle("waiting", "not run to its end: the command was stopped, or is still at it")
            run.refresh(row)
        if run.rows and all("no longer in" in row.error for row in run.rows):
            raise UsageError(
                f"Expected the cells of '{path}' in '{run.store.root}', but none is there. A run's folder does not hold "
                "its cells: where they are, `pack` it into one file, and take that along."
            )
        return run

    @classmethod
    def asked(cls, path: Path) -> Run:
        """Read how a run was asked for, from its manifest alone: its rows are without results.

        Raises
        ------
        UsageError
            If the folder holds no run.
        """
        try:
            manifest = (path / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            packed = ", which `report` unpacks a packed run into" if path.is_file() else ""
            raise UsageError(
                f"Expected a run in '{path}', but there is no {MANIFEST}; give the folder of a run{packed}."
            ) from error
        return cls.read(path, manifest)

    @classmethod
    def read(cls, path: Path, manifest: bytes) -> Run:
        """Return the run that a manifest is of, its rows without results.

        Raises
        ------
        UsageError
            If it is no manifest, or a newer version's.
        """
        try:
            content = json.loads(manifest)
            rows, info = [Row(**cell) for cell in content["cells"]], {"schema_version": OLDEST} | content["info"]
            if info["schema_version"] > SCHEMA:
                raise UsageError(
                    f"The run '{path}' was made by a newer version: its records have form {info['schema_version']}, but this "
                    f"one reads them up to {SCHEMA}; update it."
                )
            return cls(path, RunRecord(**info), rows)
        except (ValueError, KeyError, TypeError) as error:
            why = error if isinstance(error, ValueError) else "its parts are others"
            raise UsageError(f"Expected a run's manifest in '{path / MANIFEST}', but it cannot be read ({why}).") from error

    def replaced(self) -> str | None:
        """Return in words what the folder shows that this run, which is not saved yet, does not; None where that is nothing."""
        try:
            earlier = Run.asked(self.path)
        except UsageError:
            return None
        own = {(row.variant, row.category, row.seed, row.key) for row in self.rows}
        lost = [row for row in earlier.rows if (row.variant, row.category, row.seed, row.key) not in own]
        if not lost:
            return None
        variants, categories, seeds = (
            named(what, [getattr(row, name) for row in earlier.rows])
            for what, name in (("method", "variant"), ("category", "category"), ("seed", "seed"))
        )
        return (
            f"'{shown_path(self.path)}' showed {variants} on {earlier.info.dataset}, {categories}, {seeds}, by the command: "
            f"{one_line(earlier.info.command)}. From now on it shows what this command asks for; the cells stay in the store, and "
            "that command shows them again"
        )

    def refresh(self, row: Row) -> None:
        """Bring a row up to what the store holds: another command, or another shard, may have finished it, or failed."""
        if not row.key:
            return
        if row.status == "skipped":
            row.settle("waiting", row.error)
        try:
            result = self.store.get(row.method, row.key)
        except BenchError as error:
            row.settle("failed", str(error))
            return
        if result is not None:
            row.settle("cached" if row.status == "cached" else "done", "", result)
        elif row.status in ("done", "cached"):
            row.settle("failed", f"its cell is no longer in '{self.store.root}'; run the command again")
        elif why := self.store.failure(self.store.name(row.method, row.key)):
            row.settle("failed", why)

    def log_of(self, row: Row) -> Path:
        """Return the file that a row's worker writes its output to."""
        told_apart = row.key or hashlib.sha256(row.title.encode()).hexdigest()
        return self.path / "logs" / f"{slug(f'{row.variant}-{row.category}')}-{row.seed}-{told_apart[:8]}.log"

    @property
    def store(self) -> Store:
        """The store within the run's folder, or else the one beside it."""
        own = self.path / OWN_STORE
        return Store(own if own.is_dir() else self.path.resolve().parent / STORE_NAME)
