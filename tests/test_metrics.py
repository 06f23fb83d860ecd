"""The metric suite against independent references: scikit-learn, and definitions written out by brute force."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.metrics import (
    average_precision_score,
    jaccard_score,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
)

from anoseg_bench.metrics import RATE_GRID, VALUE_GRID, evaluate, tabled
from anoseg_bench.metrics.axes import RATE_AXIS, VALUE_AXIS
from anoseg_bench.metrics.binned import Binned, Sketch, from_keys, ordered_keys
from anoseg_bench.metrics.catalogue import average_precision
from anoseg_bench.metrics.counts import Parts, in_threads, region_labels
from anoseg_bench.metrics.curves import PIMO_RANGE, auroc, limited_area, pro_curve
from anoseg_bench.metrics.exact import _positions
from anoseg_bench.metrics.thresholds import image_threshold, needed_scores
from tests.helpers import halves

SCALE_FREE = ["iou_mean_fpr", "iou_width_fpr", "image_ap", "image_f1_max", "recall_oracle", "precision_oracle", "fpr_oracle"]
RANK = ["pixel_auroc", "pixel_ap", "aupro_0.3", "aupro_0.05", "iou_max", "f1_max", "image_auroc"]


def reference_pro(maps, masks, limit=0.3):
    """AUPRO as MVTec's evaluation code defines it: every distinct score a threshold, trapezoids, cut at the limit."""
    scores = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    points = [(0.0, 0.0)]
    normal = sum((~m).sum() for m in masks)
    for t in scores:
        overlaps = []
        for scores_map, mask in zip(maps, masks, strict=True):
            labels, number = ndimage.label(mask, np.ones((3, 3)))
            overlaps += [(scores_map[labels == k] >= t).mean() for k in range(1, number + 1)]
        fp = sum(((m >= t) & ~k).sum() for m, k in zip(maps, masks, strict=True))
        points.append((fp / normal, float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        right = min(x1, limit)
        top = y0 + (y1 - y0) * (right - x0) / (x1 - x0) if x1 > x0 else y1
        area += (right - x0) * (y0 + top) / 2
    return area / limit


LEVELS = np.round(np.arange(-10, 10, 0.01), 2).astype(np.float32)


def reference_iou_max(scores, labels):
    """IoU at every distinct score, the largest."""
    return max(((scores >= t) & labels).sum() / ((scores >= t) | labels).sum() for t in np.unique(scores))


@st.composite
def cases(draw):
    """Some tiny maps with few distinct values (many ties) and masks."""
    n = draw(st.integers(1, 3))
    maps, masks = [], []
    for _ in range(n):
        shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
        levels = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) if draw(st.booleans()) else st.floats(0, 1, width=32)
        maps.append(draw(hnp.arrays(np.float32, shape, elements=levels)))
        masks.append(draw(hnp.arrays(bool, shape)))
    return maps, masks


@settings(max_examples=150, deadline=None)
@given(cases())
def test_equal_to_references(case):
    maps, masks = case
    scores, labels = flat(maps), flat(masks)
    assume(labels.any() and not labels.all())
    v = evaluate(maps, masks, probability=True).values
    assert v["pixel_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert v["pixel_ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert v["f1_max"] == pytest.approx(f1.max(), abs=1e-9)
    assert v["iou_max"] == pytest.approx(reference_iou_max(scores, labels), abs=1e-9)
    for limit in (0.3, 0.05):
        assert v[f"aupro_{limit}"] == pytest.approx(reference_pro(maps, masks, limit), abs=1e-9)
    assert v["iou_0.5"] == pytest.approx(((scores >= 0.5) & labels).sum() / ((scores >= 0.5) | labels).sum())


def flat(arrays):
    return np.concatenate([a.ravel() for a in arrays])


def larger_case(rng, n=6, size=(40, 50)):
    maps, masks = [], []
    for i in range(n):
        mask = np.zeros(size, bool)
        if i % 3:
            mask[5:15, 5 : 10 + 2 * i] = True
            mask[30:33, 20:40] = True
        maps.append((rng.normal(size=size) + mask).astype(np.float32))
        masks.append(mask)
    return maps, masks


@pytest.mark.parametrize(
    "transform",
    [np.exp, lambda m: m.astype(np.float64) ** 3, lambda m: m * 1e6, lambda m: m * 1e-6, lambda m: np.searchsorted(LEVELS, m)],
    ids=["exp", "cube", "1e6", "1e-6", "rank"],
)
@pytest.mark.parametrize("memory", [None, 1], ids=["exact", "bounded"])
def test_increasing_transform_changes_no_rank_metric(transform, memory):
    rng = np.random.default_rng(0)
    maps, masks = larger_case(rng, size=(200, 260))  # enough normal pixels for AUPIMO
    maps = [np.round(m, 2) for m in maps]  # few enough values that float32 keeps them apart
    regions = halves(masks)

    def numbers(of):
        maps_, held_out = [of(m).astype(np.float32) for m in maps], [of(m).astype(np.float32) for m in maps[:2]]
        scores = [m.max() for m in held_out] * 10
        return evaluate(maps_, masks, normal_maps=held_out, normal_scores=scores, regions=regions, memory=memory).values

    before, after = numbers(lambda m: m), numbers(transform)
    on_value = {"iou_mean", "iou_width", "threshold_oracle", "threshold_deployable"}
    ranks = {name for name in before if name not in on_value and not name.startswith("image_threshold")}
    assert ranks >= {*RANK, *SCALE_FREE, "aupimo", "spro_0.05", "iou_deployable", "image_recall_deployable"}
    for name in ranks:
        assert after[name] == pytest.approx(before[name], abs=1e-4 if memory else 1e-12, nan_ok=True), name
    assert {n for n in ranks if np.isnan(before[n])} == {"iou_0.5", "image_precision_deployable"}


def test_constant_map():
    _, masks = larger_case(np.random.default_rng(0))
    v = evaluate([np.full(m.shape, 0.3, np.float32) for m in masks], masks).values
    prevalence = np.mean([m.mean() for m in masks])
    assert v["pixel_auroc"] == 0.5 and v["image_auroc"] == 0.5
    assert v["pixel_ap"] == pytest.approx(prevalence) and v["iou_max"] == pytest.approx(prevalence)
    assert v["aupro_0.3"] == pytest.approx(0.15) and v["aupro_0.05"] == pytest.approx(0.025)
    low, high = PIMO_RANGE
    many = [np.zeros((400, 400), bool), np.eye(60, dtype=bool)]
    chance = evaluate([np.zeros(m.shape) for m in many], many).values["aupimo"]
    assert chance == pytest.approx((high - low) / np.log(high / low))


def test_perfect_map():
    _, masks = larger_case(np.random.default_rng(0))
    v = evaluate([m.astype(np.float32) for m in masks], masks, probability=True).values
    for name in {*RANK, *SCALE_FREE, "iou_0.5"} - {"fpr_oracle"}:
        assert v[name] == 1, name
    assert v["fpr_oracle"] == 0


def test_undefined_is_nan_with_a_reason():
    maps, masks = larger_case(np.random.default_rng(0))
    none = evaluate(maps, [np.zeros_like(m) for m in masks])
    everything = evaluate(maps, [np.ones_like(m) for m in masks])
    for result, reason in ((none, "no defective"), (everything, "no normal")):
        for name in RANK:
            assert np.isnan(result.values[name]) and reason in result.reasons[name], name
    for memory in (None, 1):
        assert np.isnan(evaluate(maps, [np.ones_like(m) for m in masks], memory=memory).per_image["iou_oracle"]).all()
    scaled = evaluate(maps, masks)
    assert np.isnan(scaled.values["iou_0.5"]) and "no probability" in scaled.reasons["iou_0.5"]
    assert np.isnan(scaled.values["iou_deployable"]) and "held-out" in scaled.reasons["iou_deployable"]


def test_nan_and_shapes_are_errors_that_name_the_image():
    maps, masks = larger_case(np.random.default_rng(0))
    maps[2][3, 3] = np.nan
    with pytest.raises(ValueError, match="image c has one"):
        evaluate(maps, masks, names=list("abcdef"))
    maps[2] = maps[2][:-1]
    with pytest.raises(ValueError, match=r"image c, but got a map float32 \(39, 50\) and a mask bool \(40, 50\)"):
        evaluate(maps, masks, names=list("abcdef"))


def test_infinite_scores():
    maps, masks = larger_case(np.random.default_rng(0))
    maps[0][0, 0], maps[1][0, 0] = np.inf, -np.inf
    result = evaluate(maps, masks)
    finite = [np.clip(m, -1e30, 1e30) for m in maps]
    for name in [*RANK, *SCALE_FREE]:
        assert result.values[name] == pytest.approx(evaluate(finite, masks).values[name]), name
        assert evaluate(maps, masks, memory=1).values[name] == pytest.approx(result.values[name], abs=1e-4), name
    assert "infinite" in result.reasons["iou_mean"]
    assert "no finite" in evaluate(maps, masks, normal_maps=[np.full((9, 9), np.inf)]).reasons["iou_deployable"]


def test_threshold_axis():
    """The curve is the IoU at each stated threshold; scaled maps give what the scaled copy gives as a probability."""
    maps, masks = larger_case(np.random.default_rng(1))
    low, high = min(m.min() for m in maps), max(m.max() for m in maps)
    curve = evaluate(maps, masks).curves["iou"]
    for k in (0, 37, 100, 150, 200):
        t = np.float32(low + VALUE_GRID[k] * (np.float64(high) - low))
        hit = sum(((m >= t) & g).sum() for m, g in zip(maps, masks, strict=True))
        union = sum(((m >= t) | g).sum() for m, g in zip(maps, masks, strict=True))
        assert curve[k] == pytest.approx(hit / union)
    scores, labels = flat(maps), flat(masks)
    thresholds = (low + VALUE_AXIS * (np.float64(high) - low)).astype(np.float32)
    every = np.array([((scores >= t) & labels).sum() / ((scores >= t) | labels).sum() for t in thresholds])
    values = evaluate(maps, masks).values
    assert values["iou_mean"] == pytest.approx(every.mean())
    assert values["iou_width"] == pytest.approx((every >= 0.9 * values["iou_max"]).mean())


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 60), elements=st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.9])), st.floats(0, 0.9))
def test_deployable_threshold_is_the_smallest_that_keeps_the_rate(normal, rate):
    mask = np.array([[True, False]])
    result = evaluate([np.array([[1.0, 0.0]])], [mask], normal_maps=[normal.reshape(1, -1)], allowed_fpr=rate)
    t = result.values["threshold_deployable"]
    assert (normal >= np.float32(t)).mean() <= rate
    lower = np.nextafter(np.float32(t), np.float32(-np.inf))
    assert (normal >= lower).mean() > rate or t == normal.min()


