"""AnoSeg's parts: anomalies and masks, batches, networks, losses, and that it learns."""

from __future__ import annotations

import itertools
import math
import sys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from anoseg_bench.datasets.synthetic import Synthetic
from anoseg_bench.evaluation.cell import resize
from anoseg_bench.methods._batches import Batches, makers_for
from anoseg_bench.methods._normals import Fingerprint, Normals
from anoseg_bench.methods._unet import coordinate_channels, levels_for
from anoseg_bench.methods.anoseg import AnoSegConfig
from anoseg_bench.methods.anoseg import anomalies as a
from anoseg_bench.methods.anoseg.detector import Detector
from anoseg_bench.methods.anoseg.losses import normal_pair, reconstruction_loss, segmentation_loss
from anoseg_bench.methods.anoseg.method import AnoSeg, to_map, top_mean
from anoseg_bench.methods.anoseg.network import Generator
from anoseg_bench.methods.anoseg.recipe import EXPOSURE, EXPOSURE_LIMIT, VISIBLE, Recipe
from anoseg_bench.methods.anoseg.tones import Tones, contrast_table
from anoseg_bench.methods.anoseg.training import Recorded, Rivals

OURS = [*a.ADDITIONS, "mixture", "normal_augmentation"]
PASTE_ONLY = dict.fromkeys(["hard_augmentation", *OURS], False)


