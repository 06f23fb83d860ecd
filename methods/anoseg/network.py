"""Networks of AnoSeg: the generator of map and reconstruction, the discriminator of (image, map) pairs.

Known from the paper: one network gives the map and the reconstruction; coordinate channels join what it sees; a
discriminator judges pairs of image and map. Layers, widths, and at which layers coordinates join, are ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def coordinate_channels(images: torch.Tensor) -> torch.Tensor:
    """Return the channels x and y in [-1, 1] of CoordConv (Liu et al. 2018), shape (N, 2, H, W)."""
    n, _, h, w = images.shape
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, h, device=images.device), torch.linspace(-1, 1, w, device=images.device), indexing="ij"
    )
    return torch.stack([x, y]).expand(n, 2, h, w)


#: Side of the squares of pixels that the generator's first level sees as one, folded into channels: no detail is lost, and an
#: image of 256 px costs a quarter of what it costs with squares of 2 px (docs/anoseg.md).
FOLD = 4
#: The deepest levels of the generator, which see coordinates: from 16 px a side where the image's is a power of two. Joined to
#: the image instead, they were worse in validation on two of three categories and the same on the third (see README).
COORD_LEVELS = 4


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def levels_for(side: int) -> int:
    """Return how many levels of the generator bring an image of a side down to 2 px, or to an odd side (ours).

    Whether a part is absent or misplaced shows in the whole image only: the deepest level must see it, whatever the size.

    Parameters
    ----------
    side : int
        Of the image, px; a multiple of 32.
    """
    side, levels = side // FOLD, 1
    while side % 2 == 0 and side > 2:
        side, levels = side // 2, levels + 1
    return levels


class Comparison(nn.Module):
    """A second U-Net, of two levels, over the first one's features and the difference of image and reconstruction (ours).

    The map then rests on the reconstruction, as in DRAEM (Zavrtanik et al. 2021), for a quarter more time.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.inner = block(width, 2 * width)
        self.outer = block(3 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features (N, width, H, W) for (N, inputs, H, W), H and W even."""
        x = self.enter(x)
        inner = self.inner(F.max_pool2d(x, 2))
        return self.outer(torch.cat([F.interpolate(inner, scale_factor=2.0, mode="nearest"), x], 1))


class Generator(nn.Module):
    """A U-Net (Ronneberger et al. 2015) from an image to its anomaly map and its normal reconstruction.

    Its first level works on squares of pixels folded into channels (Shi et al. 2016), and its last unfolds them, see `FOLD`. On the
    way up, levels are added, not joined (Chaurasia and Culurciello 2017), at the widths of the upper ones: a quarter less time.

    Parameters
    ----------
    levels : int
        Number of levels, see `levels_for`; each but the first halves the side of what it is given.
    width : int
        Half the channels of the first level; the levels have 2, 4, 6, 8, 8, ... times as many.
    coord : bool
        Whether coordinate channels are joined to what the deepest `COORD_LEVELS` levels see.
    comparison : bool
        Whether the map is made of what `Comparison` sees, instead of the U-Net's last features alone.
    """

    def __init__(self, levels: int, width: int = 16, coord: bool = True, comparison: bool = True) -> None:
        super().__init__()
        self.comparison = comparison
        pixels = FOLD * FOLD
        widths = [width * min(2 * level, 8) for level in range(1, levels + 1)]
        self.coord_from = max(0, levels - COORD_LEVELS) if coord else levels
        inputs = [i + 2 * (level >= self.coord_from) for level, i in enumerate([3 * pixels, *widths[:-1]])]
        self.down = nn.ModuleList(block(i, o) for i, o in zip(inputs, widths, strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(i, o, 1, bias=False) for i, o in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(block(o, o) for o in widths[-2::-1])
        self.reconstruct = nn.Conv2d(widths[0], 3 * pixels, 1)
        if comparison:
            self.compare = Comparison(widths[0] + 2 * 3 * pixels, widths[0])
        self.segment = nn.Conv2d(widths[0], pixels, 1)
        assert self.segment.bias is not None
        nn.init.constant_(self.segment.bias, -3.0)  # anomalies are rare: start from a map near 0.05

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return map logits (N, 1, H, W) and the reconstruction (N, 3, H, W) for images (N, 3, H, W) in [-1, 1]."""
        x = folded = F.pixel_unshuffle(images, FOLD).contiguous(memory_format=torch.channels_last)
        skips = []
        for level, down in enumerate(self.down):
            x = F.max_pool2d(x, 2) if level else x
            x = down(torch.cat([x, coordinate_channels(x)], 1) if level >= self.coord_from else x)
            skips.append(x)
        for narrow, up, skip in zip(self.narrow, self.up, skips[-2::-1], strict=True):
            x = up(F.interpolate(narrow(x), scale_factor=2.0, mode="nearest") + skip)
        reconstruction = torch.tanh(self.reconstruct(x))
        if self.comparison:
            difference = folded - reconstruction
            x = self.compare(torch.cat([x, difference, difference.abs()], 1))
        return F.pixel_shuffle(self.segment(x), FOLD), F.pixel_shuffle(reconstruction, FOLD)


class Discriminator(nn.Module):
    """A patch discriminator (Isola et al. 2017) of (image, map) pairs, narrow because it only regularises (ours)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, 2 * width, FOLD, FOLD),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(4 * width, 1, 3, padding=1),
        )

    def forward(self, images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        """Return one logit per patch, (N, 1, H / 8, W / 8), for images (N, 3, H, W) and maps (N, 1, H, W)."""
        return self.layers(torch.cat([images, maps], 1))