def test_numbers_per_defect_type_are_against_all_normals():
    maps, masks = larger_case(np.random.default_rng(2))
    kinds = ["good", "a", "b", "good", "a", "b"]
    result = evaluate(maps, masks, defects=kinds)
    normal = np.concatenate([m[~g] for m, g in zip(maps, masks, strict=True)])
    for kind in "ab":
        own = np.concatenate([m[g] for m, g, k in zip(maps, masks, kinds, strict=True) if k == kind])
        labels = np.r_[np.ones(len(own)), np.zeros(len(normal))]
        assert result.defects[kind]["pixel_auroc"] == pytest.approx(roc_auc_score(labels, np.r_[own, normal]))
        peaks = [m.max() for m, k in zip(maps, kinds, strict=True) if k in (kind, "good")]
        marks = [k == kind for k in kinds if k in (kind, "good")]
        assert result.defects[kind]["image_auroc"] == pytest.approx(roc_auc_score(marks, peaks))
    assert sum(d["images"] for d in result.defects.values()) == 4


def test_per_image_iou_at_both_thresholds():
    maps, masks = larger_case(np.random.default_rng(3))
    for which, memory in (("oracle", None), ("deployable", None), ("deployable", 1)):
        result = evaluate(maps, masks, normal_maps=maps[:1], allowed_fpr=0.05, memory=memory)
        t = np.float32(result.values[f"threshold_{which}"])
        for m, g, value in zip(maps, masks, result.per_image[f"iou_{which}"], strict=True):
            if g.any():
                assert value == pytest.approx(((m >= t) & g).sum() / ((m >= t) | g).sum())
            else:
                assert np.isnan(value)