def pictures(n=32, size=64, seed=0):
    """Return blocks of random colours, uint8 (n, size, size, 3)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, size // 8, size // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)


def tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def made(config, images, seed=1):
    return a.Source.of(images, config).batch(np.random.default_rng(seed), np.arange(len(images)))


def scene(image, **facts):
    return a.Scene(image, image, **facts)


@pytest.mark.parametrize("off", [None, "hard_augmentation", *OURS])
def test_only_what_is_labelled_changes_visibly(off):
    images, clean, labels, _ = made(AnoSegConfig(**({off: False} if off else {})), pictures(64))
    change = cv2.absdiff(images.reshape(-1, 64, 3), clean.reshape(-1, 64, 3)).reshape(images.shape).max(-1)
    assert (labels == a.ANOMALOUS).any() and set(np.unique(labels)) <= {a.NORMAL, a.ANOMALOUS, a.UNDECIDED}
    edge = 0.02 * 255 if off != "visible_change" else 0.55 * 255  # without it, half of a soft edge counts as normal
    assert change[labels == a.NORMAL].max() <= edge + 1
    assert change[labels == a.ANOMALOUS].mean() > 25


def test_what_changes_nothing_is_undecided_and_never_anomalous():
    same = np.full((32, 64, 64, 3), 128, np.uint8)
    config = AnoSegConfig(**PASTE_ONLY | {"visible_change": True})
    _, _, labels, _ = made(config, same)
    assert not (labels == a.ANOMALOUS).any() and (labels == a.UNDECIDED).any()


def test_the_papers_own_mask_is_the_pasted_region():
    same = np.full((32, 64, 64, 3), 128, np.uint8)
    images, clean, labels, _ = made(AnoSegConfig(**PASTE_ONLY), same)
    assert np.array_equal(images, clean) and (labels == a.ANOMALOUS).any() and not (labels == a.UNDECIDED).any()


def test_half_of_the_anomalies_stay_as_the_paper_makes_them():
    same = np.full((400, 64, 64, 3), 128, np.uint8)
    config = AnoSegConfig(**dict.fromkeys([*OURS, "hard_augmentation"], False) | {"visible_change": True, "mixture": True})
    _, _, labels, _ = made(config, same)  # whole where the paper's, undecided where only a visible change counts
    whole, undecided = (labels == a.ANOMALOUS).any((1, 2)), (labels == a.UNDECIDED).any((1, 2))
    assert 0.4 < whole.sum() / (whole.sum() + undecided.sum()) < 0.6


def test_gaps_within_an_anomaly_are_closed():
    before = np.zeros((40, 40, 3), np.uint8)
    after = before.copy()
    after[::4] = 200  # stripes
    labels = a.label_region(before, after, a.Region((slice(0, 40), slice(0, 40)), np.ones((40, 40), np.float32), 40.0), VISIBLE)
    assert (labels[2:-4] == a.ANOMALOUS).all()


def test_areas_span_from_specks_to_a_quarter():
    rng, image = np.random.default_rng(0), pictures(1, 128)[0]
    regions = [a.draw_region(rng, scene(image), AnoSegConfig(), (0.0004, 0.33)) for _ in range(400)]
    areas = np.array([(region.alpha > 0.5).sum() / 128**2 for region in regions])
    assert areas[areas > 0].min() < 0.001 and areas.max() > 0.15 and (areas > 0).mean() > 0.8


def test_only_upright_rectangles_without_varied_shapes():
    rng, image = np.random.default_rng(0), pictures(1, 128)[0]
    for _ in range(50):
        region = a.draw_region(rng, scene(image), AnoSegConfig(**PASTE_ONLY), (0.0004, 0.33))
        inside = region.alpha > 0.5
        rows, columns = inside.any(1), inside.any(0)
        assert inside.sum() == rows.sum() * columns.sum()


def test_fine_lines_are_long_and_thin_and_never_blended_away():
    rng, config = np.random.default_rng(0), AnoSegConfig()
    image = np.full((128, 128, 3), 128, np.uint8)
    regions = [a.draw_line(rng, scene(image), config) for _ in range(200)]
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


@given(st.integers(0, 2**32), st.booleans(), st.booleans(), st.none() | st.tuples(st.floats(-80, 144), st.floats(-80, 144)))
@example(0, True, True, (-80.0, -80.0))
def test_regions_lie_within_the_image_though_a_turned_part_does_not(seed, varied, line, part):
    rng, config = np.random.default_rng(seed), AnoSegConfig(varied_shapes=varied)
    place = scene(pictures(1, 64)[0], here=part and np.array([part]))
    region = a.draw_line(rng, place, config) if line else a.draw_region(rng, place, config, (0.0004, 0.33))
    assert np.zeros((64, 64))[region.window].shape == region.alpha.shape
    assert region.alpha.dtype == np.float32
    assert region.alpha.size == 0 or (0 <= region.alpha.min() and region.alpha.max() <= 1)


def test_structure_attracts_anomalies():
    image = np.full((128, 128, 3), 200, np.uint8)
    image[32:96, 32:96] = pictures(1)[0]
    for placement, low, high in ((True, 0.45, 1.0), (False, 0.15, 0.4)):
        rng = np.random.default_rng(0)
        points = np.array([a.place(rng, scene(image), placement) for _ in range(300)])
        assert low < ((points > 28) & (points < 100)).all(1).mean() < high


def test_permuted_tiles():
    image = pictures(1)[0]
    order = np.array([2, 0, 1, 3])
    permuted = a.permute_tiles(image, order)
    tiles = lambda x: sorted(x[i : i + 32, j : j + 32].tobytes() for i in (0, 32) for j in (0, 32))  # noqa: E731
    assert tiles(permuted) == tiles(image) and not np.array_equal(permuted, image)
    for point in itertools.product((0, 10, 31, 32, 63), repeat=2):
        x, y = a.permute_point(np.array(point), order, 64)
        assert (permuted[y, x] == image[point[1], point[0]]).all()


def test_hard_augmented_patches_are_turned_by_right_angles_or_of_other_colours(monkeypatch):
    """With the jitter and the tiles held still, every cut without rescaling is a window of the image, turned."""
    monkeypatch.setattr(a, "permute_tiles", lambda source, order: source)
    monkeypatch.setattr(a, "colour_jitter", lambda rng, patch, grey, strength=1.0: patch)
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 255  # one upright edge
    config = AnoSegConfig(**PASTE_ONLY | {"hard_augmentation": True})
    region = a.Region((slice(20, 40), slice(20, 40)), np.ones((20, 20), np.float32), 20.0)
    seen = set()
    for seed in range(60):
        patch = a.cut(np.random.default_rng(seed), scene(image), False, region, config)[..., 0]
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
    out, *_ = made(AnoSegConfig(), images)
    assert (out.max(-1) == out.min(-1)).all()
    images[0, 0, 0, 0] += 20
    out, *_ = made(AnoSegConfig(), images)
    assert (out.max(-1) > out.min(-1)).any()


def test_normals_move_slightly():
    dot = np.zeros((64, 64, 3), np.uint8)
    dot[30:34, 30:34] = 255
    rng = np.random.default_rng(0)
    for _ in range(20):
        y, x = np.argwhere(a.move(dot, a.draw_motion(rng, 64, False))[..., 0] > 100).mean(0)
        assert math.hypot(y - 31.5, x - 31.5) < 0.05 * 64


def test_turned_normals_stand_out_of_the_same_background():
    """A bar before a slope of grey: it turns by any angle, the slope stays, and no corner is torn."""
    slope = np.broadcast_to(np.linspace(150, 200, 96, dtype=np.float32)[:, None], (96, 96)).astype(np.uint8)
    image = np.repeat(slope[..., None], 3, 2)
    image[44:52, 20:76] = 40
    layer = Normals.of(image[None]).layers[0]
    angles = []
    for seed in range(30):
        turned = a.move(image, a.draw_motion(np.random.default_rng(seed), 96, True), layer.background)
        corners = np.abs(turned.astype(int) - slope[..., None])[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert corners.max() <= 3
        moments = cv2.moments((turned[..., 0] < 100).astype(np.uint8), True)
        angles.append(0.5 * math.atan2(2 * moments["mu11"], moments["mu20"] - moments["mu02"]))
    assert abs(np.exp(2j * np.array(angles)).mean()) < 0.4


def test_textures_that_are_turned_by_hand_keep_their_corners():
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    source = a.Source.of(images, AnoSegConfig(image_size=64, turns=True, exposure=0.0, foreground_weight=4))
    assert not source.normals.fingerprint.plain
    for seed in range(8):
        image, weights, _ = source.normal(np.random.default_rng(seed), 0)
        assert image[:8, :8].std() > 30 and (weights == 1).all()


@pytest.mark.parametrize("strength", [0.1, 0.3])
def test_exposures_stay_within_their_range_and_keep_grey_grey(strength):
    image = np.full((64, 64, 3), 100, np.uint8)
    image[16:48, 16:48] = 120
    rng, means, channels = np.random.default_rng(0), [], []
    for _ in range(300):
        out = a.expose(rng, image, strength, True)
        assert (out.max(-1) == out.min(-1)).all()
        means.append(out.mean() / image.mean())
        channels.append(np.ptp(a.expose(rng, image, strength, False).mean((0, 1))))
    low, high = math.exp(-strength), math.exp(strength)
    assert low - 0.02 < min(means) < low + 0.05 and high - 0.05 < max(means) < high + 0.02
    assert max(channels) > 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (40, 3), (64, 64)])
@pytest.mark.parametrize("cell", [1.5, 20.0, 100.0])
def test_smooth_noise(shape, cell):
    noise = a.smooth_noise(np.random.default_rng(0), shape, cell)
    assert noise.shape == shape and noise.dtype == np.float32 and np.isfinite(noise).all()


def test_batches_do_not_depend_on_who_makes_them():
    batches = Batches(a.Source.of(pictures(10), AnoSegConfig()), 3, 4, 5)
    first = list(batches.on("cpu"))
    assert len(first) == 5
    if sys.platform == "linux":
        pool = cv2.getNumThreads()
        cv2.setNumThreads(4)
        cv2.blur(np.zeros((2000, 2000), np.uint8), (5, 5))  # has threads now, of which a fork has none
        for one, other in zip(first, batches._by_processes(2), strict=True):
            assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))
        assert cv2.getNumThreads() == 4
        cv2.setNumThreads(pool)
    x, clean, masks, weights = a.to_tensors(first[0])
    assert x.shape == clean.shape == (4, 3, 64, 64) and masks.shape == weights.shape == (4, 1, 64, 64)
    assert -1 <= x.min() and x.max() <= 1 and (weights[masks > 0] == 1).all() and set(weights.unique().tolist()) == {0, 1}


@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 12))
def test_every_pass_shows_each_normal_once(count, size, number):
    order = Batches(a.Source.of(pictures(count), AnoSegConfig()), 0, size, number).index.ravel()
    assert len(order) == size * number
    for start in range(0, len(order) - count + 1, count):
        assert sorted(order[start : start + count]) == list(range(count))


def test_an_error_while_batches_are_made_reaches_the_caller(monkeypatch):
    def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(a.Source, "batch", broken)
    batches = Batches(a.Source.of(pictures(4), AnoSegConfig()), 0, 2, 2)
    for made in [batches.on("cpu"), *([batches._by_processes(1)] if sys.platform == "linux" else [])]:
        with pytest.raises(RuntimeError, match="broken"):
            next(made)


def test_generator_and_discriminator_learn_in_float32():
    rivals = Rivals(Generator(4, 4), 1, AnoSegConfig(), "cpu")
    seen: set[torch.dtype] = set()
    for net in (rivals.generator, rivals.discriminator):
        for part in net.modules():
            if isinstance(part, torch.nn.Conv2d):
                part.register_forward_hook(lambda _, __, output: seen.add(output.dtype))
    x, masks = torch.rand(2, 3, 64, 64) * 2 - 1, torch.zeros(2, 1, 64, 64)
    rivals.step(x, x, masks, torch.ones_like(masks))
    assert seen == {torch.float32}  # in bfloat16, where a processor has it, they learn less


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: elsewhere steps are not recorded")
def test_a_recorded_step_does_what_the_step_does():
    weights = [torch.ones(3, device="cuda") for _ in range(2)]

    def step(x, w):
        w.mul_(0.9).add_(x)
        return w.sum()

    recorded = Recorded(lambda x: step(x, weights[0]), "cuda")
    for x in torch.rand(8, 3, device="cuda"):
        assert recorded(x).item() == pytest.approx(step(x, weights[1]).item())


def test_only_a_gpu_has_others_make_its_batches(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert makers_for("cpu") == 0 and makers_for("cuda") == (7 if sys.platform == "linux" else 0)


def test_patches_of_a_small_part_show_it_though_tiles_are_permuted(monkeypatch):
    monkeypatch.setattr(a, "colour_jitter", lambda rng, patch, grey, strength=1.0: patch)
    image = np.zeros((64, 64, 3), np.uint8)
    image[40:52, 44:56] = 255  # the part, within one tile
    points = np.argwhere(image[..., 0] > 0).astype(float)
    region = a.Region((slice(2, 6), slice(2, 6)), np.ones((4, 4), np.float32), 4.0)
    config = AnoSegConfig(**PASTE_ONLY | {"hard_augmentation": True})
    shown = scene(image, here=points, there=points)
    patches = [a.cut(np.random.default_rng(seed), shown, False, region, config) for seed in range(400)]
    assert np.mean([patch.max() > 200 for patch in patches]) > 0.68  # four of five come from the part


def parts(angles, size=96, dark=False, around=0.0, width=5):
    """Return pictures of a bar in these directions, before a shaded plain ground."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    rng, out = np.random.default_rng(0), []
    for angle in angles:
        u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        ground = (40 if dark else 170) + 0.2 * x + rng.normal(0, 1, (size, size)) + around * rng.normal(0, 1, (size, size))
        grey = np.where((np.abs(u) < 30) & (np.abs(v) < width), 110, ground)
        out.append(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2))
    return np.stack(out)


