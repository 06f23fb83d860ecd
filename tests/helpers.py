"""What several test modules use: small datasets and runs made here, the command in this process and in others of its own."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anoseg_bench import IMPORT_PATH
from anoseg_bench.cli import main
from anoseg_bench.datasets.base import Category, Item
from anoseg_bench.evaluation.cell import write_cell
from anoseg_bench.evaluation.maps import Predicted, Stream
from anoseg_bench.metrics import FPR_GRID, RATE_CURVE, RECALL_GRID, VALUE_GRID, tabled
from anoseg_bench.store.cells import Row, Run, to_json
from anoseg_bench.store.claims import claimed_cells, start_of
from anoseg_bench.store.latency import FILE as LATENCIES
from anoseg_bench.store.latency import Latencies, Latency
from anoseg_bench.store.records import Made, Timing

ROOT = Path(__file__).resolve().parents[1]
FAULTY = f"{ROOT / 'tests' / 'faulty.py'}:Faulty"


def checkout_python(code: str, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own that imports this checkout's package."""
    environment = os.environ | {"PYTHONPATH": str(IMPORT_PATH), "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=cwd, env=environment, check=False, capture_output=True, text=True
    )


def save(path: Path, array: np.ndarray) -> Path:
    """Write an image, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def make_category(
    root: Path, name: str = "widget", train: int = 6, good: int = 2, bad: int = 2, size: tuple[int, int] = (40, 48)
) -> Path:
    """Write a small category in the MVTec layout: noise on grey, a bright square as the defect ``spot``."""
    rng = np.random.default_rng(len(name))
    folder = root / name

    def image() -> np.ndarray:
        return rng.integers(90, 110, (*size, 3)).astype(np.uint8)

    for i in range(train):
        save(folder / "train" / "good" / f"{i:03d}.png", image())
    for i in range(good):
        save(folder / "test" / "good" / f"{i:03d}.png", image())
    for i in range(bad):
        picture, mask = image(), np.zeros(size, np.uint8)
        mask[10:20, 12 + i : 24 + i] = 255
        picture[mask > 0] = 230
        save(folder / "test" / "spot" / f"{i:03d}.png", picture)
        save(folder / "ground_truth" / "spot" / f"{i:03d}_mask.png", mask)
    return folder


def nails(angles, centres=None, mark=None, size=128, length=0.35, seed=0):
    """Return pictures, uint8 (N, 3, size, size), of a dark nail with a head, before a bright shaded ground, and where its mark is.

    Angles in radians, centres and lengths as shares of the side; `mark` is a place along the nail, from -1 to 1, that is white.
    """
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    rng, pictures, masks = np.random.default_rng(seed), [], []
    centres = np.full((len(angles), 2), 0.5) if centres is None else centres
    for angle, (cx, cy) in zip(angles, centres, strict=True):
        u = (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)
        v = (y - cy) * math.cos(angle) - (x - cx) * math.sin(angle)
        half_width = np.where(u < -0.85 * length, 0.09, 0.03)
        grey = np.where((abs(u) < length) & (abs(v) < half_width), 70, 140 + 20 * x)
        mask = np.zeros(grey.shape, bool) if mark is None else np.hypot(u - mark * length, v) < 0.025
        grey = np.where(mask, 250, grey) + rng.normal(0, 1.5, grey.shape)
        pictures.append(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[None], 3, 0))
        masks.append(mask)
    return torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(masks))


def anywhere(number, seed=1):
    """Return angles and centres."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 2 * math.pi, number), rng.uniform(0.44, 0.56, (number, 2))