# the axis of the false-positive rate, and AUPIMO


def brute_rate_threshold(clean, rate):
    """The smallest number that at most a share of the scores reaches, among all float32 worth trying."""
    for t in [np.float32(clean.min()), *np.nextafter(np.unique(clean), np.float32(np.inf), dtype=np.float32)]:
        if (clean >= t).mean() <= rate:
            return t
    raise AssertionError


def test_rate_axis():
    maps, masks = larger_case(np.random.default_rng(4))
    maps = [np.round(m, 1) for m in maps]  # ties
    result = evaluate(maps, masks)
    scores, labels = flat(maps), flat(masks)
    clean = flat([m for m, k in zip(maps, masks, strict=True) if not k.any()])
    iou = {}
    for rate in RATE_AXIS:
        t = brute_rate_threshold(clean, rate)
        if t not in iou:
            iou[t] = ((scores >= t) & labels).sum() / ((scores >= t) | labels).sum()
        iou[rate] = iou[t]
    every = np.array([iou[rate] for rate in RATE_AXIS])
    assert result.values["iou_mean_fpr"] == pytest.approx(every.mean())
    assert result.values["iou_width_fpr"] == pytest.approx((every >= 0.9 * result.values["iou_max"]).mean())
    np.testing.assert_allclose(result.curves["iou_fpr"], every[::25])
    none = evaluate([m for m, k in zip(maps, masks, strict=True) if k.any()], [k for k in masks if k.any()])
    assert np.isnan(none.values["iou_mean_fpr"]) and "no normal image" in none.reasons["iou_mean_fpr"]