def test_fingerprint_of_a_part_that_turns_freely():
    facts = Normals.of(parts(np.linspace(0, math.pi, 12, endpoint=False))).fingerprint
    assert facts.plain and facts.alignment < 0.2 and facts.elongation > 4
    assert facts.share == pytest.approx(60 * 10 / 96**2, rel=0.35) and facts.inner_width == pytest.approx(10 / 96, rel=0.4)
    recipe = Recipe.of(facts, AnoSegConfig())
    assert recipe.turns and recipe.on_foreground and recipe.areas[1] == pytest.approx((1.5 * facts.inner_width) ** 2)


def test_fingerprint_of_an_aligned_part():
    facts = Normals.of(parts(np.full(12, 0.4), dark=True)).fingerprint
    assert facts.plain and facts.alignment > 0.95 and not Recipe.of(facts, AnoSegConfig()).turns


def test_foreground_is_the_part():
    image = parts([0.7])[0]
    truth = (np.abs(image[..., 0].astype(int) - 110) < 15).astype(np.uint8)
    found = Normals.of(image[None]).layers[0].foreground
    assert (found & (truth > 0)).sum() / (found | (truth > 0)).sum() > 0.7


@pytest.mark.parametrize("images", [pictures(12), np.full((4, 64, 64, 3), 9, np.uint8), parts(np.zeros(12), around=40)])
def test_no_foreground_switches_its_rules_off(images):
    facts = Normals.of(images).fingerprint
    recipe = Recipe.of(facts, AnoSegConfig())
    assert not facts.plain and not recipe.on_foreground and not recipe.turns and recipe.areas == (0.0004, 0.33)


