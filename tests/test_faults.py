"""Inputs that would give a wrong number, or lose something, without a word: each kind is read right, or named."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from sklearn.metrics import roc_auc_score

from anoseg_bench.console import Console
from anoseg_bench.datasets.base import Category, Dataset, Item
from anoseg_bench.datasets.folder import Folder
from anoseg_bench.datasets.images import open_picture, read_image, read_mask
from anoseg_bench.datasets.mvtec import MVTecLayout
from anoseg_bench.errors import DataError
from anoseg_bench.evaluation.datareport import TOLD, data_report
from anoseg_bench.evaluation.inspection import Inspection, inspect, inspect_all
from anoseg_bench.evaluation.maps import Area, has_aspect, narrow, read_map, to_original
from anoseg_bench.metrics import evaluate
from tests.helpers import make_category, save

SHAPE = (40, 48)
MASK = np.zeros(SHAPE, np.uint8)
MASK[8:20, 20:34] = 255


@pytest.fixture
def data(tmp_path) -> Path:
    """One category, of which every picture differs."""
    make_category(tmp_path / "data", good=3, bad=3)
    return tmp_path / "data"


def look(data: Path, tmp_path: Path, *exclude: str, **config) -> Inspection:
    return inspect(MVTecLayout(data, MVTecLayout.Config(**config)), "widget", tmp_path / "known", exclude)


def told(found: Inspection) -> list[str]:
    """What is told of the data of one category, each finding as a line."""
    report = data_report({"widget": found}, None, 0)
    return [f"{finding.text} {finding.advice}" for finding in report.findings if finding.kind in TOLD or finding.wrong]


def image_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)


def mask_file(data: Path, name: str = "000_mask.png") -> Path:
    return data / "widget" / "ground_truth" / "spot" / name


def test_sound_data_says_nothing(data, tmp_path):
    assert told(look(data, tmp_path)) == []


# files that are passed over


def test_other_formats_and_folders_below_are_read(data, tmp_path):
    widget = data / "widget"
    Image.fromarray(image_of(1)).save(widget / "train/good/a.webp", lossless=True)
    Image.fromarray(image_of(2)).save(widget / "train/good/b.jp2")
    save(widget / "train/good/day2/000.png", image_of(3))
    save(widget / "test/spot/day2/000.png", image_of(4))
    save(widget / "ground_truth/spot/day2/000_mask.png", MASK)
    found = look(data, tmp_path)
    assert {"train/good/a", "train/good/b", "train/good/day2/000"} <= {item.name for item in found.category.train}
    assert "test/spot/day2/000" in {item.name for item in found.category.test} and told(found) == []


def test_what_is_left_out_is_counted_and_named(data, tmp_path):
    widget = data / "widget"
    for name in ("train/good/x.heic", "train/good/.hidden.png", "test/loose.png", "train/bad/000.png", "test/spot/notes.json"):
        save(widget / "tmp.png", image_of(5)).rename(made := widget / name) if (widget / name).parent.is_dir() else save(
            made := widget / name, image_of(6)
        )
        assert made.exists()
    for junk in (
        "train/good/.DS_Store",
        "train/good/._000.png",
        "test/Thumbs.db",
        "test/spot/.ipynb_checkpoints/000-checkpoint.png",
    ):
        (widget / junk).parent.mkdir(exist_ok=True)
        (widget / junk).write_bytes(b"x")
    (widget / "readme.txt").write_text("x")
    (note,) = told(look(data, tmp_path))
    assert note.startswith("5 files left out") and "DS_Store" not in note and "checkpoint" not in note
    assert all(name in note for name in ("x.heic", ".hidden.png", "test/loose.png", "train/bad/000.png", "notes.json"))


def test_the_plain_folder_tells_the_same(tmp_path):
    for i in range(6):
        save(tmp_path / "p" / "normal" / f"{i}.png", image_of(i))
    save(tmp_path / "p" / "defective" / "0.png", image_of(10))
    save(tmp_path / "p" / "mask" / "0.png", MASK)
    save(tmp_path / "p" / "spare" / "0.png", image_of(11))
    (note,) = told(inspect(Folder(tmp_path / "p"), "p", tmp_path / "known", []))
    assert "1 file left out" in note and "spare/0.png" in note


# pictures that are there twice


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "webp"])
def test_a_defective_test_image_must_not_be_trained_on(data, tmp_path, extension):
    picture = Image.open(data / "widget/test/spot/000.png")
    picture.save(data / f"widget/train/good/copy.{extension}", **({"lossless": True} if extension == "webp" else {}))
    with pytest.raises(DataError, match=r"'train/good/copy' = 'test/spot/000'.*trained on as normal"):
        look(data, tmp_path)
    look(data, tmp_path, "widget/train/good/copy")


def test_one_picture_with_two_labels(data, tmp_path):
    copy = data / "widget/test/good/copy.png"
    copy.write_bytes((data / "widget/test/spot/001.png").read_bytes())
    with pytest.raises(DataError, match="one label for each picture"):
        look(data, tmp_path)
    copy.unlink()
    save(data / "widget/test/scratch/000.png", image_of(1))
    (data / "widget/test/scratch/000.png").write_bytes((data / "widget/test/spot/001.png").read_bytes())
    save(data / "widget/ground_truth/scratch/000.png", np.roll(MASK, 4, 0))
    with pytest.raises(DataError, match=r"'test/scratch/000' = 'test/spot/001'"):
        look(data, tmp_path)


def test_harmless_copies_are_named(data, tmp_path):
    source = (data / "widget/train/good/000.png").read_bytes()
    (data / "widget/test/good/copy.png").write_bytes(source)
    (data / "widget/train/good/copy.png").write_bytes(source)
    notes = told(look(data, tmp_path))
    assert any("in several splits" in note and "'train/good/000 = test/good/copy" in note.replace("(", "'") for note in notes)
    (data / "widget/test/good/copy.png").unlink()
    assert any(
        "several times in one split" in note and "train/good/000 = train/good/copy" in note for note in told(look(data, tmp_path))
    )
    make_category(data, "gadget")
    (data / "gadget/train/good/other.png").write_bytes(source)
    dataset = MVTecLayout(data)
    inspected = inspect_all(dataset, dataset.categories(), tmp_path / "known", [], Console(-1))
    texts = [finding.text for finding in data_report(inspected, None, 0).findings]
    assert any("in two categories" in text and "widget/train/good/000" in text for text in texts)


# masks


def with_palette(colours: list[int]) -> Image.Image:
    image = Image.fromarray((MASK > 0).astype(np.uint8))
    image.putpalette(colours)
    return image


def see_through(alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([np.full((*SHAPE, 3), 200, np.uint8), alpha]))


@pytest.mark.parametrize(
    "mask",
    [
        with_palette([255, 255, 255, 200, 0, 0]),
        Image.fromarray(np.full((*SHAPE, 3), 255, np.uint8)),
        Image.fromarray(np.where(MASK > 0, 255, 128).astype(np.uint8)),
        see_through(np.full(SHAPE, 255, np.uint8)),
    ],
)
def test_a_mask_that_marks_everything_is_an_error(data, tmp_path, mask):
    mask.save(mask_file(data))
    with pytest.raises(DataError, match=r"000_mask\.png' marks every pixel.*white background.*invert_masks=true"):
        look(data, tmp_path)


@pytest.mark.parametrize("mask", [with_palette([0, 0, 0, 255, 255, 255]), see_through(MASK), with_palette([0, 0, 0, 1, 0, 0])])
def test_masks_are_what_is_seen(data, tmp_path, mask):
    mask.save(mask_file(data))
    item = next(item for item in look(data, tmp_path).category.test if item.name == "test/spot/000")
    assert np.array_equal(item.load_mask(SHAPE), MASK > 0)


def test_inverted_masks_are_named_and_can_be_turned(data, tmp_path):
    for path in mask_file(data).parent.iterdir():
        Image.fromarray(np.where(np.asarray(Image.open(path)) > 0, 0, 255).astype(np.uint8)).save(path)
    (note,) = told(look(data, tmp_path))
    assert "more than half" in note and "test/spot/000" in note and "invert_masks=true" in note
    turned = look(data, tmp_path, invert_masks=True)
    assert told(turned) == [] and turned.content != look(data, tmp_path).content
    assert 0 < turned.category.test[-1].load_mask(SHAPE).mean() < 0.5


def test_a_normal_image_with_marks(data, tmp_path):
    save(data / "widget/ground_truth/good/000_mask.png", MASK * 0)
    look(data, tmp_path)
    save(data / "widget/ground_truth/good/001.png", MASK)
    with pytest.raises(DataError, match=r"normal image without marked pixels.*good/001\.png"):
        look(data, tmp_path)


@pytest.mark.parametrize("form", ["jpg", "jpeg in tif", "avif", "webp"])
@pytest.mark.parametrize("quality", [75, 95])
def test_lossy_masks_keep_every_class(data, tmp_path, form, quality):
    classes = np.zeros(SHAPE, np.uint8)
    classes[8:20, 4:20], classes[8:20, 28:44] = 255, 100
    mask_file(data).unlink()
    path = mask_file(data, f"000_mask.{form if form in ('webp', 'avif') else form[-3:]}")
    if form == "jpeg in tif":
        tifffile.imwrite(path, classes, compression="jpeg", compressionargs={"level": quality})
    else:
        Image.fromarray(classes).save(path, quality=quality)
    found = look(data, tmp_path)
    item = next(item for item in found.category.test if item.name == "test/spot/000")
    assert (item.load_mask(SHAPE) != (classes > 0)).sum() <= 8
    assert all("saved with loss" in note for note in told(found))


def test_every_page_of_a_mask_counts(data, tmp_path):
    first, second = MASK.copy(), np.roll(MASK, 15, 1)
    mask_file(data).unlink()
    tifffile.imwrite(mask_file(data, "000_mask.tif"), np.stack([first, second]), photometric="minisblack")
    item = next(item for item in look(data, tmp_path).category.test if item.name == "test/spot/000")
    assert np.array_equal(item.load_mask(SHAPE), (first | second) > 0)


def test_a_mask_of_another_size_where_a_tag_is_the_reason(data, tmp_path):
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.open(data / "widget/test/spot/000.png").save(data / "widget/test/spot/000.png", exif=tag)
    with pytest.raises(DataError, match=r"40x48, turned as its EXIF orientation tag \(6\) says, but got 48x40.*turn the mask"):
        look(data, tmp_path)


# depth and pages


def deep(data: Path, change) -> None:
    for path in [*(data / "widget/train").rglob("*.png"), *(data / "widget/test").rglob("*.png")]:
        tifffile.imwrite(path.with_suffix(".tif"), change(np.asarray(Image.open(path).convert("L"))))
        path.unlink()


@pytest.mark.parametrize(
    ("change", "limits"),
    [
        (lambda a: a.astype(np.uint16) * 16, "0 is black, 4095"),
        (lambda a: a.astype(np.uint16) * 4, "0 is black, 1023"),
        (lambda a: a.astype(np.uint16) * 257, "0 is black, 65535"),
        (lambda a: (a / 255).astype(np.float32), "0 is black, 1 is white"),
    ],
)
def test_few_bits_kept_in_many_are_not_dark(data, tmp_path, change, limits):
    before = look(data, tmp_path).category.test[0].load_image()
    deep(data, change)
    found = look(data, tmp_path)
    assert limits in told(found)[0] and "value_range" in told(found)[0]
    after = found.category.test[0].load_image()
    assert np.abs(after.astype(int) - np.asarray(Image.fromarray(before).convert("L"))[..., None]).max() <= 1


def test_the_range_is_that_of_the_training_images_or_as_it_is_set(data, tmp_path):
    deep(data, lambda a: a.astype(np.int16) - 200)
    found = look(data, tmp_path)
    low, high = found.category.train[0].reading.low, found.category.train[0].reading.high
    assert low < high <= 127 and found.category.test[-1].reading.low == low
    brighter = np.full(SHAPE, 3000, np.int16)
    tifffile.imwrite(data / "widget/test/spot/000.tif", brighter)  # a test image changes nothing for the others
    assert look(data, tmp_path).category.train[0].reading.high == high
    chosen = look(data, tmp_path, value_range=(-200, 55))
    assert chosen.category.train[0].reading.low == -200 and chosen.content != look(data, tmp_path).content
    assert any("ends of their type" in line for line in told(look(data, tmp_path, value_range="type")))


def test_several_pictures_in_a_file_are_an_error_or_chosen(data, tmp_path):
    pages = np.stack([image_of(1), image_of(2)])
    (data / "widget/train/good/000.png").unlink()
    tifffile.imwrite(data / "widget/train/good/000.tif", pages, photometric="rgb")
    with pytest.raises(DataError, match=r"one picture in '.*000\.tif', but there are 2.*page=0"):
        look(data, tmp_path)
    item = next(item for item in look(data, tmp_path, page=1).category.train if item.name == "train/good/000")
    assert np.array_equal(item.load_image(), pages[1])
    Image.fromarray(pages[0]).save(tmp_path / "moving.gif", save_all=True, append_images=[Image.fromarray(pages[1])])
    with pytest.raises(DataError, match="there are 2"):
        read_image(tmp_path / "moving.gif")


# what was kept of files


def old(folder: Path) -> None:
    """Let all files be as old as those of a data set are: what changed a moment ago is read again anyway."""
    for path in folder.rglob("*.*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))


@pytest.mark.parametrize("how", ["in place", "renamed"])
def test_replaced_files_are_seen_whatever_their_size_and_times(data, tmp_path, how, monkeypatch):
    path = mask_file(data, "000_mask.bmp")
    mask_file(data).unlink()
    Image.fromarray(MASK).save(path)
    old(data)
    monkeypatch.setattr("anoseg_bench.evaluation.facts._COARSE", -1e9)  # as if long ago
    before = look(data, tmp_path)
    assert look(data, tmp_path).content == before.content
    size = path.stat().st_size
    Image.fromarray(np.roll(MASK, 15, 0)).save(target := path if how == "in place" else path.with_suffix(".new"), "bmp")
    os.utime(target, (1_700_000_000, 1_700_000_000))
    target.rename(path)
    assert path.stat().st_size == size and path.stat().st_mtime == 1_700_000_000
    assert look(data, tmp_path).content != before.content


def test_unchanged_files_are_not_read_again(data, tmp_path, monkeypatch):
    monkeypatch.setattr("anoseg_bench.evaluation.facts._COARSE", -1e9)
    first = look(data, tmp_path)
    monkeypatch.setattr("anoseg_bench.evaluation.facts.open_picture", lambda *a, **k: pytest.fail("read again"))
    assert look(data, tmp_path).content == first.content


class Annotated(Dataset):
    """Masks by a function from one file of annotations, beside images in files."""

    label = "annotated"

    def categories(self) -> list[str]:
        return ["widget"]

    def load(self, category: str) -> Category:
        whole = MVTecLayout(self.root).load(category)

        def mask() -> np.ndarray:
            top, left = map(int, (self.root / "annotations.txt").read_text().split())
            made = np.zeros(SHAPE, bool)
            made[top : top + 5, left : left + 5] = True
            return made

        test = [item if item.is_good else Item(item.name, item.defect, item.image, mask) for item in whole.test]
        return Category(category, whole.train, test)


def test_what_functions_make_counts_by_what_they_return(data, tmp_path):
    (data / "annotations.txt").write_text("3 4")
    first = inspect(Annotated(data), "widget", tmp_path / "known", []).content
    assert inspect(Annotated(data), "widget", tmp_path / "known", []).content == first
    (data / "annotations.txt").write_text("9 4")
    assert inspect(Annotated(data), "widget", tmp_path / "known", []).content != first


# names


def test_names_are_compared_in_one_form_of_unicode(data, tmp_path):
    apart, composed = unicodedata.normalize("NFD", "né"), unicodedata.normalize("NFC", "né")
    save(data / "widget/test/spot" / f"{apart}.png", image_of(1))
    save(data / "widget/ground_truth/spot" / f"{composed}_mask.png", MASK)
    assert f"test/spot/{composed}" in {item.name for item in look(data, tmp_path).category.test}


def test_exclude_takes_the_names_that_messages_print(data, tmp_path):
    save(data / "widget/train/good/a[1] *.png", image_of(1))
    assert list(look(data, tmp_path, "widget/train/good/a[1] *").excluded) == ["widget/train/good/a[1] *"]


# maps and scores


def test_float64_maps_are_ranked_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    masks = [rng.random(SHAPE) < 0.1 for _ in range(4)]
    maps = [1 - 1e-9 * np.exp(-rng.normal(0, 1, SHAPE) - 2 * mask) for mask in masks]
    np.save(tmp_path / "m.npy", maps[0])
    assert read_map(tmp_path / "m.npy").dtype == np.float64
    scores = 1 - 1e-12 * rng.random(4)
    result = evaluate(maps, [*masks[:-1], np.zeros(SHAPE, bool)], scores, maps[:2], scores[:2])
    truth = np.concatenate([m.ravel() for m in [*masks[:-1], np.zeros(SHAPE, bool)]])
    assert result.values["pixel_auroc"] == pytest.approx(roc_auc_score(truth, np.concatenate([m.ravel() for m in maps])), abs=1e-12)
    assert result.values["image_auroc"] == np.mean(scores[:-1] > scores[-1])
    alarms = np.concatenate([m.ravel() for m in maps[:2]]) >= result.values["threshold_deployable"]
    assert alarms.mean() == pytest.approx(1e-3, abs=3e-4)
    assert len(np.unique(result.curves["iou"])) > 10  # the axis is not one float32 number
    with pytest.raises(ValueError, match="merge"):
        evaluate(maps, masks, memory=1)


def test_scores_of_a_file_are_not_merged():
    values = np.array([1.0, 1 - 1e-12])
    assert narrow(values).dtype == np.float64 and narrow(np.array([0.5, 0.25])).dtype == np.float32


@pytest.mark.parametrize("value", [0.7, 1 / 3, 1e-30, -123.4])
@pytest.mark.parametrize("shape", [(48, 40), (97, 31), (900, 901)])
def test_a_constant_map_stays_constant(value, shape):
    assert len(np.unique(to_original(np.full((64, 64), value, np.float32), shape))) == 1


def test_an_even_part_of_a_map_stays_even():
    map_ = np.zeros((32, 32), np.float32)
    map_[:, 10:] = 0.7
    assert len(np.unique(to_original(map_, (57, 83))[:, 40:])) == 1


def test_what_a_map_covers():
    assert has_aspect((14, 17), (100, 120)) and not has_aspect((64, 64), (48, 40))
    map_ = np.arange(16, dtype=np.float32).reshape(4, 4)
    placed = Area.parse("centre").place(map_, (8, 16))
    assert placed.shape == (8, 16) and (placed[:, :4] == 0).all() and placed[:, 4:12].max() == 15
    assert np.array_equal(placed[:, 4:12], to_original(map_, (8, 8)))
    assert (Area.parse("centre:0.5").place(map_, (8, 16)) > 0).sum() <= 16
    assert np.array_equal(Area.parse("whole").place(map_, (8, 16)), to_original(map_, (8, 16)))
    for wrong in ("middle", "centre:2", "centre:x", "whole:1", "centre:0"):
        with pytest.raises(ValueError, match=r"expected whole|could not convert"):
            Area.parse(wrong)


def test_predict_reads_as_the_model_was_trained(bench, data, tmp_path):
    deep(data, lambda a: a.astype(np.uint16) * 4)
    assert bench.run(data, "--keep-models", "--out", "r") == 0, bench.err
    test = data / "widget" / "test" / "spot"
    where = ["--run", "r", "--method", "pixel_stats", "--category", "widget", "--out", tmp_path / "p"]
    (test / "notes.txt").write_text("x")
    assert bench("predict", *where, test) == 0, bench.err
    assert "1 file left out" in bench.err and "notes.txt" in bench.err
    stored = next((bench.folder / ".cells").glob("pixel_stats-*"))
    with np.load(stored / "arrays.npz") as arrays:
        scores = arrays["score"]
    table = (tmp_path / "p" / "predictions.csv").read_text().splitlines()[1:]
    assert [float(line.split(",")[1]) for line in table] == pytest.approx(list(scores[-3:]), rel=1e-6)


def test_predict_names_images_of_fewer_bits_than_their_type(bench, data, tmp_path):
    """A model of 8-bit images sees 12 bits kept in 16 nearly black."""
    assert bench.run(data, "--keep-models", "--out", "r") == 0, bench.err
    grey = np.asarray(Image.open(next((data / "widget" / "test" / "good").iterdir())).convert("L")).astype(np.uint16)
    for name, factor in (("a12", 16), ("b12", 16), ("c16", 257)):
        Image.fromarray(grey * factor).save(tmp_path / f"{name}.png")
    where = ["--run", "r", "--method", "pixel_stats", "--category", "widget", "--out", tmp_path / "p"]
    assert bench("predict", *where, *(tmp_path / f"{name}.png" for name in ("a12", "b12", "c16"))) == 0, bench.err
    assert "a12.png' holds values up to " in bench.err and "of 65535" in bench.err and "1 more like it" in bench.err
    assert bench("predict", *where[:-1], tmp_path / "q", tmp_path / "c16.png") == 0 and "holds values" not in bench.err


def test_test_images_on_another_scale_are_named(data, tmp_path):
    deep(data, lambda a: a.astype(np.uint16) * 16)
    for path in (data / "widget/test").rglob("*.tif"):
        tifffile.imwrite(path, np.asarray(tifffile.imread(path)).astype(np.uint16) * 16)
    assert "6 other images go beyond that and are clipped" in " ".join(told(look(data, tmp_path)))
    for path in (data / "widget/test").rglob("*.tif"):
        tifffile.imwrite(path, (np.asarray(tifffile.imread(path)) / 65535).astype(np.float32))
    with pytest.raises(DataError, match=r"holds floats and '.*' whole numbers"):
        look(data, tmp_path)
    for path in (data / "widget/train").rglob("*.tif"):
        tifffile.imwrite(path, (np.asarray(tifffile.imread(path)) / 65535).astype(np.float32))
    with pytest.raises(DataError, match="whole numbers for value_range=type"):
        look(data, tmp_path, value_range="type")


def test_signed_bytes_and_many_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[-100, 0, 100]], np.int8))
    assert open_picture(tmp_path / "a.tif").values.tolist() == [[-100, 0, 100]]
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((8, 8, 5), np.uint8), photometric="rgb")
    with pytest.raises(DataError, match="grey or colour"):
        read_image(tmp_path / "b.tif")


def test_maps_that_tags_turn_or_invert_are_refused(tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    tifffile.imwrite(tmp_path / "white.tif", values, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "turned.tif", values.astype(np.float32), extratags=[(274, "H", 1, 6, True)])
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "turned.png", exif=tag)
    for path in tmp_path.iterdir():
        with pytest.raises(DataError, match="tag"):
            read_map(path)


def test_no_channel_sign_or_depth_of_a_mask_is_lost(tmp_path):
    half = MASK // 255
    tifffile.imwrite(tmp_path / "planes.tif", np.stack([half, half]), photometric="minisblack", planarconfig="separate")
    with pytest.raises(DataError, match="grey or colour"):
        read_mask(tmp_path / "planes.tif")
    signed = half.astype(np.float32)
    signed[:, 27:] *= -1
    tifffile.imwrite(tmp_path / "signed.tif", signed)
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([half, -half.astype(np.int16)]).astype(np.int16), photometric="minisblack")
    deep = np.dstack([half.astype(np.uint16)] * 3)
    (tmp_path / "deep.ppm").write_bytes(b"P6\n48 40\n65535\n" + deep.astype(">u2").tobytes())
    for name in ("signed.tif", "pages.tif", "deep.ppm"):
        assert np.array_equal(read_mask(tmp_path / name), half > 0), name


def test_opacity_of_floats_has_its_range(tmp_path):
    values = np.full((8, 8, 4), 255, np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    with pytest.raises(DataError, match="opacity of at most 1"):
        open_picture(tmp_path / "a.tif")
