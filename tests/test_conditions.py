"""What the harness does otherwise for one variant: how it is typed, what it is part of, tiles, few and contaminated images."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from anoseg_bench import Plan, load_run
from anoseg_bench.conditions import UNCHANGED, Conditions
from anoseg_bench.datasets.base import Category, Item
from anoseg_bench.datasets.mvtec import MVTecLayout
from anoseg_bench.errors import DataError, UsageError
from anoseg_bench.evaluation import tiles
from anoseg_bench.evaluation.cell import Keep, run_cell, training_images
from anoseg_bench.evaluation.cost import images_per_second
from anoseg_bench.evaluation.holdout import divide
from anoseg_bench.evaluation.maps import read_map
from anoseg_bench.evaluation.tiles import TileMaps, Tiling, draw_corners
from anoseg_bench.experiments import EXPERIMENTS
from anoseg_bench.methods import METHODS
from anoseg_bench.methods.base import Method, MethodConfig, Prediction
from anoseg_bench.plan import Cell
from anoseg_bench.report.conditions import _panel
from anoseg_bench.report.experiments import experiment_report
from anoseg_bench.report.gallery import read_columns
from anoseg_bench.store.cells import Store
from anoseg_bench.store.records import CellRecord
from anoseg_bench.testing import BrokenError, MethodCase, check_class
from anoseg_bench.variants import Variant, parse_methods
from tests.helpers import cells, make_category, usage_error


def changed(text: str, **more) -> list[dict]:
    return [variant.conditions.changed for variant in parse_methods(text, "quick", {}, **more)]


# --- how they are typed -------------------------------------------------------------------------------------------------


def test_conditions_are_typed_like_the_methods_own_settings():
    text = "patchcore,patchcore[tile=256,overlap=16],padim[noise=0.05],random[train_share=0.1,label=few],random[train_share=1]"
    variants = parse_methods(text, "quick", {})
    assert [v.label for v in variants] == [
        *("patchcore", "patchcore[tile=256,overlap=16]", "padim[noise=0.05]", "few", "random[train_share=1]"),
    ]
    assert [v.conditions.changed for v in variants] == [
        *({}, {"tile": 256, "overlap": 16}, {"noise": 0.05, "set_aside": 0.05}, {"train_share": 0.1}, {}),
    ]
    assert "tile" not in variants[1].config.model_dump()
    both = parse_methods("random", "quick", {"random": {"tile": 300, "image_size": 64}})[0]
    assert both.conditions.changed == {"tile": 300, "overlap": 37} and both.config.image_size == 64


def test_tiles_for_all_give_way_to_a_variants_own():
    text = "random,random[tile=0],random[tile=none,label=whole],random[tile=64],random[overlap=0]"
    assert changed(text, common={"tile": 256, "overlap": 32}) == [
        *({"tile": 256, "overlap": 32}, {}, {}, {"tile": 64, "overlap": 8}, {"tile": 256}),
    ]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("random[tile=16]", "'random.tile': expected at least 32 px, or 0"),
        ("random[tile=64,overlap=64]", "'random.overlap': expected at most half of the tile, 32 px, but got 64"),
        ("random[overlap=8]", "'random.overlap': expected none without tiles"),
        ("random[tile=64,overlap=-1]", "'random.overlap'"),
        ("random[tile=large]", "'random.tile'"),
        ("random[tile=true]", "should not be true or false"),
        ("random[tile=40.5]", "'random.tile'"),
        ("random[train_share=0]", "'random.train_share'"),
        ("random[train_share=1.1]", "'random.train_share'"),
        ("random[noise=0.5]", "'random.noise'"),
        ("random[noise=-0.1]", "'random.noise'"),
        ("random[noise=.nan]", "'random.noise'"),
        ("random[noise=0.1,set_aside=0.05]", "'random.set_aside': expected at least noise, 0.1"),
        ("random[set_aside=null]", "'random.set_aside'"),
        ("random[train_shar=0.1]", "Did you mean: train_share"),
        ("random[image_siz=64]", "Did you mean: image_size"),
    ],
)
def test_bad_conditions_are_one_line(bench, typed, said):
    assert said in usage_error(bench, "--methods", typed, "--profile", "demo")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--overlap", "8"], "give --tile"),
        (["--tile", "20"], "expected at least 32 px"),
        (["--tile", "64", "--overlap", "40"], "at most half of the tile"),
        (["--experiment", "few", "--set", "random.train_share=0.5"], "'random.train_share' is what the experiment varies"),
        (["--experiment", "parts"], "but got both"),
    ],
)
def test_bad_options_are_one_line(bench, options, said):
    assert said in usage_error(bench, "--methods", "random", "--profile", "demo", *options)


def test_what_an_experiment_varies_is_not_given_in_brackets(bench):
    typed = "pixel_stats[image_size=64]"
    assert "'pixel_stats.image_size'" in usage_error(bench, "--methods", typed, "--experiment", "resolution")


def test_a_method_with_a_key_of_the_harness_is_refused(bench, tmp_path):
    (tmp_path / "own.py").write_text(
        "from anoseg_bench.methods.floors.method import *\n"
        "from anoseg_bench.methods.base import MethodConfig\n"
        "class Own(Random):\n    class Config(MethodConfig):\n        noise: float = 0.1\n"
    )
    assert "has a key 'noise', which the harness has" in usage_error(bench, "--methods", f"{tmp_path / 'own.py'}:Own")

    class Own(Brightness):
        class Config(MethodConfig):
            tile: int = 3

    with pytest.raises(BrokenError, match="no key of `Config` that the harness has for all methods, but tile is one"):
        check_class(MethodCase(Own))


def test_levels_cross_all_variants_those_of_one_stand_together():
    levels = EXPERIMENTS["few"].levels
    variants = parse_methods("random,pixel_stats[image_size=64]", "quick", {}, levels=levels)
    assert [v.label for v in variants[:2]] == ["random at 5 %", "random at 10 %"] and len(variants) == 2 * len(levels)
    assert {v.config.image_size for v in variants[len(levels) :]} == {64}
    assert variants[len(levels) - 1].conditions == UNCHANGED  # all images: the cell that other runs have


# --- what they are part of ----------------------------------------------------------------------------------------------


def cell_of(**conditions) -> Cell:
    variant = Variant("random", "random", MethodConfig(image_size=64, batch_size=3), Conditions(**conditions))
    return Cell(variant, "d", "c", 0, 0.1, "cpu", "content")


def test_a_plain_cell_has_the_key_that_it_had_before_there_were_conditions():
    assert cell_of().key == "66892ce3ce1a8dddea07"
    assert cell_of(tile=0, overlap=0, train_share=1.0, noise=0.0).key == cell_of().key
    different = [{"tile": 64}, {"tile": 64, "overlap": 0}, {"train_share": 0.5}, {"noise": 0.1}, {"set_aside": 0.1}]
    assert len({cell_of(**conditions).key for conditions in [{}, *different]}) == 6
    assert cell_of(tile=64).trained["conditions"] == {"tile": 64, "overlap": 8}


def test_records_without_conditions_load():
    old = {"method": "random", "dataset": "d", "seed": 0, "category": "c", "values": {}}
    record = CellRecord.model_validate(old)
    assert record.conditions == {} and record.images.contaminated == 0


# --- few and contaminated images ----------------------------------------------------------------------------------------


def category_of(train: int = 90, defects: dict[str, int] | None = None, validation: int = 0) -> Category:
    def items(kind: str, number: int, defect: str = "good") -> list[Item]:
        return [Item(f"{kind}/{defect}/{i}", defect, lambda: np.zeros((4, 4, 3), np.uint8)) for i in range(number)]

    test = [*items("test", 8), *(item for d, n in (defects or {"a": 20, "b": 10, "c": 2}).items() for item in items("test", n, d))]
    return Category("widget", items("train", train), test, items("validation", validation))


def names(items: list[Item]) -> set[str]:
    return {item.name for item in items}


@given(train=st.integers(2, 60), seed=st.integers(0, 5))
def test_shares_are_nested_and_the_hold_out_is_the_same(train, seed):
    category = category_of(train)
    parts = [divide(category, Conditions(train_share=share), 0.1, seed) for share in (0.05, 0.1, 0.25, 0.5, 1)]
    for small, large in itertools.pairwise(parts):
        assert names(small.train) <= names(large.train) and small.held_out == large.held_out
    assert 1 <= len(parts[0].train) and parts[-1].train == divide(category, UNCHANGED, 0.1, seed).train
    assert [len(p.train) for p in parts] == [max(1, round(s * len(parts[-1].train))) for s in (0.05, 0.1, 0.25, 0.5, 1)]


def test_seeds_draw_other_shares():
    drawn = [names(divide(category_of(), Conditions(train_share=0.2), 0, seed).train) for seed in range(4)]
    assert len(set(map(frozenset, drawn))) == 4


@given(train=st.integers(20, 120), validation=st.sampled_from([0, 15]), seed=st.integers(0, 5))
def test_all_levels_of_noise_have_one_test_and_no_image_is_learned_from_and_tested(train, validation, seed):
    category = category_of(train, validation=validation)
    parts = [divide(category, Conditions(noise=noise, set_aside=0.1), 0.1, seed) for noise in (0, 0.02, 0.05, 0.1)]
    inside: set[str] = set()
    for noise, part in zip((0, 0.02, 0.05, 0.1), parts, strict=True):
        assert part.category.test == parts[0].category.test
        taken = [*part.train, *part.held_out]
        assert not names(taken) & names(part.category.test)
        defective = {item.name for item in taken if not item.is_good}
        assert inside <= defective  # nested
        inside = defective
        assert len(defective) == part.contaminated == round(noise * (train + validation) / (1 - noise))
        assert abs(len(defective) / len(taken) - noise) <= 0.5 / (train + validation)
        assert len(taken) - len(defective) == train + validation  # no normal image gives way
        assert names(category.items) - names(part.category.test) >= names(taken)
    left_out = round(0.1 * (train + validation) / 0.9)
    assert len(category.test) - len(parts[0].category.test) == left_out
    kinds = [item.defect for item in parts[-1].category.test]
    assert {"a", "b", "c", "good"} == set(kinds)  # no type is gone
    assert abs(kinds.count("a") / 20 - (1 - left_out / 32)) <= 0.2


def test_validation_images_are_contaminated_as_the_training_images_are():
    part = divide(category_of(60, {"a": 40}, validation=30), Conditions(noise=0.1), 0.1, 0)
    assert [sum(not item.is_good for item in items) for items in (part.train, part.held_out)] == [7, 3]


def test_too_few_defective_images_are_an_error():
    with pytest.raises(DataError, match="Expected at least 20 defective test images in 'widget', so that 10 can be left out"):
        divide(category_of(90, {"a": 19}), Conditions(set_aside=0.1), 0.1, 0)
    assert len(divide(category_of(90, {"a": 20}), Conditions(set_aside=0.1), 0.1, 0).category.test) == 18


# --- tiles --------------------------------------------------------------------------------------------------------------

sides = st.integers(1, 400)
tilings = st.integers(32, 130).flatmap(lambda side: st.builds(Tiling, st.just(side), st.integers(0, side // 2)))


@given(length=st.integers(1, 5000), tiling=tilings)
def test_tiles_cover_a_side_evenly_and_end_with_it(length, tiling):
    starts = tiling.starts(length)
    assert starts[0] == 0 and (length <= tiling.side) == (len(starts) == 1)
    if len(starts) > 1:
        steps = np.diff(starts)
        assert starts[-1] + tiling.side == length
        assert steps.max() <= tiling.side - tiling.overlap and steps.max() - steps.min() <= 1
        fewer = (length - tiling.side) / (len(starts) - 2) if len(starts) > 2 else math.inf
        assert fewer > tiling.side - tiling.overlap  # one tile less would not do


@given(shape=st.tuples(sides, sides), tiling=tilings, value=st.floats(-1e6, 1e6, width=32), size=st.sampled_from([1, 7, 64]))
def test_constant_maps_of_tiles_are_exactly_constant(shape, tiling, value, size):
    maps = np.full((len(tiling.corners(shape)), size, size), value, np.float32)
    whole = tiling.join(maps, shape)
    assert whole.shape == shape and whole.dtype == np.float32 and (whole == np.float32(value)).all()


@given(shape=st.tuples(sides, sides), tiling=tilings)
def test_tiles_that_say_the_value_of_each_pixel_are_joined_to_the_image(shape, tiling):
    """What is linear in the pixels has no seams, and what is mirrored beyond the image falls away."""
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    crops = tiling.crops(np.repeat(values[..., None], 3, 2))
    assert {crop.shape for crop in crops} == {(tiling.side, tiling.side, 3)}
    np.testing.assert_allclose(tiling.join(np.stack([crop[..., 0] for crop in crops]), shape), values, atol=1e-6)


@given(shape=st.tuples(st.integers(40, 300), st.integers(40, 300)), side=st.integers(40, 90), seed=st.integers(0, 9))
def test_joined_maps_step_by_no_more_than_the_overlap_allows(shape, side, seed):
    """Tiles that disagree as much as they can, by 1, pass into each other over the overlap: at most three meet along a side."""
    tiling = Tiling(side, side // 4)
    maps = np.random.default_rng(seed).integers(0, 2, (len(tiling.corners(shape)), 1, 1)).astype(np.float32)
    whole = tiling.join(maps, shape)
    step = max(np.abs(np.diff(whole, axis=axis)).max() for axis in (0, 1))
    assert step <= 3 / tiling.overlap
    assert Tiling(40, 0).join(np.array([[[0]], [[1]]], np.float32), (40, 80)).tolist()[0] == [0.0] * 40 + [1.0] * 40


def test_small_images_go_on_mirrored():
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    crop = Tiling(32).crop(image, (0, 0))
    assert crop.shape == (32, 32, 3) and (crop[:, :4] == image[:, [0, 1, 1, 0]]).all()


@pytest.mark.parametrize("in_memory", [1, 2**27])
def test_maps_wait_in_memory_or_in_a_file(monkeypatch, in_memory):
    monkeypatch.setattr(tiles, "IN_MEMORY", in_memory)
    tiling, shapes, rng = Tiling(64, 8), [(100, 90), (30, 200), (64, 64)], np.random.default_rng(0)
    kept, given = TileMaps(tiling), []
    for shape in shapes:
        given.append(rng.random((len(tiling.corners(shape)), 16, 16), np.float32))
        kept.add(given[-1], shape)
    for i in (2, 0, 1, 0):
        np.testing.assert_array_equal(kept.whole(i), tiling.join(given[i], shapes[i]))
    assert len(kept) == 3 and kept._file._rolled == (in_memory == 1)


def test_training_tiles_are_bounded_and_drawn_evenly(monkeypatch):
    monkeypatch.setattr(tiles, "TRAINING_TILES", 10)
    rng = np.random.default_rng(0)
    corners = Tiling(32).corners((320, 320))
    drawn = [draw_corners(corners, 4, rng) for _ in range(4)]
    assert [len(of) for of in drawn] == [2, 2, 2, 2] and len(set(map(tuple, drawn))) > 1
    assert len(draw_corners(corners, 1000, rng)) == 1 and draw_corners(corners[:2], 5, rng) == corners[:2]
    items = [Item(str(i), "good", lambda i=i: np.full((64, 64, 3), i, np.uint8)) for i in range(4)]
    images, available = training_images(items, Tiling(32), 32, 0)
    assert images.shape == (8, 3, 32, 32) and available == 16
    assert torch.equal(images, training_images(items, Tiling(32), 32, 0)[0])
    assert sorted(images[:, 0, 0, 0].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]


class Brightness(Method):
    """The map is the mean of the channels."""

    shapes: ClassVar[list[tuple[int, ...]]] = []

    def _fit(self, images, progress):
        self.shapes.append(tuple(images.shape))

    def _predict(self, images):
        self.shapes.append(tuple(images.shape))
        return Prediction(images.float().mean(1), other_scores={"corner": images[:, 0, 0, 0].float()})

    def state(self):
        return {"nothing": torch.zeros(1)}

    def load_state(self, state):
        pass


@pytest.fixture
def brightness(monkeypatch) -> Variant:
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))
    METHODS.register("brightness", Brightness, summary="")
    Brightness.shapes = []
    return Variant("brightness", "b", MethodConfig(image_size=32, batch_size=3))


def test_a_cell_in_tiles(tmp_path, brightness):
    make_category(tmp_path, size=(70, 90))
    category = MVTecLayout(tmp_path).load("widget")
    variant = replace(brightness, conditions=Conditions(tile=32, overlap=8))
    cell, store = Cell(variant, "d", "widget", 0, 0.2, "cpu", "content"), Store(tmp_path / "store")
    run_cell(cell, category, store, lambda *_: None, Keep(maps=True))
    result = store.get("brightness", cell.key)
    number = 3 * 4  # tiles of an image
    assert Brightness.shapes[0] == (5 * number, 3, 32, 32)
    assert result.record.conditions == {"tile": 32, "overlap": 8} and result.record.images.train == 5
    assert result.record.findings == {"tiles": {"drawn": 5 * number, "of": 5 * number}}
    for i, item in enumerate(category.test):  # tiles of the method's size: every pixel is seen as it is
        image = item.load_image().mean(2)
        np.testing.assert_allclose(read_map(result.folder / "maps" / f"{item.name}.tiff"), image, atol=1e-4)
        assert result.arrays["score"][i] == pytest.approx(image.max(), abs=1e-4)
        corners = [item.load_image()[top, left, 0] for top, left in Tiling(32, 8).corners((70, 90))]
        assert result.arrays["score/corner"][i] == max(corners)


def test_speed_is_of_whole_images():
    calls = []

    class Counting(Brightness):
        def _predict(self, images):
            calls.append(len(images))
            return super()._predict(images)

    method = Counting(MethodConfig(image_size=32, batch_size=16))
    images = torch.zeros(9, 3, 32, 32, dtype=torch.uint8)
    images_per_second(method, images, 1, 9.0)
    assert set(calls) == {9}
    calls.clear()
    images_per_second(method, images, 16, 9.0)
    assert set(calls) == {16}  # a batch of its own size, not the 144 tiles of 16 images


# --- the command --------------------------------------------------------------------------------------------------------


def test_a_run_in_tiles_and_its_model_on_other_images(bench, widget):
    out = ["--out", "r", "--holdout", "0.4", "--tile", "32", "--overlap", "8", "--keep-models"]
    methods = "pixel_stats,pixel_stats[tile=0,image_size=32]"
    assert bench.run(widget, *out, methods=methods) == 0, bench.err
    note = "Conditions: pixel\\_stats: tiles of 32 px that overlap by 8 px at least."
    assert note in (bench.folder / "r" / "tables" / "summary.md").read_text()
    records = [json.loads(path.read_text()) for path in (bench.folder / ".cells").glob("*/cell.json")]
    assert sorted((r["conditions"] for r in records), key=len) == [{}, {"tile": 32, "overlap": 8}]
    image = widget / "widget" / "test" / "spot" / "000.png"
    model = ["predict", "--run", "r", "--category", "widget", image]
    assert bench(*model, "--method", "pixel_stats", "--out", "p") == 0, bench.err
    tested = next(r for r in records if r["conditions"])
    scores = (bench.folder / "p" / "predictions.csv").read_text().splitlines()[1].split(",")
    arrays = np.load(
        next(p for p in (bench.folder / ".cells").glob("*/arrays.npz") if "tile" in (p.parent / "cell.json").read_text())
    )
    place = [name for name, _ in tested["items"]].index("test/spot/000")
    assert float(scores[1]) == pytest.approx(arrays["score"][place])
    assert bench.run(widget, *out[:-1], "--dry-run", methods=methods) == 0 and "0 of 2 cells to run" in bench.out


@pytest.fixture
def plenty(tmp_path):
    """A root with a category that has enough defective images to contaminate the others."""
    make_category(tmp_path / "plenty", train=18, good=3, bad=5)
    return tmp_path / "plenty"


@pytest.mark.parametrize(("name", "seeds"), [("few", "0,1"), ("noisy", "0,1"), ("resolution", "0")])
def test_experiments_run_end_to_end(bench, plenty, name, seeds):
    arguments = ["--dataset", "mvtec_layout", "--data-root", plenty, "--profile", "demo", "--workers", "0", "--holdout", "0.3"]
    more = ["--experiment", name, "--methods", "pixel_stats", "--seeds", seeds, "--out", "r", "--shard", "1/1"]  # without a report
    assert bench(*arguments, *more) == 0, bench.err
    levels = list(EXPERIMENTS[name].levels)
    results = load_run(bench.folder / "r")
    assert results.variants == [f"pixel_stats at {level}" for level in levels]
    said = experiment_report(results)
    assert said and said.figure and [line.cells[1].text for line in said.table.lines] == levels
    assert all(len(line.cells) == len(said.table.header) for line in said.table.lines)
    of = {heading: [line.cells[i].text for line in said.table.lines] for i, heading in enumerate(said.table.header)}
    assert set(of["method"]) == {"pixel_stats"} and all("–" in text for text in of["Pixel AUROC"])  # with intervals
    records = [json.loads(path.read_text()) for path in (bench.folder / ".cells").glob("pixel_stats-*/cell.json")]
    assert len(records) == len(seeds.split(",")) * len(levels)
    if name == "few":
        assert of["images"] == ["1", "1", "3", "6", "13"]
    if name == "noisy":
        assert of["of them defective"] == ["0", "0", "1", "2"] and of["taken for normal"] == ["18", "18", "19", "20"]
        tests = {seed: {str(r["items"]) + r["content"] for r in records if r["seed"] == seed} for seed in (0, 1)}
        assert [len(of) for of in tests.values()] == [1, 1]
    if name == "resolution":
        assert all(float(text) > 0 for text in of["latency, one image (ms)"])


def test_seeds_that_agree_have_bars_of_no_height():
    """The mean of three equal numbers may be another number."""
    block = np.full((1, 1, 1, 3), 0.1)
    assert block.mean() > block.max()
    assert len(_panel(Figure().subplots(), block)) == 1


def test_a_category_with_too_few_defective_images_fails_in_one_line(bench, widget):
    arguments = ["--dataset", "mvtec_layout", "--data-root", widget, "--profile", "demo", "--workers", "0", "--out", "r"]
    assert bench(*arguments, "--methods", "pixel_stats,pixel_stats[noise=0.3]") == 1
    assert "Expected at least 6 defective test images in 'widget', so that 3 can be left out" in bench.err
    assert [cell["status"] for cell in cells(bench.folder / "r")] == ["done", "failed"]


def test_maps_of_other_test_images_are_not_shown_beside_these(bench, plenty):
    arguments = ["--dataset", "mvtec_layout", "--data-root", plenty, "--profile", "demo", "--workers", "0", "--out", "r"]
    assert bench(*arguments, "--methods", "pixel_stats,pixel_stats[noise=0.1]") == 0, bench.err
    results = load_run(bench.folder / "r")
    plain, noisy = results.shown("widget")[1].values()
    assert plain.record.content != noisy.record.content and len(noisy.record.items) == len(plain.record.items) - 2
    columns = read_columns(results, [plain, noisy], plain.record.items)
    assert len(columns[0].maps) == 8 and (columns[1].maps, columns[1].missing) == ({}, "other test images")


def test_the_same_from_python(widget, tmp_path):
    plan = Plan.of("random", dataset="mvtec_layout", data_root=widget, tile=64, profile="demo", out=tmp_path / "r")
    assert plan.variants[0].conditions.changed == {"tile": 64, "overlap": 8}
    with pytest.raises(UsageError, match="but got both"):
        Plan.of("random", experiment="ablation")
