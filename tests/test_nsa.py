"""NSA: seamless blending, labels that grow with the change, the rules in place of its settings by category."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from anoseg_bench.methods._normals import Fingerprint
from anoseg_bench.methods.nsa import NSAConfig
from anoseg_bench.methods.nsa.method import NSA, Recipe, Source, blend, label_change
from anoseg_bench.testing import normal_images

DISC = Fingerprint(True, 0.3, 0.4, 1.0, 0.1, 1.0, 0.01, 0.9)
LONG = DISC.__class__(True, 0.1, 0.1, 5.0, 0.1, 3.0, 0.01, 0.1)
WOVEN = DISC.__class__(False, 0.0, 0.0, 1.0, 1.0, 1.0, 0.01, 0.05)


def smooth(side, seed=0):
    """A smooth random image, uint8 (side, side, 3)."""
    coarse = np.random.default_rng(seed).integers(60, 196, (5, 5, 3), np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def discs(number=8, side=64, radius=20):
    """Discs of a random texture before a plain background, uint8 (number, side, side, 3)."""
    rng = np.random.default_rng(1)
    y, x = np.indices((side, side)) - side / 2
    inside = (y**2 + x**2 < radius**2)[None, ..., None]
    grain = cv2.resize(rng.integers(20, 90, (side // 4, side // 4, 3 * number), np.uint8), (side, side))
    return np.where(inside, grain.reshape(side, side, number, 3).transpose(2, 0, 1, 3), np.uint8(230))


@given(st.integers(5, 64), st.integers(5, 64), st.data())
def test_a_patch_blended_in_at_its_own_place_changes_nothing(height, width, data):
    image = smooth(64)
    top, left = data.draw(st.integers(0, 64 - height)), data.draw(st.integers(0, 64 - width))
    patch = image[top : top + height, left : left + width].copy()
    assert cv2.absdiff(blend(image, patch, (top, left), mixed=False), image).max() <= 1


def test_blending_keeps_the_patchs_gradients_and_the_images_edge():
    image, (top, left), side = smooth(64, 2), (10, 14), 40
    patch = (smooth(side, 3) // 2 + np.random.default_rng(4).integers(0, 30, (side, side, 1), np.uint8)).astype(np.uint8)
    after = blend(image, patch, (top, left), mixed=False)
    window = after[top : top + side, left : left + side].astype(float)
    deep = slice(6, side - 6)  # OpenCV keeps the image's gradients in the outermost pixels
    ours, patchs, images = (
        cv2.Laplacian(x.astype(np.float64), cv2.CV_64F)[deep, deep]
        for x in (window, patch, image[top : top + side, left : left + side])
    )
    assert np.abs(ours - patchs).mean() < 0.1 * np.abs(ours - images).mean()
    np.testing.assert_array_equal(blend(image, patch + np.uint8(60), (top, left), mixed=False), after)  # only gradients count
    outside = np.ones((64, 64), bool)
    outside[top + 1 : top + side - 1, left + 1 : left + side - 1] = False
    np.testing.assert_array_equal(after[outside], image[outside])


def test_labels_are_the_logistic_curve_of_the_change():
    before = np.full((64, 64, 3), 100, np.uint8)
    where = np.zeros((64, 64), np.uint8)
    where[8:56, 8:56] = 1
    for change, wanted in ((8, 0.5), (4, 1 / (1 + np.exp(1.25))), (40, 1 / (1 + np.exp(-10)))):
        after = before + np.uint8(change)
        label = label_change(before, after, where, 8.0, soft=True)
        assert label[32, 32] == pytest.approx(wanted, abs=1e-5)
        assert not label[:6].any() and label_change(before, after, where, 8.0, soft=False)[32, 32] == 1
    assert not label_change(before, before + np.uint8(1), where, 8.0, soft=True).any()


def test_rules_take_the_place_of_settings_by_category():
    disc, long, woven = (Recipe.of(facts, NSAConfig()) for facts in (DISC, LONG, WOVEN))
    assert (disc.foreground, long.foreground, woven.foreground) == (True, True, False)
    assert disc.largest_half_width == pytest.approx(0.3) and long.largest_half_width == pytest.approx(0.075)
    assert woven.largest_half_width == 0.4 and (disc.patches, woven.patches) == (3, 4)
    assert (disc.texture, long.texture, woven.texture) == (False, False, True)
    assert (disc.turns, long.turns) == (False, True) and long.midpoint > disc.midpoint
    by_hand = NSAConfig(patches=1, largest_half_width=0.1, foreground=False, midpoint=3, texture=False, turns=True)
    assert Recipe.of(DISC, by_hand) == Recipe(1, 0.1, False, 3, False, True)


def test_anomalies_lie_on_the_foreground():
    source = Source(discs(radius=10), NSAConfig(image_size=64))
    assert source.recipe.foreground
    rng = np.random.default_rng(0)
    y, x = np.indices((64, 64)) - 32
    near = (y**2 + x**2) < 18**2
    marked = np.stack([source.image(rng, i % 8)[1] for i in range(60)]) > 0.5
    assert marked.any((1, 2)).mean() > 0.6 and marked[:, near].sum() / marked.sum() > 0.88


def test_a_thin_foreground_has_anomalies_too():
    images = np.full((6, 128, 128, 3), 230, np.uint8)
    images[:, 62:66, 10:118] = np.random.default_rng(0).integers(20, 150, (6, 1, 108, 1), np.uint8)
    source = Source(images, NSAConfig(image_size=128))
    assert source.recipe.foreground and source.normals.fingerprint.inner_width < 0.06
    rng = np.random.default_rng(0)
    assert np.mean([source.image(rng, i % 6)[1].any() for i in range(30)]) > 0.8


def test_normals_move_with_their_foreground_and_only_textures_are_flipped():
    source = Source(discs(), NSAConfig(image_size=64))
    rng = np.random.default_rng(0)
    for i in range(20):
        view = source.normal(rng, i % 8)
        inside = view.foreground.astype(bool)
        assert view.image[inside].mean() < 120 < view.image[~inside].mean()
        centre = np.argwhere(inside).mean(0)
        assert np.abs(centre - 31.5).max() <= 0.012 * 64 + 1
    gradient = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None, None] * 3, (4, 64, 64, 3))
    woven = Source(gradient.copy(), NSAConfig(image_size=64, texture=True, foreground=False))
    columns = (woven.normal(rng, 0).image[5:60, 30, 0].astype(int) for _ in range(20))
    down = {bool(column[-1] > column[0]) for column in columns}
    assert down == {True, False}


@pytest.mark.parametrize(("texture", "low", "high"), [(False, 0.7, 1.3), (True, 0.5, 2.0)])
def test_patches_are_resized_within_their_bounds(texture, low, high, monkeypatch):
    config = NSAConfig(image_size=128, texture=texture, foreground=False, largest_half_width=0.45)
    source = Source(pictures := discs(4, 128, 40), config)
    monkeypatch.setattr(Source, "_half_widths", lambda *_: np.array([10, 10]))
    rng = np.random.default_rng(0)
    view = source.normal(rng, 0)
    longest = np.array([max(source.cut(rng, view).foreground.shape) for _ in range(300)]) / 20
    assert low - 0.05 <= longest.min() and longest.max() <= high + 0.05 and np.ptp(longest) > 0.8 * (high - low)
    monkeypatch.setattr(Source, "_half_widths", lambda *_: np.array([57, 57]))
    assert max(max(source.cut(rng, view).foreground.shape) for _ in range(50)) <= 0.45 * len(pictures[0]) + 1


def test_of_mixed_gradients_the_stronger_ones_stay():
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    flat = np.full((30, 30, 3), 90, np.uint8)
    mixed, pasted = (blend(image, flat, (10, 10), mixed=m)[16:34, 16:34] for m in (True, False))
    assert np.abs(np.diff(mixed.astype(int), axis=0)).mean() > 5 * np.abs(np.diff(pasted.astype(int), axis=0)).mean()


def test_only_what_is_labelled_has_changed():
    config = NSAConfig(image_size=64, soft_labels=False)
    source = Source(normal_images(8, 0).permute(0, 2, 3, 1).numpy(), config)
    source.normal = lambda rng, index: type(source).normal(source, np.random.default_rng(7), index)  # the same motion each time
    rng = np.random.default_rng(0)
    shares = []
    for i in range(30):
        after, label = source.image(rng, i % 8)
        change = cv2.absdiff(after, source.normal(rng, i % 8).image).mean(2)
        assert (change[label == 0] > 12).mean() < 0.02
        shares.append(label.mean())
    assert 0.001 < np.mean(shares) < 0.4


def test_where_there_is_no_place_the_image_stays_as_it_is(monkeypatch):
    source = Source(discs(), NSAConfig(image_size=64))
    monkeypatch.setattr(Source, "place", lambda *_: None)
    image, label = source.image(np.random.default_rng(0), 0)
    assert image.shape == (64, 64, 3) and not label.any()


def test_the_image_score_is_the_mean_of_the_map_and_findings_are_kept():
    method = NSA(NSAConfig(image_size=64, images_seen=16, batch_size=8, width=4, midpoint=5), seed=0)
    images = torch.from_numpy(discs()).permute(0, 3, 1, 2)
    method.fit(images)
    prediction = method.predict(images)
    torch.testing.assert_close(prediction.scores, prediction.maps.mean((1, 2)))
    assert method.findings()["recipe"]["midpoint"] == 5 and method.findings()["fingerprint"]["plain"]


def test_it_segments_patches_in_images_that_it_did_not_see():
    config = NSAConfig(image_size=64, images_seen=1200, batch_size=8, width=8)
    method, images = NSA(config, seed=0), discs(32)
    method.fit(torch.from_numpy(images[:24]).permute(0, 3, 1, 2))
    marred, labels = Source(images[24:], config).batch(np.random.default_rng(0), np.arange(8).repeat(2))
    maps = method.predict(torch.from_numpy(marred).permute(0, 3, 1, 2)).maps
    assert roc_auc_score(labels.ravel() > 0.5, maps.flatten()) > 0.8


def test_a_shorter_training_is_said():
    assert NSAConfig().deviations() is None
    assert "6000 training images" in NSAConfig.of_profile("quick", {}).deviations()
