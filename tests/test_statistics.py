"""How sure numbers are: resampling against brute force, coverage and error rates on data with known truth."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import logit
from statsmodels.stats.multitest import multipletests

from anoseg_bench.formatting import percent
from anoseg_bench.metrics import confidence, evaluate
from anoseg_bench.metrics.bootstrap import Choices, choices, draw, resampled, resampled_defects, strata_of
from anoseg_bench.metrics.catalogue import names_resampled
from anoseg_bench.metrics.thresholds import image_threshold, pixel_threshold
from anoseg_bench.report.compare import _holm, comparison_table, needed_categories, rank_figure
from anoseg_bench.report.compare import test_over_categories as over_categories
from anoseg_bench.report.findings import findings
from anoseg_bench.report.intervals import Resamples, percentiles
from anoseg_bench.report.results import Number, Results, intervals_frame
from anoseg_bench.report.tables import metric_table
from anoseg_bench.store.cells import Row, Run
from anoseg_bench.store.records import RunRecord
from tests.helpers import halves, images, store

pytestmark = pytest.mark.intervals


def arrays_of(evaluation) -> dict[str, np.ndarray]:
    return evaluation.per_image | evaluation.curves


def whole_numbers(strata: list[np.ndarray], number: int, rng: np.random.Generator) -> np.ndarray:
    """Return resamples in which each image is a whole number of times, as brute force needs them; the first are the images."""
    weights = np.ones((number + 1, sum(map(len, strata))))
    for members in strata:
        weights[1:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=number)
    return weights


def fixed(evaluation, number: int) -> Choices:
    """Return the deployable thresholds, the same for all resamples."""
    held_out = np.ones((number, len(evaluation.curves["held_out_pixels"]))) if "held_out_pixels" in evaluation.curves else None
    if held_out is None:
        return Choices(np.full(number, math.nan), None)
    return choices(arrays_of(evaluation), evaluation.values["image_threshold_deployable"], held_out)


def test_a_resample_has_the_numbers_of_its_images():
    """Against an evaluation of the images that the resample consists of."""
    rng = np.random.default_rng(0)
    maps, masks, kinds = images(rng)
    normals = [m for m, k in zip(*images(rng, 25, 0)[::2], strict=True) if k == "good"]
    whole = evaluate(maps, masks, None, normals, probability=True, defects=kinds, regions=halves(masks))
    weights = whole_numbers(strata_of(kinds, whole.per_image["positives"]), 12, rng)
    chosen = fixed(whole, len(weights))
    samples = resampled(arrays_of(whole), weights, chosen, True, kinds)
    of_a = resampled_defects(arrays_of(whole), weights, {"a": np.array(kinds) == "a"}, whole.values, chosen)["a"]
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


def test_resamples_keep_the_strata_and_the_variance():
    kinds = ["good"] * 7 + ["a"] * 3 + ["b"] * 5
    strata = strata_of(kinds, np.array([0] * 7 + [1] * 8))
    weights = draw(strata, 4000, np.random.default_rng(1))
    values = np.random.default_rng(2).normal(size=15)
    for kind in "good", "a", "b":
        members = [k == kind for k in kinds]
        assert weights[:, members].sum(axis=1) == pytest.approx(kinds.count(kind))
        mean = weights[1:, members] @ values[members] / kinds.count(kind)
        assert mean.var() == pytest.approx(values[members].var(ddof=1) / kinds.count(kind), rel=0.1)  # not (n - 1) / n of it


def test_defect_types_of_one_image_are_drawn_together():
    kinds = ["good", "good", "a", "a", "a", "b", "c", "d", "d"]
    strata = [some.tolist() for some in strata_of(kinds, np.array([0, 0, 1, 1, 1, 1, 1, 1, 1]))]
    assert strata == [[0, 1], [2, 3, 4], [7, 8], [5, 6]]
    assert [some.tolist() for some in strata_of(kinds[:6], np.array([0, 0, 1, 1, 1, 1]))] == [[0, 1], [2, 3, 4, 5]]
    assert [some.tolist() for some in strata_of(["good", "a"], np.array([0, 1]))] == [[0], [1]]


def test_thresholds_of_resampled_held_out_images():
    """Against thresholds of the images that a resample consists of."""
    rng = np.random.default_rng(7)
    maps = [rng.gamma(2, 1 + i % 3, (60, 50)).astype(np.float32) for i in range(24)]
    scores = np.array([m.max() for m in maps])
    maps_masks = images(rng, 4, 4)
    whole = evaluate(maps_masks[0], maps_masks[1], normal_maps=maps, normal_scores=scores)
    weights = whole_numbers([np.arange(24)], 40, rng)
    found = choices(arrays_of(whole) | {"held_out_score": scores}, whole.values["image_threshold_deployable"], weights)
    assert found.image[0] == whole.values["image_threshold_deployable"]
    grid = whole.curves["thresholds_held_out"]
    assert np.float32(grid[found.pixel[0]]) == np.float32(whole.values["threshold_deployable"])
    for b, row in enumerate(weights):
        drawn = np.repeat(np.arange(24), row.astype(int))
        assert found.image[b] == image_threshold(scores[drawn], 0.05)
        exact = pixel_threshold([maps[i] for i in drawn], 1e-3).threshold
        place = found.pixel[b]
        assert grid[place] >= exact - 1e-6 and (place == len(grid) - 1 or grid[place + 1] < exact)  # the next on the grid above it
    assert len(set(found.pixel.tolist())) > 5 and len(set(found.image.tolist())) > 1


def test_counts_of_held_out_images_are_those_of_their_maps():
    rng = np.random.default_rng(8)
    maps = [rng.normal(i % 4, 1, (37, 41)).astype(np.float32) for i in range(9)]
    kept = pixel_threshold(maps, 1e-3)
    assert kept.counts.tolist() == [[int((m >= t).sum()) for t in kept.thresholds] for m in maps]
    assert kept.pixels.tolist() == [37 * 41] * 9 and (np.diff(kept.thresholds) < 0).all()
    whole = np.sort(np.concatenate([m.ravel() for m in maps]))[::-1]
    assert kept.threshold > whole[int(1e-3 * len(whole))] >= np.nextafter(np.float32(kept.threshold), np.float32(-9))


def auroc_arrays(abnormal: np.ndarray, normal: np.ndarray) -> dict[str, np.ndarray]:
    scores = np.concatenate([normal, abnormal])
    positives = np.r_[np.zeros(len(normal), np.int64), np.ones(len(abnormal), np.int64)]
    return {"score": scores, "positives": positives, "aupimo": np.full(len(scores), np.nan)}


def nothing(weights: np.ndarray) -> Choices:
    """Return no thresholds."""
    return Choices(np.full(len(weights), math.nan), None)


def interval_of(draws: confidence.Draws) -> tuple[float, float]:
    interval = percentiles(draws.low, draws.high)
    return interval.low, interval.high


@pytest.mark.parametrize(("hits", "number"), [(0, 12), (1, 40), (20, 40), (39, 40), (7, 7)])
def test_rates_have_the_interval_of_clopper_and_pearson(hits, number):
    exact = stats.binomtest(hits, number).proportion_ci()
    draws = confidence.of_rate(np.full(2000, hits), np.full(2000, number), confidence.shares(2000, np.random.default_rng(0)))
    assert interval_of(draws) == pytest.approx((exact.low, exact.high), abs=1e-4)


@pytest.mark.parametrize("area", [0.8, 0.97, 1.0])
def test_the_interval_of_an_auroc_is_the_one_of_separation(area):
    from anoseg_bench.metrics.separation import separation

    rng = np.random.default_rng(3)
    normal, abnormal = rng.normal(0, 1, 20), rng.normal(20 if area == 1 else math.sqrt(2) * stats.norm.ppf(area), 1, 15)
    found, low, high = separation(abnormal, normal)
    draws = confidence.of_auroc(abnormal, normal, confidence.shares(2000, rng))
    assert interval_of(draws) == pytest.approx((low, high), abs=2e-4) and low < found and (found < 1 or high == 1)


@pytest.mark.parametrize(("skill", "normal", "bad"), [(1.2, 30, 40), (2.6, 15, 45), (2.6, 10, 10)])
def test_coverage_of_the_interval_of_image_auroc(skill, normal, bad):
    """The AUROC of two normal distributions is known: Phi(d / sqrt 2). More in `tests/tools/coverage.py`."""
    rng = np.random.default_rng(2)
    truth, trials = stats.norm.cdf(skill / math.sqrt(2)), 250
    quantiles = confidence.shares(400, rng)
    ends = [interval_of(confidence.of_auroc(rng.normal(skill, 1, bad), rng.normal(0, 1, normal), quantiles)) for _ in range(trials)]
    inside = sum(low <= truth <= high for low, high in ends) / trials
    assert 0.93 <= inside <= 0.995 and all(low < high for low, high in ends)


def test_coverage_of_resampled_intervals():
    """A mean of skewed values of few images, whose truth is known: 0.9 +- what chance leaves of 0.95."""
    rng = np.random.default_rng(4)
    truth, inside, trials = 0.05, 0, 300
    members = np.arange(15)
    for _ in range(trials):
        values = rng.beta(1, 19, 15)
        weights = draw([members], 400, rng)
        means = weights @ values / 15
        low, high = interval_of(confidence.of_resamples(means, means[0], confidence.slopes_of(weights), [members], None, 15))
        inside += low <= truth <= high
    assert 0.90 <= inside / trials <= 0.99


def test_an_interval_reaches_further_towards_the_image_that_is_most_unlike():
    values = np.array([0.95, 0.96, 0.97, 0.98] * 5 + [0.7])
    n, mean = len(values), values.mean()
    weights = draw([np.arange(n)], 4000, np.random.default_rng(0))
    means = weights @ values / n
    draws = confidence.of_resamples(means, means[0], confidence.slopes_of(weights), [np.arange(n)], None, n)
    reach = np.abs(logit(np.array(interval_of(draws))) - logit(mean))
    influence = (values - mean) / n / (mean * (1 - mean))  # on the scale of the logit, to first order
    most, least = influence.max(), -influence.min()
    further = 2 * (least**2 - most**2) / (least + most)
    assert least > 5 * most and reach[0] - reach[1] == pytest.approx(further, rel=0.15)


def test_a_number_that_no_resample_moves_is_not_certain():
    weights = draw([np.arange(20)], 200, np.random.default_rng(0))
    for exact in 0.0, 1.0:
        draws = confidence.of_resamples(np.full(201, exact), exact, confidence.slopes_of(weights), [np.arange(20)], None, 20)
        low, high = interval_of(draws)
        assert high - low == pytest.approx(1 - 0.025 ** (1 / 20), abs=1e-3) and low <= exact <= high
    draws = confidence.of_resamples(np.full(201, 0.4), 0.4, confidence.slopes_of(weights), [np.arange(20)], None, 20)
    assert math.isnan(interval_of(draws)[0])


def test_normal_images_move_aupimo():
    """Its bound is a false-positive rate on normal images: with those that differ, it moves when they alone are resampled."""
    rng = np.random.default_rng(6)
    masks = [np.zeros((100, 100), bool) for _ in range(30)]
    for mask in masks[:10]:
        mask[20:60, 20:60] = True
    spread = np.concatenate([np.ones(10), rng.uniform(0.3, 3, 20)])
    maps = [(s * rng.normal(0, 1, m.shape) + 10 * m).astype(np.float32) for s, m in zip(spread, masks, strict=True)]
    whole = evaluate(maps, masks)
    normal = np.arange(10, 30)
    weights = np.ones((301, 30))
    weights[1:, normal] = draw([np.arange(20)], 300, rng)[1:]
    values = resampled(arrays_of(whole), weights, nothing(weights), False)["aupimo"]
    assert values[0] == pytest.approx(whole.values["aupimo"], abs=0.02) and 0.1 < values[0] < 0.9
    assert values.std() > 0.05


@pytest.mark.parametrize("name", ["iou_width", "iou_width_fpr", "recall_oracle", "normal_fpr_oracle", "image_fpr_oracle"])
def test_what_an_oracle_and_a_width_vary_by(name):
    """The spread over resamples is the one of `evaluate` on the images that the resamples consist of."""
    rng = np.random.default_rng(5)
    maps, masks, kinds = images(rng, 12, 12, 4.0)
    whole = evaluate(maps, masks, probability=True)
    weights = whole_numbers(strata_of(kinds, whole.per_image["positives"]), 60, rng)
    samples = resampled(arrays_of(whole), weights, nothing(weights), True)[name]
    exact = []
    for row in weights:
        chosen = np.repeat(np.arange(len(maps)), row.astype(int))
        exact.append(evaluate([maps[i] for i in chosen], [masks[i] for i in chosen], probability=True).values[name])
    spread = np.std(exact)
    assert spread > 0 and np.std(samples) == pytest.approx(spread, rel=0.35)
    assert np.mean(samples) == pytest.approx(np.mean(exact), abs=0.5 * spread)
    assert np.corrcoef(samples, exact)[0, 1] > 0.8


def test_the_interval_of_a_difference_is_students_and_welchs():
    """Against SciPy, on means whose images differ by one of two values (no kurtosis): paired, and of different images."""
    rng = np.random.default_rng(0)
    first, other = np.array([0.0, 1.0] * 5), np.array([0.2, 1.4, 0.2, 1.4] * 4)
    weights = [draw([np.arange(n)], 40_000, rng) for n in (10, 16)]
    means = [(w @ x / len(x))[1:] for w, x in zip(weights, (first, other), strict=True)]
    parts = [
        confidence.uncertainty(confidence.influences_of(mean, confidence.slopes_of(w), [np.arange(len(x))]), None)
        for mean, w, x in zip(means, weights, (first, other), strict=True)
    ]
    paired = stats.ttest_rel(first, np.zeros(10)).confidence_interval(0.95)
    assert confidence.around_mean(means[0], parts[:1], 0.95) == pytest.approx([*paired], abs=0.01)
    welch = stats.ttest_ind(first, other, equal_var=False).confidence_interval(0.95)
    assert confidence.around_mean(means[0] - means[1], parts, 0.95) == pytest.approx([*welch], abs=0.01)
    assert confidence.around_mean(np.zeros(50), [(0.0, 2.0)], 0.95) == (0, 0)
    assert all(map(math.isnan, confidence.around_mean(np.full(50, math.nan), parts, 0.95)))


def test_what_differs_by_seeds_alone_has_their_degrees_of_freedom():
    seeds = draw([np.arange(3)], 4000, np.random.default_rng(1))
    values = np.stack([seeds[1:] @ [0.1, 0.2, 0.6] / 3, np.zeros(4000)])
    interval = Resamples(values, values, values, [], seeds).difference(0, 1)
    assert [interval.low, interval.high] == pytest.approx([*stats.t.interval(0.95, 2, 0.3, stats.sem([0.1, 0.2, 0.6]))], rel=0.03)


def test_false_positive_rate_of_ties():
    """Two methods of the same skill on the same images are told apart in about 5 % of the cases, of other skill nearly always."""
    rng = np.random.default_rng(3)

    def told_apart(skills: tuple[float, float], normal: int, defective: int) -> float:
        apart, strata = 0, [np.arange(normal), np.arange(normal, normal + defective)]
        for _ in range(200):
            hard = rng.normal(0, 1, normal + defective)  # what is hard for one is hard for the other
            weights = draw(strata, 300, rng)
            values = []
            for skill in skills:
                scores = hard + rng.normal(0, 0.7, len(hard))
                per_image = auroc_arrays(scores[normal:] + skill, scores[:normal])
                values.append(resampled(per_image, weights, nothing(weights), False)["image_auroc"][1:])
            difference = values[0] - values[1]
            influences = confidence.influences_of(difference, confidence.slopes_of(weights), strata)
            low, high = confidence.around_mean(difference, [confidence.uncertainty(influences, None)], 0.95)
            apart += low > 0 or high < 0
        return apart / 200

    assert told_apart((1.0, 1.0), 30, 40) <= 0.08
    assert told_apart((1.0, 1.0), 8, 6) <= 0.08
    assert told_apart((0.3, 1.6), 30, 40) >= 0.95


def test_error_rate_of_the_test_over_categories():
    """Of four methods without a difference, some pair is called different in at most about 5 % of the cases (Holm)."""
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(30):
        test = over_categories(rng.normal(size=12) + 0.3 * rng.normal(size=(4, 12)))
        wrong += bool((test.p < 0.05).any())
    assert wrong / 30 <= 0.1
    better = rng.normal(size=12) + 0.1 * rng.normal(size=(4, 12)) + np.array([[1.0], [0], [0], [0]])
    test = over_categories(better)
    assert (test.p[0, 1:] < 0.05).all() and test.ranks[0] == 1


@pytest.mark.parametrize("count", [2, 3, 7])  # statsmodels' takes long in a large process
def test_holms_correction_is_statsmodels(count):
    p = np.random.default_rng(count).choice([1e-4, 0.003, 0.01, 0.02, 0.04, 0.5, 1.0], (count, count))
    p = np.triu(p, 1) + np.triu(p, 1).T + np.eye(count)
    pairs = np.triu_indices(count, 1)
    corrected = _holm(p)
    assert np.allclose(corrected[pairs], multipletests(p[pairs], method="holm")[1], rtol=1e-12)
    assert (corrected == corrected.T).all() and (np.diag(corrected) == 1).all()


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


def width(number: Number) -> float:
    return number.high - number.low


def test_tables_have_intervals_and_ties(run):
    for category in "wood", "nut":
        for variant, skill in {"a": 1.0, "b": 1.001, "c": 0.2}.items():
            store(run, variant, category, skill)
    results = Results(run)
    numbers = results.numbers("pixel_auroc", [0])
    best, other = (0, 1) if numbers[0].mean > numbers[1].mean else (1, 0)
    assert numbers[other].tie and not numbers[best].tie and not numbers[2].tie
    assert all(n.low < n.mean < n.high < n.low + 0.4 for n in numbers)
    table = metric_table(results, "pixel_auroc", "pixel_auroc")
    row = {cell.text.endswith("≈"): cell for cell in table.lines[0].cells[1:3]}
    assert row[False].bold and not row[True].bold and re.search(r"\d \(\d+\.\d–\d+\.\d\)", row[True].text)
    assert any("95 % confidence interval" in note and "one seed" in note for note in table.notes)
    again = Results(run).numbers("pixel_auroc", [0])
    assert again == numbers  # the same resamples each time
    both = results.numbers("pixel_auroc", [0, 1])
    assert width(both[2]) < max(width(results.numbers("pixel_auroc", [c])[2]) for c in (0, 1))


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
    assert width(apart) > 3 * width(alike)


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
    assert "Pixel AUROC: 'strong' leads with" in text or "Pixel AUROC: 'weak' leads with" in text
    assert (
        "false alarms per 1,000 good parts, where 50 were asked for" in text and "2 min per category" in text and "One seed" in text
    )
    shares = {
        row.category: row.result.value("image_recall_deployable") for row in run.rows if f"image threshold, '{row.variant}'" in text
    }
    low, high = sorted(shares, key=lambda category: (shares[category], category))
    assert f"from {percent(shares[low])} ({low}) to {percent(shares[high])} ({high})" in text
    leader = text.split("Pixel AUROC: '")[1].split("'")[0]
    loses = f"'{leader}' is behind in Pixel AUROC on "
    assert loses in text and ("nut" if leader == "strong" else "wood") in text.split(loses)[1]


def test_thresholds_that_fail_are_said_first(run):
    for category in "wood", "nut", "tin":
        store(run, "a", category, 1.5)
    changes = {
        "wood": {"image_recall_deployable": 0.01, "image_fpr_deployable": 0.0},
        "nut": {"image_recall_deployable": 0.9, "image_fpr_deployable": 0.0, "normal_fpr_deployable": 0.0005},
        "tin": {"image_recall_deployable": 0.9, "image_fpr_deployable": 0.0, "normal_fpr_deployable": 0.0005},
    }
    for row in run.rows:
        row.result.record.values.update({"normal_fpr_deployable": 0.0005, "recall_deployable": 0.5} | changes[row.category])
    first, second = findings(Results(run))[:2]
    assert first.startswith("Not fit for use: the image threshold of 'a' on wood: it misses nearly all of the defective images")
    assert second.startswith("Pixel AUROC: 'a' has ")
    del run.rows[0]
    assert not findings(Results(run))[0].startswith("Not fit")


def test_no_false_alarm_is_not_none_ever(run):
    for category in "wood", "nut":
        store(run, "strong", category, 1.5, peak=1.0)
    assert all(row.result.value("image_fpr_deployable") == 0 for row in run.rows)
    text = " ".join(findings(Results(run)))
    alarms = re.search(r"raise 0 \(0–(\d+)\) false alarms per 1,000 good parts", text)
    assert alarms and int(alarms[1]) > 150  # of two categories with 8 good images each


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
    assert any(
        re.fullmatch(r"No method can be told from the best in .*Pixel AUROC.*", sentence) for sentence in findings(Results(run))
    )


def test_a_cell_without_counts_has_no_interval():
    assert math.isnan(width(Number(0.5, 1, 1))) and Number(0.5, 1, 1).reach == (0, 0)
