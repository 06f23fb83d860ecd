"""Reading of image and mask files, in one place: as a viewer shows them, of any common format, mode, depth and orientation."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from anoseg_bench.errors import DataError

Image.MAX_IMAGE_PIXELS = None  # line scans are large; the files are the user's own

EXTENSIONS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".avif", ".gif", ".tga"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jxl", ".jxr", ".pbm", ".pgm", ".ppm", ".pnm"),
)
#: What systems and tools leave in folders (fnmatch, small letters): passed over without a word, also with all that is in it.
JUNK = (
    *(".ds_store", "._*", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", ".ipynb_checkpoints", ".cache", "__pycache__"),
    *("__macosx", "@eadir", ".git", ".git*", ".trash*", ".spotlight-v100", ".fseventsd", ".dvc*", ".nfs*"),
)
#: What a file format says of its orientation: the tag of EXIF and TIFF.
_ORIENTATION = 0x0112
#: Formats, and compressions of TIFF, that lose something, or may.
_LOSSY = ("JPEG", "OJPEG", "MPO", "WEBP", "AVIF", "JPEG2000", "JPEG_2000_LOSSY", "APERIO_JP2000_RGB", "JPEGXL", "JPEGXR")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_FAILURES = (OSError, EOFError, SyntaxError, ValueError, RuntimeError, IndexError, KeyError, tifffile.TiffFileError)


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes
    ----------
    low, high : float or None
        What is black and what is white in images of more than 8 bits; None for the ends of their type.
    page : int or None
        Which picture of an image file with several, from 0; None makes such a file an error. A mask is all of its pages.
    invert_masks : bool
        Whether masks mark what is normal.
    """

    low: float | None = None
    high: float | None = None
    page: int | None = None
    invert_masks: bool = False


#: As files say themselves.
PLAIN = Reading()


@dataclass(frozen=True)
class Picture:
    """What a file holds, turned as its orientation tag says, in colours rather than indices.

    Attributes
    ----------
    values : numpy.ndarray
        (H, W) or (H, W, 3): uint8, or another type of numbers where the file has more than 8 bits.
    alpha : numpy.ndarray or None
        float32 in 0..1, (H, W): how opaque it is.
    full : float or None
        The largest value of the type; None for floats.
    mode, file_format : str
        In words, for people: ``"RGB"``, ``"PNG"``.
    orientation : int
        The tag's value, 1 for none.
    lossy : bool
        Whether its values may differ a little from those that were saved.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    full: float | None
    mode: str
    file_format: str
    orientation: int = 1
    lossy: bool = False

    @property
    def is_wide(self) -> bool:
        """Whether it has more than 8 bits, so that a range says what is black and what is white."""
        return self.values.dtype != np.uint8


def is_junk(name: str) -> bool:
    """Return whether a file or folder of that name is nobody's data."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in JUNK)


