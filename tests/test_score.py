"""The score command: maps that any tool saved, found by name, read from any format, scored like those of a run."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from anoseg_bench.cli import main
from anoseg_bench.errors import DataError
from anoseg_bench.evaluation.maps import NameMatcher, list_maps, read_map, read_scores, to_original
from anoseg_bench.report.frame import TIMING
from tests.helpers import make_category


def values(run: Path, variant: str, category: str = "widget") -> dict[str, float]:
    with (run / "results.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if (r["variant"], r["category"]) == (variant, category)]
    return {r["metric"]: float(r["value"] or "nan") for r in rows}


def defects(run: Path, variant: str) -> list[tuple[str, ...]]:
    with (run / "defects.csv").open(newline="") as file:
        return [(r["category"], r["defect"], r["metric"], r["value"]) for r in csv.DictReader(file) if r["variant"] == variant]


def cell_of(folder: Path, method: str = "pixel_stats") -> Path:
    return next((folder / ".cells").glob(f"{method}-*"))


def score(bench, root: Path, maps: Path, *more: object) -> int:
    return bench("score", "--maps", maps, "--dataset", "mvtec_layout", "--data-root", root, *more)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Data, and a run on it with its maps kept: enough images held out for both thresholds."""
    folder = tmp_path_factory.mktemp("made")
    make_category(folder / "data", train=60, good=3, bad=3)
    options = ["--dataset", "mvtec_layout", "--data-root", folder / "data", "--methods", "pixel_stats,random", "--profile", "demo"]
    assert main([*map(str, options), "--out", str(folder / "r"), "--save-maps", "--holdout", "0.4", "-q"]) == 0
    return folder


@pytest.fixture
def scored(bench, made, tmp_path) -> Path:
    """The data; the run lies in the working folder, and may be spoilt."""
    shutil.copytree(made, bench.folder, dirs_exist_ok=True)
    return Path(shutil.copytree(made / "data", tmp_path / "data"))


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_saved_maps_give_the_numbers_of_their_run(bench, scored):
    for method in ("pixel_stats", "random"):
        maps = cell_of(bench.folder, method) / "maps"
        assert score(bench, scored, maps, "--add-to", "r", "--name", f"again-{method}") == 0, bench.err
        assert "24 maps of normal images" in bench.out and "scores.csv" in bench.out
        run = bench.folder / "r"
        trained, again = values(run, method), values(run, f"again-{method}")
        assert all(math.isfinite(trained[name]) for name in ("iou_deployable", "image_recall_deployable", "iou_mean_fpr"))
        assert {n: v for n, v in again.items() if n not in TIMING} == pytest.approx(
            {n: v for n, v in trained.items() if n not in TIMING}, abs=0, nan_ok=True
        )
        assert defects(run, method) == defects(run, f"again-{method}")
    assert [c["variant"] for c in json.loads((run / "run.json").read_text())["cells"]] == [
        "pixel_stats", "random", "again-pixel_stats", "again-random"]  # fmt: skip
    assert "Scored from saved maps" in (run / "tables" / "summary.md").read_text()
    assert score(bench, scored, maps, "--add-to", "r", "--name", "again-random") == 0
    assert len(json.loads((run / "run.json").read_text())["cells"]) == 4  # again is not another time
    assert score(bench, scored, maps, "--add-to", "r", "--name", "random") == 2 and "another --name" in bench.err


def test_probability_is_kept_with_the_maps(bench, scored):
    maps = cell_of(bench.folder) / "maps"
    about = json.loads((maps / "maps.json").read_text())
    assert about["probability"] is False and about["method"] == "pixel_stats" and about["provenance"]["commit"]
    assert score(bench, scored, maps, "--out", "p", "--name", "m", "--probability") == 0
    assert math.isfinite(values(bench.folder / "p", "m")["iou_0.5"])
    (maps / "maps.json").write_text(json.dumps(about | {"probability": True}))
    assert score(bench, scored, maps, "--out", "q", "--name", "m") == 0
    assert values(bench.folder / "q", "m")["iou_0.5"] == values(bench.folder / "p", "m")["iou_0.5"]


FORMATS = {
    "npy": lambda p, m: np.save(p.with_suffix(".npy"), m.astype(np.float64)),
    "npz": lambda p, m: np.savez_compressed(p.with_suffix(".npz"), anomaly_map=m[None]),
    "lzw": lambda p, m: Image.fromarray(m).save(p.with_suffix(".tif"), compression="tiff_lzw"),
    "16 bit": lambda p, m: Image.fromarray(np.round(m / 10 * 65535).astype(np.uint16)).save(p.with_suffix(".png")),
    "half": lambda p, m: tifffile.imwrite(p.with_suffix(".tiff"), m.astype(np.float16)),
}


