"""PatchCore and PaDiM against plain computations, and against anomalib's where it is installed; bounded memory; marks in tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, mahalanobis
from scipy.special import logit

from anoseg_bench.methods._memory import Neighbours, k_centre_greedy
from anoseg_bench.methods.anoseg.method import hottest
from anoseg_bench.methods.anoseg.pretrained import PRIOR, Deviation, Judge, Memory
from anoseg_bench.methods.padim import PaDiMConfig
from anoseg_bench.methods.padim.method import PaDiM
from anoseg_bench.methods.patchcore import PatchCoreConfig
from anoseg_bench.methods.patchcore.method import PatchCore
from anoseg_bench.report.page import PAGE
from anoseg_bench.testing import normal_images
from tests.helpers import make_category


def plain_greedy(points, number, first):
    """The algorithm as it is written down: all distances to each new centre."""
    chosen, nearest = [first], np.full(len(points), np.inf)
    for _ in range(number - 1):
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(1))
        chosen.append(int(nearest.argmax()))
    return chosen


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 300), st.integers(1, 12), st.integers(0, 2**16), st.booleans())
def test_greedy_choice_is_that_of_the_plain_algorithm(n, d, seed, clustered):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d)).astype(np.float32)
    if clustered:
        points = points * 0.05 + rng.integers(0, 4, (n, 1)).astype(np.float32)
    torch.manual_seed(seed)
    chosen = k_centre_greedy(torch.from_numpy(points), max(1, n // 3)).numpy()
    wanted = plain_greedy(points.astype(np.float64), max(1, n // 3), chosen[0])
    radii = [cdist(points.astype(np.float64), points[c].astype(np.float64)).min(1).max() for c in (chosen, wanted)]
    assert len(set(chosen)) == len(chosen) or radii[0] == 0
    assert radii[0] == pytest.approx(radii[1], rel=1e-4, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.integers(1, 3000), st.integers(1, 9), st.integers(0, 2**16))
def test_nearest_neighbours_are_exact(q, b, dimensions, seed):
    rng = np.random.default_rng(seed)
    scales = rng.exponential(1, dimensions) ** 3
    queries, bank = ((5 + scales * rng.standard_normal((n, dimensions))).astype(np.float32) for n in (q, b))
    queries[: q // 3] = bank[rng.integers(b, size=q // 3)]  # some lie in the bank
    distances, indices = Neighbours(torch.from_numpy(bank)).find(torch.from_numpy(queries))
    everything = cdist(queries.astype(np.float64), bank.astype(np.float64))
    size = np.abs(bank).max()
    np.testing.assert_allclose(distances, everything.min(1), rtol=1e-4, atol=1e-5 * size)
    np.testing.assert_allclose(everything[np.arange(q), indices], everything.min(1), rtol=1e-4, atol=1e-5 * size)


def stripes(number, size, seed=0):
    """Normal images of any size, uint8 (number, 3, size, size)."""
    images = normal_images(number, seed).float()
    return torch.nn.functional.interpolate(images, size=(size, size), mode="bilinear").round().byte()


def trained(cls, config, number=12):
    method = cls(config, seed=3)
    method.fit(stripes(number, config.image_size))
    return method


def test_patchcore_scores_by_its_equation():
    method = trained(PatchCore, PatchCoreConfig(image_size=64, coreset=0.3, smoothing=0))
    images = stripes(3, 64, 1)
    images[1, :, 20:40, 20:40] = 255
    prediction = method.predict(images)
    bank = method.bank.numpy().astype(np.float64)
    for patches, map_, score in zip(method._patches(images).flatten(1, 2).numpy(), prediction.maps, prediction.scores, strict=True):
        distances = cdist(patches, bank)
        np.testing.assert_allclose(map_[4::8, 4::8].flatten(), distances.min(1), rtol=1e-3)
        far = distances.min(1).argmax()
        around = cdist(bank[distances[far].argmin()][None], bank)[0].argsort()[:9]
        apart = cdist(patches[far][None], bank[around])[0]
        weight = 1 - np.exp(apart[0] - apart.max()) / np.exp(apart - apart.max()).sum()
        assert score == pytest.approx(weight * distances.min(1).max(), rel=1e-3)


def test_the_pool_of_patches_is_bounded():
    method = PatchCore(PatchCoreConfig(image_size=64, largest_pool=12 * 20 + 11), seed=0)
    method._build(weights=True)
    assert method._pool(stripes(12, 64)).shape == (12 * 20, 152)  # of 64 patches an image


def test_padim_is_the_mahalanobis_distance():
    method = trained(PaDiM, PaDiMConfig(image_size=64, dimensions=10, smoothing=0))
    train, images = stripes(12, 64), stripes(2, 64, 1)
    images[1, :, 20:40, 20:40] = 255
    seen, asked = (method._embed(x).numpy().astype(np.float64) for x in (train, images))
    with torch.no_grad():
        x = method._embed(images) - method.mean[:, None]
        ours = torch.linalg.vector_norm(x @ method.whitening.transpose(1, 2), dim=2).numpy()
    for place in range(0, len(seen), 17):
        inverse = np.linalg.inv(np.cov(seen[place], rowvar=False) + 0.01 * np.eye(10))
        wanted = [mahalanobis(one, seen[place].mean(0), inverse) for one in asked[place]]
        np.testing.assert_allclose(ours[place], wanted, rtol=2e-3)


@pytest.mark.parametrize("everywhere", [False, True])
def test_deviations_are_in_spreads_of_the_normals(everywhere):
    maps = torch.randn(12, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 5 + 100
    deviation = Deviation([3], [4])
    deviation.learn([[maps[:5]], [maps[5:]]], everywhere)
    x = maps.double().numpy()
    axes = (0, 2, 3) if everywhere else 0
    variance, whole = x.var(axes), x.var((0, 2, 3))[:, None, None]
    if not everywhere:
        variance = (12 * variance + PRIOR * variance.mean((1, 2), keepdims=True)) / (12 + PRIOR)
    mean, variance = (v[:, None, None] if everywhere else v for v in (x.mean(axes), variance))
    wanted = (x - mean) / np.sqrt(variance + 0.01 * whole + 1e-6)
    (seen,) = deviation([maps])
    np.testing.assert_allclose(seen[:, :3], wanted, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(seen[:, 3:6], abs(wanted), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(seen[:, 6], np.log1p(np.square(wanted).mean(1)), rtol=1e-3, atol=1e-3)


def test_the_image_score_sums_how_far_map_and_features_lie_above_the_training_images():
    rng = np.random.default_rng(0)
    judge = Judge((2, 4, 8))
    maps = torch.tensor(rng.uniform(0.01, 0.99, (20, 1, 64, 64)), dtype=torch.float32)
    deviations = [torch.tensor(rng.uniform(0, 2, (20, 5, side, side)), dtype=torch.float32) for side in (32, 16, 8)]
    furthest = torch.tensor(rng.uniform(1, 5, 20), dtype=torch.float32)
    numbers = judge.numbers(hottest(maps, None), deviations, furthest)
    top = np.sort(maps.numpy().reshape(20, -1), 1)[:, -4:].mean(1)  # 0.1 % of 4,096
    assert numbers[:, 0].numpy() == pytest.approx(logit(top), rel=1e-5)
    coarse = F.interpolate(deviations[2][:, -1:], size=(16, 16), mode="bilinear")
    mean = ((deviations[1][:, -1:] + coarse) / 2).numpy()[:, 0]
    padded = np.pad(mean, ((0, 0), (1, 1), (1, 1)))
    places = sum(padded[:, y : y + 16, x : x + 16] for y in range(3) for x in range(3)) / 9
    assert numbers[:, 1].numpy() == pytest.approx(places.max((1, 2)), rel=1e-5)
    assert (numbers[:, 2] == furthest).all()
    judge.learn(numbers)
    scores, plain = judge(numbers).numpy(), numbers.numpy()
    spread = np.maximum(np.subtract(*np.percentile(plain, [75, 25], axis=0)) / 1.349, 0.02)
    by_map, by_features, by_memory = ((plain - np.median(plain, axis=0)) / spread).T
    assert scores == pytest.approx(by_map + by_features / 2 + by_memory, rel=1e-4, abs=1e-4)
    assert judge(numbers + torch.tensor([1.0, 0, 0])).min() > scores.min() and Judge((2,)).counted == [0]


def test_the_memory_tells_how_far_the_furthest_place_lies_from_others_images():
    rng = np.random.default_rng(1)
    sides, channels = (16, 8, 4), (2, 3, 5)
    maps = [torch.tensor(rng.normal(3, 2, (6, c, s, s)), dtype=torch.float32) for c, s in zip(channels, sides, strict=True)]
    memory = Memory(channels, (4, 8, 16))
    torch.manual_seed(0)
    whose = memory.learn([[x[:4] for x in maps], [x[4:] for x in maps]], 6)
    assert len(whose) == len(memory.bank) == round(0.1 * 6 * 64) and set(whose.tolist()) <= set(range(6))
    smooth = [F.avg_pool2d(x, 3, 1, 1) for x in maps]
    fine = F.avg_pool2d(smooth[0], 2)  # what bilinear resizing by two is
    places = torch.cat([fine, smooth[1], F.interpolate(smooth[2], scale_factor=2, mode="bilinear")], 1).flatten(2).mT.numpy()
    each = places.reshape(-1, 10)
    plain = (places - each.mean(0)) / each.std(0) / np.sqrt(np.repeat(channels, channels))
    bank = memory.bank.numpy()
    assert cdist(bank, plain.reshape(-1, 10)).min(1) == pytest.approx(0, abs=1e-4)
    far = [cdist(own, bank).min(1).max() for own in plain]
    assert memory(maps).numpy() == pytest.approx(far, rel=1e-4)
    own = torch.arange(6)[:, None] == whose
    apart = [cdist(p, bank[~mine]).min(1).max() for p, mine in zip(plain, own.numpy(), strict=True)]
    assert memory(maps, own).numpy() == pytest.approx(apart, rel=1e-4) and (np.array(apart) >= np.array(far) - 1e-6).all()
    assert memory([x[:1] for x in maps], torch.ones(1, len(whose), dtype=torch.bool)).numpy() == pytest.approx(far[:1], rel=1e-4)
    again = Memory(channels, (4, 8, 16))
    again.load_state_dict(memory.state_dict())
    assert (again(maps) == memory(maps)).all() and Memory((2, 3), (16, 32)).places == 0
    maps[0][:, 0] = 1.0  # a channel that no normal image moves
    memory.learn([maps], 6)
    usual = memory(maps)
    maps[0][:, 0] = 1.5
    assert (memory(maps) < 3 * usual).all() and memory.spread.min() > 0.01


def test_a_decoder_that_does_not_fit_its_strides_is_one_line(bench):
    assert bench("--methods", "anoseg_pretrained", "--set", "anoseg_pretrained.strides=[4,8]", "--dry-run") == 2
    assert "one of widths more than strides, but got 5 and 2" in bench.err and bench.err.count("\n") == 1


def test_tables_and_figures_mark_what_is_pretrained(bench, tmp_path):
    make_category(tmp_path / "data", size=(64, 64))
    short = [f"{name}.images_seen=16" for name in ("anoseg", "anoseg_pretrained")]
    data = ("--dataset", "mvtec_layout", "--data-root", tmp_path / "data")
    run = ("--experiment", "pretraining", *data, "--profile", "demo", "--workers", 0)
    assert bench(*run, "--set", short[0], "--set", short[1], "--out", tmp_path / "run") == 0, bench.err
    tables = tmp_path / "run" / "tables"
    for name in ("summary", "pixel_auroc", "cost", "thresholds", "experiment_pretraining"):
        text = (tables / f"{name}.md").read_text(encoding="utf-8").replace("\\_", "_")
        assert all(f"{method}†" in text for method in ("patchcore", "padim", "anoseg_pretrained")) and "anoseg†" not in text
        assert "† rests on weights trained on other images: anoseg_pretrained, patchcore, padim: tf_efficientnet" in text
        assert "sha256" in text
    for name in ("summary", "experiment_pretraining"):
        rows = [row.split(",") for row in (tables / f"{name}.csv").read_text(encoding="utf-8").splitlines()]
        method, column = rows[0].index("method"), rows[0].index("weights")
        words = {row[method]: row[column] for row in rows[1:]}
        assert words == {"anoseg": "from scratch"} | dict.fromkeys(("anoseg_pretrained†", "patchcore†", "padim†"), "pretrained")
    assert r"padim\dag{}" in (tables / "summary.tex").read_text(encoding="utf-8")
    assert (tmp_path / "run" / "plots" / "experiment_pretraining.png").is_file()
    page = (tmp_path / "run" / PAGE).read_text(encoding="utf-8")
    assert "padim†" in page and "rests on weights trained on other images" in page


# --- against anomalib, where it is installed -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def anomalib():
    return pytest.importorskip("anomalib.models", reason="anomalib is not installed: pip install '.[anomalib]'")


def anomalibs(cls, ours, **options):
    """A model of anomalib with the weights of our backbone."""
    from anoseg_bench.methods.anomalib.method import backbones_from

    with backbones_from(ours.config.backbone, ours.config.weights):
        return cls(backbone=ours.config.backbone, pre_trained=True, **options).eval()


def anomalibs_patchcore(ours, train):
    """Anomalib's PatchCore with our bank."""
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    theirs = anomalibs(PatchcoreModel, ours, layers=["blocks.2", "blocks.4"])
    theirs.memory_bank = ours.bank
    return theirs


