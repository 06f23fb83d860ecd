"""AnoSeg's parts: anomalies and masks, batches, networks, losses, and that it learns."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from methods.anoseg import AnoSegConfig
from methods.anoseg import anomalies as a
from methods.anoseg.batches import Batches
from methods.anoseg.detector import Detector
from methods.anoseg.losses import normal_pair, reconstruction_loss, segmentation_loss
from methods.anoseg.method import AnoSeg, contrast_table
from methods.anoseg.network import Generator, coordinate_channels, levels_for

OURS = [*a.ADDITIONS, "mixture", "normal_augmentation"]
PASTE_ONLY = dict.fromkeys(["hard_augmentation", *OURS], False)


def pictures(n=32, size=64, seed=0):
    """Return blocks of random colours, uint8 (n, size, size, 3)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, size // 8, size // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)


def tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def made(config, images, grey=False, seed=1):
    return a.training_batch(np.random.default_rng(seed), images, np.arange(len(images)), config, grey)


@pytest.mark.parametrize("off", [None, "hard_augmentation", *OURS])
def test_only_what_is_labelled_changes_visibly(off):
    images, clean, labels = made(AnoSegConfig(**({off: False} if off else {})), pictures(64))
    change = cv2.absdiff(images.reshape(-1, 64, 3), clean.reshape(-1, 64, 3)).reshape(images.shape).max(-1)
    assert (labels == a.ANOMALOUS).any() and set(np.unique(labels)) <= {a.NORMAL, a.ANOMALOUS, a.UNDECIDED}
    edge = 0.02 * 255 if off != "visible_change" else 0.55 * 255  # without it, half of a soft edge counts as normal
    assert change[labels == a.NORMAL].max() <= edge + 1
    assert change[labels == a.ANOMALOUS].mean() > 25


def test_what_changes_nothing_is_undecided_and_never_anomalous():
    same = np.full((32, 64, 64, 3), 128, np.uint8)
    config = AnoSegConfig(**PASTE_ONLY | {"visible_change": True})
    _, _, labels = made(config, same)
    assert not (labels == a.ANOMALOUS).any() and (labels == a.UNDECIDED).any()


def test_the_papers_own_mask_is_the_pasted_region():
    same = np.full((32, 64, 64, 3), 128, np.uint8)
    images, clean, labels = made(AnoSegConfig(**PASTE_ONLY), same)
    assert np.array_equal(images, clean) and (labels == a.ANOMALOUS).any() and not (labels == a.UNDECIDED).any()


def test_half_of_the_anomalies_stay_as_the_paper_makes_them():
    same = np.full((400, 64, 64, 3), 128, np.uint8)
    config = AnoSegConfig(**dict.fromkeys([*OURS, "hard_augmentation"], False) | {"visible_change": True, "mixture": True})
    _, _, labels = made(config, same)  # whole where the paper's, undecided where only a visible change counts
    whole, undecided = (labels == a.ANOMALOUS).any((1, 2)), (labels == a.UNDECIDED).any((1, 2))
    assert 0.4 < whole.sum() / (whole.sum() + undecided.sum()) < 0.6


def test_gaps_within_an_anomaly_are_closed():
    before = np.zeros((40, 40, 3), np.uint8)
    after = before.copy()
    after[::4] = 200  # stripes
    labels = a.label_region(before, after, a.Region((slice(0, 40), slice(0, 40)), np.ones((40, 40), np.float32), 40.0))
    assert (labels[2:-4] == a.ANOMALOUS).all()


def test_areas_span_from_specks_to_a_quarter():
    rng, image = np.random.default_rng(0), pictures(1, 128)[0]
    regions = [a.draw_region(rng, image, AnoSegConfig()) for _ in range(400)]
    areas = np.array([(region.alpha > 0.5).sum() / 128**2 for region in regions])
    assert areas[areas > 0].min() < 0.001 and areas.max() > 0.15 and (areas > 0).mean() > 0.8


def test_only_upright_rectangles_without_varied_shapes():
    rng, image = np.random.default_rng(0), pictures(1, 128)[0]
    for _ in range(50):
        region = a.draw_region(rng, image, AnoSegConfig(**PASTE_ONLY))
        inside = region.alpha > 0.5
        rows, columns = inside.any(1), inside.any(0)
        assert inside.sum() == rows.sum() * columns.sum()


