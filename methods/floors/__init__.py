"""Floors that any method must beat: noise, the distance to the mean of the normal images, and that of whole-image statistics."""

from __future__ import annotations

from anoseg_bench.methods import METHODS
from anoseg_bench.methods.base import MethodConfig


class FloorConfig(MethodConfig):
    """Configuration of the floors: nothing but the sizes."""


METHODS.register(
    "random",
    "anoseg_bench.methods.floors.method:Random",
    config=FloorConfig,
    summary="floor: uniform noise, independent of what is seen",
)
METHODS.register(
    "pixel_stats",
    "anoseg_bench.methods.floors.method:PixelStats",
    config=FloorConfig,
    summary="floor: distance of each pixel to the mean of the normal images there",
)
METHODS.register(
    "image_stats",
    "anoseg_bench.methods.floors.method:ImageStats",
    config=FloorConfig,
    summary="floor: distance of the whole image's brightness, contrast, sharpness, colour and border to those of the normal images",
)
