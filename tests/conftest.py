"""Fixtures shared by the tests: small datasets on disk, the command in this process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli import main
from methods import METHODS

if "PYTEST_XDIST_WORKER" in os.environ:  # one core for each process of the suite; threads that wait for others would spin
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background job ignores Ctrl-C, and so would the commands it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def forget_plugins(monkeypatch):
    """What a test registers from files is gone after it."""
    METHODS.names()
    with monkeypatch.context() as patch:
        patch.setattr(METHODS, "_entries", dict(METHODS._entries))
        patch.setattr(METHODS, "_aliases", dict(METHODS._aliases))
        yield
    for name in [name for name in sys.modules if name.startswith("_bench_plugin_")]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images beside the checkout."""
    root = Path(os.environ.get("BENCH_TEST_DATA", REAL))
    if not (root / "mvtec_ad").is_dir():
        pytest.skip(f"no real images in '{root}' (set BENCH_TEST_DATA to their folder)")
    return root


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


@pytest.fixture
def widget(tmp_path: Path) -> Path:
    """A root with one sound category, ``widget``."""
    make_category(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def without_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reports draw no figures, which takes seconds each, but in tests that look at them; and tables have room."""
    monkeypatch.setenv("COLUMNS", "120")
    if request.node.get_closest_marker("figures") is None:
        monkeypatch.setattr("bench.report.plots.write_plots", lambda results, folder: [])


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


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, run in an empty folder so that results land there."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("BENCH_DATA_ROOT", raising=False)
    return Command(capsys, work)
