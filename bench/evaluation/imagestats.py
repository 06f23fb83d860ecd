"""Statistics of one image and its mask: a few numbers of the whole picture, what its file says of itself, its defective regions."""

from __future__ import annotations

import base64
import functools
import io
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from anoseg_bench.datasets.images import Picture

#: Raise it when a statistic is added or changes: those kept beside the hashes are then made again.
VERSION = 1
#: Side of the thumbnail by which near-duplicates are looked for, px.
THUMBNAIL = 32
#: Width of the border, as a share of the shorter side.
BORDER = 0.05
#: Sizes at which it is looked whether a defect vanishes, px.
SIZES = (128, 256)


class FileFacts(BaseModel):
    """What the file of an image says of itself.

    Attributes
    ----------
    format : str
        ``"PNG"``, ``"JPEG"``, ...
    mode : str
        Pillow's name of its channels: ``"L"`` grey, ``"RGB"``, ``"I;16"``.
    bits : int
        Per channel, as they are read.
    orientation : int
        The EXIF tag; 1 for upright or none.
    quality : int or None
        Of JPEG, 1..100 in the scale of the libjpeg; None for others.
    """

    model_config = ConfigDict(frozen=True)

    bytes: int
    format: str
    mode: str
    bits: int
    orientation: int = 1
    quality: int | None = None


class MaskFacts(BaseModel):
    """What a mask marks.

    Attributes
    ----------
    share : float
        Of all pixels, in 0..1.
    border : float
        Share of the pixels of the image's outermost line that it marks.
    areas : list of int
        Pixels of each 8-connected region, ascending.
    vanish : dict of int to int
        By side of the square that the image is resized to: how many regions mark no pixel there by half.
    """

    model_config = ConfigDict(frozen=True)

    share: float
    border: float
    areas: list[int]
    vanish: dict[int, int]


class ImageFacts(BaseModel):
    """What is known of one image: statistics of its pixels, its file, its mask.

    Attributes
    ----------
    height, width : int
        In pixels.
    brightness, contrast : float
        Mean and standard deviation of the luma (ITU-R BT.601), in 0..255.
    sharpness : float
        Mean absolute Laplacian of the luma.
    saturation : float
        Mean over the pixels of the largest minus the smallest channel.
    warmth : float
        Mean of red minus blue.
    border : float
        Mean luma of the outermost `BORDER` of the picture.
    thumbnail : str
        Base64 of the luma at `THUMBNAIL` x `THUMBNAIL`, uint8.
    file : FileFacts or None
        None for generated images.
    mask : MaskFacts or None
        None for normal images.
    """

    model_config = ConfigDict(frozen=True)

    height: int
    width: int
    brightness: float
    contrast: float
    sharpness: float
    saturation: float
    warmth: float
    border: float
    thumbnail: str
    file: FileFacts | None = None
    mask: MaskFacts | None = None

    @property
    def looks(self) -> tuple:
        """What two images have in common that hold the same pixels, and no others."""
        return self.height, self.width, self.brightness, self.contrast, self.sharpness, self.warmth, self.thumbnail

    @property
    def small(self) -> np.ndarray:
        """The thumbnail, uint8, (`THUMBNAIL`, `THUMBNAIL`)."""
        return np.frombuffer(base64.b64decode(self.thumbnail), np.uint8).reshape(THUMBNAIL, THUMBNAIL)