@pytest.mark.parametrize("form", FORMATS)
def test_formats(form, tmp_path):
    map_ = np.random.default_rng(0).random((30, 41)).astype(np.float32) * 10
    FORMATS[form](tmp_path / "m", map_)
    read = read_map(next(tmp_path.iterdir()))
    assert read.dtype == np.float32
    tolerance = {"16 bit": 1e-4, "half": 5e-3}.get(form, 0)
    np.testing.assert_allclose(read * (10 if form == "16 bit" else 1), map_, rtol=0, atol=tolerance)


def test_layouts(bench, scored, tmp_path):
    """Any of the usual folders; what is not a map of this category is named."""
    source = cell_of(bench.folder) / "maps"
    official = tmp_path / "official" / "widget"
    shutil.copytree(source / "test", official / "test")
    assert score(bench, scored, official.parent, "--out", "a") == 0, bench.err
    expected = values(bench.folder / "a", "official")
    assert expected["pixel_auroc"] == values(bench.folder / "r", "pixel_stats")["pixel_auroc"]
    assert math.isnan(expected["iou_deployable"]) and "no deployable threshold" in bench.out
    assert "no held-out normal images" in (bench.folder / "a" / "tables" / "summary.md").read_text()
    shutil.copytree(source / "train", tmp_path / "normals" / "train")
    assert score(bench, scored, official.parent, "--out", "b", "--normal-maps", tmp_path / "normals") == 0, bench.err
    trained = values(bench.folder / "r", "pixel_stats")
    assert values(bench.folder / "b", "official")["iou_deployable"] == trained["iou_deployable"]

    shutil.copytree(source / "test" / "good", tmp_path / "wrong" / "good")  # test images passed off as others
    assert score(bench, scored, official.parent, "--out", "w", "--normal-maps", tmp_path / "wrong") == 1
    assert "must not come from test images" in bench.err and not (bench.folder / "w" / "run.json").exists()
    shutil.copytree(source / "test", tmp_path / "none" / "test")
    assert score(bench, scored, official.parent, "--out", "w", "--normal-maps", tmp_path / "none") == 1
    assert "none of its 6 map files fits" in bench.err

    flat = tmp_path / "flat"  # defect types only, some files too many
    shutil.copytree(source / "test", flat)
    np.save(flat / "other.npy", np.zeros((3, 3)))
    assert score(bench, scored, flat, "--out", "c") == 0, bench.err
    assert "1 map fits no image" in bench.err and "other" in bench.err


def test_what_is_wrong_is_named_and_costs_its_category_only(bench, scored, tmp_path):
    make_category(scored, "gadget")
    maps = tmp_path / "tool"
    shutil.copytree(cell_of(bench.folder) / "maps", maps / "widget")
    assert score(bench, scored, maps, "--out", "s") == 1
    assert "gadget" in bench.err and "e.g. 'test/good/000'; no .tiff" in bench.err
    assert math.isfinite(values(bench.folder / "s", "tool")["pixel_auroc"])
    assert score(bench, scored, maps / "widget", "--category", "gadget") == 2 and "name of another category" in bench.err
    wrong = maps / "widget" / "test" / "spot" / "001.tiff"
    for array, message in [
        (np.zeros((40, 48, 3), np.uint8), "a coloured picture is no map"),
        (np.full((40, 48), np.nan, np.float32), "row 0, column 0 has nan"),
        (np.full((48, 40), 1, np.float32), "the other way round"),
        (np.zeros((40, 48), np.int32), "got int32"),
    ]:
        tifffile.imwrite(wrong, array)
        assert score(bench, scored, maps, "--category", "widget", "--out", "t") == 1
        assert message in bench.err and "001.tiff" in bench.err
    tifffile.imwrite(wrong, np.full((40, 48), 7.5, np.float32))
    assert score(bench, scored, maps, "--category", "widget", "--out", "t", "--probability") == 1
    assert "Expected probabilities in 0..1" in bench.err and "Traceback" not in bench.err
    wrong.write_bytes(b"nothing")
    assert score(bench, scored, maps, "--category", "widget", "--out", "t") == 1 and "cannot be read" in bench.err
    assert score(bench, scored, tmp_path / "nowhere") == 2 and "there is none at" in bench.err
    (maps / "widget").rename(maps / "it")
    assert score(bench, scored, maps / "it") == 2 and "--category" in bench.err  # whose maps are these?
    make_category(tmp_path / "others")
    assert score(bench, tmp_path / "others", maps, "--add-to", "r") == 2 and "is on data, not on others" in bench.err