def anomalibs_padim(ours, train):
    """Anomalib's PaDiM, trained on the same images, with the features that ours keeps."""
    from anomalib.models.image.padim.torch_model import PadimModel

    theirs = anomalibs(PadimModel, ours, layers=["blocks.1", "blocks.2", "blocks.4"], n_features=len(ours.kept))
    theirs.idx = ours.kept
    seen = (train - ours.features.mean) / ours.features.std
    with torch.no_grad():
        theirs.gaussian.fit(theirs.generate_embedding(theirs.feature_extractor(seen)))
    return theirs


@pytest.mark.parametrize(
    ("cls", "config", "make"),
    [
        (PatchCore, PatchCoreConfig(image_size=256, coreset=0.05), anomalibs_patchcore),
        (PaDiM, PaDiMConfig(image_size=256, dimensions=30, regularisation=0.01 + 1e-5), anomalibs_padim),
    ],
    ids=["patchcore", "padim"],
)
def test_maps_and_scores_equal_anomalibs(anomalib, cls, config, make):
    ours = trained(cls, config, 6)
    theirs = make(ours, stripes(6, 256))
    images = stripes(4, 256, 1)
    images[1, :, 100:140, 100:140] = 255
    with torch.no_grad():
        wanted = theirs((images - ours.features.mean) / ours.features.std)
    got = ours.predict(images)
    np.testing.assert_allclose(got.maps, wanted.anomaly_map[:, 0], rtol=1e-4, atol=1e-4)
    scores = got.maps.amax((1, 2)) if got.scores is None else got.scores
    np.testing.assert_allclose(scores, wanted.pred_score.flatten(), rtol=1e-4, atol=1e-4)
