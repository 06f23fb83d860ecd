"""Two floors that any method must beat: random maps and the distance to the mean of the normal images."""

from __future__ import annotations

from methods import METHODS
from methods.base import MethodConfig


class FloorConfig(MethodConfig):
    """Configuration of the floors: nothing but the sizes."""


METHODS.register(
    "random", "methods.floors.method:Random", config=FloorConfig, summary="floor: uniform noise, independent of what is seen"
)
METHODS.register(
    "pixel_stats",
    "methods.floors.method:PixelStats",
    config=FloorConfig,
    summary="floor: distance of each pixel to the mean of the normal images there",
)