def pixel_facts(image: np.ndarray) -> dict[str, Any]:
    """Return the statistics of `ImageFacts` that follow from the pixels, uint8 RGB (H, W, 3).

    Examples
    --------
    >>> facts = pixel_facts(np.full((8, 8, 3), 60, np.uint8))
    >>> facts["brightness"], facts["contrast"], facts["sharpness"]
    (60.0, 0.0, 0.0)
    """
    image = np.ascontiguousarray(image)
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(luma)
    red, green, blue = cv2.split(image)
    spread = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    channels = cv2.mean(image)
    height, width = luma.shape
    frame = max(1, round(BORDER * min(height, width)))
    inner = luma[frame : height - frame, frame : width - frame]
    around = height * width - inner.size
    border = (mean.item() * luma.size - float(inner.sum(dtype=np.int64))) / around
    shrink = cv2.INTER_AREA if min(height, width) >= THUMBNAIL else cv2.INTER_LINEAR
    small = cv2.resize(luma, (THUMBNAIL, THUMBNAIL), interpolation=shrink)
    return {
        "height": height,
        "width": width,
        "brightness": mean.item(),
        "contrast": deviation.item(),
        "sharpness": cv2.norm(cv2.Laplacian(luma, cv2.CV_16S), cv2.NORM_L1) / luma.size,
        "saturation": cv2.mean(spread)[0],
        "warmth": channels[0] - channels[2],
        "border": border,
        "thumbnail": base64.b64encode(small.tobytes()).decode(),
    }


def file_facts(path: Path, picture: Picture) -> FileFacts:
    """Return what an image file, and what was read from it, say."""
    quality = None
    if picture.file_format == "JPEG":
        with Image.open(path) as image:
            tables = getattr(image, "quantization", None)
            quality = jpeg_quality(tables[0]) if tables else None
    bits = 8 * picture.values.itemsize if picture.full is None else round(math.log2(picture.full + 1))
    return FileFacts(
        bytes=path.stat().st_size,
        format=picture.file_format,
        mode=picture.mode,
        bits=1 if picture.mode == "1" else bits,
        orientation=picture.orientation,
        quality=quality,
    )


def jpeg_quality(table: list[int]) -> int:
    """Return the quality, 1..100, at which libjpeg's table of the luma is closest to the given one in its mean.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> Image.new("L", (8, 8)).save(file, "JPEG", quality=88)
    >>> jpeg_quality(Image.open(file).quantization[0])
    88
    """
    return 1 + int(np.argmin(np.abs(_jpeg_means() - np.mean(table))))


@functools.cache
def _jpeg_means() -> np.ndarray:
    """Return the means of libjpeg's table of the luma at the qualities 1..100, (100,)."""
    means = []
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        means.append(np.mean(Image.open(file).quantization[0]))  # type: ignore[attr-defined]
    return np.array(means)


def mask_facts(mask: np.ndarray) -> MaskFacts:
    """Return what a mask marks, bool (H, W)."""
    marked = mask.astype(np.uint8)
    number, labels, regions, _ = cv2.connectedComponentsWithStats(marked, connectivity=8)
    line = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return MaskFacts(
        share=float(mask.mean()),
        border=float(line.mean()),
        areas=sorted(regions[1:, cv2.CC_STAT_AREA].tolist()),
        vanish={size: vanishing(labels, number - 1, size) for size in SIZES},
    )


def vanishing(labels: np.ndarray, regions: int, size: int) -> int:
    """Return how many regions vanish where the image is resized to a square: no pixel there is defective by half or more.

    Parameters
    ----------
    labels : numpy.ndarray
        int, (H, W): 0 is normal, and 1..`regions` a region each.
    size : int
        Side of the square, px.

    Examples
    --------
    >>> labels = np.zeros((256, 256), np.int32)
    >>> labels[10, 10], labels[100:110, 100:110] = 1, 2
    >>> vanishing(labels, 2, 128), vanishing(labels, 2, 256)
    (1, 0)
    """
    height, width = labels.shape
    if height <= size and width <= size:
        return 0
    share: Any = (labels > 0).astype(np.float32)
    for shape, before in (((size, height), width), ((size, size), height)):  # one side at a time: one may shrink, the other grow
        share = cv2.resize(share, shape, interpolation=cv2.INTER_AREA if before > size else cv2.INTER_NEAREST)
    covered = share >= 0.5 - 1e-6
    rows = np.minimum(np.arange(height) * size // height, size - 1)
    columns = np.minimum(np.arange(width) * size // width, size - 1)
    seen = np.unique(labels[covered[np.ix_(rows, columns)]])
    return regions - int((seen > 0).sum())
