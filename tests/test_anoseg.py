"""AnoSeg's parts: anomalies and masks, networks, losses, and that it learns."""

from __future__ import annotations

import math

import pytest
import torch

from methods.anoseg import AnoSegConfig
from methods.anoseg.anomalies import augment_normal, colour_jitter, deform, hard_augment, paste, shapes, training_batch, warp
from methods.anoseg.losses import normal_pair, reconstruction_loss, segmentation_loss
from methods.anoseg.method import AnoSeg
from methods.anoseg.network import Generator, coordinate_channels


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def pictures(n=32, size=64):
    return torch.rand(n, 3, size // 8, size // 8).repeat_interleave(8, 2).repeat_interleave(8, 3)


@pytest.mark.parametrize(
    "off", ["", "hard_augmentation", "varied_shapes", "foreign_patches", "synthetic_fill", "deformation", "blending"]
)
def test_masks_are_where_the_image_changes(off):
    config = AnoSegConfig(**({off: False} if off else {}))
    images = pictures()
    pasted, masks = paste(images, config, grey=False)
    assert pasted.shape == images.shape and 0 <= pasted.min() and pasted.max() <= 1
    change = (pasted - images).abs().amax(1, keepdim=True)
    assert change[masks].mean() > 5 * change[~masks].mean() > 0 or not config.blending
    outside = ~(torch.nn.functional.max_pool2d(masks.float(), 7, 1, 3) > 0)
    assert (change[outside] > 0.15).float().mean() < 0.01
    assert 0.2 < masks.flatten(1).any(1).float().mean()


def test_without_visible_change_the_mask_is_the_whole_region():
    config = AnoSegConfig(blending=False, visible_change=False)
    same = torch.full((16, 3, 64, 64), 0.5)
    pasted, masks = paste(same, config.model_copy(update={"hard_augmentation": False, "synthetic_fill": False}), grey=False)
    assert torch.allclose(pasted, same, atol=1e-5) and masks.any()
    _, strict = paste(same, AnoSegConfig(hard_augmentation=False, synthetic_fill=False), grey=False)
    assert not strict.any()


def test_areas_span_from_specks_to_a_quarter():
    areas = (shapes(400, 128, True, torch.zeros(1)) > 0.5).float().mean((1, 2, 3))
    seen = areas[areas > 0]
    assert seen.min() < 0.002 and seen.max() > 0.15 and len(seen) > 300


def test_only_rectangles_without_varied_shapes():
    masks = shapes(50, 128, False, torch.zeros(1)) > 0.5
    for mask in masks[:, 0]:
        if mask.sum() > 100 and not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()):
            y, x = mask.nonzero().float().T
            points = torch.stack([x - x.mean(), y - y.mean()])
            axes = torch.linalg.eigh(points @ points.T).eigenvectors
            extent = (axes.T @ points).abs().amax(1) * 2
            spread = (axes.T @ points).std(1) * math.sqrt(12)  # of a filled rectangle
            assert (spread / extent > 0.75).all()


def test_hard_augmentation_keeps_the_values_but_for_the_colour(monkeypatch):
    monkeypatch.setattr("methods.anoseg.anomalies.colour_jitter", lambda images, strength, grey: images)
    images = torch.rand(12, 3, 32, 32)
    moved = hard_augment(images, grey=False)
    assert torch.equal(moved.flatten(1).sort(1).values, images.flatten(1).sort(1).values)
    assert not torch.equal(moved, images)


def test_grey_images_stay_grey():
    images = torch.rand(8, 1, 64, 64).expand(8, 3, 64, 64)
    pasted, _ = paste(images, AnoSegConfig(), grey=True)
    assert (pasted.amax(1) - pasted.amin(1)).max() < 1e-6
    assert (colour_jitter(images, 0.4, grey=False).amax(1) - colour_jitter(images, 0.4, grey=False).amin(1)).max() > 0.05


def test_warp():
    images = torch.rand(2, 3, 32, 32)
    zero = torch.zeros(2, 1, 1, 1)
    torch.testing.assert_close(warp(images, zero, zero + 1, torch.zeros(2, 2)), images)
    turned = warp(images, zero + math.pi / 2, zero + 1, torch.zeros(2, 2))
    candidates = [torch.rot90(images, k, (2, 3)) for k in (1, 3)]
    assert min((turned - c).abs().max() for c in candidates) < 1e-4
    shifted = warp(images, zero, zero + 1, torch.tensor([[2 / 32 * 4, 0.0]] * 2))
    torch.testing.assert_close(shifted[..., :-4], images[..., 4:], atol=1e-5, rtol=0)


