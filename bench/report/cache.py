"""Whether a run's report is up to date: one that is need not be written again. Imports nothing that draws."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anoseg_bench.store.cells import Run, to_json, write_atomically

NAME = "report.json"
#: The page of a run.
PAGE = "report.html"
ROOT = Path(__file__).parents[1]


@dataclass
class ReportCache:
    """What is known of the report in a run's folder.

    Attributes
    ----------
    made_from : str
        Hash of all that the report depends on now: results, settings, the code that writes it.
    files : list of Path
        What it wrote.
    text : str
        What it prints.
    """

    run: Path
    made_from: str
    known: str = ""
    files: list[Path] = field(default_factory=list)
    text: str = ""

    def is_current(self) -> bool:
        """Return whether the report that is there is the one that would be written."""
        return self.known == self.made_from and all(path.exists() for path in self.files)

    def keep(self, files: list[Path], text: str) -> None:
        """Note a report that was just written."""
        self.known, self.files, self.text = self.made_from, files, text
        names = [path.relative_to(self.run).as_posix() for path in files]
        write_atomically(self.run / NAME, to_json({"made_from": self.made_from, "files": names, "text": text}))

    def remove(self) -> None:
        """Remove the report that is there: of an earlier command, where the last one has nothing to report."""
        for path in [*self.files, self.run / NAME]:
            path.unlink(missing_ok=True)
        for folder in sorted({path.parent for path in self.files} - {self.run}, reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()


def report_cache(run: Run, options: list[Any]) -> ReportCache:
    """Return what is known of the report in a run's folder."""
    cache = ReportCache(run.path, _digest(run, options))
    try:
        known = json.loads((run.path / NAME).read_text(encoding="utf-8"))
        cache.known, cache.text = known["made_from"], known["text"]
        cache.files = [run.path / name for name in known["files"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none yet, or a damaged note: it is written anew
        cache.known = ""
    return cache


def _digest(run: Run, options: list[Any]) -> str:
    """Return the hash of all that a report depends on."""
    info = run.info.model_dump(exclude={"command"})
    rows = [
        [r.variant, r.method, r.dataset, r.category, r.seed, r.key, r.error]
        + ([(r.result.folder / "cell.json").stat().st_mtime_ns] if r.result else [])
        for r in run.rows
    ]
    digest = hashlib.sha256(to_json([info, rows, options, shutil.get_terminal_size((120, 24)).columns]).encode())
    code = [*(ROOT / "report").rglob("*.*"), *(ROOT / "metrics").rglob("*.py"), ROOT / "experiments.py"]
    for path in sorted(path for path in code if path.suffix != ".pyc"):
        digest.update(path.read_bytes())
    return digest.hexdigest()
