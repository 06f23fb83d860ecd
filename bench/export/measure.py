"""One measurement of latency, in a process of its own: ``python -c "from anoseg_bench.export.measure import main; main()"``.

It reads what to measure as JSON from stdin, and writes what it saw as JSON to stdout. It imports what it measures and little else,
so that its peak memory is that of a process that does nothing but this.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anoseg_bench.export.formats import FORMATS

#: Calls, at least, before those that count, and of those that do; seconds after which fewer of them must do.
WARM_UP, CALLS, LONGEST = 3, 100, 60.0


def runner(asked: dict[str, Any]) -> Callable[[np.ndarray], Any]:
    """Return what makes decisions of images, uint8 (N, H, W, 3)."""
    if asked["runtime"] != "torch":
        chosen = FORMATS[asked["runtime"]]
        return chosen.open(Path(asked["folder"]) / chosen.files[0], asked["outputs"], asked["threads"])
    import torch

    from anoseg_bench.evaluation.predict import choose_row, load_method
    from anoseg_bench.export.check import reference
    from anoseg_bench.methods import METHODS
    from anoseg_bench.store.pack import open_run

    torch.set_num_threads(asked["threads"])
    for plugin in asked["plugins"]:
        METHODS.match(plugin)
    run = open_run(Path(asked["run"]))
    method, result = load_method(run, choose_row(run, asked["variant"], asked["category"], asked["seed"]), "cpu")
    image_threshold, pixel_threshold = (result.value(n) for n in ("image_threshold_deployable", "threshold_deployable"))

    def decide(images: np.ndarray) -> Any:
        maps, scores = reference(method, list(images))
        return scores >= image_threshold, [map_ >= pixel_threshold for map_ in maps]

    return decide


def peak_mib() -> float:
    """Return the largest memory of this process; elsewhere than on Linux that of the one that started it, if that had more."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def main() -> None:
    """Measure."""
    asked = json.load(sys.stdin)
    images = np.load(asked["images"])
    run = runner(asked)
    began = time.perf_counter()
    for _ in range(WARM_UP):
        run(images)
    one = (time.perf_counter() - began) / WARM_UP
    times: list[float] = []
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < asked["seconds"] or (len(times) < CALLS and spent + one < LONGEST):
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    json.dump({"seconds": times, "peak_mib": peak_mib()}, sys.stdout)
