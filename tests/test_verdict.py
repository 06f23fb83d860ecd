"""What to deploy: the method, what was asked of its threshold and what it did, and when none is fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anoseg_bench.formatting import percent
from anoseg_bench.report import verdict as verdict_module
from anoseg_bench.report.intervals import Resamples
from anoseg_bench.report.results import Number, Results
from anoseg_bench.report.verdict import DECISIONS, FAR, decision_table, outcomes, share_text, verdict, verdict_text, verdicts_of
from anoseg_bench.store.cells import Run
from anoseg_bench.store.records import RunRecord
from tests.helpers import store

pytestmark = pytest.mark.intervals

IMAGES, PIXELS = DECISIONS


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "results" / "run", RunRecord(profile="full", dataset="d", holdout=0.1, seeds=[0]))


def test_a_method_that_decides_well_is_named_with_the_next(run):
    store(run, "strong", "wood", 12.0, peak=1.0)
    store(run, "weak", "wood", 0.5, peak=1.0)
    results = Results(run)
    given = verdict(results, 0, IMAGES)
    assert given.is_fit and given.best and results.variants[given.best.variant] == "strong" and given.apart
    text = verdict_text(results, given)
    threshold = run.rows[0].result.value("image_threshold_deployable")
    assert text.startswith(
        f"'strong' at the image threshold {threshold:.6g} finds 100.0 % (63.1–100.0) of the 8 defective images and takes 0.0 % ("
    )
    assert "(asked: at most 5.0 %)" in text and "Next: 'weak'" in text and "measurably behind, not fit for use" in text


def test_what_is_not_fit_for_use_says_why(run):
    store(run, "alarming", "wood", 8.0, peak=0.5)
    store(run, "blind", "wood", 0.0, peak=1.0)
    results = Results(run)
    by_name = {results.variants[o.variant]: o for o in outcomes(results, 0, IMAGES)}
    assert by_name["alarming"].missed_asked == 1
    assert by_name["alarming"].faults == ["it takes 100.0 % of the normal images for defective, where 5.0 % was asked"]
    assert by_name["blind"].faults == ["it misses nearly all of the defective images"]
    given = verdict(results, 0, IMAGES)
    assert not given.is_fit and verdict_text(results, given).startswith("Not fit for use, as it ")


def test_a_decision_by_lot_is_not_fit(run, monkeypatch):
    """Two thirds found and 4 % alarms say nothing where the interval of their difference holds zero."""
    store(run, "strong", "wood", 12.0, peak=1.0)
    assert outcomes(Results(run), 0, IMAGES)[0].faults == []
    values = np.linspace(-0.1, 1, 100)[None]
    monkeypatch.setattr(verdict_module, "_gain", lambda *_: Resamples(values, values, values, [], np.ones((101, 1))))
    assert outcomes(Results(run), 0, IMAGES)[0].faults == ["it cannot be told from chance"]


def test_few_images_show_no_fitness(run):
    """What 8 good images allow, however right all of them are decided, is said; and where many are right, nothing is in doubt."""
    store(run, "strong", "wood", 12.0, peak=1.0)
    given = verdict(Results(run), 0, IMAGES)
    assert given.best and given.is_fit and given.fitness == "not proven" and given.best.faults == []
    (doubt,) = given.best.doubts
    assert doubt == f"up to {percent(given.best.alarms.high)} % of the normal images may be taken for defective"
    assert f"So few images do not prove it fit: {doubt}." in verdict_text(Results(run), given)
    sure = replace(given.best, alarms=Number(0.0, 1, 1, 0.0, FAR * IMAGES.asked), found=Number(0.9, 1, 1, 0.5, 1.0))
    assert verdict_module._doubts(sure) == [] and replace(sure, doubts=[]).fitness == "fit for use"
    assert verdict_module._doubts(replace(sure, found=Number(0.9, 1, 1, 0.49, 1.0))) == [
        "more than half of the defective images may be missed"
    ]


def test_no_interval_of_a_rate_of_images_is_narrower_than_the_exact_one(run):
    """At the oracle threshold, too, which resamples would find anew: 8 of 8 are 63.1 to 100."""
    store(run, "strong", "wood", 12.0, peak=1.0)
    results = Results(run)
    (found,), (alarms,) = (results.numbers(f"image_{rate}_oracle", [0]) for rate in ("recall", "fpr"))
    assert found.mean == 1 and found.low == pytest.approx(0.025 ** (1 / 8), abs=2e-3) and found.high == 1
    assert alarms.mean == 0 and alarms.high == pytest.approx(1 - 0.025 ** (1 / 8), abs=2e-3) and alarms.low == 0


def test_pixels_are_marked_by_the_method_of_the_highest_iou(run):
    store(run, "strong", "wood", 12.0, peak=1.0)
    store(run, "weak", "wood", 1.0, peak=1.0)
    results = Results(run)
    given = verdict(results, 0, PIXELS)
    iou = results.numbers("iou_deployable", [0])
    assert given.best and given.best.quality == iou[given.best.variant] == max(iou, key=lambda n: n.mean)
    assert f"of the defective pixels at an IoU of {share_text(given.best.quality)} and takes" in verdict_text(results, given)


def test_without_held_out_images_there_is_no_decision(run):
    store(run, "a", "wood", 1.0)
    record = run.rows[0].result.record
    record.values.update(dict.fromkeys((IMAGES.threshold, IMAGES.found, IMAGES.alarms), float("nan")))
    record.reasons[IMAGES.threshold] = "needs 19 held-out normal images, but there are 3"
    given = verdict(Results(run), 0, IMAGES)
    assert given.best is None and "but there are 3 (raise --holdout" in verdict_text(Results(run), given)


def test_asked_and_got_as_a_table(run):
    for category in "wood", "nut":
        store(run, "strong", category, 12.0, peak=1.0)
        store(run, "alarming", category, 8.0, peak=0.5)
    results = Results(run)
    table = decision_table(results, "decisions")
    assert table.header[1:] == [
        "rejecting parts: found",
        "of normal images, asked 5.0 %, got",
        "fit for use",
        "marking pixels: found",
        "of pixels of normal images, asked 0.10 %, got",
        "fit for use",
    ]
    of = {(line.group, line.cells[0].text): [cell.text for cell in line.cells] for line in table.lines}
    assert of["wood", "strong"][1].startswith("100.0 (63.1–100.0)") and of["wood", "strong"][3] == "not proven"
    assert of["nut", "alarming"][2].endswith(" > asked") and of["nut", "alarming"][3] == "no"
    assert [given.decision for given in verdicts_of(results, 1)] == [IMAGES, PIXELS]


def test_of_one_image_nothing_is_shown(run):
    """Neither an interval nor fitness nor a difference rests on the only normal or defective image."""
    store(run, "strong", "wood", 12.0, peak=1.0)
    given = verdict(Results(run), 0, PIXELS)
    assert given.best
    unknown = replace(given.best, alarms=Number(0.0007, 1, 1, float("nan"), float("nan")), faults=[])
    assert verdict_module._doubts(unknown) == ["no interval says how sure its shares are"]
    known, none = np.linspace(0.5, 0.6, 50), np.full(50, np.nan)
    ends = np.stack([known, none])
    resamples = Resamples(np.stack([known, known + 0.2]), ends, ends, [], np.ones((51, 1)))
    assert np.isnan(resamples.difference(1, 0).low) and resamples.difference(1, 0).holds_zero
    assert resamples.ties({0: 0.5, 1: 0.7}) == {0}


def test_thresholds_of_several_seeds_stand_apart(run):
    run.info.seeds = [0, 1]
    for seed in 0, 1:
        store(run, "strong", "wood", 12.0 + seed, peak=1.0, seed=seed)
    results = Results(run)
    both = [f"{row.result.value('image_threshold_deployable'):.6g}" for row in run.rows]
    text = verdict_text(results, verdict(results, 0, IMAGES))
    assert f"'strong' at the image threshold {', '.join(both)} (one for each seed) finds" in text