def test_an_unstable_foreground_switches_its_rules_off():
    images = np.concatenate([parts(np.zeros(6), width=width) for width in (2, 20)])
    assert not Normals.of(images).fingerprint.plain


def test_grain_decides_what_is_visible_and_exposures_how_far_normals_vary():
    rng = np.random.default_rng(0)
    flat = np.full((8, 64, 64, 3), 100.0)
    smooth, grainy = (np.clip(flat + rng.normal(0, s, flat.shape), 0, 255).astype(np.uint8) for s in (0.1, 6))
    assert Recipe.of(Normals.of(smooth).fingerprint, AnoSegConfig()).visible < 7
    assert Recipe.of(Normals.of(grainy).fingerprint, AnoSegConfig()).visible > 10
    assert Recipe.of(Normals.of(smooth).fingerprint, AnoSegConfig()).exposure == EXPOSURE
    bright = (flat * np.exp(rng.normal(0, 0.5, (8, 1, 1, 1)))).astype(np.uint8)
    assert EXPOSURE < Recipe.of(Normals.of(bright).fingerprint, AnoSegConfig()).exposure <= EXPOSURE_LIMIT


def test_every_rule_can_be_set_by_hand():
    facts = Fingerprint(True, 0.2, 0.1, 3.0, 0.1, 1.0, 0.01, 0.5)
    config = AnoSegConfig(foreground=False, foreground_weight=3, largest_area=0.2, turns=False, visible=9, exposure=0.05)
    assert Recipe.of(facts, config) == Recipe((0.0004, 0.2), 9, False, 0.05, False, 3)