def test_deformation_moves_pixels_without_new_colours():
    images = pictures(8)
    bent = deform(images)
    assert (bent - images).abs().mean() > 0.01
    assert bent.min() >= images.min() - 1e-5 and bent.max() <= images.max() + 1e-5


def test_normal_augmentation_is_slight():
    images = torch.full((16, 3, 64, 64), 0.5)
    assert (augment_normal(images) - images).abs().max() < 0.1


def test_training_batch():
    normals = (pictures(64) * 255).byte()
    images, masks = training_batch(normals, AnoSegConfig(), grey=False)
    assert images.shape == (64, 3, 64, 64) and masks.shape == (64, 1, 64, 64) and set(masks.unique().tolist()) == {0.0, 1.0}
    share = masks.flatten(1).any(1).float().mean()
    assert 0.4 < share < 0.95  # some images stay normal
    assert normals.dtype == torch.uint8


def test_coordinates():
    channels = coordinate_channels(torch.zeros(2, 3, 5, 9))
    assert channels.shape == (2, 2, 5, 9)
    assert channels[0, 0, 0].tolist() == pytest.approx(torch.linspace(-1, 1, 9).tolist())
    assert channels[1, 1, :, 3].tolist() == pytest.approx(torch.linspace(-1, 1, 5).tolist())


@pytest.mark.parametrize("coord", [True, False])
def test_generator_shapes(coord):
    logits, reconstruction = Generator(4, coord)(torch.rand(2, 3, 96, 64) * 2 - 1)
    assert logits.shape == (2, 1, 96, 64) and reconstruction.shape == (2, 3, 96, 64)
    assert reconstruction.abs().max() <= 1


def test_reconstruction_loss_ignores_the_anomaly():
    images, masks = torch.rand(2, 3, 8, 8), torch.zeros(2, 1, 8, 8)
    masks[..., :4] = 1
    wrong = images.clone()
    wrong[..., :4] += 5
    assert reconstruction_loss(wrong, images, masks) == 0
    wrong[..., 7] += 5
    assert reconstruction_loss(wrong, images, masks) > 0.5


def test_segmentation_loss_prefers_the_truth():
    masks = (torch.rand(2, 1, 16, 16) > 0.9).float()
    right, timid = (masks * 2 - 1) * 8, torch.full_like(masks, -8.0)
    assert segmentation_loss(right, masks) < 0.1 < segmentation_loss(timid, masks)


def test_pair_shows_the_normal_region_only():
    images, maps = torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    maps[..., 0] = 1
    shown, same = normal_pair(images, maps)
    assert (shown[..., 0] == 0).all() and torch.equal(shown[..., 1:], images[..., 1:]) and same is maps


@pytest.mark.parametrize("steps", [1, 2, 10, 11])
def test_any_number_of_steps(steps):
    method = AnoSeg(AnoSegConfig(image_size=64, steps=steps, batch_size=2, width=4))
    method.fit((pictures(3) * 255).byte())
    assert torch.isfinite(method.predict((pictures(1) * 255).byte()).maps).all()


PARTS = ["adversarial", "reconstruction", "coord", "detector", "hard_augmentation", "normal_augmentation", "weight_averaging"]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_a_switch_that_changes_the_result(part):
    images = (pictures(8) * 255).byte()
    base = {"image_size": 64, "steps": 8, "batch_size": 4}
    predictions = []
    for config in (AnoSegConfig(**base), AnoSegConfig(**base, **{part: False})):
        method = AnoSeg(config, seed=1)
        method.fit(images)
        predictions.append(method.predict(images))
    if part == "detector":
        assert predictions[1].scores is None and torch.equal(predictions[0].maps, predictions[1].maps)
    else:
        assert not torch.equal(predictions[0].maps, predictions[1].maps)


def test_it_learns_to_segment_anomalies_of_another_kind():
    """Trained on stripes, it finds a disc of checks, which no synthetic anomaly looks like."""
    x = torch.linspace(0, 20, 64)
    stripes = (0.5 + 0.2 * torch.sin(x)).expand(3, 64, 64)
    normals = ((stripes + 0.02 * torch.randn(24, 3, 64, 64)) * 255).byte()
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
