"""How long it takes from a picture in memory to a decision: by the harness in torch, and by exported models in their runtimes."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from anoseg_bench import IMPORT_PATH
from anoseg_bench.errors import BenchError, UsageError
from anoseg_bench.export.formats import FORMATS
from anoseg_bench.export.write import open_model
from anoseg_bench.formatting import counted, one_line
from anoseg_bench.metrics import metric
from anoseg_bench.report.plots import COLOURS, MARKERS, STYLE, axes, legend, save, title_of
from anoseg_bench.report.render import Line, Table, TableCell
from anoseg_bench.report.results import Results
from anoseg_bench.store.cells import Row, Run, to_json
from anoseg_bench.store.files import put_in_place, staged, write_file
from anoseg_bench.store.provenance import provenance

NAME = "latency"
#: What the figure shows over the latency.
QUALITY = "iou_max"
#: How many times the smallest latency the largest may be on a linear axis.
FAR = 8
#: Variables that hold how many threads libraries take.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Latency:
    """A measurement.

    Attributes
    ----------
    variant, category : str
        Of the row.
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


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_numbers(text: str, option: str, words: dict[str, int]) -> list[int]:
    """Return positive whole numbers, separated by commas, each once; some words stand for one.

    Raises
    ------
    UsageError
        If there is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = [words[part] if part in words else int(part) if part.isdecimal() else 0 for part in parts]
    if not all(0 < number <= 4096 for number in numbers):
        known = "".join(f" or {word}" for word in words)
        raise UsageError(f"Expected whole numbers from 1{known} in {option}, separated by commas, but got '{text}'.")
    return list(dict.fromkeys(numbers))


def exported_models(run: Run, rows: Sequence[Row], folders: Sequence[Path]) -> dict[str, list[tuple[Path, dict[str, Any]]]]:
    """Return exported models, with what is known of each, by the key of the row that they are of.

    Raises
    ------
    UsageError
        If one cannot be used, or is of no such row.
    """
    models: dict[str, list[tuple[Path, dict[str, Any]]]] = {row.key: [] for row in rows}
    for folder in folders:
        about = open_model(folder)
        if about.get("cell") not in models:
            whose = f"{about['dataset']['category']} {about['variant']} seed {about['seed']}"
            raise UsageError(f"'{folder}' is of {whose}, which is none of the models of '{run.path}' that are measured.")
        models[about["cell"]].append((folder, about))
    return models


def measure(asked: dict[str, Any], images: np.ndarray) -> dict[str, Any]:
    """Measure in a process of its own, and return what it saw.

    Raises
    ------
    BenchError
        If it failed.
    """
    environment = os.environ | dict.fromkeys(_THREADS, str(asked["threads"])) | {"PYTHONPATH": str(IMPORT_PATH)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, images)
        done = subprocess.run(
            [sys.executable, "-c", "from anoseg_bench.export.measure import main; main()"],
            input=json.dumps(asked | {"images": str(path)}),
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise BenchError(f"{asked['runtime']} with {counted(asked['threads'], 'thread')} could not be measured: {reason}")
    return json.loads(done.stdout)


def measure_all(
    run: Run,
    rows: Sequence[Row],
    models: dict[str, list[tuple[Path, dict[str, Any]]]],
    image: np.ndarray,
    threads: Sequence[int],
    batch: Sequence[int],
    seconds: float,
    plugins: Sequence[str],
    tell: Callable[[str], None],
) -> list[Latency]:
    """Measure each row by the harness and by its exported models, with each number of threads and of images at once."""
    found = []
    for row, number, together in itertools.product(rows, threads, batch):
        images = np.repeat(image[None], together, 0)
        whose = {"run": str(run.path), "variant": row.variant, "category": row.category, "seed": row.seed, "plugins": list(plugins)}
        ways = [("", {"runtime": "torch"} | whose)]
        ways += [
            (str(folder), {"runtime": about["format"], "folder": str(folder), "outputs": list(about["outputs"])})
            for folder, about in models[row.key]
        ]
        for folder, way in ways:
            seen = measure(way | {"threads": number, "seconds": seconds}, images)
            times = 1000 * np.array(seen["seconds"])
            median, p95, p99 = (float(np.percentile(times, q)) for q in (50, 95, 99))
            found.append(
                Latency(
                    variant=row.variant,
                    category=row.category,
                    runtime=str(way["runtime"]),
                    folder=folder,
                    threads=number,
                    batch=together,
                    height=image.shape[0],
                    width=image.shape[1],
                    calls=len(times),
                    median_ms=median,
                    p95_ms=p95,
                    p99_ms=p99,
                    images_per_s=1000 * together * len(times) / float(times.sum()),
                    peak_mib=seen["peak_mib"],
                )
            )
            tell(f"{row.title}, {way['runtime']}, {counted(number, 'thread')}, batch {together}: {median:.1f} ms")
    return found


def machine() -> dict[str, Any]:
    """Return what the measurements were made on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    runtimes = [chosen.runtime for chosen in FORMATS.values()]
    here = provenance("cpu")
    versions = here.versions | {name: version for name in runtimes if (version := _version(name))}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    vectors = [flag for flag in flags if flag.startswith(("sse4", "avx", "fma", "amx"))]
    about = {"processor": here.device_name, "cores": cores(), "vector_instructions": vectors, "platform": platform.platform()}
    return about | {"load_before": load, "versions": versions, "commit": here.revision}