def test_anomalies_fall_on_the_foreground_and_move_with_it():
    images = parts(np.linspace(0, math.pi, 16, endpoint=False))
    config = AnoSegConfig(**PASTE_ONLY | {"normal_augmentation": True}, largest_area=0.002)
    source = a.Source.of(images, config)
    rng, hits = np.random.default_rng(0), []
    for k in range(16):
        normal, weights, points = source.normal(rng, k)
        inside = np.round(points).astype(int).clip(0, 95)
        stands_out = np.abs(normal[..., 0].astype(int) - np.median(normal[:8])) > 20
        hits.append(
            (stands_out[inside[:, 0], inside[:, 1]].mean(), stands_out[weights > 1].mean(), (weights[stands_out] > 1).mean())
        )
    assert np.min(hits) > 0.6


def test_a_small_foreground_weighs_as_much_as_its_background_and_small_anomalies_are_many():
    images = parts(np.zeros(8))
    source = a.Source.of(images, AnoSegConfig(turns=False))
    share, weight = source.normals.fingerprint.share, source.recipe.foreground_weight
    assert weight == round((1 - share) / share) > 1
    large = a.Source.of(images, AnoSegConfig(largest_area=0.3, foreground_weight=1))
    assert source.recipe.small and not large.recipe.small
    found = []
    for s in (source, large):
        labels, weights = s.batch(np.random.default_rng(0), np.arange(400) % 8)[2:]
        assert set(np.unique(weights)) == {1, s.recipe.foreground_weight}
        found.append(np.mean([cv2.connectedComponents((label == a.ANOMALOUS).astype(np.uint8))[0] - 1 for label in labels]))
    assert found[0] > 1.3 * found[1]


def test_coordinates():
    channels = coordinate_channels(torch.zeros(2, 3, 5, 9))
    assert channels.shape == (2, 2, 5, 9)
    assert channels[0, 0, 0].tolist() == pytest.approx(torch.linspace(-1, 1, 9).tolist())
    assert channels[1, 1, :, 3].tolist() == pytest.approx(torch.linspace(-1, 1, 5).tolist())


def test_coordinates_join_the_deepest_levels():
    with_, without = (Generator(levels_for(128), 4, coord).down for coord in (True, False))
    more = [a[0].in_channels - b[0].in_channels for a, b in zip(with_, without, strict=True)]
    assert more == [0, 2, 2, 2, 2]


