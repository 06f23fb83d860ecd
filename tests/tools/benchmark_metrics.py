"""Speed, memory and values of the metric suite beside scikit-learn, MVTec's own PRO, torchmetrics and anomalib.

    python -m tests.tools.benchmark_metrics          # prints the tables of docs/metrics.md; about five minutes on 2 cores
    python -m tests.tools.benchmark_metrics small    # one of: small, large, bounded, error

Each number is measured in a process of its own, one after the other in one run: seconds are the best of at least `REPEATS`
(small) or one, memory is the peak above what the process held with the maps loaded (Linux). What is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

REPEATS = 3
#: Seconds for which what is short is repeated at least, as other work on the machine comes and goes.
LONG_ENOUGH = 4
#: As many as a cell has that runs alone; the others use one.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
SHOWN = ("pixel_auroc", "pixel_ap", "aupro_0.3", "aupimo")


class Maps:
    """Maps with round defects in three of four images, made one at a time from their number; what they score is normal noise."""

    def __init__(self, number: int, size: int, masks: bool = False) -> None:
        self.number, self.size, self.masks = number, size, masks

    def __iter__(self):
        y, x = np.ogrid[: self.size, : self.size]
        for i in range(self.number):
            rng = np.random.default_rng(i)
            mask = np.zeros((self.size, self.size), bool)
            for _ in range(i % 4):
                (cy, cx), radius = rng.integers(0, self.size, 2), rng.integers(self.size // 40, self.size // 7)
                mask |= (y - cy) ** 2 + (x - cx) ** 2 < radius**2
            if self.masks:
                yield mask
            else:
                scores = rng.standard_normal(mask.shape, np.float32)
                scores[mask] += np.float32(1.5)
                yield scores


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    """Return all pixels."""
    return np.concatenate([a.ravel() for a in arrays])


def ours(maps, masks, **options) -> dict[str, float]:
    """All numbers of the suite, with defect types and held-out maps."""
    from anoseg_bench.metrics import evaluate

    kinds = ["a", "b", "c", "d"] * (len(maps) // 4) + ["a"] * (len(maps) % 4) if isinstance(maps, list) else None
    held_out = maps[:8] if isinstance(maps, list) else Maps(8, maps.size)
    return evaluate(maps, masks, normal_maps=held_out, defects=kinds, threads=THREADS, **options).values


def sklearn_auroc(maps, masks) -> dict[str, float]:
    """Area under ROC of scikit-learn."""
    from sklearn.metrics import roc_auc_score

    return {"pixel_auroc": roc_auc_score(flat(masks), flat(maps))}


def sklearn_ap(maps, masks) -> dict[str, float]:
    """Average precision of scikit-learn."""
    from sklearn.metrics import average_precision_score

    return {"pixel_ap": average_precision_score(flat(masks), flat(maps))}


def mvtec_pro(maps, masks) -> dict[str, float]:
    """The sort-based reference: MVTec's code, as pyaupro carries it, and its area."""
    from pyaupro._reference import compute_pro

    fpr, pro = compute_pro(np.stack(maps), np.stack(masks).astype(np.uint8))
    inside = fpr <= 0.3
    x, y = np.append(fpr[inside], 0.3), np.append(pro[inside], np.interp(0.3, fpr, pro))
    return {"aupro_0.3": float(np.trapezoid(y, x) / 0.3)}


def torchmetrics_auroc_ap(maps, masks) -> dict[str, float]:
    """Exact AUROC and AP of torchmetrics; its AUROC needs scores that it does not take for logits."""
    import torch
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    scores = torch.from_numpy(flat(maps))
    scores = (scores - scores.min()) / (scores.max() - scores.min())
    labels = torch.from_numpy(flat(masks).astype(np.int64))
    return {"pixel_auroc": float(binary_auroc(scores, labels)), "pixel_ap": float(binary_average_precision(scores, labels))}


def anomalib_aupro(maps, masks) -> dict[str, float]:
    """AUPRO of anomalib."""
    import torch
    from anomalib.metrics.aupro import _AUPRO

    metric = _AUPRO()
    metric.update(torch.from_numpy(np.stack(maps)), torch.from_numpy(np.stack(masks)).int())
    return {"aupro_0.3": float(metric.compute())}


def anomalib_aupimo(maps, masks) -> dict[str, float]:
    """AUPIMO of anomalib, with its 300,000 thresholds."""
    import torch
    from anomalib.metrics.pimo.functional import aupimo_scores

    *_, classes, areas, _ = aupimo_scores(torch.from_numpy(np.stack(maps)), torch.from_numpy(np.stack(masks)))
    return {"aupimo": float(areas[classes == 1].mean())}


#: What is compared, the package it needs, and how it is called in the table.
OTHERS: dict[str, tuple[Callable, str, str]] = {
    "sklearn_auroc": (sklearn_auroc, "sklearn", "scikit-learn, AUROC"),
    "sklearn_ap": (sklearn_ap, "sklearn", "scikit-learn, AP"),
    "mvtec_pro": (mvtec_pro, "pyaupro", "MVTec's PRO (pyaupro)"),
    "torchmetrics": (torchmetrics_auroc_ap, "torchmetrics", "torchmetrics, AUROC and AP"),
    "anomalib_aupro": (anomalib_aupro, "anomalib", "anomalib, AUPRO"),
    "anomalib_aupimo": (anomalib_aupimo, "anomalib", "anomalib, AUPIMO"),
}
REFERENCES = ("sklearn_auroc", "sklearn_ap", "mvtec_pro")