def _version(name: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def latency_table(found: Sequence[Latency], about: dict[str, Any]) -> Table:
    """Return the measurements as a table."""
    several = len({latency.folder for latency in found}) > len({(latency.variant, latency.runtime) for latency in found})
    lines = []
    for latency in found:
        name = f"{latency.runtime} ({latency.folder})" if several and latency.folder else latency.runtime
        numbers = [f"{value:.1f}" for value in (latency.median_ms, latency.p95_ms, latency.p99_ms, latency.images_per_s)]
        texts = [latency.variant, name, str(latency.threads), str(latency.batch), *numbers, f"{latency.peak_mib:.0f}"]
        lines.append(Line([TableCell(one_line(text)) for text in texts]))
    header = [
        "method",
        "runtime",
        "threads",
        "batch",
        "median (ms)",
        "95th percentile",
        "99th percentile",
        "images/s",
        "peak memory (MiB)",
    ]
    first = found[0]
    load = "" if about["load_before"] is None else f" (load {about['load_before']:.1f} when it began)"
    note = (
        f"From an image of {first.width}x{first.height} px in memory to map, score and decision; milliseconds of a call; each line "
        f"in a process of its own on {one_line(about['processor'])}{load}, {min(latency.calls for latency in found)} calls at "
        "least."
    )
    return Table(NAME, f"Latency on {one_line(first.category)}", header, lines, [note])


def latency_figure(run: Run, rows: Sequence[Row], found: Sequence[Latency], folder: Path) -> list[Path]:
    """Draw quality over the latency of single images, with the fewest threads; return the files, none without single images."""
    threads = min(latency.threads for latency in found)
    shown = [latency for latency in found if latency.batch == 1 and latency.threads == threads]
    results = Results(Run(run.path, run.info, list(rows)))
    numbers = dict(zip(results.variants, results.numbers(QUALITY, [0]), strict=True))
    runtimes = list(dict.fromkeys(latency.runtime for latency in shown))
    if not shown:
        return []
    what = f"{metric(QUALITY).title} over latency, {rows[0].category}, batch 1, {counted(threads, 'thread')}"
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(title_of(results, what, 3.3), "median latency (ms)", metric(QUALITY).title)
        for latency in shown:
            number, colour = numbers[latency.variant], COLOURS[results.variants.index(latency.variant) % len(COLOURS)]
            marker = MARKERS[runtimes.index(latency.runtime) % len(MARKERS)]
            below, above = number.reach
            ax.errorbar(
                latency.median_ms, number.mean, [[below], [above]], color=colour, marker=marker, markersize=4.5, elinewidth=0.6
            )
        if max(latency.median_ms for latency in shown) > FAR * min(latency.median_ms for latency in shown):
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            ax.xaxis.set_minor_formatter(NullFormatter())
        else:
            ax.set_xlim(0)
        handles = [Line2D([], [], color=COLOURS[i % len(COLOURS)], lw=2) for i in range(len(results.variants))]
        handles += [Line2D([], [], color="#555555", marker=MARKERS[i % len(MARKERS)], ls="") for i in range(len(runtimes))]
        legend(figure, handles, [*results.titles, *runtimes])
        return save(figure, folder, NAME)


def write_latency(run: Run, rows: Sequence[Row], found: Sequence[Latency], about: dict[str, Any], out: Path) -> list[Path]:
    """Write ``latency.csv``, ``.json``, ``.md``, ``.tex`` and the figure into a folder together, and return them."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in fields(Latency)])
    table.writerows([asdict(latency).values() for latency in found])
    with staged(out, NAME) as aside:
        latency_table(found, about).write(aside)
        write_file(aside / f"{NAME}.csv", text.getvalue())
        write_file(aside / f"{NAME}.json", to_json({"machine": about, "latencies": [asdict(latency) for latency in found]}))
        latency_figure(run, rows, found, aside)
        return put_in_place(aside, out)