def test_beside_a_run_stands_only_what_may(bench, scored, tmp_path):
    """Other seeds, categories or images would spoil the means of all methods; a failure takes nothing away."""
    maps = cell_of(bench.folder) / "maps"
    make_category(scored, "gadget")
    before = (bench.folder / "r" / "results.csv").read_text()

    def refused(message, *more):
        assert score(bench, scored, maps, "--add-to", "r", *more) == 2 and message in bench.err, bench.err

    refused("has the seeds [0], not 7", "--category", "widget", "--seed", 7)
    refused("no category 'gadget'", "--category", "gadget")
    refused("are not those of the run", "--category", "widget", "--exclude", "widget/test/good/000")
    refused("a blank one", "--category", "widget", "--name", " ")
    refused("whole numbers", "--category", "widget", "--seed", "-1")
    assert score(bench, scored, maps, "--category", "widget", "--out", "r") == 2 and "--add-to" in bench.err
    assert (bench.folder / "r" / "results.csv").read_text() == before
    assert score(bench, scored, maps, "--category", "widget", "--add-to", "r", "--name", "mine") == 0, bench.err
    good = values(bench.folder / "r", "mine")
    (maps / "test" / "good" / "000.tiff").unlink()
    assert score(bench, scored, maps, "--category", "widget", "--add-to", "r", "--name", "mine") == 1
    assert "is kept" in bench.err and values(bench.folder / "r", "mine") == pytest.approx(good, nan_ok=True)


def test_maps_of_a_run_know_what_they_are_of(bench, scored):
    maps = cell_of(bench.folder) / "maps"
    about = json.loads((maps / "maps.json").read_text())
    for change in ({"seed": 3}, {"category": "gadget"}, {"dataset": "mvtec_ad"}):
        (maps / "maps.json").write_text(json.dumps(about | change))
        assert score(bench, scored, maps, "--out", "s", "--seed", 0) == 1 and "their maps.json says" in bench.err
    (maps / "maps.json").write_text(json.dumps(about | {"seed": 3}))
    assert score(bench, scored, maps, "--out", "s") == 0
    assert [c["seed"] for c in json.loads((bench.folder / "s" / "run.json").read_text())["cells"]] == [3]
    for text in ("[]", '{"probability": "false"}', "{"):
        (maps / "maps.json").write_text(text)
        assert score(bench, scored, maps, "--out", "s") == 1 and "maps.json" in bench.err


def test_image_scores_of_a_file(bench, scored, tmp_path):
    maps = tmp_path / "tool"
    shutil.copytree(cell_of(bench.folder) / "maps" / "test", maps / "test")
    table = tmp_path / "scores.csv"
    names = [p.relative_to(maps).with_suffix(".png").as_posix() for p in maps.rglob("*.tiff")]
    table.write_text("name,score\n" + "".join(f"{n},{float('good' in n)}\n" for n in names))  # the wrong way round
    assert score(bench, scored, maps, "--scores", table, "--out", "s") == 0, bench.err
    assert values(bench.folder / "s", "tool")["image_auroc"] == 0
    table.write_text("name,score\n" + "".join(f"{n},1\n" for n in names[1:]))
    assert score(bench, scored, maps, "--scores", table, "--out", "s") == 1 and "some have none" in bench.err
    table.write_bytes(b"\xef\xbb\xbfname,score\n" + "".join(f"widget/{n},1\ngadget/{n},2\n" for n in names).encode())
    make_category(scored, "gadget")
    shutil.copytree(maps, tmp_path / "both" / "widget")
    shutil.copy(table, tmp_path / "both" / "scores.csv")
    assert score(bench, scored, tmp_path / "both", "--category", "widget", "--out", "b") == 0, bench.err
    assert values(bench.folder / "b", "both")["image_auroc"] == 0.5 and "scores.csv" in bench.out
    for text in ("a,b\n1,2\n", "name,score\nx,1\nx,2\n", "name,score\nx,nan\n", "name,score\nx\n"):
        table.write_text(text)
        with pytest.raises(DataError, match="Expected"):
            read_scores(table)


# names


def test_names_are_matched_by_as_much_as_there_is():
    items = ["test/crack/003", "test/hole/003", "test/good/000", "train/good/000"]
    names = NameMatcher(["x/test/crack/003", "hole/003", "train/good/000", "other/good/000"], "map")
    assert names.find("test/crack/003") == "x/test/crack/003"
    assert names.find("test/hole/003") == "hole/003"
    assert names.find("test/good/000") is None  # neither the training image's map nor one of another folder
    assert names.find("train/good/000", whole=True) == "train/good/000"
    assert names.taken == {"x/test/crack/003", "hole/003", "train/good/000"}
    short = NameMatcher(["good/000"], "map")
    assert short.find("train/good/000", whole=True) is None and short.find(items[2]) == "good/000"


