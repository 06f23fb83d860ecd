"""Images as square tiles of equal scale, and maps of tiles joined to one of the image.

H, W: size of an image. S: side of a tile. n: tiles of an image.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anoseg_bench.evaluation.maps import to_original

#: Tiles that are learned from, at most, but one of each image at least.
TRAINING_TILES = 2000
#: Bytes of maps that wait in memory for their evaluation; more of them wait in a file.
IN_MEMORY = 2**27


@dataclass(frozen=True)
class Tiling:
    """How images are cut into tiles.

    Attributes
    ----------
    side : int
        S, px of the image; 0 for no tiles: the image is its only one.
    overlap : int
        What neighbours share at least, px.
    """

    side: int = 0
    overlap: int = 0

    @classmethod
    def of(cls, conditions: Mapping[str, Any]) -> Tiling:
        """Return the tiling of a variant's conditions, as a cell's record has them."""
        return cls(conditions.get("tile", 0), conditions.get("overlap", 0))

    def starts(self, length: int) -> list[int]:
        """Return where tiles begin along a side of an image: at equal distances, the last ends where the image does.

        Examples
        --------
        >>> Tiling(256, 32).starts(900)
        [0, 214, 429, 644]
        """
        if self.side == 0 or length <= self.side:
            return [0]
        steps = math.ceil((length - self.side) / (self.side - self.overlap))
        return [i * (length - self.side) // steps for i in range(steps + 1)]

    def corners(self, shape: tuple[int, int]) -> list[tuple[int, int]]:
        """Return the upper left corners (top, left) of the tiles of an image (H, W), row by row."""
        return list(itertools.product(self.starts(shape[0]), self.starts(shape[1])))

    def crop(self, image: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
        """Return a tile (S, S, 3) of an image (H, W, 3), which goes on mirrored where it is smaller: all tiles have one scale."""
        if self.side == 0:
            return image
        top, left = corner
        part = image[top : top + self.side, left : left + self.side]
        if part.shape[:2] == (self.side, self.side):
            return part
        missing = [(0, self.side - length) for length in part.shape[:2]]
        return np.pad(part, [*missing, (0, 0)], mode="symmetric")

    def crops(self, image: np.ndarray) -> list[np.ndarray]:
        """Return all tiles of an image."""
        return [self.crop(image, corner) for corner in self.corners((image.shape[0], image.shape[1]))]

    def join(self, maps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Return the map (H, W) of an image whose tiles have the maps (n, h, w).

        Where tiles overlap it is their mean, by weights that fall linearly towards the edge of each.
        """
        if self.side == 0:
            return to_original(maps[0], shape)
        whole = np.zeros(shape)
        weights = [self._weights(length) for length in shape]
        for map_, (top, left) in zip(maps, self.corners(shape), strict=True):
            down, right = weights[0][top], weights[1][left]
            part = to_original(map_.astype(np.float64), (self.side, self.side))[: len(down), : len(right)]
            whole[top : top + len(down), left : left + len(right)] += down[:, None] * right * part
        return whole.clip(maps.min(), maps.max()).astype(maps.dtype)

    def _weights(self, length: int) -> dict[int, np.ndarray]:
        """Return the weights of the tiles along a side of an image, by where they begin; at each pixel their sum is 1."""
        starts, total = self.starts(length), np.zeros(length)
        weights = {}
        for before, start, after in zip([None, *starts], starts, [*starts[1:], None], strict=False):
            places = np.arange(min(self.side, length)) + 0.5
            weight = np.ones(len(places))
            if before is not None and before + self.side > start:
                weight = np.minimum(weight, places / (before + self.side - start))
            if after is not None and start + self.side > after:
                weight = np.minimum(weight, (self.side - places) / (start + self.side - after))
            weights[start] = weight
            total[start : start + len(weight)] += weight
        return {start: weight / total[start : start + len(weight)] for start, weight in weights.items()}


class TileMaps:
    """The maps of the tiles of images, as a method gave them; `IN_MEMORY` bytes of them in memory, more in a temporary file."""

    def __init__(self, tiling: Tiling) -> None:
        self._tiling = tiling
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (open as long as this lives)
        weakref.finalize(self, self._file.close)
        self._end = 0
        self._places: list[tuple[int, tuple[int, ...], tuple[int, int]]] = []

    def add(self, maps: np.ndarray, shape: tuple[int, int]) -> None:
        """Add the maps (n, h, w), float32, of the tiles of an image (H, W)."""
        self._places.append((self._end, maps.shape, shape))
        self._file.seek(self._end)
        self._file.write(maps.tobytes())
        self._end += maps.nbytes

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._places)

    def whole(self, number: int) -> np.ndarray:
        """Return the map (H, W) of an image, by the number under which it was added."""
        place, tiles, shape = self._places[number]
        self._file.seek(place)
        maps = np.frombuffer(bytearray(self._file.read(4 * math.prod(tiles))), np.float32).reshape(tiles)
        return self._tiling.join(maps, shape)


def draw_corners(corners: Sequence[tuple[int, int]], images: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return the tiles of one of so many images that are learned from: an even share of `TRAINING_TILES`, drawn at random."""
    most = max(1, TRAINING_TILES // images)
    if len(corners) <= most:
        return list(corners)
    return [corners[i] for i in np.sort(rng.permutation(len(corners))[:most])]
