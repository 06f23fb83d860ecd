"""Whether a run's report is up to date: one that is need not be written again. Imports nothing that draws.

Its note, ``report.json``, is written last and removed first: it names every file with the hash of what it holds, so that no file of
another report, or of one that was cut off, passes for this one's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anoseg_bench.store.cells import CellResult, Run, to_json
from anoseg_bench.store.files import write_atomically
from anoseg_bench.store.latency import FILE as LATENCIES

NOTE = "report.json"
#: The page of a run, and its frames.
PAGE, FRAMES = "report.html", ("results.csv", "defects.csv", "intervals.csv")
#: What a report writes into its folders; such files of an earlier report are deleted.
_KINDS = {"tables": ("*.tex", "*.md", "*.csv"), "plots": ("*.pdf", "*.png"), "maps": ("gallery_*.png",)}
ROOT = Path(__file__).parents[1]


def files_of_report(run: Path) -> set[Path]:
    """Return the files in a run's folder that are a report's by their names, but for its note."""
    top = {run / name for name in (PAGE, *FRAMES) if (run / name).is_file()}
    return top | {path for folder, patterns in _KINDS.items() for pattern in patterns for path in (run / folder).glob(pattern)}


@dataclass
class ReportCache:
    """What is known of the report in a run's folder.

    Attributes
    ----------
    made_from : str
        Hash of all that the report depends on now: results, settings, the code that writes it.
    files : dict of Path to str
        What it wrote, with the hash of what each file held.
    text : str
        What it prints.
    """

    run: Path
    made_from: str
    known: str = ""
    files: dict[Path, str] = field(default_factory=dict)
    text: str = ""

    def is_current(self) -> bool:
        """Return whether the report that is there is the one that would be written."""
        return self.known == self.made_from and all(_content(path) == content for path, content in self.files.items())

    def keep(self, files: list[Path], text: str) -> None:
        """Note a report that was just written."""
        self.known, self.files, self.text = self.made_from, {path: _content(path) for path in files}, text
        contents = {path.relative_to(self.run).as_posix(): content for path, content in self.files.items()}
        write_atomically(self.run / NOTE, to_json({"made_from": self.made_from, "files": contents, "text": text}))

    def remove(self) -> None:
        """Remove the report that is there: of an earlier command, where the last one has nothing to report."""
        files = sorted(files_of_report(self.run))
        for path in [self.run / NOTE, self.run / PAGE, *files]:
            path.unlink(missing_ok=True)
        for folder in sorted({path.parent for path in files} - {self.run}, reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()


def report_cache(run: Run, options: list[Any]) -> ReportCache:
    """Return what is known of the report in a run's folder."""
    cache = ReportCache(run.path, _digest(run, options))
    try:
        known = json.loads((run.path / NOTE).read_text(encoding="utf-8"))
        cache.files = {run.path / name: content for name, content in known["files"].items()}
        cache.known, cache.text = known["made_from"], known["text"]
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):  # none yet, or a damaged note: it is written anew
        cache.known, cache.files = "", {}
    return cache


def _content(path: Path) -> str:
    """Return the hash of a file, "" where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


def _drawn_from(run: Run, cell: CellResult) -> list[Path]:
    """Return the large files of a cell that a report draws from, which are not read to see whether they changed."""
    return [cell.folder / "arrays.npz", run.store.previews(cell.record.content), run.store.shifted_previews(cell.record)]


def _state(path: Path) -> list[int]:
    """Return size and time of change of a file, [] where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _digest(run: Run, options: list[Any]) -> str:
    """Return the hash of all that a report depends on."""
    info = run.info.model_dump(exclude={"command"})
    rows = [
        [r.variant, r.method, r.dataset, r.category, r.seed, r.key, r.error]
        + ([_content(r.result.folder / "cell.json"), *map(_state, _drawn_from(run, r.result))] if r.result else [])
        for r in run.rows
    ]
    latency = _content(run.path / LATENCIES)
    digest = hashlib.sha256(to_json([info, rows, latency, options, shutil.get_terminal_size((120, 24)).columns]).encode())
    code = [*(ROOT / "report").rglob("*.*"), *(ROOT / "metrics").rglob("*.py"), ROOT / "experiments.py"]
    for path in sorted(path for path in code if path.suffix != ".pyc"):
        digest.update(path.read_bytes())
    return digest.hexdigest()
