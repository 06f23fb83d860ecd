"""A U-Net whose first level works on squares of pixels, and whose deepest levels may see coordinates."""

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


#: Side of the squares of pixels that the first level sees as one, folded into channels: no detail is lost, and an
#: image of 256 px costs a quarter of what it costs with squares of 2 px (docs/anoseg.md).
FOLD = 4
#: The deepest levels, which see coordinates: from 16 px a side where the image's is a power of two. Joined to
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
    """Return how many levels bring an image of a side down to 2 px, or to an odd side (ours).

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


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) from images to features of their squares of pixels.

    Its first level works on squares of pixels folded into channels (Shi et al. 2016), see `FOLD`; who uses its features unfolds
    them. On the way up, levels are added, not joined (Chaurasia and Culurciello 2017), at the widths of the upper ones: a
    quarter less time.

    Parameters
    ----------
    levels : int
        Number of levels, see `levels_for`; each but the first halves the side of what it is given.
    width : int
        Half the channels of the first level; the levels have 2, 4, 6, 8, 8, ... times as many.
    coord : bool
        Whether coordinate channels are joined to what the deepest `COORD_LEVELS` levels see.
    """

    def __init__(self, levels: int, width: int, coord: bool) -> None:
        super().__init__()
        widths = [width * min(2 * level, 8) for level in range(1, levels + 1)]
        self.channels = widths[0]
        self.coord_from = max(0, levels - COORD_LEVELS) if coord else levels
        inputs = [i + 2 * (level >= self.coord_from) for level, i in enumerate([3 * FOLD * FOLD, *widths[:-1]])]
        self.down = nn.ModuleList(block(i, o) for i, o in zip(inputs, widths, strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(i, o, 1, bias=False) for i, o in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(block(o, o) for o in widths[-2::-1])

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (N, 3, H, W) in [-1, 1] folded, (N, 3 F F, H / F, W / F), their features (N, `channels`, H / F, W / F).

        F is `FOLD`.
        """
        x = folded = F.pixel_unshuffle(images, FOLD).contiguous(memory_format=torch.channels_last)
        skips = []
        for level, down in enumerate(self.down):
            x = F.max_pool2d(x, 2) if level else x
            x = down(torch.cat([x, coordinate_channels(x)], 1) if level >= self.coord_from else x)
            skips.append(x)
        for narrow, up, skip in zip(self.narrow, self.up, skips[-2::-1], strict=True):
            x = up(F.interpolate(narrow(x), scale_factor=2.0, mode="nearest") + skip)
        return folded, x


class Segmentation(nn.Conv2d):
    """From features of squares of pixels to logits of their pixels, which start from maps near 0.05: anomalies are rare."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, FOLD * FOLD, 1)
        assert self.bias is not None
        nn.init.constant_(self.bias, -3.0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 1, H, W) of features (N, C, H / F, W / F)."""
        return F.pixel_shuffle(super().forward(features), FOLD)