class Command:
    """The command line in this process; keeps the output of the last call."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self.capsys = capsys
        self.folder = folder
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        self.out, self.err = self.capsys.readouterr()
        return code

    def run(self, root: Path, *more: object, methods: str = "pixel_stats") -> int:
        """Run on data in the MVTec layout."""
        return self("--dataset", "mvtec_layout", "--data-root", root, "--methods", methods, "--profile", "demo", *more)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def cells(run: Path) -> list[dict]:
    return json.loads((run / "run.json").read_text())["cells"]


def usage_error(bench, *arguments, **kwargs) -> str:
    code = bench.run(*arguments, **kwargs) if isinstance(arguments[0], Path) else bench(*arguments)
    assert code == 2, (bench.out, bench.err)
    assert bench.err.startswith("error: ") and bench.err.count("\n") == 1
    assert not [*bench.folder.rglob("cell.json")]
    return bench.err


class Place:
    """A folder with data, marks of trainings and results, and commands on it as processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_category(folder / "data")
        self.marks = folder / "marks"
        self.marks.mkdir()
        self.store = folder / "results" / ".cells"
        self.started: list[subprocess.Popen] = []

    def _arguments(self, more: tuple[object, ...], methods: str = "nothing", seconds: float = 0.0, out: str = "r") -> list[str]:
        """Return those of the command on the actions of `methods`; a shard of one writes no report."""
        settings = f"seconds={seconds},marks={self.marks}"
        variants = ",".join(f"{FAULTY}[action={action},{settings},label={action}]" for action in methods.split(","))
        data = ["--dataset", "mvtec_layout", "--data-root", self.folder / "data", "--out", self.folder / "results" / out]
        return [*map(str, [*data, "--methods", variants, "--profile", "demo", "--shard", "1/1", *more])]

    def start(self, *more: object, **options) -> subprocess.Popen:
        """Start the command in a process group of its own."""
        command = [sys.executable, str(ROOT / "run_bench.py"), *self._arguments(more, **options)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        self.started.append(process)
        return process

    def run(self, *more: object, **options) -> tuple[int, str]:
        """Run the command to its end in this process, whose server has imported torch; return exit code and output."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = main(self._arguments(more, **options))
        return code, output.getvalue()

    def cells(self) -> dict[str, dict]:
        """Return the stored cells by action and seed."""
        records = [json.loads(path.read_text()) for path in self.store.glob("Faulty-*/cell.json")]
        return {f"{r['config']['action']}-{r['seed']}": r for r in records}

    def numbers(self) -> dict[str, dict]:
        """Return what may not depend on how the cells were run."""
        return {name: record["values"] for name, record in self.cells().items()}

    def trainings(self) -> dict[str, int]:
        """Return how often each cell began to train."""
        return {path.name: len(path.read_text().splitlines()) for path in self.marks.iterdir()}

    def workers(self, finished: bool = True) -> list[int]:
        """Return the processes that began to train and live, the last one last; without those of stored cells, if so asked."""
        stored = set() if finished else set(self.cells())
        marks = sorted(self.marks.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        pids = [int(line) for path in marks if path.name not in stored for line in path.read_text().splitlines()]
        return [pid for pid in pids if start_of(pid) is not None]

    def rows(self, out: str = "r") -> dict[str, dict]:
        """Return the manifest's rows by variant and seed."""
        cells = json.loads((self.folder / "results" / out / "run.json").read_text())["cells"]
        return {f"{cell['variant']}-{cell['seed']}": cell for cell in cells}

    def left(self) -> list[str]:
        """Return what half-done work lies in the store."""
        return [path.name for path in self.store.glob(".tmp*")] + list(claimed_cells(self.store / "claims"))


def wait_until(condition, seconds: float = 60.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)


SIDE = 40


def images(rng: np.random.Generator, normal: int = 8, bad: int = 10, skill: float = 2.0) -> tuple[list, list, list]:
    """Return maps in 0..1, masks and kinds: two kinds of defects, of other sizes and contrasts."""
    maps, masks, kinds = [], [], []
    for i in range(normal + bad):
        mask = np.zeros((SIDE, SIDE), bool)
        if i >= normal:
            size, (y, x) = rng.integers(3, 12), rng.integers(0, SIDE - 12, 2)
            mask[y : y + size, x : x + size] = True
        kinds.append("good" if i < normal else "ab"[i % 2])
        strength = skill * rng.uniform(0.3, 1.2) * (0.6 if kinds[-1] == "b" else 1)
        maps.append((1 / (1 + np.exp(-(rng.normal(-1, 1, mask.shape) + strength * mask)))).astype(np.float32))
        masks.append(mask)
    return maps, masks, kinds


def halves(masks: list[np.ndarray]) -> list[list[tuple[np.ndarray, int]]]:
    """Return each mask as one region of which half is enough, and no region where nothing is defective."""
    return [[(mask, int(mask.sum()) // 2)] if mask.any() else [] for mask in masks]


def store(run: Run, variant: str, category: str, skill: float, seed: int = 0, peak: float = 0.8) -> None:
    """Store a cell of maps of some skill on images that all variants share; those of held-out images reach `peak`."""
    shared = np.random.default_rng(sum(map(ord, category)))
    _, masks, kinds = images(shared, 8, 8)
    own = np.random.default_rng(sum(map(ord, variant + category)) + 7 * seed)
    maps = [(1 / (1 + np.exp(-(own.normal(-1, 1, mask.shape) + skill * mask)))).astype(np.float32) for mask in masks]
    items = [
        Item(f"test/{i}", kind, lambda: np.zeros((SIDE, SIDE, 3), np.uint8), None if kind == "good" else lambda m=mask: m)
        for i, (kind, mask) in enumerate(zip(kinds, masks, strict=True))
    ]
    shapes = [(SIDE, SIDE)] * len(items)
    test = Predicted(items, shapes, Stream(lambda i: maps[i], len(maps)), np.array([m.max() for m in maps], np.float32))
    good = [own.random((SIDE, SIDE), np.float32) * np.float32(peak) for _ in range(20)]
    held_out = Predicted(
        items[:1] * 20, shapes[:1] * 20, Stream(lambda i: good[i], 20), np.array([m.max() for m in good], np.float32)
    )
    row = Row(variant, variant, "d", category, seed, f"{variant}{category}{seed}".encode().hex()[:20])
    made = Made(
        method=variant,
        dataset="d",
        seed=seed,
        content=category,
        timing=Timing(train_s=100.0, predict_s=1.0, images_per_s_16=50.0),
        config={"image_size": SIDE},
    )
    write_cell(run.store, row.key, Category(category, items[:1], items), made, test, held_out, True)
    row.settle("done", "", run.store.get(row.method, row.key))
    run.rows.append(row)


AT_BOTH = [
    *(f"{n}_{s}" for n in ("iou", "f1", "precision", "recall", "fpr", "normal_fpr") for s in ("oracle", "deployable")),
    *(f"image_{n}_{s}" for n in ("f1", "precision", "recall", "fpr") for s in ("oracle", "deployable")),
    *("iou_width", "iou_width_fpr"),
]


ITEMS = [["test/good/0", "good"], ["test/good/1", "good"], *(["test/hole/" + str(i), "hole"] for i in range(4))]


def add(run: Run, variant: str, category: str, value: float | None, seed: int = 0, **changes) -> None:
    """Add a finished cell of which every metric is `value`; None fails it."""
    row = Row(variant, variant, run.info.dataset, category, seed, key=f"{len(run.rows)}")
    run.rows.append(row)
    if value is None:
        row.error = "out of memory in /some_path"
        return
    maps = {f"map/{i}": np.full((20, 24), 0.2, np.float16) for i in range(len(ITEMS))}
    for i in range(2, len(ITEMS)):
        maps[f"map/{i}"][5:15, 5 : 8 + 2 * i] = 0.9
    arrays = maps | {
        "iou": np.full(len(VALUE_GRID), value),
        "iou_fpr": np.full(len(RATE_CURVE), value),
        "precision": 1 - RECALL_GRID * (1 - value),
        "thresholds_value": VALUE_GRID,
        "fpr": FPR_GRID,
        "roc": FPR_GRID ** (1 - value),
        "pro": FPR_GRID,
        "score": np.array([0.1, 0.3, 0.9, 0.9, 0.9, 0.9]),
        "iou_oracle": np.array([math.nan, math.nan, 0.5, 0.6, 0.7, 0.1]),
    }
    record = {
        "method": variant,
        "config": {"image_size": 64},
        "dataset": run.info.dataset,
        "category": category,
        "group": None,
        "seed": seed,
        "values": dict.fromkeys([*tabled(), *AT_BOTH], value) | {"threshold_oracle": 0.5, "threshold_deployable": 0.7},
        "reasons": {},
        "defects": {"hole": {"images": 4, "pixel_auroc": value, "aupro_0.3": value, "image_auroc": value, "recall_oracle": 0.25}},
        "regions": {"number": 5, "smallest": 3, "median": 40, "largest": 1234},
        "scaled": False,
        "items": ITEMS,
        "content": "same",
        "timing": {"train_s": 12.0, "predict_s": 1.0, "images_per_s_16": 50.0},
        "deviations": None,
        "provenance": {"commit": "abc", "dirty": True, "device_name": "a processor"},
    }
    without = changes.pop("without", ())
    arrays = {name: array for name, array in (arrays | changes.pop("arrays", {})).items() if name not in without}
    record["values"] |= changes.pop("values", {})
    with run.store.writing(row.method, row.key) as folder:
        np.savez_compressed(folder / "arrays.npz", **arrays)
        (folder / "cell.json").write_text(to_json(record | changes), encoding="utf-8")
    row.status, row.result = "done", run.store.get(row.method, row.key)


def store_latencies(run: Run, rows: list[Row]) -> None:
    """Store what `latency` would have measured of rows: in torch 10, 20, ... ms for an image, a fifth less as ONNX."""
    numbers = {"threads": 1, "height": SIDE, "width": SIDE, "calls": 100, "images_per_s": 1.0, "peak_mib": 200.0}
    latencies = [
        Latency(
            **{"cell": row.key, "variant": row.variant, "category": row.category, "runtime": runtime, "folder": "", "batch": batch},
            **dict.fromkeys(("median_ms", "p95_ms", "p99_ms"), (i + 1) * 10 * share * batch),
            **numbers,
        )
        for i, row in enumerate(rows)
        for batch in (1, 8)
        for runtime, share in (("torch", 1.0), ("onnx", 0.8))
    ]
    path = run.path / LATENCIES
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Latencies(machine={"processor": "a processor"}, latencies=tuple(latencies)).model_dump_json())


#: A test that needs a real LaTeX, with siunitx.
LATEX = pytest.mark.skipif(
    not shutil.which("pdflatex") or subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True, check=False).returncode != 0,
    reason="pdflatex or the package siunitx is not installed (texlive-latex-recommended, texlive-science)",
)


def compiled(document: Path) -> str:
    """Compile a LaTeX document in its folder, and return the log."""
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", document.name]
    done = subprocess.run(command, cwd=document.parent, capture_output=True, check=False)
    log = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, log[-2000:]
    return log
