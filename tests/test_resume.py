"""What is stored is used again: identities, --rerun, other metrics, kept reports and models; names that try to leave the folder."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from anoseg_bench.execution import run as run_module
from anoseg_bench.execution import schedule
from anoseg_bench.formatting import duration
from anoseg_bench.store.cells import Store, slug
from anoseg_bench.store.claims import Claim, Watch, claimed_cells
from anoseg_bench.validation import parse_duration, parse_shard
from tests.helpers import FAULTY, cells, checkout_python, make_category, usage_error


def statuses(bench, run: str = "r") -> list[str]:
    return [cell["status"] for cell in cells(bench.folder / run)]


def records(bench) -> dict[str, dict]:
    stored = [json.loads(path.read_text()) for path in (bench.folder / ".cells").glob("*-*/cell.json")]
    return {f"{record['method']}-{record['seed']}": record for record in stored}


# --rerun


def test_rerun(bench, widget, tmp_path):
    methods = f"pixel_stats,{FAULTY}[action=raises]"
    assert bench.run(widget, "--out", "r", methods=methods) == 1
    assert statuses(bench) == ["done", "failed"]
    assert bench.run(widget, "--out", "r", methods=methods) == 1
    assert statuses(bench) == ["cached", "failed"] and "something broke" in bench.err
    assert bench.run(widget, "--out", "r", "--rerun", "failed", methods=f"{methods},random") == 1
    assert statuses(bench) == ["cached", "failed", "skipped"]
    assert bench.run(widget, "--out", "r", "--rerun", "all", "--workers", "0") == 0
    assert statuses(bench) == ["done"]
    assert "Did you mean: failed" in usage_error_of(bench, widget, "--rerun", "faild")


def test_a_worker_killed_after_its_last_act_leaves_nothing(bench, widget):
    assert bench.run(widget, "--out", "r") == 0
    store = Store(bench.folder / ".cells")
    claim = Claim.take(Watch(store.claims), next(store.root.glob("pixel_stats-*")).name)
    claim.holder = replace(claim.holder, started="12")
    claim._write()
    assert bench.run(widget, "--out", "r") == 0
    assert statuses(bench) == ["cached"] and not claimed_cells(store.claims)


def usage_error_of(bench, widget, *more) -> str:
    assert bench.run(widget, *more) == 2 and bench.err.count("\n") == 1
    return bench.err


def test_a_cell_of_other_code_is_named_and_renewed_on_request(bench, widget):
    assert bench.run(widget, "--out", "r") == 0
    path = next((bench.folder / ".cells").glob("pixel_stats-*/cell.json"))
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"source": "of yesterday"}))
    assert bench.run(widget, "--out", "r") == 0
    assert statuses(bench) == ["cached"] and "1 stored cells were made with different code of pixel_stats" in bench.err
    assert bench.run(widget, "--out", "r", "--rerun", "stale") == 0
    assert statuses(bench) == ["done"] and json.loads(path.read_text())["source"] == record["source"]
    assert bench.run(widget, "--out", "r", "--rerun", "stale") == 0
    assert statuses(bench) == ["cached"]


# other metrics


@pytest.mark.parametrize("options", [["--save-maps"], ["--keep-models"], ["--save-maps", "--keep-models"], []])
def test_other_metrics_evaluate_again_without_training_where_maps_or_model_are_kept(bench, widget, tmp_path, monkeypatch, options):
    marks = tmp_path / "marks"
    marks.mkdir()
    methods = f"{FAULTY}[marks={marks}]"
    assert bench.run(widget, "--out", "r", "--workers", "0", *options, methods=methods) == 0
    before = records(bench)["Faulty-0"]
    with monkeypatch.context() as patch:
        for module in ("anoseg_bench.plan", "anoseg_bench.store.records"):
            patch.setattr(f"{module}.METRICS_VERSION", 1000)
        assert bench.run(widget, "--out", "r", "--workers", "0", methods=methods) == 0
        after = records(bench)["Faulty-0"]
        assert statuses(bench) == ["done"] and after["identity"]["metrics"] == 1000
        assert bench.run(widget, "--out", "r", "--workers", "0", *options, methods=methods) == 0
        assert statuses(bench) == ["cached"]
    trainings = len((marks / "nothing-0").read_text().splitlines())
    assert trainings == (1 if options else 2)
    assert after["values"] == pytest.approx(before["values"], nan_ok=True) and after["defects"] == before["defects"]
    if options:
        assert after["timing"] == before["timing"] and after["provenance"] == before["provenance"] and "evaluated" in after


# quick where nothing is to be done


def test_a_stored_run_imports_neither_torch_nor_matplotlib_and_writes_nothing_again(bench, widget):
    assert bench.run(widget, "--out", "r") == 0
    text, table = bench.out, bench.folder / "r" / "tables" / "summary.md"
    before = table.stat().st_mtime_ns
    code = (
        "import sys; from anoseg_bench.cli import main; code = main(sys.argv[1:]); "
        "print(sorted({'torch', 'matplotlib'} & set(sys.modules))); sys.exit(code)"
    )
    command = ["--dataset", "mvtec_layout", "--data-root", widget, "--methods", "pixel_stats", "--profile", "demo", "--out", "r"]
    done = checkout_python(code, *command, cwd=bench.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert table.stat().st_mtime_ns == before
    assert "stored already" in done.stdout and text[text.index("Means over") :] in done.stdout
    table.unlink()
    assert bench.run(widget, "--out", "r") == 0 and table.exists()
    assert bench.run(widget, "--out", "r", methods="pixel_stats,random") == 0 and "random" in table.read_text()


def test_dry_run(bench, widget):
    assert bench.run(widget, "--out", "r", "--dry-run", methods="pixel_stats,random") == 0
    assert bench.out.count("to run") == 3 and "no estimate for 2 of 2" in bench.out
    assert not [*bench.folder.rglob("cell.json")] and not (bench.folder / "r" / "run.json").exists()
    assert bench.run(widget, "--out", "r") == 0
    assert bench.run(widget, "--out", "r", "--dry-run", "--seeds", "0,1", "--workers", "2", methods="pixel_stats,random") == 0
    shown = {
        line.split(" seed ")[0] + line.split(" seed ")[1][0]: line.split()[-1]
        for line in bench.out.splitlines()
        if " seed " in line
    }
    assert shown == {
        "widget pixel_stats0": "stored",
        "widget pixel_stats1": "run",
        "widget random0": "run",
        "widget random1": "run",
    }
    assert "3 of 4 cells to run: about 0 s with 2 at once" in bench.out and "no estimate for 2 of 3" in bench.out


def test_what_is_out_of_range(bench, widget):
    assert "--shard i/n" in usage_error(bench, widget, "--shard", "3/2")
    assert "--timeout" in usage_error(bench, widget, "--timeout", "soon")
    assert "--workers" in usage_error(bench, widget, "--workers", "-1")
    assert "--memory" in usage_error(bench, widget, "--memory", "0")
    assert "Did you mean: local" in usage_error(bench, widget, "--engine", "lokal")


def test_words():
    assert [parse_duration(t) for t in ("90", "90s", "1.5m", "2h", None)] == [90, 90, 90, 7200, None]
    assert [parse_shard(t) for t in ("1/1", "2/8")] == [(1, 1), (2, 8)]
    assert [duration(s) for s in (5, 89, 600, 12000)] == ["5 s", "89 s", "10 min", "3 h 20 min"]


# folders


def test_results_on_a_path_with_spaces_and_other_letters(bench, widget):
    assert bench.run(widget, "--out", "größe 中 é/r u n", "--keep-models", "--save-maps") == 0, bench.err
    assert bench("status", "größe 中 é/r u n") == 0 and "1 done" in bench.out
    assert bench.run(widget, "--out", "größe 中 é/r u n") == 0 and "stored already" in bench.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(bench, widget):
    (bench.folder / "locked").mkdir(mode=0o555)
    assert "cannot" in usage_error(bench, widget, "--out", "locked/r")


EVIL = ["../../evil", "..", "/etc/evil", "a\\b", "con:\0"[:4], "x" * 300, "<img src=x onerror=alert(1)>", "$HOME", "-rf"]


@pytest.mark.parametrize("name", EVIL)
def test_names_from_outside_stay_inside(bench, widget, name):
    before = {p for p in bench.folder.parent.rglob("*") if ".cells" not in p.parts and bench.folder not in p.parents}
    label = name.replace(",", "")
    assert bench.run(widget, "--out", "out/r", methods=f"pixel_stats[label={label}]") == 0, bench.err
    after = {p for p in bench.folder.parent.rglob("*") if ".cells" not in p.parts and bench.folder not in p.parents}
    assert after == before
    assert {p.name for p in (bench.folder / "out").iterdir()} == {"r", ".cells"}
    assert cells(bench.folder / "out" / "r")[0]["variant"] == label


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "--", "a;b", "$(touch x)", "ø 中", "...", "con"])
def test_categories_of_any_name(bench, tmp_path, name):
    make_category(tmp_path / "data", name)
    assert bench.run(tmp_path / "data", "--out", "out/r") == 0, bench.err
    assert {p.name for p in bench.folder.iterdir()} == {"out"}
    assert cells(bench.folder / "out" / "r")[0]["category"] == name


@pytest.mark.parametrize("name", EVIL)
def test_cells_of_any_method_lie_in_the_store(tmp_path, name):
    folder = Store(tmp_path / "s").folder(name, "0" * 20)
    assert folder.resolve().parent == (tmp_path / "s").resolve()
    assert slug(name) not in ("", ".", "..") and len(folder.name.encode()) <= 200


def test_dry_run_on_broken_data_says_that_nothing_can_run(bench, widget):
    (widget / "widget" / "train" / "good" / "000.png").write_bytes(b"no image")
    assert bench.run(widget, "--out", "r", "--dry-run") == 1
    assert "0 of 1 cells to run" in bench.out and "1 of 1 cells cannot run" in bench.err


# models


def test_predict(bench, widget, tmp_path):
    make_category(widget, "many", train=40)
    options = ("--keep-models", "--category", "many", "--holdout", "0.5", "--save-maps")
    assert bench.run(widget, "--out", "r", *options, methods="pixel_stats,ae_recon[steps=3]") == 0, bench.err
    images = widget / "many" / "test"
    arguments = ("--run", "r", "--category", "many", images / "spot", images / "good" / "000.png", "--out", "p")
    assert bench("predict", "--method", "pixel_stats", *arguments) == 0, bench.err
    with (bench.folder / "p" / "predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["defective"] for row in table] == ["yes", "yes", "no"]
    assert [Path(row["image"]).parent.name for row in table] == ["spot", "spot", "good"]
    assert len({row["map"] for row in table}) == 3  # 000 twice
    record = records(bench)["pixel_stats-0"]
    stored = next((bench.folder / ".cells").glob("pixel_stats-*")) / "maps" / "test" / "spot" / "000.tiff"
    map_ = tifffile.imread(bench.folder / "p" / table[0]["map"])
    np.testing.assert_allclose(map_, tifffile.imread(stored), atol=1e-6)  # one image at a time, not in batches
    threshold = record["values"]["threshold_deployable"]
    assert float(table[0]["pixel_threshold"]) == threshold
    assert int(table[0]["anomalous_pixels"]) == (map_ >= threshold).sum() > 50
    assert float(table[0]["image_threshold"]) == record["values"]["image_threshold_deployable"]
    assert Image.open(bench.folder / "p" / table[0]["overlay"]).size == (48, 40)


def test_predict_without_a_model_gives_the_command_that_keeps_one(bench, widget):
    assert bench.run(widget, "--out", "r") == 0
    image = widget / "widget" / "test" / "good" / "000.png"
    assert bench("predict", "--run", "r", "--method", "pixel_stats", "--category", "widget", "--out", "p", image) == 2
    assert bench.err.rstrip().endswith("--keep-models")


def test_predict_without_a_threshold_of_images_says_what_would_give_one(bench, widget):
    assert bench.run(widget, "--out", "r", "--keep-models") == 0
    image = widget / "widget" / "test" / "good" / "000.png"
    assert bench("predict", "--run", "r", "--method", "pixel_stats", "--category", "widget", "--out", "p", image) == 0
    assert "needs 19 held-out normal images, but there are 1; train with a larger --holdout" in bench.err
    assert ",,," in (bench.folder / "p" / "predictions.csv").read_text().splitlines()[1]


def test_predict_says_what_is_wrong(bench, widget, tmp_path):
    assert bench.run(widget, "--out", "r") == 0
    image = widget / "widget" / "test" / "good" / "000.png"

    def wrong(*arguments) -> str:
        assert bench("predict", "--run", "r", "--out", "p", *arguments) == 2, bench.out
        assert bench.err.count("\n") == 1 and not (bench.folder / "p").exists()
        return bench.err

    named = ("--method", "pixel_stats", "--category", "widget")
    assert "--keep-models" in wrong(*named, image)
    assert "Did you mean: pixel_stats" in wrong("--method", "pixel_stat", "--category", "widget", image)
    assert "Did you mean: widget" in wrong("--method", "pixel_stats", "--category", "wigdet", image)
    assert "seeds [0], not 3" in wrong(*named, "--seed", "3", image)
    assert "no/image.png" in wrong(*named, "no/image.png")
    assert bench.run(widget, "--out", "r", "--keep-models") == 0
    (tmp_path / "torn.png").write_bytes(b"no image")
    assert bench("predict", "--run", "r", "--out", "p", *named, tmp_path / "torn.png", image) == 1
    assert "torn.png" in bench.err and "needs 19" in bench.err
    assert len((bench.folder / "p" / "predictions.csv").read_text().splitlines()) == 2


def test_a_model_cut_short_is_named(bench, widget):
    assert bench.run(widget, "--out", "r", "--keep-models") == 0
    model = next((bench.folder / ".cells").glob("pixel_stats-*/model.safetensors"))
    model.write_bytes(model.read_bytes()[:-4])
    image = widget / "widget" / "test" / "good" / "000.png"
    code = bench("predict", "--run", "r", "--out", "p", "--method", "pixel_stats", "--category", "widget", image)
    assert code == 2 and "model.safetensors" in bench.err, bench.err


def test_cells_share_the_cores_where_nobody_says(monkeypatch):
    monkeypatch.setattr(schedule, "cores", lambda: 8)

    def shared(number, device="cpu", **given):
        grid = {"variants": range(number), "categories": "a", "seeds": (0,)}
        return schedule.share_out(
            SimpleNamespace(**grid | {"workers": None, "threads": None, "engine": "local", "device": device} | given)
        )

    assert shared(10) == (4, 2) and shared(3) == (3, 2) and shared(1) == (1, 8)
    assert shared(10, "cuda") == (1, 8) and shared(10, engine="ray") == (1, 8)
    assert shared(10, workers=8) == (8, 1) and shared(10, workers=0, threads=3) == (0, 3)


def test_a_cell_has_as_many_threads_after_an_interruption(bench, widget, monkeypatch):
    """Else its numbers would not be those of a run at one go."""
    monkeypatch.setattr(schedule, "cores", lambda: 4)
    given, job_of = [], run_module.job_of
    monkeypatch.setattr(run_module, "job_of", lambda *a: given.append(job_of(*a)) or given[-1])
    assert bench.run(widget, "--workers", "1", "--out", "r") == 0
    given.clear()
    assert bench.run(widget, "--out", "r", methods="pixel_stats,random") == 0
    assert [(job.method, job.threads) for job in given] == [("random", 2)]
