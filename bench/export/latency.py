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
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from anoseg_bench import IMPORT_PATH
from anoseg_bench.errors import BenchError, UsageError
from anoseg_bench.export.formats import FORMATS
from anoseg_bench.export.write import open_model
from anoseg_bench.formatting import counted
from anoseg_bench.report.latency import latency_figure, latency_table
from anoseg_bench.report.plots import STYLE, save
from anoseg_bench.report.results import Results
from anoseg_bench.store.cells import Row, Run, to_json
from anoseg_bench.store.files import put_in_place, staged, write_file
from anoseg_bench.store.latency import NAME, Latencies, Latency
from anoseg_bench.store.provenance import provenance

#: Variables that hold how many threads libraries take.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


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
                    cell=row.key,
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


def write_latency(results: Results, measured: Latencies, out: Path) -> list[Path]:
    """Write ``latency.csv``, ``.json``, ``.md``, ``.tex`` and the figure into a folder together, and return them."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Latency.model_fields)
    table.writerows([latency.model_dump().values() for latency in measured.latencies])
    with staged(out, NAME) as aside:
        latency_table(results, measured).write(aside)
        write_file(aside / f"{NAME}.csv", text.getvalue())
        write_file(aside / f"{NAME}.json", to_json(measured.model_dump()))
        with matplotlib.rc_context(STYLE):
            if figure := latency_figure(results, measured):
                save(figure, aside, NAME)
        return put_in_place(aside, out)