def test_plain_names_serve_one_image_only():
    items = ["test/crack/003", "test/hole/003"]
    names = NameMatcher(["003"], "map")
    assert names.find(items[0]) == "003"
    with pytest.raises(DataError, match="fits both 'test/crack/003' and 'test/hole/003'"):
        names.find(items[1])
    for two in (["a/test/crack/003", "b/test/crack/003"], ["test/crack/003", "crack/003"]):
        with pytest.raises(DataError, match="both fit"):
            NameMatcher(two, "map").find(items[0])


def test_names_with_extensions_in_them_and_in_other_forms_of_unicode():
    names = NameMatcher(["test/a/000.jpg", "test/a/000", "test/a/001.bmp.png", "test/b/cafe\u0301"], "map")
    assert [names.find(f"test/a/{name}") for name in ("000.jpg", "000", "001.bmp")] == [
        "test/a/000.jpg",
        "test/a/000",
        "test/a/001.bmp.png",
    ]
    assert names.find("test/b/caf\u00e9") == "test/b/cafe\u0301"
    assert NameMatcher(["x/002"], "map").find("x/002.tif") == "x/002"  # a tool that cut more than the map's extension


# files


def test_integers_are_scaled_by_their_type(tmp_path):
    for kind in (np.uint8, np.uint16, np.dtype(">u2")):
        np.save(tmp_path / "m.npy", np.array([[0, np.iinfo(kind).max]], kind))
        np.testing.assert_array_equal(read_map(tmp_path / "m.npy"), np.array([[0, 1]], np.float32))


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "m.npy", np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        read_map(tmp_path / "m.npy")
    np.savez(tmp_path / "m.npz", a=np.zeros((2, 2)), b=np.zeros((2, 2)))
    tifffile.imwrite(tmp_path / "m.tiff", np.random.default_rng(0).random((64, 64)).astype(np.float32), compression="zlib")
    spoilt = bytearray((tmp_path / "m.tiff").read_bytes())
    spoilt[-3000:-2000] = bytes(1000)
    (tmp_path / "m.tiff").write_bytes(spoilt)
    with pytest.raises(DataError, match="cannot be read"):
        read_map(tmp_path / "m.tiff")
    with pytest.raises(DataError, match="it holds a, b"):
        read_map(tmp_path / "m.npz")
    (tmp_path / "m.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(DataError, match="cannot be read"):
        read_map(tmp_path / "m.npz")
    for mode in ("RGB", "P", "LA"):
        Image.new(mode, (4, 5)).save(tmp_path / "m.png")
        with pytest.raises(DataError, match="coloured picture"):
            read_map(tmp_path / "m.png")
    np.save(tmp_path / "m.npy", np.ones((1, 1, 4, 5)))
    assert read_map(tmp_path / "m.npy").shape == (4, 5)
    np.save(tmp_path / "m.npy", np.array([[0, np.inf]]))
    with pytest.raises(DataError, match="row 0, column 1 has"):
        read_map(tmp_path / "m.npy")


def test_links_to_folders_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    np.save(tmp_path / "real" / "000.npy", np.zeros((2, 2)))
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "crack").symlink_to(tmp_path / "real", target_is_directory=True)
    assert list(list_maps(tmp_path / "maps")[0]) == ["crack/000"]


def test_small_maps_are_brought_to_the_size_of_their_image(bench, scored, tmp_path):
    """A tool that keeps its maps at its own size gets what a method of that size gets."""
    from anoseg_bench.datasets.mvtec import MVTecLayout
    from anoseg_bench.evaluation.cell import resize
    from anoseg_bench.methods import METHODS

    category = MVTecLayout(scored).load("widget")
    record = json.loads((cell_of(bench.folder) / "cell.json").read_text())
    cls = METHODS["pixel_stats"].load()
    method = cls(cls.Config(**record["config"]))
    import torch

    method.fit(torch.stack([resize(i.load_image(), 64) for i in category.train]))
    small, large = tmp_path / "small", tmp_path / "large"
    for item in category.test:
        image = item.load_image()
        map_ = method.predict(resize(image, 64)[None]).maps[0].numpy()
        for folder, array in ((small, map_), (large, to_original(map_, image.shape[:2]))):
            (folder / item.name).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{item.name}.npy", array)
    for folder in (small, large):
        assert score(bench, scored, folder, "--out", folder.name, "--map-area", "whole") == 0, bench.err
    one, two = values(bench.folder / "small", "small"), values(bench.folder / "large", "large")
    assert {n: one[n] for n in one if not n.startswith("image_")} == pytest.approx(
        {n: two[n] for n in two if not n.startswith("image_")}, abs=0, nan_ok=True
    )
    assert one["image_threshold_oracle"] != two["image_threshold_oracle"]  # the maximum before it is brought to its image's size
    assert one["image_auroc"] == values(bench.folder / "r", "pixel_stats")["image_auroc"]