@pytest.mark.parametrize("digits", [6, 1], ids=["distinct", "ties"])
def test_aupimo_by_integrating_numerically(digits):
    """Every distinct score a threshold; sizes differ, so the shared rate is no pooled one."""
    rng = np.random.default_rng(5)
    shapes = [(400, 500), (350, 330), (40, 50), (60, 30)]
    masks = [np.zeros(s, bool) for s in shapes]
    masks[2][5:15, 5:20] = masks[3][30:40, 10:20] = True
    maps = [np.round(rng.normal(size=m.shape) + 4.2 * m, digits).astype(np.float32) for m in masks]
    result = evaluate(maps, masks)
    thresholds = np.unique(flat(maps))[::-1]
    thresholds = thresholds[thresholds > 2]
    shared = np.mean([[(m >= t).mean() for t in thresholds] for m in maps[:2]], axis=0)
    x = np.logspace(*np.log10(PIMO_RANGE), 100_001)
    for i in (2, 3):
        recall = [(maps[i][masks[i]] >= t).mean() for t in thresholds]
        if digits == 1:  # between two tied scores the curve is a straight line
            expected = np.interp(x, np.r_[0, shared], np.r_[0, recall]).mean()
        else:  # steps: the recall of the smallest threshold that keeps the rate
            expected = np.array(recall)[np.searchsorted(shared, x, side="right") - 1].mean()
        assert result.per_image["aupimo"][i] == pytest.approx(expected, abs=2e-4)
    assert np.isnan(result.per_image["aupimo"][:2]).all()
    assert result.values["aupimo"] == pytest.approx(np.nanmean(result.per_image["aupimo"]))


@pytest.mark.parametrize("memory", [None, 1], ids=["exact", "bounded"])
@pytest.mark.parametrize("top", [1.0, np.inf])
def test_aupimo_where_many_share_the_top_score(memory, top):
    """A third of all pixels tie at the top: the curve is a straight line from nothing to there."""
    masks = [np.zeros((400, 500), bool), np.zeros((60, 60), bool)]
    masks[1][10:20, 10:40] = True
    maps = [np.where(np.arange(m.size).reshape(m.shape) % 3, 0.25, top) for m in masks]
    low, high = PIMO_RANGE
    result = evaluate(maps, masks, memory=memory)
    assert result.values["aupimo"] == pytest.approx((high - low) / np.log(high / low), rel=1e-2)
    assert result.per_image["aupimo"][1] == pytest.approx(result.values["aupimo"], rel=1e-2)


def test_aupimo_of_bounded_mode_with_ties_and_mixed_sizes():
    """Coarse scores leave long steps in the curve of each image; a small normal image counts as much as a large one."""
    rng = np.random.default_rng(16)
    for step in (0.25, 1):
        masks = [np.zeros(s, bool) for s in [(400, 500), (330, 320), (330, 310)]] + [np.zeros((50, 60), bool) for _ in range(4)]
        for mask in masks[3:]:
            mask[10:30, 10:40] = True
        maps = [np.round((rng.normal(size=m.shape) * (1 + (i == 1)) + 5 * m) / step) * step for i, m in enumerate(masks)]
        exact, bounded = evaluate(maps, masks), evaluate(maps, masks, memory=1)
        assert 0.01 < exact.values["aupimo"]
        assert bounded.values["aupimo"] == pytest.approx(exact.values["aupimo"], abs=1e-4)
        np.testing.assert_allclose(bounded.per_image["aupimo"], exact.per_image["aupimo"], atol=1e-4)
        assert np.nanmean(bounded.per_image["aupimo"]) == pytest.approx(bounded.values["aupimo"], abs=1e-4)


