"""The published datasets: which files become which items, what is left out, and what a wrong layout is told."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import Category
from anoseg_bench.datasets.real_iad import RealIADConfig
from anoseg_bench.errors import DataError
from anoseg_bench.evaluation.inspection import inspect
from anoseg_bench.evaluation.submission import to_float16
from anoseg_bench.report.compose import all_tables
from anoseg_bench.report.page import page_data
from anoseg_bench.report.render import markdown
from anoseg_bench.report.results import Results, intervals_frame
from anoseg_bench.store.cells import Run
from tests.helpers import save
from tests.trees import SIZE, TREES


@pytest.fixture
def tree(request, tmp_path):
    """The adapter of a small tree, by its name."""
    return DATASETS[request.param].load()(TREES[request.param](tmp_path / "published"))


def of(name: str):
    return pytest.mark.parametrize("tree", [name], indirect=True)


def names(items) -> list[str]:
    return [item.name for item in items]


def defects(category: Category) -> set[str]:
    return {item.defect for item in category.test}


@of("visa")
def test_visa_by_its_split_file(tree):
    assert tree.categories() == ["candle", "pcb1"]
    category = tree.load("candle")
    assert names(category.train) == [f"train/good/{i:04d}" for i in range(4)]
    assert names(category.test) == ["test/good/0004", "test/good/0005", "test/anomaly/000", "test/anomaly/001"]
    assert category.test[-1].load_mask(SIZE).sum() == 100  # whatever the number of the kind of defect


@of("visa")
def test_visa_as_its_script_copies_it(tree):
    target = tree.root / "1cls"
    for folder, images in (("train/good", "Normal"), ("test/good", "Normal"), ("test/bad", "Anomaly")):
        for path in (tree.root / "candle" / "Data" / "Images" / images).iterdir():
            save(target / "candle" / folder / path.name, np.asarray(Image.open(path)))
    shutil.copytree(tree.root / "candle" / "Data" / "Masks" / "Anomaly", target / "candle" / "ground_truth" / "bad")
    copied = type(tree)(target)
    assert copied.categories() == ["candle"] and copied.label == "visa"
    assert defects(copied.load("candle")) == {"good", "bad"}


@of("visa")
def test_visa_with_another_split_file(tree):
    path = tree.root / "split_csv" / "1cls.csv"
    text = path.read_text()
    path.write_text(text.replace("candle,test,anomaly", "candle,train,anomaly", 1))
    with pytest.raises(DataError, match="'train/anomaly/000' is of the defect type 'anomaly'; give the one-class split"):
        tree.load("candle")
    path.write_text(text.replace("object,split", "class,split"))
    with pytest.raises(DataError, match=r"Expected the columns object, split, .* but got class"):
        tree.categories()


@of("btad")
@pytest.mark.parametrize("category", ["01", "02", "03"])
def test_btad_in_all_its_formats(tree, category):
    assert tree.categories() == ["01", "02", "03"]
    loaded = tree.load(category)
    assert (len(loaded.train), names(loaded.test)) == (4, ["test/ok/0000", "test/ok/0001", "test/ko/0000", "test/ko/0001"])
    assert loaded.test[-1].load_mask(SIZE).sum() == 100 and defects(loaded) == {"good", "ko"}


@of("mpdd")
def test_mpdd_is_laid_out_like_mvtec_ad(tree):
    assert tree.categories() == ["bracket_black", "metal_plate"] and tree.label == "mpdd"
    assert defects(tree.load("metal_plate")) == {"good", "spot"}


@of("kolektor_sdd2")
def test_kolektor_trains_on_normal_images_only(tree):
    (name,) = tree.categories()
    category = tree.load(name)
    assert names(category.train) == [f"train/{n}" for n in (10000, 10001, 10002, 10004, 10005)]
    assert [(item.name, item.defect) for item in category.test] == [
        ("test/20000", "defect"),
        ("test/20001", "good"),
        ("test/20002", "defect"),
        ("test/20003", "good"),
    ]


@of("kolektor_sdd2")
def test_kolektor_without_a_mask(tree):
    (tree.root / "train" / "10002_GT.png").unlink()
    with pytest.raises(DataError, match=r"10002_GT\.png' of .* but there is none"):
        tree.load("kolektor_sdd2")


@of("mvtec_loco")
def test_loco_regions_saturate_as_its_configuration_says(tree):
    category = tree.load("pushpins")
    assert [len(items) for items in (category.train, category.validation, category.test)] == [5, 2, 6]
    logical, structural = (next(i for i in category.test if i.name == f"test/{d}_anomalies/000") for d in ("logical", "structural"))
    (missing, enough), (additional, all_of_it) = logical.regions()
    assert (missing.sum(), enough) == (100, 40)
    assert (additional.sum(), all_of_it) == (100, 100)  # no more than there is
    assert logical.load_mask(SIZE).sum() == 150 and np.array_equal(logical.load_mask(SIZE), missing | additional)
    assert [(region.sum(), number) for region, number in structural.regions()] == [(100, 100)]
    assert category.test[0].regions is None


@of("mvtec_loco")
def test_loco_with_what_its_configuration_does_not_know(tree):
    folder = tree.root / "pushpins"
    mask = folder / "ground_truth" / "logical_anomalies" / "001" / "000.png"
    values = np.asarray(Image.open(mask)).copy()
    save(mask, np.where(values > 0, 7, 0).astype(np.uint8))
    item = next(i for i in tree.load("pushpins").test if i.name == "test/logical_anomalies/001")
    with pytest.raises(DataError, match=r"\(253, 254, 255\), but got 7"):
        item.load_mask(SIZE)
    mask.unlink()
    with pytest.raises(DataError, match="has no mask; expected one or more files in"):
        tree.load("pushpins")
    (folder / "defects_config.json").write_text('[{"pixel_value": 255}]')
    with pytest.raises(DataError, match=r"saturation_threshold and relative_saturation in .*defects_config\.json"):
        tree.load("pushpins")


@of("mvtec_loco")
def test_content_follows_the_saturation_thresholds(tree, tmp_path):
    first = inspect(tree, "pushpins", tmp_path / "a", []).content
    assert inspect(tree, "pushpins", tmp_path / "b", []).content == first
    path = tree.root / "pushpins" / "defects_config.json"
    path.write_text(path.read_text().replace("40", "41"))
    assert inspect(tree, "pushpins", tmp_path / "c", []).content != first


@of("mvtec_ad_2")
def test_mvtec_ad_2_tests_on_the_public_images(tree):
    assert tree.categories() == ["can", "vial"]
    category = tree.load("can")
    assert [len(items) for items in (category.train, category.validation, category.test)] == [5, 2, 4]
    assert names(category.test)[-1] == "test_public/bad/001_overexposed"
    assert not any("private" in str(file) for item in category.items for file in item.files)


@of("real_iad")
def test_real_iad_by_its_split_file(tree):
    assert tree.categories() == ["audiojack"]
    category = tree.load("audiojack")
    assert len(category.train) == 4 and category.train[0].name == "train/OK/S0000/audiojack_0000_OK_C1_20230921"
    assert [item.defect for item in category.test] == ["good", "good", "HS", "good"]  # the second view shows no defect


@of("real_iad")
def test_real_iad_in_other_folders(tree):
    root = tree.root
    (root / "realiad_1024").rename(root / "realiad_256")
    assert tree.categories() == []
    assert type(tree)(root, RealIADConfig(images="realiad_256")).categories() == ["audiojack"]
    nested = root / "realiad_jsons" / "realiad_jsons_sv"
    nested.mkdir()
    (root / "realiad_jsons" / "audiojack.json").rename(nested / "audiojack.json")
    single = type(tree)(root, RealIADConfig(images="realiad_256", splits="realiad_jsons_sv"))
    assert len(single.load("audiojack").train) == 4


@of("real_iad")
def test_real_iad_refuses_splits_with_noise_in_training(tree):
    path = tree.root / "realiad_jsons" / "audiojack.json"
    split = json.loads(path.read_text())
    split["train"].append(split["test"][2])
    path.write_text(json.dumps(split))
    with pytest.raises(DataError, match="is of the defect type 'HS'; give the one-class split"):
        tree.load("audiojack")
    path.write_text('{"train": []}')
    with pytest.raises(DataError, match=r"meta, train and test at .*audiojack\.json"):
        tree.load("audiojack")


@pytest.mark.parametrize("tree", sorted(set(TREES) - {"mpdd"}), indirect=True)
def test_an_empty_layout_is_told_what_it_should_be(tree):
    folders = {"visa": ("split_csv",), "real_iad": ("realiad_jsons",), "kolektor_sdd2": ("train",)}
    for name in folders.get(tree.label, tree.categories()):
        shutil.rmtree(tree.root / name)
    assert tree.categories() == []
    category = {"btad": "01", "mvtec_loco": "pushpins", "mvtec_ad_2": "can"}.get(tree.label)
    if category:
        (tree.root / category / "train").mkdir(parents=True)
        if tree.label == "mvtec_loco":
            (tree.root / category / "defects_config.json").write_text("[]")
        with pytest.raises(DataError, match=r"Expected training images of .* but found none; expected .*ground_truth"):
            tree.load(category)


def results_of(folder) -> Results:
    return Results(Run.load(folder))


def texts(results: Results) -> dict[str, str]:
    """The tables of a run, as Markdown by name."""
    return {table.name: markdown(table) for table in all_tables(results, [], None)}


@of("mvtec_loco")
def test_a_run_on_loco_has_spro(bench, tree):
    arguments = ("--dataset", "mvtec_loco", "--data-root", tree.root, "--methods", "pixel_stats", "--profile", "demo")
    assert bench(*arguments, "--out", "r", "--shard", "1/1") == 0, bench.err
    results = results_of(bench.folder / "r")
    record = results.run.rows[0].result.record
    kinds = [record.defects[kind]["spro_0.05"] for kind in ("logical_anomalies", "structural_anomalies")]
    assert 0.9 < record.values["spro_0.05"] == pytest.approx(np.mean(kinds))
    tables = texts(results)
    assert "spro_0.05" in tables and all("AU-sPRO@0.05" in tables[name] for name in ("summary", "defects_pushpins"))
    frame = intervals_frame(results)
    frame = frame[frame.metric == "spro_0.05"]
    assert len(frame) == 4 and (frame.low <= frame.value).all() and (frame.value <= frame.high).all()


def test_other_runs_show_nothing_of_it(bench, widget):
    assert bench.run(widget, "--out", "r", "--shard", "1/1") == 0
    results = results_of(bench.folder / "r")
    assert not [name for name, text in texts(results).items() if "sPRO" in name + text]
    assert "spro_0.05" not in set(intervals_frame(results).metric)
    assert "spro_0.05" not in [one["name"] for one in page_data(results)["metrics"]]
    record = results.run.rows[0].result.record
    assert np.isnan(record.values["spro_0.05"]) and "how much of a defect is enough" in record.reasons["spro_0.05"]


@of("mvtec_ad_2")
def test_submit_writes_what_the_server_takes(bench, tree):
    run = ("--dataset", "mvtec_ad_2", "--data-root", tree.root, "--methods", "pixel_stats", "--profile", "demo", "--shard", "1/1")
    assert bench(*run, "--out", "r", "--keep-models") == 0, bench.err
    submit = ("submit", "--run", "r", "--method", "pixel_stats", "--data-root", tree.root, "--out", "s")
    assert bench(*submit) == 0, bench.err
    assert "takes all 8 categories, but the run has no fabric, fruit_jelly" in bench.err
    out = bench.folder / "s"
    expected = [
        f"{c}/test_private{m}/00{i}_{k}" for c in ("can", "vial") for m, k in (("", "regular"), ("_mixed", "mixed")) for i in "01"
    ]
    for folder, suffix in (("anomaly_images", ".tiff"), ("anomaly_images_thresholded", ".png")):
        files = sorted(p.relative_to(out / folder).as_posix() for p in (out / folder).rglob("*") if p.is_file())
        assert files == sorted(name + suffix for name in expected)
    for name in expected:
        map_ = tifffile.imread(out / "anomaly_images" / f"{name}.tiff")
        mask = np.asarray(Image.open(out / "anomaly_images_thresholded" / f"{name}.png"))
        assert (map_.dtype, map_.shape, mask.dtype, mask.shape) == (np.float16, SIZE, np.uint8, SIZE)
        assert np.isfinite(map_).all() and set(np.unique(mask)) <= {0, 255}
        assert bool(mask[5:15, 8:18].mean() > 200) == ("/001" in name)  # the images with a bright square


@of("mvtec_ad_2")
def test_submit_says_what_is_wrong(bench, tree, widget):
    assert bench.run(widget, "--out", "other", "--keep-models", "--shard", "1/1") == 0
    wrong = ("submit", "--method", "pixel_stats", "--data-root", tree.root, "--out", "s")
    assert bench(*wrong, "--run", "other") == 2 and "Expected a run on mvtec_ad_2" in bench.err
    run = (
        "--dataset",
        "mvtec_ad_2",
        "--data-root",
        tree.root,
        "--methods",
        "pixel_stats",
        "--profile",
        "demo",
        "--category",
        "can",
    )
    assert bench(*run, "--out", "r", "--keep-models", "--holdout", "0") == 0, bench.err
    assert bench(*wrong, "--run", "r") == 0
    assert "no anomaly_images_thresholded: not every category" in bench.err
    assert [p.name for p in (bench.folder / "s").iterdir()] == ["anomaly_images"]
    shutil.rmtree(tree.root / "can" / "test_private_mixed")
    assert bench(*wrong, "--run", "r") != 0 and "unpack all of it" in bench.err


@pytest.mark.parametrize("peak", [1e-30, 0.7, 1.0, 3e4, 1e30])
def test_float16_keeps_the_order_of_values(peak):
    values = np.array([[0.0, 1e-6, 1e-3, 0.1, 0.5, 0.999, 1.0]], np.float32) * np.float32(peak)
    stored = to_float16(values, float(values.max()))
    assert stored.dtype == np.float16 and np.isfinite(stored).all()
    assert (np.diff(stored[0]) > 0).all()
    assert (to_float16(np.zeros((2, 2), np.float32), 0.0) == 0).all()


def test_what_is_left_out_is_what_the_rules_leave_out(tmp_path):
    """Masks that functions read, or that mark nothing, are not left out; training images with defects are."""
    left = {}
    for name, tree in TREES.items():
        dataset = DATASETS[name].load()(tree(tmp_path / name))
        for category in dataset.categories():
            notes = inspect(dataset, category, tmp_path / "known", []).notes
            left.update((name, note.text) for note in notes if note.kind == "left out")
    assert set(left) == {"kolektor_sdd2", "mvtec_ad_2"}
    assert "train/10003.png" in left["kolektor_sdd2"] and "test_private/" in left["mvtec_ad_2"]
