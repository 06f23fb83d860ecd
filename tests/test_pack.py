"""Runs in one file: what goes with them, that they read elsewhere as they did at home, and what is refused."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from anoseg_bench import load_run
from anoseg_bench.cli import main
from anoseg_bench.store import files
from anoseg_bench.store.cells import Run
from anoseg_bench.store.pack import unpack
from anoseg_bench.store.records import SCHEMA
from tests.helpers import make_category, store_latencies
from tests.test_output import FULL


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with images, and a run of two methods on them, without a report."""
    folder = tmp_path_factory.mktemp("made")
    data = (
        "--dataset",
        "mvtec_layout",
        "--data-root",
        str(make_category(folder / "data").parent),
        "--methods",
        "pixel_stats,random",
    )
    keep = ("--keep-models", "--save-maps", "--workers", "0", "--shard", "1/1", "-q")
    assert main([*data, "--profile", "demo", "--out", str(folder / "results" / "r"), *keep]) == 0
    return folder


@pytest.fixture
def ran(bench, made, request, monkeypatch):
    """The command, after that run; its reports draw no galleries but where they are looked at."""
    shutil.copytree(made / "results", "results")
    if request.node.get_closest_marker("figures") is None:
        monkeypatch.setattr("anoseg_bench.report.compose.write_gallery", lambda *given: [])
    monkeypatch.setattr("anoseg_bench.report.plots.write_plots", lambda results, folder: [])
    return bench


def tables(run: Path) -> dict[str, bytes]:
    paths = [*(run / "tables").iterdir(), *run.glob("*.csv"), *(run / "maps").glob("*.png")]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in paths}


def names(path: Path) -> list[str]:
    with ZipFile(path) as archive:
        return archive.namelist()


def changed(source: Path, target: Path, change) -> Path:
    """Write a packed run again, with what `change` makes of its contents by name."""
    with ZipFile(source) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with ZipFile(target, "w") as archive:
        for name, data in change(content).items():
            archive.writestr(name, data)
    return target


def refused(bench, *arguments, left: str = "elsewhere") -> str:
    """Return the one line that a command ends with, exit code 2, which leaves nothing behind."""
    before = sorted(Path(left).rglob("*"))
    assert bench(*arguments) == 2, (bench.out, bench.err)
    assert bench.err.startswith("error: ") and bench.err.count("\n") == 1
    assert sorted(Path(left).rglob("*")) == before
    return bench.err


@pytest.mark.figures
def test_a_packed_run_gives_the_same_tables_elsewhere(ran, tmp_path):
    run = Run.load(Path("results/r"))
    store_latencies(run, run.rows[:1])
    assert ran("report", "results/r") == 0
    before = tables(Path("results/r"))
    assert "maps/gallery_widget.png" in before and {"tables/all.tex", "tables/latency.md"} <= before.keys()
    assert ran("pack", "results/r") == 0 and "2 cells" in ran.out
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move("results/r.zip", elsewhere / "r.zip")
    shutil.rmtree("results")
    assert ran("report", elsewhere / "r.zip") == 0, ran.err
    assert tables(elsewhere / "r") == before
    unpack(elsewhere / "r.zip", elsewhere / "r")  # which holds it already
    assert ran("status", elsewhere / "r.zip") == 0 and "2 done" in ran.out
    shutil.copytree(elsewhere / "r", tmp_path / "copy")  # a folder that holds its cells travels as well
    shutil.rmtree(elsewhere)
    assert len(load_run(tmp_path / "copy").done) == 2


def test_a_run_folder_without_its_cells_says_how_runs_travel(ran, tmp_path):
    shutil.copytree("results/r", tmp_path / "copy")
    assert "`pack` it into one file" in refused(ran, "report", tmp_path / "copy", left=str(tmp_path / "copy"))


def test_a_run_that_was_unpacked_goes_on(ran, made):
    assert ran("pack", "results/r", "--models", "--out", "elsewhere/r.zip") == 0
    assert ran("report", "elsewhere/r.zip") == 0
    shutil.rmtree("results")
    more = ("--out", "elsewhere/r", "--workers", "0")
    assert ran.run(made / "data", *more, methods="pixel_stats,random,image_stats") == 0
    assert {row.status for row in Run.load(Path("elsewhere/r")).rows} == {"cached", "done"}
    assert len([*Path("elsewhere/r/cells").glob("*-*/cell.json")]) == 3 and not Path("elsewhere/.cells").exists()