def test_aupimo_needs_normal_pixels():
    maps, masks = larger_case(np.random.default_rng(0))
    result = evaluate(maps, masks)
    assert np.isnan(result.values["aupimo"]) and "100,000 pixels" in result.reasons["aupimo"]


def test_pro_is_that_of_the_official_code():
    """The code that MVTec publishes, as the package pyaupro carries it."""
    from pyaupro._reference import compute_pro

    rng = np.random.default_rng(6)
    maps, masks = larger_case(rng, 8, (90, 70))
    for digits in (6, 1):
        rounded = [np.round(m, digits) for m in maps]
        fpr, pro = compute_pro(np.stack(rounded), np.stack(masks).astype(int))
        for limit in (0.3, 0.05):
            inside = fpr <= limit
            x = np.append(fpr[inside], limit)
            y = np.append(pro[inside], np.interp(limit, fpr, pro))
            expected = np.trapezoid(y, x) / limit
            assert evaluate(rounded, masks).values[f"aupro_{limit}"] == pytest.approx(expected, abs=1e-6)


# thresholds


def test_numbers_at_both_thresholds():
    maps, masks = larger_case(np.random.default_rng(7))
    held_out = [np.random.default_rng(8).normal(size=(50, 50))]
    v = evaluate(maps, masks, normal_maps=held_out, allowed_fpr=0.02).values
    scores, labels = flat(maps), flat(masks)
    clean = flat([m for m, k in zip(maps, masks, strict=True) if not k.any()])
    for which in ("oracle", "deployable"):
        t = np.float32(v[f"threshold_{which}"])
        precision, recall, f1, _ = precision_recall_fscore_support(labels, scores >= t, average="binary")
        assert v[f"precision_{which}"] == pytest.approx(precision)
        assert v[f"recall_{which}"] == pytest.approx(recall)
        assert v[f"f1_{which}"] == pytest.approx(f1)
        assert v[f"iou_{which}"] == pytest.approx(jaccard_score(labels, scores >= t))
        assert v[f"fpr_{which}"] == pytest.approx((scores[~labels] >= t).mean())
        assert v[f"normal_fpr_{which}"] == pytest.approx((clean >= t).mean())
    assert v["iou_oracle"] == v["iou_max"] and v["f1_oracle"] == v["f1_max"]
    assert v["iou_deployable"] < v["iou_max"]


def test_image_numbers_against_scikit_learn():
    rng = np.random.default_rng(9)
    maps, masks = larger_case(rng, 30)
    labels = np.array([m.any() for m in masks])
    scores = np.round(rng.normal(size=30) + labels, 1).astype(np.float32)  # ties
    held_out = np.round(rng.normal(size=40), 1)
    v = evaluate(maps, masks, scores, normal_scores=held_out).values
    assert v["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert v["image_ap"] == pytest.approx(average_precision_score(labels, scores))
    precision, recall, _ = precision_recall_curve(labels, scores)
    assert v["image_f1_max"] == pytest.approx((2 * precision * recall / (precision + recall)).max())
    for which in ("oracle", "deployable"):
        predicted = scores >= np.float32(v[f"image_threshold_{which}"])
        precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, average="binary")
        assert v[f"image_precision_{which}"] == pytest.approx(precision)
        assert v[f"image_recall_{which}"] == pytest.approx(recall)
        assert v[f"image_f1_{which}"] == pytest.approx(f1)
        assert v[f"image_fpr_{which}"] == pytest.approx(predicted[~labels].mean())


