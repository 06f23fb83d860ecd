"""Fixtures shared by the tests: small datasets on disk, the command in this process."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: one core each, as threads that wait for others spin
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from anoseg_bench.methods import METHODS
from tests.helpers import Command, make_category

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background job ignores Ctrl-C, and so would the commands it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("any machine", deadline=None)  # how long an example takes says nothing on a busy one
settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    """Leave what is imported out of every later search for garbage, which takes a fifteenth of the time of tests otherwise."""
    gc.freeze()


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
        monkeypatch.setattr("anoseg_bench.report.plots.write_plots", lambda results, folder: [])


@pytest.fixture(autouse=True)
def few_resamples(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let intervals be made of few resamples, as most tests write reports and do not look at their intervals."""
    if request.node.get_closest_marker("intervals") is None:
        monkeypatch.setattr("anoseg_bench.report.intervals.RESAMPLES", 50)


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, run in an empty folder so that results land there."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("BENCH_DATA_ROOT", raising=False)
    return Command(capsys, work)