def memory(key: str) -> float:
    """Return VmRSS or VmHWM of this process in MB, NaN where there is no /proc."""
    try:
        line = re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    except OSError:
        line = None
    return int(line[1]) / 1024 if line else float("nan")


def measure(job: str, number: int, size: int, repeats: int) -> None:
    """Run one job in this process, and print seconds, peak memory and values as JSON."""
    lazy = job.startswith("bounded")
    maps, masks = Maps(number, size), Maps(number, size, True)
    if not lazy:
        maps, masks = list(maps), list(masks)
    function = OTHERS[job][0] if job in OTHERS else ours
    options = {"memory": 1} if lazy else {}
    function(list(Maps(5, 330)), list(Maps(5, 330, True)))  # imports, and what is made once
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    before, seconds = memory("VmRSS"), []
    while len(seconds) < repeats or sum(seconds) < LONG_ENOUGH:
        began = time.perf_counter()
        values = function(maps, masks, **options)
        seconds.append(time.perf_counter() - began)
    peak = memory("VmHWM") - before
    shown = {name: float(values[name]) for name in SHOWN if name in values}
    print(json.dumps({"seconds": min(seconds), "peak": peak, "values": shown}))


def run(job: str, number: int, size: int, repeats: int = 1) -> dict | None:
    """Measure a job in a process of its own; None where its package is missing."""
    if job in OTHERS and importlib.util.find_spec(OTHERS[job][1]) is None:
        return None
    command = [sys.executable, "-m", "tests.tools.benchmark_metrics", "--job", job, str(number), str(size), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(header: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    from tabulate import tabulate

    print(tabulate(rows, header, "pipe", disable_numparse=True, colalign=["left"] + ["right"] * (len(header) - 1)), flush=True)
    print()


def comparison(number: int, size: int, repeats: int) -> None:
    """Print all packages on the same maps."""
    jobs = {"ours": run("ours", number, size, repeats)} | {job: run(job, number, size, repeats) for job in OTHERS}
    own = jobs["ours"]
    assert own is not None
    rows = []
    for job, one in jobs.items():
        name = f"this suite, all numbers, exact, {THREADS} threads" if job == "ours" else OTHERS[job][2]
        if one is None:
            rows.append([name, "not installed", *[""] * (len(SHOWN) + 2)])
            continue
        values = [f"{one['values'][n]:.7f}" if n in one["values"] else "" for n in SHOWN]
        rows.append([name, f"{one['seconds']:.2f}", f"{one['seconds'] / own['seconds']:.1f}", f"{one['peak']:,.0f}", *values])
    together = sum(jobs[job]["seconds"] for job in REFERENCES if jobs[job])  # type: ignore[index]
    rows.append(["scikit-learn + MVTec's PRO", f"{together:.2f}", f"{together / own['seconds']:.1f}", *[""] * 5])
    print(f"**{number} maps of {size}x{size}, {number * size**2:,} pixels, exact**\n")
    table(["", "seconds", "ratio", "peak MB", "AUROC", "AP", "AUPRO@0.3", "AUPIMO"], rows)


def bounded() -> None:
    """Print bounded mode on few and on many images."""
    rows = []
    for job, number in (("ours", 40), ("bounded", 40), ("bounded", 400)):
        one = run(job, number, 1024)
        assert one is not None
        values = [f"{one['values'][n]:.7f}" for n in SHOWN]
        name = "exact" if job == "ours" else "bounded"
        rows.append([f"{name}, {number} maps", f"{number * 1024**2:,}", f"{one['seconds']:.1f}", f"{one['peak']:,.0f}", *values])
    print("**Maps of 1024x1024; in bounded mode made anew for each pass, which the seconds include**\n")
    table(["", "pixels", "seconds", "peak MB", "AUROC", "AP", "AUPRO@0.3", "AUPIMO"], rows)


SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "light tails (normal)": lambda m: m,
    "heavy tails (exp(6 abs x))": lambda m: np.sign(m) * np.exp(6 * np.abs(m)),
    "saturated (sigmoid)": lambda m: 1 / (1 + np.exp(-12 * (m - 1))),
    "ties (steps of a third)": lambda m: np.round(3 * m) / 3,
}


def error() -> None:
    """Print how far bounded mode is from exact mode."""
    from anoseg_bench.metrics import evaluate, tabled

    maps, masks = list(Maps(40, 256)), list(Maps(40, 256, True))
    rows = []
    for name, function in SCORES.items():
        scores = [function(m.astype(np.float64)).astype(np.float32) for m in maps]
        exact, near = (evaluate(scores, masks, memory=m).values for m in (None, 1))
        off = {n: abs(exact[n] - near[n]) for n in tabled() if np.isfinite(exact[n])}
        worst = max(off, key=lambda n: off[n])
        rows.append([name, f"{off[worst]:.1e}", worst, *(f"{off[n]:.1e}" for n in ("pixel_auroc", "aupro_0.3", "iou_max"))])
    print("**Bounded against exact, 40 maps of 256x256: absolute difference**\n")
    table(["scores", "largest of all metrics", "of", "AUROC", "AUPRO@0.3", "IoU-max"], rows)


PARTS = {"small": lambda: comparison(83, 256, REPEATS), "large": lambda: comparison(83, 900, 1), "bounded": bounded, "error": error}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        measure(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        for part in sys.argv[1:] or PARTS:
            PARTS[part]()