def test_fine_lines_are_long_and_thin_and_never_blended_away():
    rng, config = np.random.default_rng(0), AnoSegConfig()
    image = np.full((128, 128, 3), 128, np.uint8)
    regions = [a.draw_line(rng, image, config) for _ in range(200)]
    some = [region for region in regions if (region.alpha > 0.25).any()]
    assert len(some) > 180
    length = [np.hypot(*region.alpha.shape) for region in some]
    thickness = [2 * distance_transform_edt(np.pad(region.alpha > 0.5, 1)).max() for region in some]
    assert max(length) > 100 and np.median(length) > 30 and max(thickness) < 12 and np.median(thickness) < 5
    faint = 0
    for region in some:
        here = image[region.window].astype(np.float32)
        after = a.blend(rng, here, np.full_like(here, 20), region)
        faint += np.abs(after - here).max() < 15
    assert faint < 0.05 * len(some)


@given(st.integers(0, 2**32), st.booleans(), st.sampled_from([a.draw_region, a.draw_line]))
def test_regions_lie_within_the_image(seed, varied, draw):
    region = draw(np.random.default_rng(seed), pictures(1, 64)[0], AnoSegConfig(varied_shapes=varied))
    assert np.zeros((64, 64))[region.window].shape == region.alpha.shape
    assert region.alpha.dtype == np.float32
    assert region.alpha.size == 0 or (0 <= region.alpha.min() and region.alpha.max() <= 1)


def test_structure_attracts_anomalies():
    image = np.full((128, 128, 3), 200, np.uint8)
    image[32:96, 32:96] = pictures(1)[0]
    for placement, low, high in ((True, 0.45, 1.0), (False, 0.15, 0.4)):
        rng = np.random.default_rng(0)
        points = np.array([a.place(rng, image, placement) for _ in range(300)])
        assert low < ((points > 28) & (points < 100)).all(1).mean() < high


def test_permuted_tiles():
    image = pictures(1)[0]
    permuted = a.permute_tiles(np.random.default_rng(0), image)
    tiles = lambda x: sorted(x[i : i + 32, j : j + 32].tobytes() for i in (0, 32) for j in (0, 32))  # noqa: E731
    assert tiles(permuted) == tiles(image) and not np.array_equal(permuted, image)


def test_hard_augmented_patches_are_turned_by_right_angles_or_of_other_colours(monkeypatch):
    """With the jitter and the tiles held still, every cut without rescaling is a window of the image, turned."""
    monkeypatch.setattr(a, "permute_tiles", lambda rng, source: source)
    monkeypatch.setattr(a, "colour_jitter", lambda rng, patch, grey, strength=1.0: patch)
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 255  # one upright edge
    config = AnoSegConfig(**PASTE_ONLY | {"hard_augmentation": True})
    region = a.Region((slice(20, 40), slice(20, 40)), np.ones((20, 20), np.float32), 20.0)
    seen = set()
    for seed in range(60):
        patch = a.cut(np.random.default_rng(seed), image, region, config, False)[..., 0]
        horizontal, vertical = np.abs(np.diff(patch, axis=1)).max(), np.abs(np.diff(patch, axis=0)).max()
        assert min(horizontal, vertical) < 1
        seen.add("horizontal" if horizontal > 100 else "vertical" if vertical > 100 else "none")
    assert seen >= {"horizontal", "vertical"}


def test_membrane_meets_the_edge_and_is_smooth_within():
    """On a disc it follows the harmonic function with the same values on the edge: two planes and a constant."""
    y, x = np.mgrid[:61, :61].astype(np.float32) - 30
    alpha = (np.hypot(y, x) < 24).astype(np.float32)
    plane = np.dstack([2 * x, x + y, np.full_like(x, 7.0)])
    marred = plane.copy()
    marred[np.hypot(y, x) < 20] = 200  # what lies within the region must not matter
    spread = a.membrane(marred, alpha)
    inside, edge = np.hypot(y, x) < 18, np.abs(np.hypot(y, x) - 24) < 1
    assert np.abs(spread - plane)[edge].mean() < 0.25 * np.abs(plane)[edge].mean()
    assert np.abs(spread - plane)[inside].mean() < 0.65 * np.abs(plane - plane[edge].mean(0))[inside].mean()
    assert np.allclose(spread[inside][:, 2], 7, atol=1e-3)
    assert not a.membrane(plane, np.zeros_like(alpha)).any()


def test_grey_images_stay_grey():
    images = np.repeat(pictures(16)[..., :1], 3, axis=3)
    out, _, _ = made(AnoSegConfig(), images, grey=True)
    assert (out.max(-1) == out.min(-1)).all()
    out, _, _ = made(AnoSegConfig(), images, grey=False)
    assert (out.max(-1) > out.min(-1)).any()


