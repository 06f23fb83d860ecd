"""The metric suite against independent references: scikit-learn, and definitions written out by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from bench.metrics import THRESHOLD_GRID, evaluate

RANK = ["pixel_auroc", "pixel_ap", "aupro_0.3", "iou_max", "f1_max", "image_auroc"]


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
    scores, labels = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    assume(labels.any() and not labels.all())
    v = evaluate(maps, masks, probability=True).values
    assert v["pixel_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert v["pixel_ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert v["f1_max"] == pytest.approx(f1.max(), abs=1e-9)
    assert v["iou_max"] == pytest.approx(reference_iou_max(scores, labels), abs=1e-9)
    assert v["aupro_0.3"] == pytest.approx(reference_pro(maps, masks), abs=1e-9)
    assert v["iou_0.5"] == pytest.approx(((scores >= 0.5) & labels).sum() / ((scores >= 0.5) | labels).sum())


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
    [np.exp, lambda m: m.astype(np.float64) ** 3, lambda m: m * 1e6, lambda m: m * 1e-6],
    ids=["exp", "cube", "1e6", "1e-6"],
)
def test_increasing_transform_changes_no_rank_metric(transform):
    rng = np.random.default_rng(0)
    maps, masks = larger_case(rng)
    maps = [np.round(m, 2) for m in maps]  # few enough values that float32 keeps them apart
    before = evaluate(maps, masks).values
    after = evaluate([transform(m).astype(np.float32) for m in maps], masks).values
    for name in RANK:
        assert after[name] == pytest.approx(before[name], abs=1e-12), name


def test_constant_map():
    _, masks = larger_case(np.random.default_rng(0))
    v = evaluate([np.full(m.shape, 0.3, np.float32) for m in masks], masks).values
    prevalence = np.mean([m.mean() for m in masks])
    assert v["pixel_auroc"] == 0.5 and v["image_auroc"] == 0.5
    assert v["pixel_ap"] == pytest.approx(prevalence) and v["iou_max"] == pytest.approx(prevalence)
    assert v["aupro_0.3"] == pytest.approx(0.15)


def test_perfect_map():
    _, masks = larger_case(np.random.default_rng(0))
    v = evaluate([m.astype(np.float32) for m in masks], masks, probability=True).values
    for name in [*RANK, "iou_0.5"]:
        assert v[name] == 1, name


def test_undefined_is_nan_with_a_reason():
    maps, masks = larger_case(np.random.default_rng(0))
    none = evaluate(maps, [np.zeros_like(m) for m in masks])
    everything = evaluate(maps, [np.ones_like(m) for m in masks])
    for result, reason in ((none, "no defective"), (everything, "no normal")):
        for name in RANK:
            assert np.isnan(result.values[name]) and reason in result.reasons[name], name
    scaled = evaluate(maps, masks)
    assert np.isnan(scaled.values["iou_0.5"]) and "no probability" in scaled.reasons["iou_0.5"]
    assert np.isnan(scaled.values["iou_deployable"]) and "held-out" in scaled.reasons["iou_deployable"]


def test_nan_and_shapes_are_errors_that_name_the_image():
    maps, masks = larger_case(np.random.default_rng(0))
    maps[2][3, 3] = np.nan
    with pytest.raises(ValueError, match="image c has one"):
        evaluate(maps, masks, names=list("abcdef"))
    maps[2] = maps[2][:-1]
    with pytest.raises(ValueError, match=r"shape \(39, 50\) for image c, but got bool \(40, 50\)"):
        evaluate(maps, masks, names=list("abcdef"))


def test_infinite_scores():
    maps, masks = larger_case(np.random.default_rng(0))
    maps[0][0, 0], maps[1][0, 0] = np.inf, -np.inf
    result = evaluate(maps, masks)
    finite = [np.clip(m, -1e30, 1e30) for m in maps]
    for name in RANK:
        assert result.values[name] == pytest.approx(evaluate(finite, masks).values[name]), name
    assert "infinite" in result.reasons["iou_mean"]


def test_threshold_axis():
    """The curve is the IoU at each stated threshold; scaled maps give what the scaled copy gives as a probability."""
    maps, masks = larger_case(np.random.default_rng(1))
    low, high = min(m.min() for m in maps), max(m.max() for m in maps)
    curve = evaluate(maps, masks).curves["iou"]
    for k in (0, 37, 100, 150, 200):
        t = np.float32(low + THRESHOLD_GRID[k] * (np.float64(high) - low))
        hit = sum(((m >= t) & g).sum() for m, g in zip(maps, masks, strict=True))
        union = sum(((m >= t) | g).sum() for m, g in zip(maps, masks, strict=True))
        assert curve[k] == pytest.approx(hit / union)
    assert evaluate(maps, masks).values["iou_mean"] == pytest.approx(curve.mean())


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


def test_per_image_iou_at_the_oracle_threshold():
    maps, masks = larger_case(np.random.default_rng(3))
    result = evaluate(maps, masks)
    t = result.values["threshold_oracle"]
    for m, g, value in zip(maps, masks, result.per_image["iou_oracle"], strict=True):
        if g.any():
            assert value == pytest.approx(((m >= t) & g).sum() / ((m >= t) | g).sum())
        else:
            assert np.isnan(value)
