"""What normal images show: foreground and background, and facts about a category, its *fingerprint* (ours)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

#: Images whose grain is measured.
GRAIN_IMAGES = 48


class Layers(NamedTuple):
    """An image as a foreground before a background.

    Attributes
    ----------
    background : numpy.ndarray
        uint8 (S, S, 3), a quadratic surface through the image's border.
    foreground : numpy.ndarray
        bool (S, S), where the image is something else.
    colour : numpy.ndarray
        float32 (3,), the median colour of the border.
    spread : float
        How far the border lies from the surface: 90th percentile over its pixels of the largest channel, 0..255.
    """

    background: np.ndarray
    foreground: np.ndarray
    colour: np.ndarray
    spread: float


class _Surface:
    """Least-squares fits of a quadratic surface to the border of images of one size."""

    def __init__(self, side: int) -> None:
        width = max(2, side // 32)
        self.frame = np.zeros((side, side), bool)
        self.frame[:width] = self.frame[-width:] = self.frame[:, :width] = self.frame[:, -width:] = True
        y, x = (axis.astype(np.float32) / side - 0.5 for axis in np.indices((side, side), np.float32))
        self.terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], -1)
        self.border_terms = self.terms[self.frame][::4]

    def fit(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Return the surface (S, S, 3), the border's median colour, and the border's spread about the surface.

        What lies far from the median, then far from a first fit, takes no part: an object may touch the border.
        """
        border = image[self.frame][::4].astype(np.float32)
        colour = np.median(border, 0)
        distance, least = np.abs(border - colour).max(1), (40, 2.0)
        weights = np.zeros((self.terms.shape[-1], 3), np.float32)
        for limit, times in (least, (12, 3.0)):
            near = distance <= max(limit, times * float(np.median(distance)))
            weights = np.linalg.lstsq(self.border_terms[near], border[near], rcond=None)[0]
            distance = np.abs(border - self.border_terms @ weights).max(1)
        return self.terms @ weights, colour, float(np.percentile(distance, 90))


