"""Parts that lie in any direction are cut out, turned the same way, and what is found in them is brought back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anoseg_bench.methods.anoseg import AnoSegConfig, AnoSegPretrainedConfig
from anoseg_bench.methods.anoseg.anomalies import Source
from anoseg_bench.methods.anoseg.method import AnoSeg
from anoseg_bench.methods.anoseg.pose import Pose
from anoseg_bench.methods.anoseg.recipe import CALM, WHOLE
from tests.helpers import anywhere, nails

SIDE = 64
GIVEN = AnoSegConfig(image_size=SIDE).input_size


@pytest.fixture(scope="module")
def pose():
    pose = Pose(SIDE, GIVEN)
    pose.learn(nails(*anywhere(24))[0])
    return pose


def ends_with_heads(pose, images, lit=None):
    """Return at which end of each cut the head lies; of images that are placed as `lit` shows them."""
    seen = pose._cut(images.float(), pose(images if lit is None else lit)[1], pose.zoom)
    wide = (seen.mean(1)[:, : SIDE // 3] < 120).float()  # the head is wider than the rest
    return torch.stack([wide[..., : SIDE // 2].sum((1, 2)), wide[..., SIDE // 2 :].sum((1, 2))], 1).argmax(1).tolist()


def shaded(images, strength, directions):
    """Return images under light that falls off by so much across them, in radians for each."""
    y, x = (torch.arange(GIVEN) / GIVEN - 0.5)[:, None], torch.arange(GIVEN) / GIVEN - 0.5
    light = [strength * (x * np.cos(direction) + y * np.sin(direction)) for direction in directions]
    return (images.float() + torch.stack(light)[:, None]).clamp(0, 255).byte()


def test_parts_lie_alike_and_heads_on_one_side(pose):
    seen, _ = pose(nails(*anywhere(12, seed=2))[0])
    assert seen.shape == (12, 3, SIDE, SIDE)
    assert (seen.mean(1).std(0) < 12).float().mean() > 0.93  # places differ at the part's edges only
    assert len(set(ends_with_heads(pose, nails(*anywhere(12, seed=2))[0]))) == 1
    assert pose.cut[0] == pytest.approx(0.92, abs=0.05) and pose.cut[0] > 2 * pose.cut[1]


def test_a_mark_on_the_part_has_one_place_and_comes_back_to_its_own(pose):
    images, masks = nails(*anywhere(12, seed=3), mark=0.5)
    seen, placed = pose(images)
    bright = seen.mean(1) > 200
    inner = bright[:, SIDE // 2 - 3 : SIDE // 2 + 3]
    columns = [float(np.median(np.argwhere(one.numpy())[:, 1])) for one in inner]
    assert np.ptp(columns) <= 4
    back = pose.back(seen.mean(1, keepdim=True) / 255, placed)[:, 0]
    assert back.shape == (12, GIVEN, GIVEN)
    inside = masks & (back > 0)
    assert inside.sum() == masks.sum()
    assert back[masks].mean() > 0.75 and back[(images[:, 0] < 80)].mean() < 0.5


@pytest.mark.parametrize(
    "images",
    [
        nails(np.full(16, 0.8), length=0.55)[0],  # always across the whole image
        torch.randint(0, 256, (16, 3, GIVEN, GIVEN), dtype=torch.uint8),  # has no plain background
        torch.cat([nails(anywhere(12)[0], length=length)[0] for length in (0.1, 0.4)]),  # not one part
        torch.nn.functional.pad(torch.full((16, 3, GIVEN - 12, GIVEN - 12), 200, dtype=torch.uint8), (6, 6, 6, 6), value=20),
    ],
    ids=["aligned", "texture", "unlike", "no background to speak of"],
)
def test_other_images_become_smaller_and_nothing_else(images):
    pose = Pose(SIDE, GIVEN)
    seen = pose.learn(images)
    smaller = torch.nn.functional.avg_pool2d(images.float(), GIVEN // SIDE)
    assert not pose.used and pose.cut == WHOLE and torch.equal(seen, smaller.round().byte())
    again, placed = pose(images)
    maps = torch.rand(len(images), 1, SIDE, SIDE)
    assert torch.equal(again, smaller) and placed is None and pose.beside(placed) is None
    assert torch.equal(pose.back(maps, placed), maps)


def test_parts_that_lie_one_way_are_cut_but_not_turned():
    pose = Pose(SIDE, GIVEN)
    given, masks = nails(np.full(16, np.pi), np.random.default_rng(0).uniform(0.44, 0.56, (16, 2)), mark=0.4)
    seen = pose.learn(given)
    assert pose.used and pose.cut.length == pytest.approx(0.94, abs=0.06) and pose.cut.width == pytest.approx(0.41, abs=0.06)
    assert seen.shape == (16, 3, SIDE, SIDE) and not pose.cut.turned
    cuts, placed = pose(given)
    back = pose.back(cuts.mean(1, keepdim=True), placed)[:, 0]
    within = back > 0
    assert (back - given.float().mean(1))[within].abs().mean() < 6  # but for the edges
    assert within.float().mean() == pytest.approx(pose.cut.length * pose.cut.width, rel=0.05) and (masks & ~within).sum() == 0
    recipe = Source.of(seen.permute(0, 2, 3, 1).contiguous().numpy(), AnoSegConfig(image_size=SIDE), pose.cut).recipe
    assert not recipe.turns and recipe.motion == 1 and recipe.seen == pytest.approx(pose.cut.length * pose.cut.width)


def test_what_lies_beside_the_part_stands_out(pose):
    angles = np.zeros(4)
    images, _ = nails(angles)
    clean = pose.beside(pose(images)[1])
    assert clean.max() == 0
    corner = (..., slice(6, 14), slice(6, 14))
    images[corner] = 20
    _, placed = pose(images)
    back = pose.back(torch.zeros(4, 1, SIDE, SIDE), placed)
    assert back[corner].median() > 0.9 and pose.beside(placed).amax() == 1


def test_shading_that_stays_with_the_image_does_not_decide_the_direction():
    images, pose = nails(*anywhere(24))[0], Pose(SIDE, GIVEN)
    lit = shaded(images, 60, [0] * 24)
    pose.learn(lit)
    assert pose.used and len(set(ends_with_heads(pose, images, lit))) == 1


def test_where_the_light_turns_with_nothing_no_cut_is_larger_than_the_image():
    pose = Pose(SIDE, GIVEN)
    pose.learn(shaded(nails(*anywhere(24))[0], 40, np.random.default_rng(0).uniform(0, 2 * np.pi, 24)))
    assert not pose.used or pose.cut.length * pose.cut.width < 1


def test_one_odd_training_image_hides_nothing_beside_the_part(pose):
    images, other = nails(*anywhere(24))[0], Pose(SIDE, GIVEN)
    images[3, :, 4:14, 4:14] = 20
    other.learn(images)
    assert other.limits[1] == pytest.approx(float(pose.limits[1]), rel=0.3)


def test_a_missing_part_stands_out(pose):
    empty, halves = nails(*anywhere(4), length=0.0)[0], nails(*anywhere(4), length=0.22)[0]
    _, placed = pose(empty)
    assert (pose.beside(placed).flatten(1).mean(1) > 0.5).all()
    assert (pose.back(torch.zeros(4, 1, SIDE, SIDE), placed).amax((1, 2, 3)) == 1).all()
    assert pose.beside(pose(halves)[1]).max() == 0


def test_what_was_learned_is_forgotten():
    images, pose = nails(np.full(16, np.pi), np.random.default_rng(0).uniform(0.34, 0.46, (16, 2)))[0], Pose(SIDE, GIVEN)
    seen = pose.learn(images)
    assert pose.middle.abs().max() > 0.05 and torch.equal(pose.learn(images), seen)


def test_anomalies_of_a_cut_part_are_as_large_as_its_width_allows_and_it_moves_little(pose):
    images = pose.learn(nails(*anywhere(24))[0]).permute(0, 2, 3, 1).contiguous().numpy()
    config = AnoSegConfig(image_size=SIDE)
    cut, uncut = Source.of(images, config, pose.cut), Source.of(images, config)
    assert cut.recipe.areas[1] == pytest.approx(uncut.recipe.areas[1] * pose.cut[1] / pose.cut[0])
    assert not cut.recipe.turns and Source.of(images, config.model_copy(update={"turns": True}), pose.cut).recipe.turns
    assert cut.recipe.motion == CALM and uncut.recipe.motion == 1 and cut.recipe.small
    corners = [cut.normal(np.random.default_rng(seed), 0)[0] for seed in range(8)]
    assert len({corner.tobytes() for corner in corners}) == 8


def test_a_model_keeps_its_pose_and_finds_marks_in_any_direction(tmp_path):
    config = AnoSegConfig.of_profile("demo", {"image_size": SIDE, "images_seen": 640, "width": 8})
    method = AnoSeg(config)
    method.fit(nails(*anywhere(24))[0])
    assert method.findings()["cut"]["turned"]
    images, masks = nails(*anywhere(8, seed=5), mark=0.3)
    found = method.predict(images)
    assert found.maps.shape == (8, GIVEN, GIVEN)
    assert found.maps[masks].mean() > 3 * found.maps[~masks].mean()
    assert (found.scores > method.predict(nails(*anywhere(8, seed=6))[0]).scores.max()).all()
    method.save(tmp_path / "model")
    other = AnoSeg(config)
    other.load(tmp_path / "model")
    assert torch.equal(other.predict(images).maps, found.maps)
    images[..., 2:12, 2:12] = 10  # beside the part
    assert (method.predict(images).scores == 1).all()


def test_it_can_be_switched_off():
    for config in (AnoSegConfig, AnoSegPretrainedConfig):
        assert config(image_size=SIDE).input_size == 2 * SIDE and config(image_size=SIDE, pose=False).input_size == SIDE
    pose = Pose(SIDE, SIDE)
    images = nails(*anywhere(12), size=SIDE)[0]
    assert torch.equal(pose.learn(images), images) and not pose.used
