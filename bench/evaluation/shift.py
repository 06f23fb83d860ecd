"""Images under a change of light, focus or camera, at their original size, as `anoseg_bench.shifts` states it."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image

from anoseg_bench.shifts import SHIFTS, Shift

#: Changes an image (H, W, 3), uint8, by a strength in its unit; what is random comes from the generator.
Change = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def under_shift(image: np.ndarray, shift: Shift, strength: int, name: str) -> np.ndarray:
    """Return an image under a shift: uint8, (H, W, 3), the same for the same name each time.

    Parameters
    ----------
    strength : int
        From 1; at 0 the image is as it is.
    name : str
        The image's: it decides the grains of noise, and which way the image is turned or moved, for all strengths alike.
    """
    if strength == 0:
        return image
    seed = hashlib.sha256(f"{shift.name} {name}".encode()).digest()[:8]
    return _CHANGES[shift.name](image, shift.strengths[strength - 1], np.random.default_rng(int.from_bytes(seed, "little")))


def under_all_shifts(image: np.ndarray, name: str) -> Iterator[np.ndarray]:
    """Yield an image under each shift at each strength, shift by shift."""
    for shift in SHIFTS:
        for strength in range(1, len(shift.strengths) + 1):
            yield under_shift(image, shift, strength, name)


def _mapped(image: np.ndarray, *values: np.ndarray) -> np.ndarray:
    """Return an image whose values 0..255 became others, of all channels or of each."""
    return cv2.LUT(image, np.stack(values, axis=-1).round().clip(0, 255).astype(np.uint8).reshape(1, 256, -1))


_VALUES = np.arange(256.0)


def _brightness(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    return _mapped(image, factor * _VALUES)


def _contrast(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    mean = image.mean()
    return _mapped(image, mean + factor * (_VALUES - mean))


def _warmer(image: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
    return _mapped(image, gain * _VALUES, _VALUES, _VALUES / gain)


def _cooler(image: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
    return _warmer(image, 1 / gain, rng)


def _blur(image: np.ndarray, percent: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), percent / 100 * min(image.shape[:2]), borderType=cv2.BORDER_REFLECT_101)


def _noise(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    grains = rng.standard_normal(image.shape, np.float32)
    return (image + np.float32(deviation) * grains).round().clip(0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=int(quality))
    return np.array(Image.open(file))


def _warped(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return an image under an affine map; what comes into view from outside is its reflection."""
    height, width = image.shape[:2]
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _rotated(image: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    turn = float(rng.choice([-1, 1])) * degrees
    return _warped(image, cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, 1.0))


def _moved(image: np.ndarray, percent: float, rng: np.random.Generator) -> np.ndarray:
    direction, length = rng.uniform(0, 2 * math.pi), percent / 100 * min(image.shape[:2])
    return _warped(image, np.array([[1, 0, length * math.cos(direction)], [0, 1, length * math.sin(direction)]]))


_CHANGES: dict[str, Change] = {
    "darker": _brightness,
    "brighter": _brightness,
    "less contrast": _contrast,
    "warmer": _warmer,
    "cooler": _cooler,
    "out of focus": _blur,
    "noise": _noise,
    "JPEG": _jpeg,
    "rotated": _rotated,
    "moved": _moved,
}
