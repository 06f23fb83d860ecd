"""Reading of image and mask files: any common format, grey or colour, 8 or 16 bit, scaled by the type's range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from anoseg_bench.errors import DataError

Image.MAX_IMAGE_PIXELS = None  # line scans are large; the files are the user's own

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name; [] where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))


def _open(path: Path) -> tuple[Image.Image, str | None]:
    """Return a picture as its EXIF tag says that it is to be turned, and the format of its file."""
    try:
        stored = Image.open(path)
        file_format, image = stored.format, ImageOps.exif_transpose(stored)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        reason = "not a whole image" if not isinstance(error, FileNotFoundError) else "not there"
        raise DataError(
            f"Expected a readable image ({', '.join(EXTENSIONS)}), but '{path}' is {reason} ({error}); copy it again or remove it."
        ) from error
    return image, file_format


def read_image(path: Path) -> np.ndarray:
    """Read an image file.

    Returns
    -------
    numpy.ndarray
        uint8 RGB, shape (H, W, 3). 16-bit values are divided by 257, the ratio of the types' ranges; an alpha
        channel is dropped.

    Raises
    ------
    DataError
        If the file cannot be read, or holds values of a type without a range (float).
    """
    image, _ = _open(path)
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise DataError(f"Expected 8- or 16-bit values, but '{path}' holds {wide.min()}..{wide.max()}; export it as 16 bit.")
        grey = np.round(wide.astype(np.float64) / 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise DataError(f"Expected 8- or 16-bit integers, but '{path}' holds floats, which have no range; export it as 16 bit.")
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """Read a mask file: True wherever the picture is not black (1 bit, palette, grey of 8 or 16 bit, or colour).

    JPEG blurs what it stores, so that black is not black around an edge: there, True above half of the brightest value.

    Returns
    -------
    numpy.ndarray
        bool, shape (H, W).

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    image, file_format = _open(path)
    if file_format == "JPEG":
        grey = np.asarray(image.convert("L"))
        return grey > grey.max() / 2
    if image.mode in ("P", "PA", "RGBA", "LA", "CMYK", "YCbCr"):
        image = image.convert("RGB")
    values = np.asarray(image)
    return values != 0 if values.ndim == 2 else (values != 0).any(axis=2)