def separate(image: np.ndarray, surface: _Surface | None = None) -> Layers:
    """Separate an image, uint8 (S, S, 3), into foreground and background.

    Foreground is what lies further from the surface than twice the border's own spread, 8 of 255 and half of Otsu's threshold
    (Otsu 1979); gaps are closed, specks and parts of less than a tenth of the largest dropped.
    """
    side = image.shape[0]
    background, colour, spread = (surface or _Surface(side)).fit(image)
    distance = np.abs(cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32) - background).max(2)
    otsu, _ = cv2.threshold(np.clip(distance, 0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    mask = (distance > max(8, 2 * spread, 0.5 * otsu)).astype(np.uint8)
    reach = max(3, side // 32 | 1)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    parts, labels, facts, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = facts[1:, cv2.CC_STAT_AREA]
    large = 1 + np.flatnonzero(areas >= 0.1 * areas.max()) if parts > 1 else np.empty(0, int)
    return Layers(np.clip(background, 0, 255).round().astype(np.uint8), np.isin(labels, large), colour, spread)


@dataclass(frozen=True)
class Fingerprint:
    """Facts about the normal images of a category; lengths as shares of the side, values in 0..255.

    Attributes
    ----------
    plain : bool
        Whether they show a foreground before a plain background, in all of them alike.
    share : float
        Median share of the foreground.
    inner_width : float
        Median of twice the largest distance of a foreground pixel to the background.
    elongation, alignment : float
        Of the foreground's main axis (image moments): the median ratio of the axes, and the resultant of the doubled angles, 0
        where it points everywhere and 1 where it always points the same way.
    grain : float
        Median absolute difference to a 3x3 median, largest channel.
    exposure_spread : float
        Robust standard deviation over the images of the log of their mean brightness.
    alikeness : float
        Share of the variance of brightness that is the mean image's: near 1 for aligned objects, near 0 for textures.
    """

    plain: bool
    share: float
    inner_width: float
    elongation: float
    alignment: float
    grain: float
    exposure_spread: float
    alikeness: float

    @property
    def turns(self) -> bool:
        """Whether the images show one object that lies in any direction."""
        return self.plain and self.elongation > 1.2 and self.alignment < 0.7

    @property
    def texture(self) -> bool:
        """Whether the images show a texture, not an object."""
        return not self.plain and self.alikeness < 0.5

    @property
    def visible(self) -> int:
        """A change of more than so many of 255 in any channel is visible above the grain."""
        return round(min(14, max(4, 4 + 2 * self.grain)))


@dataclass(frozen=True)
class Normals:
    """Normal images with what was found in them.

    Attributes
    ----------
    images : numpy.ndarray
        uint8 (N, S, S, 3).
    layers : list of Layers
        Of each image.
    """

    images: np.ndarray
    layers: list[Layers]

    @classmethod
    def of(cls, images: np.ndarray) -> Normals:
        """Separate images, uint8 (N, S, S, 3), each by itself."""
        surface = _Surface(images.shape[1])
        return cls(images, [separate(image, surface) for image in images])

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The facts."""
        side = self.images.shape[1]
        shares = np.array([layer.foreground.mean() for layer in self.layers])
        colours = np.stack([layer.colour for layer in self.layers])
        apart = np.abs(colours - np.median(colours, 0)).max(1)
        spreads = np.array([layer.spread for layer in self.layers])
        share = float(np.median(shares))
        plain = bool(
            np.percentile(spreads, 75) < 25
            and np.percentile(apart, 75) < 40
            and 0.01 < share < 0.95
            and np.percentile(shares, 90) < 1.6 * np.percentile(shares, 10)
        )
        widths = [2 * cv2.distanceTransform(layer.foreground.astype(np.uint8), cv2.DIST_L2, 3).max() for layer in self.layers]
        axes = [_main_axis(layer.foreground) for layer in self.layers]
        brightness = np.log(np.maximum(self.images.mean((1, 2, 3)), 1))
        return Fingerprint(
            plain=plain,
            share=share,
            inner_width=float(np.median(widths)) / side,
            elongation=float(np.median([ratio for ratio, _ in axes])),
            alignment=float(abs(np.mean([np.exp(2j * angle) for _, angle in axes]))),
            grain=float(np.median([_grain(*pair, plain) for pair in zip(self.images[:GRAIN_IMAGES], self.layers, strict=False)])),
            exposure_spread=1.4826 * float(np.median(np.abs(brightness - np.median(brightness)))),
            alikeness=_alikeness(self.images),
        )


def _main_axis(foreground: np.ndarray) -> tuple[float, float]:
    """Return the ratio of the axes of a foreground, and the angle of the longer one in radians."""
    moments = cv2.moments(foreground.astype(np.uint8), True)
    total, difference = moments["mu20"] + moments["mu02"], moments["mu20"] - moments["mu02"]
    length = math.hypot(2 * moments["mu11"], difference)
    return math.sqrt((total + length + 1e-9) / max(1e-9, total - length)), 0.5 * math.atan2(2 * moments["mu11"], difference)


def _alikeness(images: np.ndarray) -> float:
    """Return the share of the variance of the images' brightness that is not variance between images, at least 0."""
    grey = images.mean(-1, dtype=np.float32)
    return max(0.0, 1 - float(grey.var(0, ddof=min(1, len(grey) - 1)).mean() / max(grey.var(), 1e-9)))


def _grain(image: np.ndarray, layer: Layers, plain: bool) -> float:
    """Return the median absolute difference to a 3x3 median, on the foreground of an image before a plain background."""
    difference = cv2.absdiff(image, cv2.medianBlur(image, 3)).max(2)
    return float(np.median(difference[layer.foreground] if plain and layer.foreground.any() else difference))
