"""The protocol of a cell: what is held out, what a method sees, how maps come back to the size of their images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from anoseg_bench.datasets.mvtec import MVTecLayout
from anoseg_bench.evaluation.cell import Keep, resize, run_cell, thumbnail
from anoseg_bench.evaluation.holdout import hold_out
from anoseg_bench.evaluation.inspection import inspect
from anoseg_bench.evaluation.maps import to_original
from anoseg_bench.methods import METHODS
from anoseg_bench.methods.base import Method, MethodConfig, Prediction
from anoseg_bench.plan import Cell
from anoseg_bench.store.cells import Store
from anoseg_bench.variants import Variant
from tests.helpers import make_category

SEEN: dict[str, list[torch.Tensor]] = {"fit": [], "predict": []}


class Spy(Method):
    """Keeps what it is given; its map is the brightness."""

    def _fit(self, images, progress):
        SEEN["fit"].append(images.clone())
        for step in range(15, 3515, 15):
            progress(step, 3515, 1 / step)

    def findings(self):
        return {"images": len(SEEN["fit"][-1])}

    def _predict(self, images):
        SEEN["predict"].append(images.clone())
        return Prediction(images.float().mean(1))

    def state(self):
        return {}

    def load_state(self, state):
        pass


@pytest.fixture
def spy(monkeypatch):
    monkeypatch.setitem(METHODS._entries, "spy", replace(METHODS["random"], name="spy", target=Spy, config=None))
    for seen in SEEN.values():
        seen.clear()
    return Variant("spy", "spy", MethodConfig(image_size=64, batch_size=3))


def run(tmp_path, variant, category, seed=0, holdout=0.3, store="s", **options):
    cell = Cell(variant, "d", category.name, seed, holdout, "cpu", "content")
    run_cell(cell, category, Store(tmp_path / store), lambda *a: None, Keep(**options))
    return Store(tmp_path / store).get(variant.method, cell.key)


def rows_of(images):
    return {image.numpy().tobytes() for image in images}


def test_held_out_images_are_not_trained_on(tmp_path, spy):
    make_category(tmp_path, train=10)
    category = MVTecLayout(tmp_path).load("widget")
    result = run(tmp_path, spy, category)
    train = rows_of(SEEN["fit"][0])
    every = {i.name: resize(i.load_image(), 64).numpy().tobytes() for i in category.train}
    assert len(train) == 7 and train < set(every.values())
    predicted = rows_of(torch.cat(SEEN["predict"]))
    assert not train & predicted and set(every.values()) - train <= predicted
    assert result.record.images.held_out == 3
    assert result.value("threshold_deployable") > 0


def test_a_cell_keeps_the_training_curve_and_what_the_method_found(tmp_path, spy):
    make_category(tmp_path)
    record = run(tmp_path, spy, MVTecLayout(tmp_path).load("widget")).record
    assert record.findings == {"images": record.images.train}
    steps = [step for step, _ in record.training_curve]
    assert 150 < len(steps) < 300 and steps[0] == 15 and steps[-1] == 3510 and steps == sorted(set(steps))


def test_the_split_depends_on_the_seed_only(tmp_path):
    make_category(tmp_path, train=20)
    category = MVTecLayout(tmp_path).load("widget")
    split = {seed: [i.name for i in hold_out(category, 0.1, seed)[1]] for seed in (0, 1, 2)}
    assert split[0] == [i.name for i in hold_out(category, 0.1, 0)[1]]
    assert all(len(names) == 2 for names in split.values()) and len({tuple(n) for n in split.values()}) > 1


@pytest.mark.parametrize(("n", "share", "expected"), [(1, 0.1, 0), (2, 0.1, 1), (3, 0.99, 2), (9, 0.0, 0)])
def test_small_splits_leave_something_to_train_on(tmp_path, n, share, expected):
    make_category(tmp_path, train=n)
    train, held_out = hold_out(MVTecLayout(tmp_path).load("widget"), share, 0)
    assert len(held_out) == expected and len(train) == n - expected


def test_a_method_never_learns_which_test_images_are_defective(tmp_path, spy, monkeypatch):
    """With every test label turned round, the method is given the same images in the same order."""
    monkeypatch.setattr("anoseg_bench.evaluation.cost.MEASURED", 0)  # how often a speed is measured depends on the machine
    make_category(tmp_path, train=6, good=3, bad=3)
    category = MVTecLayout(tmp_path).load("widget")
    run(tmp_path, spy, category)
    first = {key: [t.clone() for t in seen] for key, seen in SEEN.items()}
    for seen in SEEN.values():
        seen.clear()
    turned = [
        replace(item, defect="spot" if item.is_good else "good", mask=(lambda: np.ones((40, 48), bool)) if item.is_good else None)
        for item in category.test
    ]
    run(tmp_path, spy, replace(category, test=turned), store="t")
    for key in SEEN:
        assert len(first[key]) == len(SEEN[key]) and all(torch.equal(a, b) for a, b in zip(first[key], SEEN[key], strict=True))


def test_maps_come_back_to_the_size_of_each_image(tmp_path, spy):
    make_category(tmp_path, "widget", size=(40, 90))
    make_category(tmp_path / "more", "widget", size=(77, 31))
    category = MVTecLayout(tmp_path).load("widget")
    mixed = replace(
        category, test=category.test + [replace(i, name="x" + i.name) for i in MVTecLayout(tmp_path / "more").load("widget").test]
    )
    result = run(tmp_path, spy, mixed, maps=True)
    from PIL import Image

    for item in mixed.test:
        saved = np.asarray(Image.open(result.folder / "maps" / f"{item.name}.tiff"))
        assert saved.shape == item.load_image().shape[:2] and saved.dtype == np.float32
    assert result.value("pixel_auroc") > 0.99  # brightness finds the bright square in the right place


def test_upsampling_is_bilinear_without_aligned_corners():
    cv2 = pytest.importorskip("cv2")
    small = torch.rand(7, 9).numpy()
    expected = cv2.resize(small, (45, 70), interpolation=cv2.INTER_LINEAR)  # the same convention, other code
    np.testing.assert_allclose(to_original(small, (70, 45)), expected, atol=1e-5)


def test_image_score_is_the_maximum_of_the_map_as_returned(tmp_path, spy):
    make_category(tmp_path)
    category = MVTecLayout(tmp_path).load("widget")
    result = run(tmp_path, spy, category)
    expected = [float(resize(i.load_image(), 64).float().mean(0).max()) for i in category.test]
    np.testing.assert_allclose(result.arrays["score"], expected, rtol=1e-6)


def test_thumbnails_keep_the_aspect_ratio_and_small_maps_as_they_are():
    assert thumbnail(np.zeros((320, 80), np.float32)).shape == (160, 40)
    small = np.random.default_rng(0).random((50, 60)).astype(np.float32)
    assert thumbnail(small) is small


def test_hashes_follow_the_content(tmp_path):
    make_category(tmp_path)
    data = MVTecLayout(tmp_path)
    first = inspect(data, "widget", tmp_path / "cache", []).content
    assert inspect(data, "widget", tmp_path / "cache", []).content == first
    assert inspect(data, "widget", tmp_path / "other", []).content == first
    assert inspect(data, "widget", tmp_path / "cache", ["widget/test/spot/000"]).content != first
    file = tmp_path / "widget" / "ground_truth" / "spot" / "000_mask.png"
    mask = np.eye(40, 48, dtype=np.uint8)
    from PIL import Image

    Image.fromarray(mask).save(file)
    assert inspect(data, "widget", tmp_path / "cache", []).content != first


@pytest.mark.parametrize("change", [{"seed": 1}, {"holdout": 0.2}, {"device": "cuda"}, {"content": "x"}, {"category": "y"}])
def test_identity(change):
    variant = Variant("random", "random", METHODS["random"].load_config()())
    cell = Cell(variant, "d", "c", 0, 0.1, "cpu", "content")
    assert replace(cell, **change).key != cell.key
    assert replace(cell, variant=replace(variant, label="another name")).key == cell.key


def test_real_images(real_data, tmp_path):
    """The adapter reads the real categories: sizes, types, masks that fit."""
    data = MVTecLayout(real_data / "surface_defects")
    category = data.load("magnetic_tile")
    shapes = set()
    for item in category.test[:: max(1, len(category.test) // 40)]:
        image = item.load_image()
        shapes.add(image.shape)
        assert item.load_mask(image.shape[:2]).any() != item.is_good
    assert len(category.train) == 381 and len(shapes) > 5
    assert set(MVTecLayout(real_data / "mvtec_ad").categories()) == {"bottle", "grid", "transistor"}


def test_a_cell_in_this_process_leaves_the_threads_of_torch(bench, widget):
    before = torch.get_num_threads()
    assert bench.run(widget, "--out", "r", "--workers", "0", "--threads", str(before + 1)) == 0
    assert torch.get_num_threads() == before
