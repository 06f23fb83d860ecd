"""What `latency` measured on a run's models, beside the run: written by that command, shown by reports."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from anoseg_bench.store.cells import Run
from anoseg_bench.store.records import Record

NAME = "latency"
#: Within a run's folder.
FILE = f"{NAME}/{NAME}.json"


class Latency(Record):
    """A measurement.

    Attributes
    ----------
    cell : str
        Key of the row that it is of.
    variant, category : str
        Of that row.
    runtime : str
        ``"torch"`` for the harness, else the format of an exported model.
    folder : str
        Of the exported model; "" for the harness.
    threads, batch : int
        Images at once.
    height, width : int
        Of the images.
    calls : int
        That count.
    median_ms, p95_ms, p99_ms : float
        Milliseconds of a call, of all its images together.
    images_per_s : float
        Over all calls.
    peak_mib : float
        Largest memory of the process, with the interpreter and all that it imports.
    """

    cell: str
    variant: str
    category: str
    runtime: str
    folder: str
    threads: int
    batch: int
    height: int
    width: int
    calls: int
    median_ms: float
    p95_ms: float
    p99_ms: float
    images_per_s: float
    peak_mib: float


class Latencies(Record):
    """Measurements made by one command.

    Attributes
    ----------
    machine : dict
        ``processor``, ``load_before``, ``versions`` and others of what they were made on.
    latencies : tuple of Latency
    """

    machine: dict[str, Any]
    latencies: tuple[Latency, ...]

    @property
    def of_single_images(self) -> tuple[Latency, ...]:
        """Those of one image at a time, with the fewest threads of them."""
        single = [latency for latency in self.latencies if latency.batch == 1]
        fewest = min((latency.threads for latency in single), default=1)
        return tuple(latency for latency in single if latency.threads == fewest)


def latencies_of(run: Run) -> Latencies | None:
    """Return what was measured on the models that a run shows, under its names; None where that is nothing, or `why_unread`."""
    found = _read(run)
    if not isinstance(found, Latencies):
        return None
    names = {row.key: row.variant for row in reversed(run.rows) if row.result}
    own = (latency for latency in found.latencies if latency.cell in names)
    kept = tuple(latency.model_copy(update={"variant": names[latency.cell]}) for latency in own)
    return found.model_copy(update={"latencies": kept}) if kept else None


def why_unread(run: Run) -> str:
    """Return why measurements that are there cannot be shown, in a line; "" where they can, or there are none."""
    found = _read(run)
    return found if isinstance(found, str) else ""


def _read(run: Run) -> Latencies | str | None:
    path = run.path / FILE
    try:
        return Latencies.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError):
        return f"no latencies are shown, as '{path}' is damaged; measure again by `latency`, or delete it"
