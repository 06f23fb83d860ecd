"""The experiment `shift`: images under changes of light, focus and camera; what cells keep of them; what the report says."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from anoseg_bench.datasets.mvtec import MVTecLayout
from anoseg_bench.evaluation import cell as cell_module
from anoseg_bench.evaluation.ahead import ahead
from anoseg_bench.evaluation.cell import _Predictor, resize
from anoseg_bench.evaluation.maps import to_original
from anoseg_bench.evaluation.shift import _CHANGES, under_all_shifts, under_shift
from anoseg_bench.evaluation.tiles import Tiling
from anoseg_bench.methods import METHODS
from anoseg_bench.report.intervals import percentiles
from anoseg_bench.report.render import latex
from anoseg_bench.report.results import Results
from anoseg_bench.report.shift import _changed, break_table, shift_numbers, shift_sentences, strength_tables
from anoseg_bench.shifts import SHIFTS
from anoseg_bench.store.cells import Run
from anoseg_bench.store.records import RunRecord, Shifts
from tests.helpers import ROOT, add, cells, make_category


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """An image with a gradient, an edge and grains, not square."""
    y, x = np.mgrid[:256, :320]
    image = np.stack([90 + 0.3 * x, 110 + 0.2 * y, 60 + 0.1 * (x + y)], -1)
    image += np.random.default_rng(0).normal(0, 2, image.shape)
    image[90:160, 120:250] += (40, -30, 50)
    return image.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.name)
def test_an_image_under_a_shift(shift, picture):
    before = picture.copy()
    shifted = [under_shift(picture, shift, strength, "test/a/1") for strength in range(1 + len(shift.strengths))]
    assert shifted[0] is picture and len(shift.strengths) == 5
    assert all(image.dtype == np.uint8 and image.shape == picture.shape for image in shifted)
    distance = [np.abs(image.astype(int) - picture).mean() for image in shifted]
    assert (np.diff(distance) > 0).all(), distance
    again = [under_shift(picture, shift, strength, "test/a/1") for strength in range(6)]
    assert all(np.array_equal(one, other) for one, other in zip(shifted, again, strict=True))
    assert np.array_equal(picture, before)


def test_what_is_random_is_another_for_another_image(picture):
    for shift in SHIFTS:
        many = {under_shift(picture, shift, 3, f"test/good/{i}").tobytes() for i in range(8)}
        assert len(many) == {"noise": 8, "moved": 8, "rotated": 2}.get(shift.name, 1), shift.name


def test_every_shift_is_stated_made_and_documented(picture):
    assert [shift.name for shift in SHIFTS] == list(_CHANGES)
    assert len(list(under_all_shifts(picture, "a"))) == sum(len(shift.strengths) for shift in SHIFTS)
    lines = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8").splitlines()
    for kind in Shifts.stated().kinds:
        assert any(line.startswith(f"| {kind.name} |") and kind.in_words(1, 2, 3, 4, 5) in line for line in lines), kind


# what a cell keeps


def trained(tmp_path: Path):
    category = MVTecLayout(make_category(tmp_path, train=4).parent).load("widget")
    cls = METHODS["pixel_stats"].load()
    method = cls(cls.Config(image_size=32, batch_size=3))
    method.fit(np_batch(category.train))
    return category, method


def np_batch(items):
    import torch

    return torch.stack([resize(item.load_image(), 32) for item in items])


def test_scores_under_shifts_are_those_of_the_images_alone_and_know_no_label(tmp_path):
    category, method = trained(tmp_path)
    scores = _Predictor(method, Tiling()).under_shifts(category.test, lambda done, total: None)
    assert list(scores) == [f"shift/{shift.name}" for shift in SHIFTS]
    assert all(array.shape == (4, 5) for array in scores.values())
    item, shift = category.test[2], SHIFTS[5]
    alone = method.predict(resize(under_shift(item.load_image(), shift, 4, item.name), 32)[None])
    assert scores[f"shift/{shift.name}"][2, 3] == pytest.approx(
        float(alone.maps.max() if alone.scores is None else alone.scores[0])
    )
    turned = [replace(item, defect="spot" if item.is_good else "good", mask=None) for item in category.test]
    other = _Predictor(method, Tiling()).under_shifts(turned, lambda done, total: None)
    assert all(np.array_equal(scores[name], other[name]) for name in scores)


SHIFT = ("--experiment", "shift", "--holdout", "0.5", "--out", "r", "--workers", "0")
NO_REPORT = ("--shard", "1/1")
OTHER = ("--holdout", "0.5", "--out", "other", "--workers", "0", *NO_REPORT)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A category with enough held-out images for a threshold of images."""
    make_category(tmp_path / "data", train=40, good=3, bad=3)
    return tmp_path / "data"


def arrays_of(bench) -> tuple[dict, dict[str, np.ndarray]]:
    folder = next((bench.folder / ".cells").glob("pixel_stats-*"))
    with np.load(folder / "arrays.npz") as arrays:
        return json.loads((folder / "cell.json").read_text()), dict(arrays)