def test_normal_augmentation_is_slight():
    image = np.full((64, 64, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert np.abs(a.augment_normal(rng, image).astype(int) - 128).max() <= 0.07 * 128 + 8
    dot = np.zeros((64, 64, 3), np.uint8)
    dot[30:34, 30:34] = 255
    for _ in range(20):
        y, x = np.argwhere(a.augment_normal(rng, dot)[..., 0] > 100).mean(0)
        assert math.hypot(y - 31.5, x - 31.5) < 0.05 * 64


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (40, 3), (64, 64)])
@pytest.mark.parametrize("cell", [1.5, 20.0, 100.0])
def test_smooth_noise(shape, cell):
    noise = a.smooth_noise(np.random.default_rng(0), shape, cell)
    assert noise.shape == shape and noise.dtype == np.float32 and np.isfinite(noise).all()


def test_batches_do_not_depend_on_the_number_of_threads(monkeypatch):
    images, config = tensor(pictures(10)), AnoSegConfig(batch_size=4, image_size=64)
    with Batches(images, config, 3, 5, "cpu") as one:
        first = list(one)
    monkeypatch.setattr("methods.anoseg.batches.workers_for", lambda device: 3)
    with Batches(images, config, 3, 5, "cpu") as three:
        second = list(three)
    assert len(first) == len(second) == 5
    assert all(torch.equal(x, y) for one, two in zip(first, second, strict=True) for x, y in zip(one, two, strict=True))
    x, clean, masks, decided = first[0]
    assert x.shape == clean.shape == (4, 3, 64, 64) and masks.shape == decided.shape == (4, 1, 64, 64)
    assert -1 <= x.min() and x.max() <= 1 and (masks * (1 - decided) == 0).all()
    assert len(first[0][0]) == 4 and len(first[2][0]) == 3  # 10 images: 4, 3, 3


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch):
    def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr("methods.anoseg.batches.training_batch", broken)
    with pytest.raises(RuntimeError, match="broken"), Batches(tensor(pictures(4)), AnoSegConfig(), 0, 2, "cpu") as batches:
        next(batches)


def test_coordinates():
    channels = coordinate_channels(torch.zeros(2, 3, 5, 9))
    assert channels.shape == (2, 2, 5, 9)
    assert channels[0, 0, 0].tolist() == pytest.approx(torch.linspace(-1, 1, 9).tolist())
    assert channels[1, 1, :, 3].tolist() == pytest.approx(torch.linspace(-1, 1, 5).tolist())


def test_coordinates_join_the_deepest_levels():
    with_, without = (Generator(levels_for(128), 4, coord).down for coord in (True, False))
    more = [a[0].in_channels - b[0].in_channels for a, b in zip(with_, without, strict=True)]
    assert more == [0, 0, 2, 2, 2, 2]


@pytest.mark.parametrize("comparison", [True, False])
@pytest.mark.parametrize("coord", [True, False])
def test_generator_shapes(coord, comparison):
    logits, reconstruction = Generator(5, 4, coord, comparison)(torch.rand(2, 3, 96, 64) * 2 - 1)
    assert logits.shape == (2, 1, 96, 64) and reconstruction.shape == (2, 3, 96, 64)
    assert reconstruction.abs().max() <= 1


@pytest.mark.parametrize(("side", "levels"), [(64, 5), (128, 6), (256, 7), (96, 5), (320, 6), (1024, 9)])
def test_the_deepest_level_sees_the_whole_image(side, levels):
    assert levels_for(side) == levels
    assert side // 2**levels == 2 or side // 2**levels % 2 == 1


def test_a_corner_of_the_map_depends_on_the_corner_beyond():
    images = (torch.rand(1, 3, 128, 128) * 2 - 1).requires_grad_()
    generator = Generator(levels_for(128), 4).eval()
    generator(images)[0][0, 0, :4, :4].sum().backward()
    assert images.grad[..., -16:, -16:].abs().max() > 0


def test_reconstruction_loss_ignores_what_is_not_in_its_region():
    images, region = torch.rand(2, 3, 8, 8), torch.ones(2, 1, 8, 8)
    region[..., :4] = 0
    wrong = images.clone()
    wrong[..., :4] += 5
    assert reconstruction_loss(wrong, images, region) == 0
    wrong[..., 7] += 5
    assert reconstruction_loss(wrong, images, region) > 0.5