@pytest.mark.parametrize("n", [19, 20, 37, 100])
def test_conformal_threshold_keeps_its_level(n):
    """Of n + 1 exchangeable scores the last one reaches the threshold of the others with probability <= the level."""
    rng = np.random.default_rng(n)
    scores = rng.permutation(n + 1).astype(np.float32)
    above = [scores[i] >= image_threshold(np.delete(scores, i), 0.05) for i in range(n + 1)]
    assert np.mean(above) <= 0.05 < np.mean(above) + 1 / (n + 1)
    tied = np.round(scores / 5)
    assert np.mean([tied[i] >= image_threshold(np.delete(tied, i), 0.05) for i in range(n + 1)]) <= 0.05


def test_conformal_threshold_needs_enough_images():
    maps, masks = larger_case(np.random.default_rng(0))
    assert needed_scores(0.05) == 19 and needed_scores(0.1) == 9
    assert evaluate(maps, masks, normal_scores=[np.inf] * 30).reasons["image_f1_deployable"] == "no finite threshold"
    result = evaluate(maps, masks, normal_scores=np.arange(18))
    assert np.isnan(result.values["image_recall_deployable"])
    assert result.reasons["image_recall_deployable"] == "needs 19 held-out normal images, but there are 18"


# what is kept of each image


def test_precision_over_recall():
    maps, masks = larger_case(np.random.default_rng(15))
    precision, recall, _ = precision_recall_curve(flat(masks), flat(maps))
    curve = evaluate(maps, masks).curves["precision"]
    for k in (1, 14, 28, 100, 113, 200):  # some of them rates that floats miss by a little
        first = np.flatnonzero(recall * flat(masks).sum() >= k * flat(masks).sum() / 200 - 1e-6)[-1]
        assert curve[k] == pytest.approx(precision[first])


def test_counts_on_the_grids():
    maps, masks = larger_case(np.random.default_rng(10))
    for memory in (None, 1):
        r = evaluate(maps, masks, memory=memory)
        assert len(r.curves["thresholds_value"]) == len(VALUE_GRID) and len(r.curves["thresholds_rate"]) == len(RATE_GRID)
        for axis in ("value", "rate"):
            for k, t in list(enumerate(r.curves[f"thresholds_{axis}"].astype(np.float32)))[::17]:
                tp = [((m >= t) & g).sum() for m, g in zip(maps, masks, strict=True)]
                fp = [((m >= t) & ~g).sum() for m, g in zip(maps, masks, strict=True)]
                np.testing.assert_array_equal(r.per_image[f"tp_{axis}"][:, k], tp)
                np.testing.assert_array_equal(r.per_image[f"fp_{axis}"][:, k], fp)
        t = np.float32(r.curves["thresholds_rate"][40])
        for i, (m, g) in enumerate(zip(maps, masks, strict=True)):
            labels, number = ndimage.label(g, np.ones((3, 3)))
            overlap = sum((m[labels == k] >= t).mean() for k in range(1, number + 1))
            assert r.per_image["overlap_rate"][i, 40] == pytest.approx(overlap)
        pooled = r.per_image["tp_value"].sum(0) / (r.per_image["positives"].sum() + r.per_image["fp_value"].sum(0))
        np.testing.assert_allclose(pooled, r.curves["iou"])


def test_regions_touch_at_corners_and_are_counted_per_image():
    mask = np.array([[1, 0, 0, 0, 1], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]], bool)
    labels, sizes = region_labels(mask)
    assert sorted(sizes.tolist()) == [2, 2, 2] and len(labels) == 6
    r = evaluate([mask * 1.0, np.zeros((4, 5)), np.ones((3, 3))], [mask, np.zeros((4, 5), bool), np.ones((3, 3), bool)])
    assert r.per_image["regions"].tolist() == [3, 0, 1] and r.region_sizes.tolist() == [2, 2, 2, 9]
    assert r.per_image["positives"].tolist() == [6, 0, 9]


def test_recall_of_each_defect_type():
    maps, masks = larger_case(np.random.default_rng(11))
    kinds = ["good", "a", "b", "good", "a", "b"]
    scores = [m.max() for m in maps]
    r = evaluate(maps, masks, scores, normal_maps=maps[:1], normal_scores=scores[:1] * 20, defects=kinds)
    for kind in "ab":
        own = np.concatenate([m[g] for m, g, k in zip(maps, masks, kinds, strict=True) if k == kind])
        peaks = np.array([s for s, k in zip(scores, kinds, strict=True) if k == kind])
        for which in ("oracle", "deployable"):
            assert r.defects[kind][f"recall_{which}"] == (own >= np.float32(r.values[f"threshold_{which}"])).mean()
            hit = peaks >= np.float32(r.values[f"image_threshold_{which}"])
            assert r.defects[kind][f"image_recall_{which}"] == hit.mean()
        assert r.defects[kind]["regions"] == 4