def test_the_same_run_gives_the_same_file_with_what_was_asked_for(ran):
    assert ran("pack", "results/r", "--out", "a.zip") == 0
    os.utime(next(Path("results/.cells").glob("*-*/arrays.npz")))
    assert ran("pack", "results/r", "--out", "b.zip") == 0
    assert Path("a.zip").read_bytes() == Path("b.zip").read_bytes()
    kinds = {name.split("/")[-1] for name in names(Path("a.zip"))}
    assert {"run.json", "cell.json", "arrays.npz"} <= kinds and not kinds & {"model.safetensors", "maps.json"}
    assert ran("pack", "results/r", "--models", "--maps", "--out", "b.zip") == 0 and "gave way" in ran.err
    kinds = {name.split("/")[-1] for name in names(Path("b.zip"))}
    assert {"model.safetensors", "maps.json", "scores.csv"} <= kinds
    assert ran("pack", "b.zip", "--out", "c.zip") == 0 and Path("c.zip").read_bytes() == Path("a.zip").read_bytes()
    assert ran("report", "b.zip", "--out", "whole") == 0
    assert [*Path("whole/cells").glob("pixel_stats-*/maps/test/good/000.tiff")]


def test_models_predict_from_the_file(ran, made):
    image, one = made / "data" / "widget" / "test" / "spot" / "000.png", ("--method", "pixel_stats", "--category", "widget")
    assert ran("predict", "--run", "results/r", *one, image, "--out", "before") == 0
    assert ran("pack", "results/r", "--models", "--out", "with.zip") == 0
    assert ran("pack", "results/r", "--out", "without.zip") == 0
    shutil.rmtree("results")
    assert ran("predict", "--run", "with.zip", *one, image, "--out", "after") == 0, ran.err
    assert Path("after/predictions.csv").read_bytes() == Path("before/predictions.csv").read_bytes()
    assert ran("predict", "--run", "without.zip", *one, image, "--out", "none") == 2
    assert "'without.zip' has no model of" in ran.err and "--models" in ran.err
    assert all(cell.record.files.keys() == {"arrays.npz"} for _, cell in load_run("without.zip").done)


def test_without_pictures_there_are_none(ran):
    assert ran("report", "results/r") == 0
    assert ran("pack", "results/r", "--no-pictures", "--out", "p.zip") == 0 and "no pictures" in ran.out
    results = load_run("p.zip")
    for _, cell in results.done:
        assert not any(name.startswith("map/") for name in cell.arrays) and "score" in cell.arrays
    assert not [name for name in names(Path("p.zip")) if "previews" in name]
    assert ran("report", "p.zip") == 0 and "no pictures" in ran.err
    assert not [*Path("p").rglob("*.png")] and Path("p/tables/summary.csv").is_file()
    assert Path("p/results.csv").read_bytes() == Path("results/r/results.csv").read_bytes()
    assert ran("pack", "p.zip", "--out", "q.zip") == 0 and load_run("q.zip").run.info.pictures is False
    assert "--maps or --no-pictures" in refused(ran, "pack", "results/r", "--no-pictures", "--maps")


def test_a_run_that_was_read_leaves_nothing(ran, tmp_path, monkeypatch):
    assert ran("pack", "results/r", "--out", "r.zip") == 0
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    results = load_run("r.zip")
    assert [*(tmp_path / "temporary").iterdir()] and np.isfinite(results.numbers("pixel_auroc", [0])[0].low)
    del results
    gc.collect()
    assert not [*(tmp_path / "temporary").iterdir()]
    changed(Path("r.zip"), Path("bad.zip"), lambda c: c | {next(n for n in c if n.endswith("cell.json")): b"{"})
    assert ran("status", "bad.zip") == 0 and "1 failed" in ran.out and "cannot be read" in ran.out
    gc.collect()
    assert not [*(tmp_path / "temporary").iterdir()]


def test_missing_cells_are_named_and_the_rest_is_packed(ran):
    shutil.rmtree(next(Path("results/.cells").glob("random-*")))
    assert ran("pack", "results/r", "--out", "r.zip") == 1
    assert "1 of 2 cells failed" in ran.err and "widget random seed 0" in ran.err
    assert ran("report", "r.zip") == 1 and "widget random seed 0" in ran.err
    rows = json.loads(ZipFile("r.zip").read("run.json"))["cells"]
    assert [row["status"] for row in rows] == ["done", "failed"]
    shutil.rmtree(next(Path("results/.cells").glob("pixel_stats-*")))
    assert "none is there" in refused(ran, "pack", "results/r", "--out", "none.zip", left=".")


