"""Saturated per-region overlap: by hand, against the published evaluation code, and against a direct reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anoseg_bench.metrics import evaluate
from anoseg_bench.metrics.bootstrap import Choices, resampled, resampled_defects
from anoseg_bench.metrics.spro import SaturatedParts, saturated, saturated_part

KINDS = ["good", "good", "logical", "logical", "structural", "structural"]
SHAPE = (12, 15)
#: Of `case(seed)`, what the published evaluation code (the code of MVTec LOCO AD, as it is adapted for AutoVI: github.com/phcarval/
#: autovi_evaluation_code, 8ccc3d9, with curve_max_distance 1e-9) gives of both types: limit, logical, structural.
PUBLISHED = {
    0: [
        (0.05, 0.6306133399372628, 0.36875),
        (0.3, 0.7120915266952259, 0.39946924133245293),
        (1.0, 0.8729156348027076, 0.7581731942410932),
    ],
    1: [
        (0.05, 0.9522789632449519, 0.23634521116138765),
        (0.3, 0.991110542185811, 0.39150866222557396),
        (1.0, 0.9973331626557433, 0.7462591126194068),
    ],
    2: [
        (0.05, 0.6716812010661335, 0.40507575757575753),
        (0.3, 0.7925481703592647, 0.528093003902663),
        (1.0, 0.8974679327003166, 0.7809985795454544),
    ],
}


def case(seed: int) -> tuple[list[np.ndarray], list[list[tuple[np.ndarray, int]]]]:
    """Return maps of whole numbers and the regions of each, among them ones of two parts, that overlap, and that saturate."""
    rng = np.random.default_rng(seed)
    maps, regions = [], []
    for kind in KINDS:
        map_ = rng.integers(0, 40, SHAPE).astype(float)
        own = []
        for k in range(2 * (kind != "good")):
            mask = np.zeros(SHAPE, bool)
            (y, x), (height, width) = rng.integers(0, 7, 2), rng.integers(2, 6, 2)
            mask[y : y + height, x : x + width] = True
            if kind == "logical" and k == 1:
                mask[0:2, 0:1] = True
            map_[mask] += rng.integers(0, 20, mask.sum())
            pixels = int(mask.sum())
            enough = {("logical", 0): min(9, pixels), ("logical", 1): int(0.3 * pixels)}.get((kind, k), pixels)
            own.append((mask, enough))
        maps.append(map_)
        regions.append(own)
    return maps, regions


def masks_of(regions) -> list[np.ndarray]:
    return [np.logical_or.reduce([np.zeros(SHAPE, bool), *(mask for mask, _ in own)]) for own in regions]


def area(maps, regions, kind: str, limit: float) -> float:
    parts = SaturatedParts(maps, regions, KINDS, KINDS)
    return saturated(parts, np.empty(0, np.float32), 1 << 30).area(kind, limit)


def directly(maps, regions, kinds, kind: str, limit: float) -> float:
    """Return the area as it is defined: a point for every threshold, joined by straight lines."""
    among = [i for i, k in enumerate(kinds) if k == kind or not regions[i]]
    x, y = [0.0], [0.0]
    masks = masks_of(regions)
    for t in np.unique(np.concatenate([maps[i].ravel() for i in among]))[::-1]:
        normal = np.concatenate([maps[i][~masks[i]] for i in among])
        x.append(float((normal >= t).mean()))
        y.append(float(np.mean([min((maps[i][m] >= t).sum() / s, 1) for i in among for m, s in regions[i]])))
    inside = [i for i, rate in enumerate(x) if rate <= limit]
    xs, ys = [x[i] for i in inside], [y[i] for i in inside]
    if inside[-1] + 1 < len(x):
        i = inside[-1]
        xs.append(limit)
        ys.append(y[i] + (y[i + 1] - y[i]) * (limit - x[i]) / (x[i + 1] - x[i]))
    return float(np.trapezoid(ys, xs) / limit)


def test_by_hand():
    """A region of 4 pixels of which 2 are enough, and one of 2 that counts whole; 6 normal pixels.

    From threshold 9 to 5 the first has 1/2, 1, 1, 1, 1 and the second 0, 0, 0, 1/2, 1; false are 0, 0, 1/6, 1/6, 1/6.
    """
    scores = np.array([[9, 8, 0.5, 0.5, 7, 1], [6, 5, 0, 0, 0, 0]])
    one, two = np.zeros((2, 6), bool), np.zeros((2, 6), bool)
    one[0, :4], two[1, :2] = True, True
    regions = [[(one, 2), (two, 2)]]
    counted = saturated(SaturatedParts([scores], regions, [""], [""]), np.array([9, 8, 7, 6, 5], np.float32), 1 << 30)
    assert counted.overlap.tolist() == [[0.5, 1.0, 1.0, 1.5, 2.0]] and counted.regions.tolist() == [2]
    assert counted.area("", 1 / 6) == pytest.approx(1 / 2)
    assert counted.area("", 1.0) == pytest.approx(1 / 2 * 1 / 6 + 5 / 6)
    assert evaluate([scores], [one | two], regions=regions).values["spro_0.05"] == pytest.approx(1 / 2)


@pytest.mark.parametrize("seed", PUBLISHED)
@pytest.mark.parametrize("memory", [None, 0])
def test_equals_the_published_evaluation_code(seed, memory):
    maps, regions = case(seed)
    for limit, logical, structural in PUBLISHED[seed]:
        assert area(maps, regions, "logical", limit) == pytest.approx(logical, abs=1e-9)
        assert area(maps, regions, "structural", limit) == pytest.approx(structural, abs=1e-9)
    result = evaluate(maps, masks_of(regions), defects=KINDS, regions=regions, memory=memory)
    assert result.mode == ("exact" if memory is None else "bounded")
    (_, logical, structural), *_ = PUBLISHED[seed]
    assert result.defects["logical"]["spro_0.05"] == pytest.approx(logical, abs=1e-6)
    assert result.defects["structural"]["spro_0.05"] == pytest.approx(structural, abs=1e-6)
    assert result.values["spro_0.05"] == pytest.approx((logical + structural) / 2, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.3, 1.0]))
def test_equals_its_definition(seed, limit):
    maps, regions = case(seed)
    for kind in ("logical", "structural"):
        assert area(maps, regions, kind, limit) == pytest.approx(directly(maps, regions, KINDS, kind, limit), abs=1e-9)


def test_whole_regions_apart_from_each_other_are_those_of_aupro():
    rng = np.random.default_rng(0)
    maps, mask = [rng.random(SHAPE), rng.random(SHAPE)], np.zeros(SHAPE, bool)
    mask[2:5, 2:6], mask[8:10, 1:3] = True, True
    maps[0][mask] += 0.4
    whole = [np.where(np.arange(SHAPE[0])[:, None] < 6, mask, False), np.where(np.arange(SHAPE[0])[:, None] < 6, False, mask)]
    result = evaluate(maps, [mask, np.zeros(SHAPE, bool)], regions=[[(one, int(one.sum())) for one in whole], []])
    assert result.values["spro_0.05"] == pytest.approx(result.values["aupro_0.05"], abs=1e-12)


def test_in_bins_it_is_nearly_the_same():
    rng = np.random.default_rng(1)
    shape = (96, 96)
    maps, regions, kinds = [], [], []
    for i in range(12):
        map_, mask = rng.standard_normal(shape, np.float32), np.zeros(shape, bool)
        if i >= 4:
            mask[10 : 20 + i, 30 : 40 + 2 * i] = True
            map_[mask] += 1.5
        maps.append(map_)
        regions.append([(mask, int(mask.sum()) // 3)] if i >= 4 else [])
        kinds.append("good" if i < 4 else "ab"[i % 2])
    masks = [own[0][0] if own else np.zeros(shape, bool) for own in regions]
    exact, bounded = (evaluate(maps, masks, defects=kinds, regions=regions, memory=memory) for memory in (None, 0))
    assert bounded.values["spro_0.05"] == pytest.approx(exact.values["spro_0.05"], abs=1e-4)
    np.testing.assert_allclose(bounded.per_image["saturated_regions"], exact.per_image["saturated_regions"])


def test_resamples_are_those_of_evaluate_on_the_images_drawn():
    rng = np.random.default_rng(2)
    shape, kinds = (64, 64), ["good"] * 6 + ["a", "b"] * 4
    maps, regions = [], []
    for kind in kinds:
        map_, mask = rng.standard_normal(shape, np.float32), np.zeros(shape, bool)
        if kind != "good":
            mask[10:30, 20 : 20 + rng.integers(4, 30)] = True
            map_[mask] += rng.uniform(0.5, 2)
        maps.append(map_)
        regions.append([(mask, int(mask.sum()) // 2)] if kind != "good" else [])
    masks = [own[0][0] if own else np.zeros(shape, bool) for own in regions]
    whole = evaluate(maps, masks, defects=kinds, regions=regions)
    per_image = whole.per_image | {name: a for name, a in whole.curves.items() if name.startswith("thresholds")}
    drawn = rng.integers(0, 6, 6).tolist() + (6 + 2 * rng.integers(0, 4, 4)).tolist() + (7 + 2 * rng.integers(0, 4, 4)).tolist()
    weights = np.stack([np.ones(len(kinds)), np.bincount(drawn, minlength=len(kinds))])
    again = evaluate(
        *([of[i] for i in drawn] for of in (maps, masks)), defects=[kinds[i] for i in drawn], regions=[regions[i] for i in drawn]
    )
    none = Choices(np.full(2, np.nan), None)
    found = resampled(per_image, weights, none, False, kinds)["spro_0.05"]
    np.testing.assert_allclose(found, [whole.values["spro_0.05"], again.values["spro_0.05"]], atol=0.005)
    oracle = {"threshold_oracle": np.nan, "image_threshold_oracle": np.nan}
    of_a = resampled_defects(per_image, weights, {"a": np.array(kinds) == "a"}, oracle, none)["a"]["spro_0.05"]
    np.testing.assert_allclose(of_a, [e.defects["a"]["spro_0.05"] for e in (whole, again)], atol=0.005)
    assert np.isnan(resampled(per_image, weights, none, False)["spro_0.05"]).all()


def test_undefined_with_a_reason():
    maps, regions = case(0)
    masks = masks_of(regions)
    assert "how much of a defect is enough" in evaluate(maps, masks).reasons["spro_0.05"]
    nothing = [np.zeros(SHAPE, bool)] * 2
    assert evaluate(maps[:2], nothing, regions=[[], []]).reasons["spro_0.05"] == "no defective pixel in the test set"
    everything = np.ones(SHAPE, bool)
    result = evaluate(maps[:1], [everything], regions=[[(everything, 5)]], defects=["a"])
    assert result.reasons["spro_0.05"] == "no normal pixel in the test set" and np.isnan(result.defects["a"]["spro_0.05"])


def test_what_does_not_fit_is_refused():
    maps, regions = case(0)
    masks = masks_of(regions)
    with pytest.raises(ValueError, match="regions of each image with defective pixels, and of no other"):
        evaluate(maps, masks, regions=[[], *regions[:2], *regions[3:]])
    with pytest.raises(ValueError, match="more than once"):
        evaluate(maps, masks, regions=iter(regions))
    mask = masks[2]
    for wrong in ((mask, 0), (mask, int(mask.sum()) + 1), (mask.astype(int), 1), (mask[1:], 1)):
        with pytest.raises(ValueError, match="Expected regions as bool"):
            saturated_part(maps[2], [wrong], where="x")