# bounded mode


class Stream:
    """Arrays one at a time; counts the passes and forgets what it gave."""

    def __init__(self, make, number):
        self.make, self.number, self.passes = make, number, 0

    def __iter__(self):
        self.passes += 1
        for i in range(self.number):
            yield self.make(i)


SCORES = {
    "light": lambda m: m,
    "heavy": lambda m: np.sign(m) * np.exp(6 * np.abs(m)),
    "saturated": lambda m: 1 / (1 + np.exp(-12 * (m - 1))),
    "ties": lambda m: np.round(3 * m) / 3,
    "8 bit": lambda m: np.round(255 / (1 + np.exp(-m))) / 255,
    "zeros": lambda m: np.maximum(m - 1.5, 0),
    "narrow": lambda m: 1000 + 0.01 * m,
    "two scales": lambda m: np.where(m > 2, 1e6 * m, 1e-6 * m),
}


@pytest.mark.parametrize("scores", SCORES)
def test_bounded_mode_is_near_to_exact(scores):
    rng = np.random.default_rng(12)
    maps, masks = larger_case(rng, 9, (250, 300))
    maps = [SCORES[scores](m.astype(np.float64)).astype(np.float32) for m in maps]
    options = {"normal_maps": maps[:1], "normal_scores": np.arange(20), "defects": ["good", "a", "b"] * 3, "regions": halves(masks)}
    exact = evaluate(maps, masks, **options)
    streams = Stream(lambda i: maps[i].copy(), 9), Stream(lambda i: masks[i].copy(), 9)
    bounded = evaluate(*streams, **options, memory=1)
    assert (exact.mode, bounded.mode) == ("exact", "bounded")
    assert [s.passes for s in streams] == [4, 2]  # two more of the maps for sPRO
    for name in tabled():
        assert bounded.values[name] == pytest.approx(exact.values[name], abs=1e-4, nan_ok=name == "iou_0.5"), name
    for name in (n for n in exact.values if n.endswith("_deployable")):
        assert bounded.values[name] == pytest.approx(exact.values[name], nan_ok=True), name
    for kind, numbers in exact.defects.items():
        assert bounded.defects[kind] == pytest.approx(numbers, abs=1e-4)
    for curve in ("iou", "iou_fpr", "roc", "pro"):
        np.testing.assert_allclose(bounded.curves[curve], exact.curves[curve], atol=5e-4, err_msg=curve)
    np.testing.assert_allclose(bounded.per_image["aupimo"], exact.per_image["aupimo"], atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_bounded_mode_keeps_few_scores_apart(case):
    maps, masks = case
    exact, bounded = evaluate(maps, masks, normal_maps=maps), evaluate(maps, masks, normal_maps=maps, memory=1)
    assert exact.reasons == bounded.reasons
    assert set(exact.reasons) == {name for name, value in exact.values.items() if np.isnan(value)}
    for name in exact.values.keys() - {"threshold_oracle"}:  # in bounded mode an edge, with the same counts
        assert bounded.values[name] == pytest.approx(exact.values[name], abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize("memory", [None, 1], ids=["exact", "bounded"])
@pytest.mark.parametrize("digits", [1, 6], ids=["ties", "distinct"])
def test_threads_change_no_number(digits, memory):
    maps, masks = larger_case(np.random.default_rng(21), 9, (250, 300))  # enough for several ranges of scores
    maps = [np.round(m, digits) for m in maps]
    options = {"normal_maps": maps[:1], "defects": ["good", "a", "b"] * 3, "regions": halves(masks), "memory": memory}
    one, three = (evaluate(maps, masks, **options, threads=threads) for threads in (1, 3))
    np.testing.assert_equal((one.values, one.defects), (three.values, three.defects))
    for name, numbers in (one.curves | one.per_image).items():
        np.testing.assert_array_equal(numbers, (three.curves | three.per_image)[name], err_msg=name)


def test_threads_keep_order_and_errors_at_their_place():
    def inverse(n):
        time.sleep(0.01 * (n % 3))
        return 1 / n

    assert list(in_threads(inverse, range(1, 30), 3)) == [1 / n for n in range(1, 30)]
    results = in_threads(inverse, iter([4, 5, 0, 7]), 2)
    assert [next(results), next(results)] == [1 / 4, 1 / 5]
    with pytest.raises(ZeroDivisionError):
        next(results)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(0, 3000), elements=st.sampled_from([-np.inf, -1, 0, 0.5, 1, 2, np.inf])),
    hnp.arrays(np.float32, st.integers(0, 3000), elements=st.floats(-2, 3, width=32)),
)
def test_positions_are_those_of_a_plain_search(ordered, thresholds):
    ordered, thresholds = np.sort(ordered), np.sort(thresholds)
    np.testing.assert_array_equal(_positions(ordered, thresholds), np.searchsorted(ordered, thresholds))


