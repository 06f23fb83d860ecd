"""Reading of images and masks: formats, depths, palettes, broken files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from anoseg_bench.datasets.images import Reading, list_images, open_picture, read_image, read_mask, value_range
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


# one scene in many files


def _scene(defects: np.ndarray | None = None) -> np.ndarray:
    """A smooth picture in colours, or a mask, that differs from each of its turned and mirrored forms."""
    y, x = np.mgrid[:48, :64]
    if defects is not None:
        return np.where(defects[..., None], np.uint8(255), np.uint8(0)).repeat(3, 2)
    return np.dstack([40 + 2 * x, 60 + 3 * y, 90 + x + y]).astype(np.uint8)


def _untagged(array: np.ndarray, tag: int) -> np.ndarray:
    """Return what is to be stored so that the tag shows `array`."""
    stored = {2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1], 5: array.swapaxes(0, 1), 6: np.rot90(array)}
    stored |= {7: array[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(array, -1)}
    return np.ascontiguousarray(stored.get(tag, array))


def _pillow(name: str, convert: Callable[[Image.Image], Image.Image] = lambda image: image, **options: Any) -> Callable:
    def write(path: Path, array: np.ndarray, tag: int) -> Path:
        exif = Image.Exif()
        exif[0x0112] = tag
        image = convert(Image.fromarray(_untagged(array, tag)))
        image.save(path / name, **options, **({"exif": exif} if tag > 1 else {}))
        return path / name

    return write


def _tiff(change: Callable[[np.ndarray], np.ndarray] = lambda a: a, **options: Any) -> Callable:
    def write(path: Path, array: np.ndarray, tag: int) -> Path:
        tags = [(0x0112, "H", 1, tag, True)] if tag > 1 else []
        tifffile.imwrite(path / "a.tif", change(_untagged(array, tag)), extratags=tags, **{"photometric": "rgb"} | options)
        return path / "a.tif"

    return write


def _codec(name: str, change: Callable[[np.ndarray], bytes]) -> Callable:
    def write(path: Path, array: np.ndarray, tag: int) -> Path:
        assert tag == 1
        (path / name).write_bytes(change(array))
        return path / name

    return write


def _wide(array: np.ndarray, bits: int) -> np.ndarray:
    return np.round(array / 255 * (2**bits - 1)).astype(np.uint16)


def _opaque(image: Image.Image) -> Image.Image:
    image.putalpha(255)
    return image


#: How a scene is written, which tags such a file takes, and how far its values may be off.
WRITTEN = {
    "png": (_pillow("a.png"), True, 0),
    "png, opaque": (_pillow("a.png", _opaque), True, 0),
    "png, palette": (_pillow("a.png", lambda image: image.quantize(256)), True, 40),
    "png, named jpg": (_pillow("a.jpg", format="png"), True, 0),
    "jpg": (_pillow("a.jpg", quality=98, subsampling=0), True, 6),
    "jpg, progressive": (_pillow("a.jpeg", quality=98, subsampling=0, progressive=True), True, 6),
    "jpg, cmyk": (_pillow("a.jpg", lambda image: image.convert("CMYK"), quality=98, subsampling=0), True, 8),
    "bmp": (_pillow("a.bmp"), False, 0),
    "webp": (_pillow("a.webp", lossless=True), True, 0),
    "webp, lossy": (_pillow("a.webp", quality=98), True, 25),
    "webp, opaque": (_pillow("a.webp", _opaque, lossless=True), True, 0),
    "avif": (_pillow("a.avif", quality=98, subsampling="4:4:4"), True, 8),
    "jp2": (_pillow("a.jp2"), False, 0),
    "gif": (_pillow("a.gif", lambda image: image.quantize(256)), False, 40),
    "ppm": (_pillow("a.ppm"), False, 0),
    "tga": (_pillow("a.tga"), False, 0),
    "tif by pillow": (_pillow("a.tiff", compression="tiff_lzw"), True, 0),
    "tif": (_tiff(), True, 0),
    "tif, planes": (_tiff(lambda a: np.moveaxis(a, -1, 0), planarconfig="separate"), True, 0),
    "tif, zlib": (_tiff(compression="zlib", predictor=True), True, 0),
    "tif, zstd": (_tiff(compression="zstd"), True, 0),
    "tif, jpeg": (_tiff(compression="jpeg", compressionargs={"level": 98}), True, 25),
    "tif, big-endian": (_tiff(lambda a: _wide(a, 16), byteorder=">"), True, 1),
    "tif, 16 bit": (_tiff(lambda a: _wide(a, 16)), True, 1),
    "tif, 12 bit": (_tiff(lambda a: _wide(a, 12)), True, 1),
    "tif, floats": (_tiff(lambda a: (a / 255).astype(np.float32)), True, 1),
    "tif, alpha": (_tiff(lambda a: np.dstack([a, np.full(a.shape[:2], 255, np.uint8)]), extrasamples=["unassalpha"]), True, 0),
    "png, 16 bit": (_codec("a.png", lambda a: imagecodecs.png_encode(_wide(a, 16))), False, 1),
    "png, 10 bit": (_codec("a.png", lambda a: imagecodecs.png_encode(_wide(a, 10))), False, 1),
    "jp2, 12 bit": (_codec("a.jp2", lambda a: imagecodecs.jpeg2k_encode(_wide(a, 12), bitspersample=12, level=0)), False, 1),
    "avif, 10 bit": (_codec("a.avif", lambda a: imagecodecs.avif_encode(_wide(a, 10), bitspersample=10, level=100)), False, 1),
    "jxl": (_codec("a.jxl", lambda a: imagecodecs.jpegxl_encode(a, lossless=True)), False, 0),
    "jxr": (_codec("a.jxr", lambda a: imagecodecs.jpegxr_encode(a, level=1.0)), False, 1),
}


@given(st.sampled_from(sorted(WRITTEN)), st.integers(1, 8), st.integers(0, 2**32 - 1))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_scene_is_read_back_from_any_file(tmp_path, form, tag, seed):
    write, tagged, tolerance = WRITTEN[form]
    tag = tag if tagged else 1
    picture = open_picture(path := write(tmp_path, scene := _scene(), tag))
    low, high = value_range([(float(picture.values.min()), float(picture.values.max()))])
    image = read_image(path, Reading(low, high) if picture.is_wide else Reading())
    assert image.shape == scene.shape and np.abs(image.astype(int) - scene).max() <= tolerance and picture.orientation == tag
    rng = np.random.default_rng(seed)
    mask = np.zeros(scene.shape[:2], bool)
    top, left = rng.integers(0, 30), rng.integers(0, 40)
    mask[top : top + 12, left : left + 16] = True
    read = read_mask(write(tmp_path, _scene(mask), tag))
    assert (read != mask).sum() <= (0 if tolerance < 6 else 12)


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