@pytest.mark.parametrize("comparison", [True, False])
@pytest.mark.parametrize("coord", [True, False])
def test_generator_shapes(coord, comparison):
    logits, reconstruction = Generator(4, 4, coord, comparison)(torch.rand(2, 3, 96, 64) * 2 - 1)
    assert logits.shape == (2, 1, 96, 64) and reconstruction.shape == (2, 3, 96, 64)
    assert reconstruction.abs().max() <= 1


@pytest.mark.parametrize(("side", "levels"), [(64, 4), (128, 5), (256, 6), (96, 4), (320, 5), (1024, 8)])
def test_the_deepest_level_sees_the_whole_image(side, levels):
    assert levels_for(side) == levels
    deepest = side // 4 // 2 ** (levels - 1)
    assert deepest == 2 or deepest % 2 == 1


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
    masks, valid = (torch.rand(2, 1, 16, 16) > 0.9).float(), torch.ones(2, 1, 16, 16)
    right, timid = (masks * 2 - 1) * 8, torch.full_like(masks, -8.0)
    assert segmentation_loss(right, masks, valid) < 0.1 < segmentation_loss(timid, masks, valid)
    valid[..., :8] = 0
    other = right.clone()
    other[..., :8] *= -1
    assert segmentation_loss(other, masks, valid) == segmentation_loss(right, masks, valid)


def test_segmentation_loss_keeps_its_scale_and_direction_under_weights():
    masks = (torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) > 0.9).float()
    weights, right = torch.ones_like(masks), (masks * 2 - 1) * 8
    one, many = (segmentation_loss(right, masks, weight * weights).item() for weight in (1, 16))
    assert 0 < many == pytest.approx(one, abs=1e-3)
    masks, logits = torch.zeros(1, 1, 64, 64), torch.full((1, 1, 64, 64), -5.0)
    weights = torch.ones_like(masks)
    weights[..., :16] = 16  # a part of the image that counts more, with an anomaly that is found, and one beside it that is missed
    masks[..., 20:40, 4:12], logits[..., 20:40, 4:12] = 1, 2.0
    masks[..., 20:40, 40:60], logits[..., 20:40, 40:60] = 1, -1.0
    logits.requires_grad_(True)
    segmentation_loss(logits, masks, weights, 1.0).backward()
    assert (logits.grad[..., 20:40, 40:60] < 0).all() and (logits.grad[masks == 0] > 0).all()


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
    method = AnoSeg(AnoSegConfig(image_size=64, images_seen=2 * steps, batch_size=2, width=4, pose=False))
    method.fit(tensor(pictures(3)))
    assert torch.isfinite(method.predict(tensor(pictures(1))).maps).all()


PARTS = ["adversarial", "reconstruction", "coord", "hard_augmentation", "restoration", "comparison", "weight_averaging", *OURS]


def test_every_part_has_a_switch_that_changes_the_result():
    images = tensor(pictures(8))
    base = {"image_size": 64, "images_seen": 32, "batch_size": 4, "width": 4, "pose": False}
    maps = []
    for config in (AnoSegConfig(**base), *(AnoSegConfig(**base, **{part: False}) for part in PARTS)):
        method = AnoSeg(config, seed=1)
        method.fit(images)
        maps.append(method.predict(images).maps)
    assert [part for part, map_ in zip(PARTS, maps[1:], strict=True) if torch.equal(map_, maps[0])] == []


def test_the_detector_changes_the_score_where_it_may_and_never_the_maps():
    images = tensor(pictures(8))
    base = {"image_size": 64, "images_seen": 32, "batch_size": 4, "width": 4, "pose": False}
    found = []
    for changes in ({}, {"detector": False}, {"detector_map": False}, {"detector_in_score": True}):
        config = AnoSegConfig(**base, **changes)
        method = AnoSeg(config, seed=1)
        method.fit(images)
        found.append(method.predict(images))
    assert torch.equal(found[0].scores, found[1].scores) and not found[1].other_scores
    assert torch.allclose(found[3].scores, (found[0].scores + found[0].other_scores["detector"]) / 2)
    assert all(torch.equal(found[0].maps, other.maps) for other in found[1:])
    assert not torch.equal(found[0].other_scores["detector"], found[2].other_scores["detector"])