def test_mode_is_chosen_by_size():
    maps, masks = larger_case(np.random.default_rng(13))
    assert evaluate(maps, masks).mode == "exact"
    assert evaluate(maps, masks, memory=100_000).mode == "bounded"  # found out on the way


def of_counts(c) -> float:
    """Return the average precision of counts."""
    return float(average_precision(*(np.asarray(n, float) for n in (c.tp, c.fp, c.positives, c.negatives))))


def test_parts_computed_apart_add_up():
    maps, masks = larger_case(np.random.default_rng(14), 8)
    parts = list(Parts(maps, masks, ["a", "b"] * 4))
    sketches = [Sketch(), Sketch(), Sketch()]
    for i, p in enumerate(parts):
        sketches[0].add(p)
        sketches[1 + i % 2].add(p)
    sketches[1] += sketches[2]
    np.testing.assert_array_equal(sketches[0].edges(), sketches[1].edges())
    whole, *halves = (Binned(sketches[0].edges()) for _ in range(3))
    for i, p in enumerate(parts):
        whole.add(p)
        halves[i % 2].add(p)
    halves[1] += halves[0]
    for kind in (None, "a", "b"):
        one, two = whole.counts(kind), halves[1].counts(kind)
        for name in ("thresholds", "tp", "fp", "fp_above"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        for number in (auroc, of_counts, lambda c: limited_area(*pro_curve(c), 0.3)):
            assert number(one) == pytest.approx(number(two), abs=1e-14)
    with pytest.raises(ValueError, match="the edges differ"):
        whole += Binned(np.array([-np.inf, 0], np.float32))


@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(allow_nan=False, width=32)))
def test_keys_keep_the_order(x):
    keys = ordered_keys(x)
    np.testing.assert_array_equal(from_keys(keys), x)
    np.testing.assert_array_equal(x[np.argsort(keys, kind="stable")], np.sort(x))


def test_what_is_wrong_is_refused():
    maps, masks = larger_case(np.random.default_rng(0))
    with pytest.raises(ValueError, match="read more than once"):
        evaluate((m for m in maps), masks)
    with pytest.raises(ValueError, match="normal_maps that can be read more than once"):
        evaluate(maps, masks, normal_maps=(m for m in maps))
    with pytest.raises(ValueError, match=r"in 0..1, but the maps hold -"):
        evaluate(maps, masks, probability=True)
    for options, message in [
        ({"normal_maps": [np.zeros((0, 5))]}, "held-out normal image number 0"),
        ({"normal_maps": [np.zeros((2, 5, 3))]}, "held-out normal image number 0"),
        ({"names": ["a"]}, "one of names per map"),
        ({"defects": ["a"]}, "one of defects per map"),
        ({"image_scores": [1.0] * 5}, "one image score per map, 6, but got 5"),
        ({"image_scores": np.ones((6, 1))}, "image_scores as one number per image"),
        ({"normal_scores": [np.nan]}, "normal_scores as one number per image"),
        ({"level": 0}, "level between 0 and 1"),
        ({"allowed_fpr": -1}, "allowed_fpr in 0..1"),
        ({"probability": True, "normal_maps": maps}, "0..1"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluate([np.clip(m, 0, 1) for m in maps], masks, **options)
    with pytest.raises(ValueError, match="as many masks as maps"):
        evaluate(maps, masks[:-1])
    with pytest.raises(ValueError, match="as many maps as masks"):
        evaluate(maps[:-1], masks)
    with pytest.raises(ValueError, match="at least one"):
        evaluate([], [])