def test_what_is_no_packed_run_is_refused(ran):
    Path("elsewhere").mkdir()
    assert ran("pack", "results/r", "--out", "elsewhere/r.zip") == 0
    whole = Path("elsewhere/r.zip")
    content = whole.read_bytes()
    Path("elsewhere/text.zip").write_text("no zip")
    Path("elsewhere/cut.zip").write_bytes(content[: len(content) // 2])
    Path("elsewhere/short.zip").write_bytes(content[:300])
    flipped = bytearray(content)
    flipped[content.index(b"arrays.npz") + 400] ^= 1
    Path("elsewhere/flipped.zip").write_bytes(flipped)
    with ZipFile("elsewhere/other.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    for name in ("../evil", "/evil", "cells/../../evil/x", "cells\\..\\evil", "cells/a/./x", "tables/a/b.md", "cells/loose"):
        changed(whole, Path("elsewhere/slip.zip"), lambda c, name=name: c | {name: b"x"})
        for command in (("report",), ("status",), ("predict", "--method", "a", "--category", "b", "x.png", "--out", "o", "--run")):
            assert "is refused" in refused(ran, *command, "elsewhere/slip.zip", left="."), name
    newer = f'"schema_version": {SCHEMA + 1}'.encode()
    changed(whole, Path("elsewhere/newer.zip"), lambda c: c | {"run.json": c["run.json"].replace(b'"schema_version": 2', newer)})
    changed(whole, Path("elsewhere/manifest.zip"), lambda c: c | {"run.json": b"[]"})
    expected = {
        "text": "is no zip",
        "cut": "cut short",
        "short": "not whole",
        "flipped": "not whole",
        "other": "a zip of something else",
        "newer": "newer version",
        "manifest": "manifest",
    }
    for name, said in expected.items():
        for command in ("report", "status", "compare"):
            more = ("elsewhere/r.zip",) if command == "compare" else ()
            assert said in refused(ran, command, f"elsewhere/{name}.zip", *more), (name, command)


def test_nothing_else_is_written_over(ran):
    Path("notes.zip").write_text("mine")
    Path("folder").mkdir()
    for out in ("notes.zip", "folder"):
        assert "something else" in refused(ran, "pack", "results/r", "--out", out, left=".")
    assert Path("notes.zip").read_text() == "mine"
    assert ran("pack", "results/r") == 0
    assert "holds another run" in refused(ran, "report", "results/r.zip", left=".")
    assert "give --out" in refused(ran, "pack", "results/r.zip", left=".")
    assert "is a file" in refused(ran, "report", "results/r.zip", "--out", "notes.zip", left=".")
    assert "--out is where to unpack" in refused(ran, "report", "results/r", "--out", "x", left=".")
    shutil.copy("results/r.zip", "bare")
    assert "no extension" in refused(ran, "report", "bare", left=".")
    assert "give the folder of a run, which `report`" in refused(
        ran, "score", "--maps", "folder", "--add-to", "results/r.zip", left="."
    )


@pytest.mark.parametrize("room", [0, 500, 4000])
def test_a_full_disk_leaves_nothing_half_written(ran, monkeypatch, room):
    class Full:
        def __init__(self, file) -> None:
            self.file, self.left = file, room

        def write(self, data) -> int:
            self.left -= len(data)
            if self.left < 0:
                raise FULL
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error) -> None:
            self.file.close()

    opened, wrap = Path.open, lambda mode: Full if set(mode) & {"x", "w"} else lambda file: file
    assert ran("pack", "results/r", "--out", "old.zip") == 0
    before = Path("old.zip").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(files.Path, "open", lambda p, mode="r", **o: wrap(mode)(opened(p, mode, **o)))
        for out in ("new.zip", "old.zip"):
            assert ran("pack", "results/r", "--out", out) == 1
            assert ran.err.startswith("error: the disk is full") and ran.err.count("\n") == 1
        assert ran("report", "old.zip") == 1 and ran.err.startswith("error: the disk is full (") and ran.err.count("\n") == 1
    assert not Path("new.zip").exists() and not Path("old").exists() and Path("old.zip").read_bytes() == before
    assert not [*Path().glob(".tmp*")]