def test_it_learns_to_segment_anomalies_of_another_kind():
    """Trained on stripes, it finds a disc of checks, which no synthetic anomaly looks like."""
    x = torch.linspace(0, 20, 64)
    stripes = (0.5 + 0.2 * torch.sin(x)).expand(3, 64, 64)
    normals = ((stripes + 0.02 * torch.randn(24, 3, 64, 64, generator=torch.Generator().manual_seed(0))) * 255).byte()
    method = AnoSeg(AnoSegConfig(image_size=64, images_seen=1200, batch_size=8, width=8, pose=False), seed=0)
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


def test_the_map_keeps_the_order_of_its_hottest_pixels():
    logits = torch.linspace(-30, 30, 61)
    maps = to_map(logits)
    assert (maps[1:] > maps[:-1]).all() and maps.max() < 1
    assert torch.allclose(maps[28:33], torch.sigmoid(logits[28:33]), atol=0.01)


def test_the_mean_of_the_hottest_pixels():
    maps = torch.arange(2000.0).reshape(2, 1, 40, 25)
    assert top_mean(maps, 0.002).tolist() == [998.5, 1998.5] and top_mean(maps, 1e-9).tolist() == [999, 1999]


def test_dark_images_are_stretched_and_others_left_alone():
    dark = torch.randint(10, 50, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    table = contrast_table(dark)
    assert table[10] == 20 and table[49] == 235 and table[0] == 0 and table[255] == 255
    assert (table[1:].int() >= table[:-1].int()).all()
    assert torch.equal(contrast_table(tensor(pictures(4))), torch.arange(256, dtype=torch.uint8))
    constant = contrast_table(torch.full((1, 3, 64, 64), 7, dtype=torch.uint8))
    assert constant[7] == 20 and constant[8] == 28


def exposed(images, gain):
    return (images * gain).round().clamp(0, 255).byte()


def test_light_is_brought_into_the_range_of_the_normals():
    rng = np.random.default_rng(0)
    scene = rng.integers(40, 180, (64, 64, 3))
    normals = tensor(np.stack([scene * gain for gain in rng.uniform(0.97, 1.03, 40)]).round().astype(np.uint8))
    tones = Tones(AnoSegConfig(image_size=64, contrast=False))
    assert torch.equal(tones.learn(normals), normals)
    usual = float(normals.float().mean())
    kept = (tones(normals) == normals).flatten(1).all(1)
    assert kept.sum() >= 38 and (tones(normals) - normals).abs().max() < 1  # 1 % on either side is beyond
    for gain in (0.8, 1.25):
        assert float(tones(exposed(normals, gain)).mean()) == pytest.approx(usual, rel=0.035)
    spoiled = normals.clone()
    spoiled[:, :, 8:22, 8:22] = 0  # a defect of 5 % of the image
    assert (tones(spoiled) - spoiled)[kept].abs().max() < 3
    assert tones(torch.zeros_like(normals)).max() < 1  # the camera's cap is no exposure
    off = Tones(AnoSegConfig(image_size=64, contrast=False, same_light=False))
    off.learn(normals)
    assert torch.equal(off(exposed(normals, 0.8)), exposed(normals, 0.8).float())


def test_light_and_contrast_go_together():
    dark = torch.randint(10, 50, (8, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tones = Tones(AnoSegConfig(image_size=64))
    seen = tones.learn(dark)
    assert torch.equal(seen, contrast_table(dark)[dark.int()]) and (tones(dark) - seen).abs().max() < 1
    assert (
        (tones(exposed(dark, 0.8)) - seen.float()).abs().mean()
        < 6
        < (tones.table[exposed(dark, 0.8).int()] - seen.float()).abs().mean()
    )


def test_exposure_hardly_moves_the_score_of_normals():
    """Held-out normals, darker or brighter, move by less than the normals differ from each other."""
    method = AnoSeg(AnoSegConfig(image_size=64, images_seen=2400, batch_size=16), seed=0)
    size = method.config.input_size
    normals = torch.stack([resize(item.load_image(), size) for item in Synthetic().load("gasket").train[:64]])
    method.fit(normals[:-16])
    held_out = normals[-16:]
    scores = method.predict(held_out).scores.numpy()
    width = np.subtract(*np.percentile(scores, [75, 25]))
    for gain in (0.8, 0.9, 1.1, 1.2):
        moved = method.predict(exposed(held_out, gain)).scores.numpy()
        assert abs(np.median(moved) - np.median(scores)) < width