@pytest.mark.figures
def test_from_images_to_the_report(bench, many, monkeypatch):
    monkeypatch.setattr("anoseg_bench.report.plots.write_plots", lambda results, folder: [])
    assert bench.run(many, *SHIFT) == 0, bench.err
    record, arrays = arrays_of(bench)
    assert [kind["name"] for kind in record["shifts"]["kinds"]] == [shift.name for shift in SHIFTS]
    assert "where the deployed decision breaks" in bench.out
    assert {"experiment_shift.png", "experiment_shift_widget.png"} <= {path.name for path in (bench.folder / "r/plots").iterdir()}
    page = (bench.folder / "r" / "report.html").read_text(encoding="utf-8")
    assert 'href="#experiment"' in page and 'id="experiment"' in page and "out of focus" in page
    with (bench.folder / "r/tables/experiment_shift_alarms.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["group"].partition(":")[0]: row for row in csv.DictReader(file)}
    threshold, good = record["values"]["image_threshold_deployable"], [d == "good" for _, d in record["items"]]
    for shift in SHIFTS:  # the threshold is that of the images as they are
        share = (arrays[f"shift/{shift.name}"][good, 4] >= threshold).mean()
        assert rows[shift.name]["5"].partition(" ")[0] == f"{100 * share:.1f}"
    assert bench.run(many, *SHIFT) == 0 and "stored already" in bench.out
    assert bench("pack", "r", "--out", "p.zip") == 0, bench.err
    assert bench("report", "p.zip", "--out", "unpacked") == 0, bench.err
    assert (bench.folder / "unpacked/plots/experiment_shift_widget.png").is_file()


def no_training(*_):
    raise AssertionError("it was trained")


def test_a_stored_cell_is_completed_by_its_model_and_keeps_all_that_it_has(bench, many, monkeypatch):
    assert bench.run(many, *OTHER, "--keep-models") == 0, bench.err
    before, old = arrays_of(bench)
    with monkeypatch.context() as patch:
        patch.setattr(METHODS["pixel_stats"].load(), "_fit", no_training)
        assert bench.run(many, *OTHER, "--save-maps") == 0, bench.err
        assert bench.run(many, *SHIFT, *NO_REPORT) == 0, bench.err
    after, new = arrays_of(bench)
    assert before["shifts"] is None and after["shifts"] and before["identity"] == after["identity"]
    assert before["values"] == after["values"] and all(np.array_equal(old[name], new[name], equal_nan=True) for name in old)
    folder = next((bench.folder / ".cells").glob("pixel_stats-*"))
    assert (folder / "model.safetensors").is_file() and (folder / "maps").is_dir()
    assert bench.run(many, *OTHER, "--save-maps") == 0 and "stored already" in bench.out


def test_the_forecast_knows_the_shifts(bench, many):
    for more, said in (((), "about 2 min"), (("--keep-models", "--rerun", "all"), "about 51 s")):
        assert bench.run(many, *OTHER, *more) == 0, bench.err
        path = next((bench.folder / ".cells").glob("pixel_stats-*")) / "cell.json"
        record = json.loads(path.read_text())
        record["timing"] |= {"train_s": 69.0, "predict_s": 1.0}
        path.write_text(json.dumps(record))
        assert bench.run(many, *SHIFT, "--dry-run") == 0 and said in bench.out, bench.out


def test_a_cell_without_a_model_runs_again_and_keeps_its_shifts_from_then_on(bench, many, monkeypatch):
    assert bench.run(many, *OTHER) == 0, bench.err
    with monkeypatch.context() as patch:
        patch.setattr(METHODS["pixel_stats"].load(), "_fit", no_training)
        assert bench.run(many, *SHIFT, *NO_REPORT) == 1 and "it was trained" in bench.err
    assert bench.run(many, *SHIFT, *NO_REPORT) == 0, bench.err
    record, arrays = arrays_of(bench)
    assert bench.run(many, *OTHER, "--save-maps") == 0, bench.err
    again, others = arrays_of(bench)
    assert again["shifts"] == record["shifts"] and np.array_equal(arrays["shift/noise"], others["shift/noise"])
    monkeypatch.setattr("anoseg_bench.store.records.SHIFTS_VERSION", 99)
    assert bench.run(many, *SHIFT, *NO_REPORT) == 0 and cells(bench.folder / "r")[0]["status"] == "done"


def test_only_some_experiments_take_methods(bench, many):
    assert bench.run(many, "--experiment", "ablation") == 2 and "names its own" in bench.err
    assert cell_module.SHIFTED == "shift/"


# what the report says


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A run of three methods on 40 images: one does not care, of one false alarms rise at 3, one misses at 2."""
    run = Run(tmp_path / "results" / "run", RunRecord(profile="quick", dataset="d", holdout=0.1, seeds=[0], experiment="shift"))
    items = [[f"test/{i}", "good" if i < 20 else "hole"] for i in range(40)]
    good = np.arange(40) < 20
    clean = np.where(good, 0.1, 0.9)
    for name, change in {"calm": None, "alarms": (3, good, 0.8), "blind": (2, ~good, 0.2)}.items():
        arrays = {"score": clean, "iou_oracle": np.full(40, 0.5)}
        for kind in SHIFTS:
            scores = np.repeat(clean[:, None], 5, axis=1)
            if change and kind.name == "noise":
                first, who, score = change
                scores[np.ix_(who, range(first - 1, 5))] = score
            arrays[f"shift/{kind.name}"] = scores
        stated = Shifts.stated().model_dump()
        values = {"image_threshold_deployable": 0.5}
        add(run, name, "bottle", 0.5, arrays=arrays, items=items, shifts=stated, values=values, without=["map/4", "map/5"])
    run.save()
    return Results(Run.load(run.path))


@pytest.mark.intervals
def test_breaks(results):
    table = break_table(shift_numbers(results))
    rows = {line.cells[0].text: [cell.text for cell in line.cells] for line in table.lines}
    noise = table.header.index("noise")
    assert [rows[name][noise] for name in ("calm", "alarms", "blind")] == ["none", "3: alarms", "2: misses"]
    assert rows["blind"][1:3] == ["100.0 (83.2–100.0)", "0.0 (0.0–16.8)"]
    assert [rows[name][3] for name in ("calm", "alarms", "blind")] == ["0 of 10", "1 of 10", "1 of 10"]
    assert "U+" not in latex(table)
    detection, alarms, auroc = strength_tables(shift_numbers(results))
    lines = {(line.group.partition(":")[0], line.cells[0].text): [c.text for c in line.cells[1:]] for line in detection.lines}
    assert lines["noise", "blind"] == ["100.0 (83.2–100.0)"] * 2 + ["0.0 (0.0–16.8)"] * 4  # Clopper and Pearson, 20 images
    lines = {(line.group.partition(":")[0], line.cells[0].text): [c.text for c in line.cells[1:]] for line in alarms.lines}
    assert lines["noise", "alarms"][2:4] == ["0.0 (0.0–16.8)", "100.0 (83.2–100.0)"]
    assert len(auroc.lines) == len(alarms.lines) == 30


def test_the_sentence_names_the_first_break(results):
    sentence = shift_sentences(results)[0]
    assert "that of 'calm' (100.0 % found, 0.0 % false alarms) under none of 10 shifts;" in sentence
    assert "under 1 of 10 shifts, first noise at strength 2 (detection rate 0.0 %)" in sentence


def test_no_break_is_claimed_without_a_threshold(results):
    for row in results.run.rows:
        row.result.record.values["image_threshold_deployable"] = float("nan")
    numbers = shift_numbers(Results(results.run))
    assert {cell.text[:1] for line in break_table(numbers).lines for cell in line.cells[1:]} == {"–"}
    assert "–" in {line.cells[1].text for line in strength_tables(numbers)[0].lines}
    assert "100.0" in strength_tables(numbers)[2].lines[0].cells[1].text


@pytest.mark.parametrize(("up", "down"), [(5, 0), (6, 0), (0, 6), (9, 1), (8, 1), (0, 0), (12, 12)])
def test_a_change_is_told_as_by_mcnemars_exact_test(up, down):
    before, after = np.zeros(40, bool), np.zeros(40, bool)
    after[:up], before[up : up + down] = True, True
    interval = percentiles(*_changed(before, after, 2001))
    told = up != down and binomtest(up, up + down).pvalue < 0.05
    assert interval.holds_zero == (not told)
    assert interval.low <= (up - down) / 40 <= interval.high


# one step ahead


def test_what_is_made_ahead_comes_in_order_and_errors_at_their_place():
    made, used = [], []

    def source():
        for i in range(5):
            if i == 3:
                raise ValueError("the fourth")
            made.append(i)
            yield i

    with pytest.raises(ValueError, match="the fourth"):
        for i in ahead(source()):
            used.append(i)
            assert len(made) <= len(used) + 1
    assert used == [0, 1, 2]
    assert list(ahead(iter([]))) == []


def test_prediction_is_that_of_batches_read_in_turn(tmp_path):
    category, method = trained(tmp_path)
    predict = _Predictor(method, Tiling())
    seen: list[tuple[int, int]] = []
    predicted = predict(category.test, lambda done, total: seen.append((done, total)))
    maps = np.concatenate([method.predict(np_batch(part)).maps.numpy() for part in (category.test[:3], category.test[3:])])
    size = [item.load_image().shape[:2] for item in category.test]
    assert seen == [(3, 4), (4, 4)] and list(predicted.shapes) == size
    for map_, whole, shape in zip(maps, predicted.maps, size, strict=True):
        assert np.array_equal(whole, to_original(map_, shape))
    assert predict.seconds > 0