def test_segmentation_loss_prefers_the_truth_and_ignores_the_undecided():
    masks, decided = (torch.rand(2, 1, 16, 16) > 0.9).float(), torch.ones(2, 1, 16, 16)
    right, timid = (masks * 2 - 1) * 8, torch.full_like(masks, -8.0)
    assert segmentation_loss(right, masks, decided) < 0.1 < segmentation_loss(timid, masks, decided)
    decided[..., :8] = 0
    other = right.clone()
    other[..., :8] *= -1
    assert segmentation_loss(other, masks, decided) == segmentation_loss(right, masks, decided)


def test_pair_shows_the_normal_region_only():
    images, maps = torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    maps[..., 0] = 1
    shown, same = normal_pair(images, maps)
    assert (shown[..., 0] == 0).all() and torch.equal(shown[..., 1:], images[..., 1:]) and same is maps


def test_detector_sees_the_map_only_if_it_may():
    images, maps = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    for see_map in (True, False):
        detector = Detector(see_map).eval()
        assert torch.equal(detector(images, maps), detector(images, 1 - maps)) != see_map


@pytest.mark.parametrize("steps", [1, 2, 10, 11])
def test_any_number_of_steps(steps):
    method = AnoSeg(AnoSegConfig(image_size=64, steps=steps, batch_size=2, width=4))
    method.fit(tensor(pictures(3)))
    assert torch.isfinite(method.predict(tensor(pictures(1))).maps).all()


PARTS = ["adversarial", "reconstruction", "coord", "hard_augmentation", "restoration", "comparison", "weight_averaging", *OURS]


def test_every_part_has_a_switch_that_changes_the_result():
    images = tensor(pictures(8))
    base = {"image_size": 64, "steps": 8, "batch_size": 4, "width": 4}
    maps = []
    for config in (AnoSegConfig(**base), *(AnoSegConfig(**base, **{part: False}) for part in PARTS)):
        method = AnoSeg(config, seed=1)
        method.fit(images)
        maps.append(method.predict(images).maps)
    assert [part for part, map_ in zip(PARTS, maps[1:], strict=True) if torch.equal(map_, maps[0])] == []


def test_the_detector_changes_the_score_and_not_the_maps():
    images = tensor(pictures(8))
    base = {"image_size": 64, "steps": 8, "batch_size": 4, "width": 4}
    found = []
    for config in (AnoSegConfig(**base), AnoSegConfig(**base, detector=False), AnoSegConfig(**base, detector_map=False)):
        method = AnoSeg(config, seed=1)
        method.fit(images)
        found.append(method.predict(images))
    assert found[1].scores is None and not found[1].other_scores
    assert all(torch.equal(found[0].maps, other.maps) for other in found[1:])
    assert not torch.equal(found[0].other_scores["detector"], found[2].other_scores["detector"])


def test_it_learns_to_segment_anomalies_of_another_kind():
    """Trained on stripes, it finds a disc of checks, which no synthetic anomaly looks like."""
    x = torch.linspace(0, 20, 64)
    stripes = (0.5 + 0.2 * torch.sin(x)).expand(3, 64, 64)
    normals = ((stripes + 0.02 * torch.randn(24, 3, 64, 64, generator=torch.Generator().manual_seed(0))) * 255).byte()
    method = AnoSeg(AnoSegConfig(image_size=64, steps=150, batch_size=8, width=8), seed=0)
    method.fit(normals[:16])
    test = normals[16:].clone()
    grid = torch.arange(64)
    disc = (grid[:, None] - 30) ** 2 + (grid - 34) ** 2 < 81
    checks = ((grid[:, None] // 2 + grid // 2) % 2 * 200).byte()
    test[4:, :, disc] = checks[disc]
    prediction = method.predict(test)
    inside, outside = prediction.maps[4:, disc], prediction.maps[4:, ~disc]
    ranked = (inside.flatten()[:, None] > outside.flatten()[::7]).float().mean()
    assert ranked > 0.9
    assert prediction.scores[4:].mean() > prediction.scores[:4].mean()


def test_dark_images_are_stretched_and_others_left_alone():
    dark = torch.randint(10, 50, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    table = contrast_table(dark)
    assert table[10] == 20 and table[49] == 235 and table[0] == 0 and table[255] == 255
    assert (table[1:].int() >= table[:-1].int()).all()
    assert torch.equal(contrast_table(tensor(pictures(4))), torch.arange(256, dtype=torch.uint8))
    constant = contrast_table(torch.full((1, 3, 64, 64), 7, dtype=torch.uint8))
    assert constant[7] == 20 and constant[8] == 28