def walk(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder but junk, in the order of their paths; links are followed, circles are not."""

    def inside(path: Path, above: frozenset[str]) -> Iterator[Path]:
        real = os.path.realpath(path)
        if real in above:
            return
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if is_junk(entry.name):
                continue
            if entry.is_dir():
                yield from inside(path / entry.name, above | {real})
            else:
                yield path / entry.name

    return inside(folder, frozenset()) if folder.is_dir() else iter(())


def list_images(folder: Path) -> list[Path]:
    """Return the image files in a folder and in those below it, sorted; [] where there is no such folder."""
    return [path for path in walk(folder) if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")]


def open_picture(path: Path, page: int | None = None, every_page: bool = False) -> Picture:
    """Read an image file of any kind.

    Parameters
    ----------
    page : int or None
        Which picture of a file with several.
    every_page : bool
        Whether pictures of one size are laid over each other, the largest value of each pixel; else several are an error.

    Raises
    ------
    DataError
        If the file cannot be read, has several pictures, or something else than grey and colour in it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(32)
        if head[:4] in _TIFF:
            pages = list(_read_tiff(path, page, every_page))
        elif kind := "JPEGXL" if imagecodecs.jpegxl_check(head) else "JPEGXR" if head[:3] == b"II\xbc" else "":
            pages = [_read_codec(path, kind)]
        else:
            pages = list(_read_pillow(path, head, page, every_page))
        return pages[0] if len(pages) == 1 else _over_each_other(pages, path)
    except (*_FAILURES, UnidentifiedImageError) as error:
        reason = "not there" if isinstance(error, FileNotFoundError) else "not a whole image"
        raise DataError(
            f"Expected a readable image (png, jpg, tif, bmp, webp, avif, jp2, ...), but '{path}' is {reason} "
            f"({' '.join(str(error).split())}); copy it again or remove it."
        ) from error


def read_image(path: Path, reading: Reading = PLAIN) -> np.ndarray:
    """Read an image file as a viewer shows it; what is transparent is black.

    Returns
    -------
    numpy.ndarray
        uint8 RGB, (H, W, 3). More than 8 bits are brought from the range of `reading` to 0..255, what lies outside is clipped.

    Raises
    ------
    DataError
        If the file cannot be read, has several pages and `reading` names none, or holds floats and `reading` has no range.
    """
    return to_uint8(open_picture(path, reading.page), path, reading)


def to_uint8(picture: Picture, path: Path, reading: Reading) -> np.ndarray:
    """Return a picture as uint8 RGB, (H, W, 3); parameters and errors as of `read_image`."""
    values = picture.values
    if picture.is_wide:
        low, high = reading.low, reading.high
        if low is None or high is None:
            if picture.full is None:
                raise DataError(
                    f"Expected a range for '{path}', which holds floats, which have none of their own; give "
                    "value_range=train, or two numbers, in the dataset's settings."
                )
            low, high = 0.0, picture.full
        scaled = (values.astype(np.float64) - low) * (255 / max(high - low, 1e-300))
        values = np.round(scaled).clip(0, 255).astype(np.uint8)
    if picture.alpha is not None:
        alpha = picture.alpha if values.ndim == 2 else picture.alpha[..., None]
        values = np.round(values * alpha).astype(np.uint8)
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)


