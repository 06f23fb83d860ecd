"""Reading of images and masks: formats, depths, palettes, broken files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anoseg_bench.datasets.images import list_images, read_image, read_mask
from anoseg_bench.errors import DataError


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "tiff"])
def test_colour_is_kept(tmp_path, extension):
    array = np.random.default_rng(0).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / f"a.{extension}")
    assert np.array_equal(read_image(tmp_path / f"a.{extension}"), array)


@pytest.mark.parametrize("extension", ["jpg", "JPEG"])
def test_jpeg(tmp_path, extension):
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / f"a.{extension}")
    image = read_image(tmp_path / f"a.{extension}")
    assert image.shape == (20, 30, 3) and abs(int(image.mean()) - 90) <= 1
    assert list_images(tmp_path) == [tmp_path / f"a.{extension}"]


def test_grey_becomes_rgb(tmp_path):
    Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (2, 3, 3) and np.array_equal(image[..., 0], image[..., 2]) and image[1, 2, 0] == 5


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_16_bit_is_scaled_by_the_range_of_the_type_not_of_the_image(tmp_path, extension):
    dark = np.array([[0, 257, 2570], [100, 1000, 65535]], np.uint16)
    Image.fromarray(dark).save(tmp_path / f"a.{extension}")
    assert read_image(tmp_path / f"a.{extension}")[..., 1].tolist() == [[0, 1, 10], [0, 4, 255]]


def test_16_bit_colour(tmp_path):
    cv2 = pytest.importorskip("cv2")
    array = np.random.default_rng(0).integers(0, 65536, (5, 6, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), array[..., ::-1])
    assert np.abs(read_image(tmp_path / "a.png") - array / 257).max() <= 1


def test_float_images_have_no_range(tmp_path):
    Image.fromarray(np.zeros((3, 3), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif.*floats"):
        read_image(tmp_path / "a.tif")


MASK = np.zeros((6, 8), bool)
MASK[2:4, 3:6] = True


@pytest.mark.parametrize("value", [1, 128, 255])
def test_masks_of_any_value(tmp_path, value):
    Image.fromarray(MASK.astype(np.uint8) * value).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), MASK)


def test_masks_of_other_types(tmp_path):
    one_bit = Image.fromarray(MASK)
    palette = Image.fromarray(MASK.astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 200, 30, 30])
    inverted = Image.fromarray((~MASK).astype(np.uint8)).convert("P")
    inverted.putpalette([255, 255, 255, 0, 0, 0])  # index 1 is the black of the background
    wide = Image.fromarray(MASK.astype(np.uint16) * 7)
    colour = Image.fromarray(np.dstack([MASK * np.uint8(0), MASK * np.uint8(9), MASK * np.uint8(0)]))
    opaque = Image.fromarray(np.dstack([MASK * np.uint8(255)] * 3 + [np.full(MASK.shape, 255, np.uint8)]))
    for i, image in enumerate([one_bit, palette, inverted, wide, colour, opaque]):
        image.save(tmp_path / f"{i}.png")
        assert np.array_equal(read_mask(tmp_path / f"{i}.png"), MASK), i


@pytest.mark.parametrize("quality", [60, 75, 95])
def test_a_jpeg_mask_keeps_its_edges(tmp_path, quality):
    mask = np.zeros((128, 128), np.uint8)
    mask[40:52, 30:51] = 255
    Image.fromarray(mask).save(tmp_path / "m.jpg", quality=quality)
    assert (np.asarray(Image.open(tmp_path / "m.jpg")) != 0).sum() > (mask > 0).sum()  # what "not black" would mark
    assert ((read_mask(tmp_path / "m.jpg") != (mask > 0)).sum()) <= 2
    Image.fromarray(np.zeros_like(mask)).save(tmp_path / "none.jpg")
    assert not read_mask(tmp_path / "none.jpg").any()


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_broken_files(tmp_path, read):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:5000])
    (tmp_path / "text.png").write_text("hello")
    for name in ("cut.png", "text.png", "absent.png"):
        with pytest.raises(DataError, match=name):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_pictures_and_masks_are_turned_as_their_tag_says(tmp_path, name):
    lying = np.zeros((40, 60, 3), np.uint8)
    lying[:10, :20] = 255  # above left; a viewer shows it above right
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(lying).save(tmp_path / name, exif=exif, **({"quality": 95} if name == "a.jpg" else {}))
    assert read_image(tmp_path / name).shape == (60, 40, 3)
    mask = read_mask(tmp_path / name)
    assert mask.shape == (60, 40) and mask[:20, 30:].mean() > 0.9 and not mask[22:].any()
