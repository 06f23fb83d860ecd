"""The way from an image to a decision as one graph: resizing, the method, the map at the image's size, thresholds.

Only operations whose result does not hang on the runtime are used where a value must be exact: Pillow's resizing is arithmetic of
whole numbers below 2^24 in float32, which any order of summation gives the same.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from anoseg_bench.methods.base import Method

#: Places of the result whose sources are taken together; sides are multiples of it.
BLOCK = 32
#: Pillow's weights are whole numbers of `UPPER` + `LOWER` bits after the point; the bits are found so many at once.
UPPER, LOWER = (7, 7), (4, 4)
#: By which the parts of the weights are multiplied.
UPPER_UNIT, LOWER_UNIT = 2.0 ** -sum(UPPER), 2.0 ** -sum(LOWER)


def weights(length: torch.Tensor, longest: int, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what Pillow's bilinear filter makes the places of a side out of.

    Parameters
    ----------
    length : torch.Tensor
        float32, (): of the side before, at most `longest`.
    size : int
        Of the side after.

    Returns
    -------
    tuple of torch.Tensor
        Which places before each `BLOCK` places after see, int64 (size / `BLOCK`, L); their weights, float32
        (size / `BLOCK`, `BLOCK`, L), in two parts: upper + lower * 2^-14 is the weight, upper * 2^14 and lower * 2^8 are whole.
    """
    places = torch.arange(size, dtype=torch.float32, device=length.device).view(-1, BLOCK, 1)
    reach = 2 * length.clamp(min=size)
    first = (((2 * places[:, :1] + 1) * length - reach) / (2 * size)).floor() - 1
    seen = first + torch.arange((BLOCK + 1) * longest // size + 6, dtype=torch.float32, device=length.device)
    inside = torch.minimum(seen.clamp(min=0), length - 1)
    rest = (reach - ((2 * seen + 1) * size - (2 * places + 1) * length).abs()).clamp(min=0) * (seen == inside)
    total = rest.sum(-1, keepdim=True)
    parts = []
    for bits in (UPPER, LOWER):  # long division
        part = torch.zeros_like(rest)
        for some in bits:
            rest = rest * 2**some
            digit = (rest / total).floor()
            rest, part = rest - digit * total, part * 2**some + digit
        parts.append(part)
    return inside.squeeze(1).long(), parts[0] * UPPER_UNIT, (parts[1] + (2 * rest >= total)) * LOWER_UNIT


def resize_rows(rows: torch.Tensor, seen: torch.Tensor, upper: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    """Return rows, uint8 (N, L, M), resized along L by what `weights` gave: each block of places is a product of matrices."""
    number, _, width = rows.shape
    x = rows.index_select(1, seen.flatten()).view(number, *seen.shape, width).float()
    resized = upper @ x + 0.5 + (lower @ x).floor() * UPPER_UNIT
    return resized.floor().to(torch.uint8).view(number, -1, width)


class Resize(nn.Module):
    """`anoseg_bench.evaluation.cell.resize` for batches, bit by bit, for images of up to 2048 px a side at least.

    Pillow resizes one side, rounds, and then the other; of tall images the height first. So that no graph needs a branch, which
    runtimes are bad at, images are made square, and turned where the width comes first.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return images, uint8 (N, H, W, 3), as uint8 (N, 3, size, size)."""
        n, height, width, channels = images.shape
        longest: Any = torch.sym_max(height, width)
        high, wide = (torch.full((), side, dtype=torch.float32, device=images.device) for side in (height, width))
        tall = (high > self.size) & (high - self.size > 2 * (wide - self.size))
        planes = F.pad(images.permute(0, 3, 1, 2).flatten(0, 1), (0, longest - width, 0, longest - height))
        rows = torch.where(tall, planes, planes.transpose(1, 2))
        for side in (torch.where(tall, high, wide), torch.where(tall, wide, high)):
            rows = resize_rows(rows, *weights(side, longest, self.size)).transpose(1, 2)
        return torch.where(tall, rows, rows.transpose(1, 2)).view(n, channels, self.size, self.size)


class Deployed(nn.Module):
    """A trained method from an image to its map, its score and, where there are thresholds, its decisions.

    Parameters
    ----------
    image_threshold, pixel_threshold : float
        NaN for none, then that output is left out.
    """

    def __init__(self, method: Method, image_threshold: float = math.nan, pixel_threshold: float = math.nan) -> None:
        super().__init__()
        self.resize = Resize(method.config.input_size)
        self.method = method
        self.networks = nn.ModuleList(value for value in vars(method).values() if isinstance(value, nn.Module))
        self.image_threshold, self.pixel_threshold = image_threshold, pixel_threshold
        decided = {"defective": image_threshold, "mask": pixel_threshold}
        self.outputs = ["map", "score", *(name for name, threshold in decided.items() if not math.isnan(threshold))]

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the `outputs` for images, uint8 (N, H, W, 3).

        Returns
        -------
        dict of str to torch.Tensor
            ``map``, float32 (N, H, W); ``score``, float32 (N,); ``defective``, bool (N,); ``mask``, bool (N, H, W).
        """
        prediction = self.method._graph(self.resize(image))
        small = prediction.maps
        scores = small.amax((1, 2)) if prediction.scores is None else prediction.scores
        lowest, highest = small.amin((1, 2), keepdim=True), small.amax((1, 2), keepdim=True)
        maps = F.interpolate(small[:, None], size=image.shape[1:3], mode="bilinear", align_corners=False).squeeze(1)
        maps = torch.minimum(torch.maximum(maps, lowest), highest)  # what is even stays even
        found = {"map": maps, "score": scores, "defective": scores >= self.image_threshold, "mask": maps >= self.pixel_threshold}
        return {name: found[name] for name in self.outputs}