def value_range(extents: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return what is to be black and white in images of more than 8 bits, from the smallest and largest value of each.

    Zero and the largest number of the fewest bits (8, 10, 12, 14, 16, ...) that hold all values (1 for those in 0..1), so
    that 10 and 12 bits kept in 16 are not dark, and what is brighter than all of them still differs; where values fill less
    than a sixteenth of that, or are negative, their own range, wider by an eighth on either side.

    Examples
    --------
    >>> value_range([(130.0, 2900.0), (90.0, 3100.0)])
    (0.0, 4095.0)
    >>> value_range([(30000.0, 30800.0)])
    (29900.0, 30900.0)
    """
    lows, highs = zip(*extents, strict=True)
    low, high = min(lows), max(highs)
    white = next((top for top in (1.0, *(2.0**bits - 1 for bits in (8, 10, 12, 14, 16, 24, 32))) if top >= high), high)
    if low >= 0 and high - low >= white / 16:
        return 0.0, white
    margin = (high - low) / 8 or 1.0
    return low - margin, high + margin


def read_mask(path: Path, reading: Reading = PLAIN) -> np.ndarray:
    """Read a mask file: True wherever the picture is neither black nor transparent, on any of its pages.

    Lossy formats blur what they store, so that black is not black around an edge: see `marked`.

    Returns
    -------
    numpy.ndarray
        bool, (H, W).

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    mask, _ = marked(open_picture(path, every_page=True))
    return ~mask if reading.invert_masks else mask


def marked(picture: Picture) -> tuple[np.ndarray, float]:
    """Return where a picture, read as a mask, marks something, bool (H, W), and the value from which it does (0: above black).

    Where the format may have lost something, and there are more than two values, that is half of the darkest even area (3x3
    pixels that differ by less than a sixteenth of the brightest) of at least an eighth of the brightest, or half of the
    brightest where no area is even.
    """
    grey = picture.values if picture.values.ndim == 2 else picture.values.max(axis=2)
    if grey.dtype.kind in "if":
        grey = np.abs(grey.astype(np.float64))
    threshold = 0.0
    if picture.lossy and len(np.unique(grey)) > 2:
        grey = grey.astype(np.float32)
        window, peak = np.ones((3, 3), np.uint8), float(grey.max())
        low, high = cv2.erode(grey, window), cv2.dilate(grey, window)
        even = low[(high - low <= peak / 16) & (low >= peak / 8)]
        threshold = (float(even.min()) if even.size else peak) / 2
    mask = grey > threshold
    return (mask if picture.alpha is None else mask & (picture.alpha > 0)), threshold


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return an array (H, W, ...) as an orientation tag, 1 to 8, says that it is to be shown."""
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    return np.ascontiguousarray(np.flip(array, flips.get(orientation, ())))


def _choose(number: int, page: int | None, every_page: bool, path: Path) -> range:
    """Return which pictures of a file are read."""
    if every_page or number == 1:
        return range(number)
    if page is None:
        raise DataError(
            f"Expected one picture in '{path}', but there are {number}; save one, or name it by page=0 in the dataset's settings."
        )
    if page >= number:
        raise DataError(f"Expected a picture {page} in '{path}' (from 0), but there are {number}; correct page.")
    return range(page, page + 1)


def _over_each_other(pages: list[Picture], path: Path) -> Picture:
    if len({(p.values.shape[:2], p.values.dtype) for p in pages}) > 1:
        raise DataError(f"Expected pages of one size in '{path}', but they differ; save each as a file.")
    shown = [p.values if p.alpha is None else p.values * (p.alpha > 0) for p in pages]
    sized = [np.abs(values.astype(np.float64)) if values.dtype.kind in "if" else values for values in shown]
    grey = [values if values.ndim == 2 else values.max(axis=2) for values in sized]
    first = pages[0]
    return Picture(np.maximum.reduce(grey), None, first.full, first.mode, first.file_format, first.orientation, first.lossy)


def _read_pillow(path: Path, head: bytes, page: int | None, every_page: bool) -> Iterator[Picture]:
    """Read what Pillow reads; what has more than 8 bits, which it would cut, by the codecs."""
    with Image.open(path) as stored:
        kind = stored.format or "?"
        number = 1 if kind == "MPO" else getattr(stored, "n_frames", 1)  # the others of an MPO are a camera's previews
        for index in _choose(number, page, every_page, path):
            if number > 1:
                stored.seek(index)
            mode, orientation = stored.mode, int(stored.getexif().get(_ORIENTATION, 1))
            wide, full = _read_wide(path, kind, head) if number == 1 else (None, None)
            values, alpha = _colours(stored) if wide is None else _channels(wide, full)
            full = full or _full_of(values, path)
            yield Picture(
                turned(values, orientation),
                None if alpha is None else turned(alpha, orientation),
                full,
                mode,
                kind,
                orientation,
                kind in _LOSSY and head[12:16] != b"VP8L",
            )


def _full_of(values: np.ndarray, path: Path) -> float | None:
    """Return the largest number of the type of some values, None for floats, which must be finite."""
    if values.dtype.kind in "iu":
        return float(np.iinfo(np.uint16 if values.dtype == np.int32 else values.dtype).max)  # Pillow keeps 16 bit in 32
    if not np.isfinite(values).all():
        raise DataError(f"Expected finite numbers in '{path}', but it holds NaN or infinity; save it again.")
    return None


def _read_wide(path: Path, kind: str, head: bytes) -> tuple[np.ndarray | None, float | None]:
    """Return the values of a file with more than 8 bits in a channel and the largest they may be, None where it has no more."""
    decode: Any = {
        "JPEG2000": imagecodecs.jpeg2k_decode,
        "AVIF": imagecodecs.avif_decode,
        "PNG": imagecodecs.png_decode,
        "PPM": True,
    }.get(kind)
    if decode is None or (kind == "PNG" and head[24] <= 8):
        return None, None
    data = path.read_bytes()
    if kind == "PPM":
        deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        return (deep[..., ::-1], 65535.0) if deep is not None and deep.ndim == 3 and deep.dtype == np.uint16 else (None, None)
    if kind == "PNG":
        bits = head[24]
    elif kind == "AVIF":  # of the configuration box: the flags of high and twelve-bit depth
        flags = data[data.index(b"av1C") + 6]
        bits = (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    else:  # of the size marker: the depth of the first component
        bits = (data[data.index(b"\xff\x4f\xff\x51") + 42] & 0x7F) + 1
    return (decode(data), 2.0**bits - 1) if bits > 8 else (None, None)


def _colours(stored: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Return values and opacity of an open picture of Pillow."""
    if stored.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        return np.asarray(stored), None
    if stored.has_transparency_data:
        both = np.asarray(stored.convert("RGBA"))
        return both[..., :3], both[..., 3].astype(np.float32) / 255
    return np.asarray(stored.convert("L" if stored.mode in ("1", "L") else "RGB")), None


def _channels(values: np.ndarray, full: float | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return grey or colour, and the opacity, of values (H, W) or (H, W, 1 to 4), up to `full` where they are no floats."""
    if values.ndim == 2:
        return values, None
    channels = values.shape[2]
    if values.ndim > 3 or channels > 4:
        raise DataError(f"Expected grey or colour, but got an array {values.shape}; save it as RGB.")
    colours = values[..., 0] if channels < 3 else values[..., :3]
    if channels in (1, 3):
        return colours, None
    return colours, values[..., -1].astype(np.float32) / np.float32(full or 1.0)


def _read_codec(path: Path, kind: str) -> Picture:
    decode: Any = {"JPEGXL": imagecodecs.jpegxl_decode, "JPEGXR": imagecodecs.jpegxr_decode}[kind]
    stored = decode(path.read_bytes())
    full = _full_of(stored, path)
    values, alpha = _channels(stored, full)
    return Picture(values, alpha, full, "L" if values.ndim == 2 else "RGB", kind, lossy=True)


def _read_tiff(path: Path, page: int | None, every_page: bool) -> Iterator[Picture]:
    """Read the pages of a TIFF file but thumbnails of others, with the values as their photometric tag says."""
    with tifffile.TiffFile(path) as file:
        pages = [p for p in file.pages if isinstance(p, tifffile.TiffPage) and not p.is_reduced]
        volumes = file.series[0].shape if file.series and len(pages) == 1 else ()
        if len(pages) == 1 and int(np.prod(volumes)) > int(np.prod(pages[0].shape)):
            raise DataError(f"Expected one picture in '{path}', but it is a stack {volumes}; save one picture per file.")
        for index in _choose(len(pages), page, every_page, path):
            stored = pages[index]
            orientation = int(stored.tags.valueof("Orientation", 1))
            values, alpha, full = _tiff_colours(stored, path)
            yield Picture(
                turned(values, orientation),
                None if alpha is None else turned(alpha, orientation),
                full,
                getattr(stored.photometric, "name", str(stored.photometric)),
                "TIFF",
                orientation,
                getattr(stored.compression, "name", "") in _LOSSY,
            )


def _tiff_colours(page: tifffile.TiffPage, path: Path) -> tuple[np.ndarray, np.ndarray | None, float | None]:
    """Return values, opacity and the largest value of a page: uint8, or a wider type."""
    values = page.asarray()
    photometric, samples = getattr(page.photometric, "name", str(page.photometric)), page.samplesperpixel
    if values.ndim == 3 and samples > 1 and int(page.planarconfig) == 2:
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(page.imagelength, page.imagewidth, samples)
    bits = page.bitspersample
    full: float | None = None if values.dtype.kind == "f" else 2.0**bits - 1 if values.dtype.kind in "ub" else 2.0 ** (bits - 1) - 1
    if full is None:
        _full_of(values, path)
    colours = {"RGB": 3, "YCBCR": 3, "SEPARATED": 4, "MINISBLACK": 1, "MINISWHITE": 1, "PALETTE": 1}.get(photometric)
    has_alpha = bool(page.extrasamples) and int(page.extrasamples[0]) in (1, 2)
    if colours is None or samples != colours + has_alpha:
        raise DataError(f"Expected grey or colour in '{path}', but its colours are {photometric} of {samples}; save it as RGB.")
    alpha = None
    if has_alpha:
        alpha = values[..., colours].astype(np.float32) / np.float32(full or 1.0)
        if alpha.max() > 1:
            raise DataError(f"Expected an opacity of at most 1 in '{path}', which holds floats, but got {alpha.max():g}; scale it.")
        if int(page.extrasamples[0]) == 1:  # multiplied already
            alpha = (alpha > 0).astype(np.float32)
    values = values[..., :colours]
    if photometric == "PALETTE":
        values, full = (np.asarray(page.colormap) >> 8).astype(np.uint8).T[values[..., 0]], 255.0
    elif photometric == "SEPARATED":
        assert full is not None
        values = ((full - values[..., :3].astype(np.float64)) * (1 - values[..., 3:] / full)).round().astype(values.dtype)
    elif photometric == "MINISWHITE" and full is not None:
        values = (np.float64(full) - values).astype(values.dtype if values.dtype != bool else np.uint8)
    if full is not None and full < 255 and values.dtype.kind != "i":
        values, full = np.round(values.astype(np.float64) * (255 / full)).astype(np.uint8), 255.0
    return (values[..., 0] if values.shape[-1] == 1 else values), alpha, full
