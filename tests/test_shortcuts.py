"""Shortcuts: AUROCs of whole-image statistics with honest intervals, what is named, and the floor that uses them."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from anoseg_bench.evaluation.imagestats import FileFacts, ImageFacts, jpeg_quality, pixel_facts
from anoseg_bench.evaluation.shortcuts import SHIFT, TELL, separations, shortcut_findings
from anoseg_bench.methods import METHODS
from anoseg_bench.metrics.separation import separation

VALUES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=25).map(np.array)


@given(VALUES, VALUES)
@settings(deadline=None, max_examples=60)
def test_a_separation_is_the_auroc_and_mirrors_when_groups_are_exchanged(high, low):
    area, first, last = separation(high, low)
    labels = np.r_[np.ones(len(high)), np.zeros(len(low))]
    assert area == pytest.approx(roc_auc_score(labels, np.r_[high, low]), abs=1e-12)
    assert 0 <= first <= area <= last <= 1 and last - first > 0
    assert separation(low, high) == pytest.approx((1 - area, 1 - last, 1 - first), abs=1e-6)
    assert separation(3 * high**3, 3 * low**3) == pytest.approx((area, first, last), abs=1e-12)  # of any scale


@given(VALUES, VALUES)
@settings(deadline=None, max_examples=20)
def test_a_higher_confidence_gives_a_wider_interval(high, low):
    _, first, last = separation(high, low, 0.95)
    _, lower, upper = separation(high, low, 0.999)
    assert lower <= first + 1e-9 and last - 1e-9 <= upper


@pytest.mark.parametrize("spread", [1.0, 3.0])
@pytest.mark.parametrize("area", [0.5, 0.8, 0.95])
def test_intervals_hold_the_truth_as_often_as_they_say(area, spread):
    rng = np.random.default_rng(0)
    middle = norm.ppf(area) * math.sqrt(1 + spread**2)
    missed = 0
    for _ in range(300):
        _, low, high = separation(rng.normal(middle, spread, 20), rng.normal(0, 1, 200))
        missed += not low <= area <= high
    assert missed / 300 < 0.09


def facts(brightness: float, **changes) -> ImageFacts:
    """Return facts of an image that differs from others in some statistics only."""
    plain = {"height": 64, "width": 64, "contrast": 20.0, "sharpness": 3.0, "saturation": 0.0, "warmth": 0.0, "border": 100.0}
    file = FileFacts(bytes=changes.pop("bytes", 4000), format="JPEG", mode="L", bits=8, quality=changes.pop("quality", 90))
    return ImageFacts(**(plain | {"brightness": brightness, "thumbnail": "", "file": file} | changes))


def group(rng: np.random.Generator, number: int, mean: float = 100.0, **changes) -> list[ImageFacts]:
    """Return images of about one brightness."""
    return [facts(value, **changes) for value in rng.normal(mean, 1.0, number)]


def test_a_darker_good_test_set_is_named_in_both_directions():
    rng = np.random.default_rng(0)
    shown = separations(group(rng, 60), group(rng, 20, 95), group(rng, 30))
    by = {(s.statistic, s.groups): s for s in shown}
    assert set(by) == {("brightness", SHIFT), ("brightness", TELL)}  # what is the same of all is not tested
    assert by["brightness", SHIFT].auroc < 0.01 and by["brightness", TELL].auroc > 0.99
    shift, tell = shortcut_findings("c", shown)
    assert shift.wrong and shift.kind == "shift" and shift.text.startswith("good test images are darker (brightness: AUROC 0.00")
    assert not tell.wrong and "brighter" in tell.text and "as the good ones differ from the training images" in tell.text


def test_a_shift_of_less_than_the_spread_is_named_where_it_tells_images_apart():
    rng = np.random.default_rng(0)
    shown = separations(group(rng, 200), group(rng, 20, 98.9), group(rng, 60))  # AUROC 0.78 expected
    shift, *_ = shortcut_findings("c", shown)
    assert not shift.wrong and "darker" in shift.text
    assert shortcut_findings("c", separations(group(rng, 200), group(rng, 20, 99.9), group(rng, 60))) == []


def test_another_jpeg_quality_is_named_and_no_defect_explains_it():
    rng = np.random.default_rng(0)
    shown = separations(group(rng, 60), group(rng, 20), group(rng, 30, quality=80))
    (tell,) = shortcut_findings("c", shown)
    assert tell.kind == "tell" and tell.wrong and "of lower JPEG quality" in tell.text and "stored otherwise" in tell.text


def test_defects_that_change_the_image_do_not_make_numbers_wrong():
    rng = np.random.default_rng(0)
    (tell,) = shortcut_findings("c", separations(group(rng, 60), group(rng, 20), group(rng, 30, 110)))
    assert not tell.wrong and "either the defects themselves change it" in tell.text


@pytest.mark.parametrize("good", [2, 4])
def test_few_images_give_no_findings(good):
    rng = np.random.default_rng(0)
    assert shortcut_findings("c", separations(group(rng, 20), group(rng, good, 95), group(rng, 3))) == []


def test_alike_groups_are_rarely_named():
    named = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sizes = [[facts(100, **dict(zip(("contrast", "sharpness", "warmth"), rng.normal(10, 1, 3), strict=True)), bytes=int(b))
                  for b in rng.integers(3000, 5000, n)] for n in (200, 20, 60)]  # fmt: skip
        named += any(s.is_named for s in separations(*sizes))
    assert named <= 6  # Bonferroni: 3 of 60 are expected at most


def test_statistics_of_pixels_are_what_they_say():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (50, 40, 3)).astype(np.uint8)
    found = pixel_facts(image)
    luma = np.asarray(Image.fromarray(image).convert("L"), float)  # BT.601 too, rounded otherwise
    wide = image.astype(int)
    assert found["brightness"] == pytest.approx(luma.mean(), abs=0.6) and found["contrast"] == pytest.approx(luma.std(), rel=0.01)
    assert found["saturation"] == pytest.approx((wide.max(2) - wide.min(2)).mean())
    assert found["warmth"] == pytest.approx((wide[..., 0] - wide[..., 2]).mean())
    frame = luma.copy()
    frame[2:-2, 2:-2] = np.nan
    assert found["border"] == pytest.approx(np.nanmean(frame), abs=0.6)
    blurred = np.asarray(Image.fromarray(image).resize((10, 10)).resize((40, 50)))
    assert pixel_facts(blurred)["sharpness"] < found["sharpness"] / 4


@pytest.mark.parametrize("quality", [30, 75, 88, 95, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_table(quality):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality)
    assert jpeg_quality(Image.open(file).quantization[0]) == quality


def test_the_floor_sees_light_and_no_defect():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(90, 110, (24, 3, 64, 64), dtype=torch.uint8, generator=generator)
    method = METHODS["image_stats"].load()(METHODS["image_stats"].load().Config(image_size=64))
    method.fit(images[:16])
    darker, defective = (images[16:].float() * 0.95).to(torch.uint8), images[16:].clone()
    defective[:, :, :4, 8:12] = 0
    plain, dark, marred = (method.predict(batch) for batch in (images[16:], darker, defective))
    assert dark.scores.min() > 5 * plain.scores.max()
    assert torch.equal(plain.maps.amax((1, 2)), plain.scores) and torch.equal(plain.maps.amin((1, 2)), plain.scores)
    assert marred.scores.min() > plain.scores.max()  # as far as it changes the whole image


def test_the_floor_stands_in_the_default_methods():
    from anoseg_bench.plan import Plan

    labels = [variant.label for variant in Plan.of(profile="demo", category="gasket").variants]
    assert labels[labels.index("pixel_stats") + 1] == "image_stats"
