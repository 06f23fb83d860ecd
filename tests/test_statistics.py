"""How sure numbers are: resampling against brute force, coverage and error rates on data with known truth."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from anoseg_bench.metrics import evaluate
from anoseg_bench.metrics.bootstrap import centred, draw, resampled, resampled_defect
from anoseg_bench.metrics.catalogue import names_resampled
from anoseg_bench.report.compare import comparison_table, needed_categories, rank_figure
from anoseg_bench.report.compare import test_over_categories as over_categories
from anoseg_bench.report.findings import findings
from anoseg_bench.report.intervals import percentiles
from anoseg_bench.report.results import Number, Results, intervals_frame
from anoseg_bench.report.tables import metric_table
from anoseg_bench.store.cells import Row, Run
from anoseg_bench.store.records import RunRecord
from tests.helpers import halves, images, store


def arrays_of(evaluation) -> dict[str, np.ndarray]:
    return evaluation.per_image | {k: v for k, v in evaluation.curves.items() if k.startswith("thresholds_")}


def test_a_resample_has_the_numbers_of_its_images():
    """Against an evaluation of the images that the resample consists of."""
    rng = np.random.default_rng(0)
    maps, masks, kinds = images(rng)
    normals = [m for m, k in zip(*images(rng, 25, 0)[::2], strict=True) if k == "good"]
    whole = evaluate(maps, masks, None, normals, probability=True, defects=kinds, regions=halves(masks))
    weights = draw(kinds, 12, rng)
    samples = resampled(arrays_of(whole), weights, whole.values, True, kinds)
    of_a = resampled_defect(arrays_of(whole), weights, np.array(kinds) == "a", whole.values)
    assert set(samples) == set(names_resampled()) and set(of_a) == set(names_resampled(by_defect=True))
    for b, row in enumerate(weights):
        chosen = np.repeat(np.arange(len(maps)), row.astype(int))
        some = evaluate(
            [maps[i] for i in chosen],
            [masks[i] for i in chosen],
            None,
            normals,
            probability=True,
            defects=[kinds[i] for i in chosen],
            regions=halves([masks[i] for i in chosen]),
        )
        for name in names_resampled():
            exact = name.startswith("image_")
            loose = 0.02 if name == "iou_mean_fpr" else 5e-3  # 12,800 normal pixels: steps
            if name.startswith("iou_width") or name.split("_")[-2:] in (["recall", "oracle"], ["precision", "oracle"]):
                loose = 0.06  # IoU is flat around its maximum, which moves far for little
            if name == "aupimo":  # undefined on so few pixels, and its thresholds are those of all normal images
                continue
            assert samples[name][b] == pytest.approx(some.values[name], abs=1e-9 if exact else loose, nan_ok=True), (b, name)
        for name in names_resampled(by_defect=True):
            if name.endswith("oracle"):  # whose threshold is that of the whole
                assert np.isfinite(of_a[name][b])
                continue
            tolerance = 1e-9 if name.startswith("image_") else 3e-3
            assert of_a[name][b] == pytest.approx(some.defects["a"][name], abs=tolerance), (b, name)
    assert (weights[0] == 1).all()


def test_resamples_keep_the_strata():
    kinds = ["good"] * 7 + ["a"] * 3 + ["b"] * 5
    weights = draw(kinds, 50, np.random.default_rng(1))
    for kind in "good", "a", "b":
        assert (weights[:, [k == kind for k in kinds]].sum(axis=1) == kinds.count(kind)).all()


def auroc_arrays(abnormal: np.ndarray, normal: np.ndarray) -> dict[str, np.ndarray]:
    scores = np.concatenate([normal, abnormal])
    positives = np.r_[np.zeros(len(normal), np.int64), np.ones(len(abnormal), np.int64)]
    return {"score": scores, "positives": positives, "aupimo": np.full(len(scores), np.nan)}


NONE = {"threshold_deployable": math.nan, "image_threshold_deployable": math.nan}


def test_coverage_of_the_interval():
    """Image AUROC of two normal distributions is known: Phi(d / sqrt 2)."""
    rng = np.random.default_rng(2)
    shift, trials, inside = 1.2, 400, 0
    truth = 0.5 * (1 + math.erf(shift / 2))
    for _ in range(trials):
        per_image = auroc_arrays(rng.normal(shift, 1, 40), rng.normal(0, 1, 30))
        values = resampled(per_image, draw(["good"] * 30 + ["bad"] * 40, 400, rng), NONE, False)["image_auroc"]
        interval = percentiles(centred(values, values[0]))
        inside += interval.low <= truth <= interval.high
    assert 0.90 <= inside / trials <= 0.98


@pytest.mark.parametrize("name", ["iou_width", "iou_width_fpr", "recall_oracle", "normal_fpr_oracle", "image_fpr_oracle"])
def test_what_an_oracle_and_a_width_vary_by(name):
    """The spread over resamples is the one of `evaluate` on the images that the resamples consist of."""
    rng = np.random.default_rng(5)
    maps, masks, kinds = images(rng, 12, 12, 4.0)
    whole = evaluate(maps, masks, probability=True)
    weights = draw(kinds, 60, rng)
    samples = resampled(arrays_of(whole), weights, whole.values, True)[name]
    exact = []
    for row in weights:
        chosen = np.repeat(np.arange(len(maps)), row.astype(int))
        exact.append(evaluate([maps[i] for i in chosen], [masks[i] for i in chosen], probability=True).values[name])
    spread = np.std(exact)
    assert spread > 0 and np.std(samples) == pytest.approx(spread, rel=0.35)
    assert np.mean(samples) == pytest.approx(np.mean(exact), abs=0.5 * spread)
    assert np.corrcoef(samples, exact)[0, 1] > 0.8


def test_false_positive_rate_of_ties():
    """Two methods of the same skill on the same images are told apart in about 5 % of the cases, of other skill nearly always."""
    rng = np.random.default_rng(3)

    def told_apart(skills: tuple[float, float]) -> float:
        apart = 0
        for _ in range(300):
            hard = rng.normal(0, 1, 70)  # what is hard for one is hard for the other
            weights = draw(["good"] * 30 + ["bad"] * 40, 300, rng)
            values = []
            for skill in skills:
                scores = hard + rng.normal(0, 0.7, 70)
                per_image = auroc_arrays(scores[30:] + skill, scores[:30])
                values.append(resampled(per_image, weights, NONE, False)["image_auroc"][1:])
            apart += not percentiles(values[0] - values[1]).holds_zero
        return apart / 300

    assert told_apart((1.0, 1.0)) <= 0.10
    assert told_apart((0.3, 1.6)) >= 0.95


def test_error_rate_of_the_test_over_categories():
    """Of four methods without a difference, some pair is called different in at most about 5 % of the cases (Holm)."""
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(60):
        test = over_categories(rng.normal(size=12) + 0.3 * rng.normal(size=(4, 12)))
        wrong += bool((test.p < 0.05).any())
    assert wrong / 60 <= 0.09
    better = rng.normal(size=12) + 0.1 * rng.normal(size=(4, 12)) + np.array([[1.0], [0], [0], [0]])
    test = over_categories(better)
    assert (test.p[0, 1:] < 0.05).all() and test.ranks[0] == 1


def test_too_few_categories_are_said_to_be():
    assert [needed_categories(pairs) for pairs in (1, 3, 6, 15)] == [6, 7, 8, 10]
    assert over_categories(np.random.default_rng(0).random((2, 5))).p is None
    assert over_categories(np.random.default_rng(0).random((2, 6))).p is not None
    for pairs in (1, 3, 6):  # the smallest p that there can be, corrected, is significant with so many, and not with fewer
        n = needed_categories(pairs)
        assert pairs * 2 / 2**n <= 0.05 < pairs * 2 / 2 ** (n - 1)


# on stored cells


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "results" / "run", RunRecord(profile="full", dataset="d", holdout=0.1, seeds=[0]))


def test_tables_have_half_widths_and_ties(run):
    for category in "wood", "nut":
        for variant, skill in {"a": 1.0, "b": 1.001, "c": 0.2}.items():
            store(run, variant, category, skill)
    results = Results(run)
    numbers = results.numbers("pixel_auroc", [0])
    best, other = (0, 1) if numbers[0].mean > numbers[1].mean else (1, 0)
    assert numbers[other].tie and not numbers[best].tie and not numbers[2].tie
    assert all(0 < n.half < 0.2 for n in numbers)
    table = metric_table(results, "pixel_auroc", "pixel_auroc")
    row = {cell.text.endswith("≈"): cell for cell in table.lines[0].cells[1:3]}
    assert row[False].bold and not row[True].bold and "±" in row[True].text
    assert any("95 % confidence interval" in note and "one seed" in note for note in table.notes)
    again = Results(run).numbers("pixel_auroc", [0])
    assert again == numbers  # the same resamples each time
    both = results.numbers("pixel_auroc", [0, 1])
    assert both[2].half < max(results.numbers("pixel_auroc", [c])[2].half for c in (0, 1))


def test_every_number_has_its_interval_in_long_form(run):
    for category in "wood", "nut":
        for variant, skill in {"a": 1.0, "b": 0.2}.items():
            store(run, variant, category, skill)
    run.rows.append(Row("c", "c", "d", "nut", 0, "0"))
    frame = intervals_frame(Results(run))
    of_all = set(frame.metric[(frame.category == "wood") & (frame.defect == "")])
    assert of_all == {name for name in run.rows[0].result.record.values if "threshold" not in name} - {"spro_0.05"}
    bounded = frame.dropna(subset=["low"])
    inside = (bounded.low <= bounded.value + 0.02) & (bounded.value - 0.02 <= bounded.high)
    assert inside.all() and (bounded.low < bounded.high).sum() > 150
    frame = frame.set_index(["variant", "category", "defect", "metric"])
    of_a = Results(run).numbers("iou_max", [0, 1])[0]
    assert frame.loc[("a", "", "", "iou_max")].tolist()[:3] == [of_a.mean, of_a.low, of_a.high]
    assert frame.loc[("a", "wood", "b", "pixel_auroc"), "low"] > 0.5
    missing = frame.loc[("c", "nut", "", "iou_max")]
    assert (missing.n, missing.total) == (0, 1) and math.isnan(missing.low)


def test_seeds_that_differ_widen_the_interval(run):
    for seed, skill in enumerate([0.2, 1.0, 2.0]):
        store(run, "a", "wood", skill, seed)
        store(run, "b", "wood", 1.0 + seed / 1000, seed)
    apart, alike = Results(run).numbers("pixel_auroc", [0])
    assert apart.half > 3 * alike.half


def test_a_comparison_of_two_methods_in_few_categories(run):
    for category in "wood", "nut":
        for variant, skill in {"strong": 1.5, "weak": 0.2}.items():
            store(run, variant, category, skill)
    table = comparison_table(Results(run))
    assert any("Too few categories for a test over them: 2, where 6 are needed" in note for note in table.notes)
    line = {line.cells[0].text: [c.text for c in line.cells] for line in table.lines if line.group == "Pixel AUROC"}
    low, high = (float(part) for part in line["weak"][4].split(" .. "))
    assert low < float(line["weak"][3]) < high < 0 and line["weak"][5] == "–" and line["strong"][2] == "1.00"
    assert rank_figure(Results(run), "pixel_auroc") is None


def test_what_a_run_says_in_words(run):
    for category in "wood", "nut":
        for variant, skill in {"strong": 1.5, "weak": 0.2 if category == "wood" else 2.5}.items():
            store(run, variant, category, skill)
    text = " ".join(findings(Results(run)))
    assert "Pixel AUROC: strong leads with" in text or "Pixel AUROC: weak leads with" in text
    assert "false alarms per 1,000 good parts" in text and "2 min per category" in text and "One seed" in text
    shares = {
        row.category: row.result.value("image_recall_deployable") for row in run.rows if f"image threshold, {row.variant}" in text
    }
    low, high = sorted(shares, key=lambda category: (shares[category], category))
    assert f"from {100 * shares[low]:.1f} ({low}) to {100 * shares[high]:.1f} ({high})" in text
    leader = text.split("Pixel AUROC: ")[1].split()[0]
    loses = f"{leader} is behind in Pixel AUROC on "
    assert loses in text and ("nut" if leader == "strong" else "wood") in text.split(loses)[1]


def test_no_false_alarm_is_not_none_ever(run):
    for category in "wood", "nut":
        store(run, "strong", category, 1.5)
    for row in run.rows:
        row.result.record.values["image_fpr_deployable"] = 0.0
    text = " ".join(findings(Results(run)))
    assert "no false alarm on 16 good test images, which leaves up to 171 per 1,000" in text  # 0.829^16 = 0.05


def test_a_method_without_a_threshold_of_images_says_what_would_give_one(run):
    store(run, "a", "wood", 1.0)
    record = run.rows[0].result.record
    names = ("image_threshold_deployable", "image_recall_deployable", "image_fpr_deployable")
    record.values.update(dict.fromkeys(names, math.nan))
    record.reasons["image_threshold_deployable"] = "needs 19 held-out normal images, but there are 3"
    assert any("but there are 3 (raise --holdout" in sentence for sentence in findings(Results(run)))


def test_methods_of_one_skill_are_not_told_apart_in_words(run):
    for variant, skill in {"a": 1.0, "b": 1.001}.items():
        store(run, variant, "wood", skill)
    assert "cannot be told from" in findings(Results(run))[0]


def test_a_cell_without_counts_has_no_interval():
    assert math.isnan(Number(0.5, 1, 1).half)
