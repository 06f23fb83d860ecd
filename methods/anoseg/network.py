"""Networks of AnoSeg: the generator of map and reconstruction, the discriminator of (image, map) pairs.

Known from the paper: one network gives the map and the reconstruction; coordinate channels join what it sees; a
discriminator judges pairs of image and map. Layers, widths, and at which layers coordinates join, are ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from anoseg_bench.methods._unet import FOLD, Segmentation, UNet, block


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


class Generator(UNet):
    """A U-Net from an image to its anomaly map and its normal reconstruction.

    Parameters
    ----------
    levels, width, coord
        See `UNet`.
    comparison : bool
        Whether the map is made of what `Comparison` sees, instead of the U-Net's last features alone.
    """

    def __init__(self, levels: int, width: int = 16, coord: bool = True, comparison: bool = True) -> None:
        super().__init__(levels, width, coord)
        self.comparison = comparison
        pixels = FOLD * FOLD
        self.reconstruct = nn.Conv2d(self.channels, 3 * pixels, 1)
        if comparison:
            self.compare = Comparison(self.channels + 2 * 3 * pixels, self.channels)
        self.segment = Segmentation(self.channels)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return map logits (N, 1, H, W) and the reconstruction (N, 3, H, W) for images (N, 3, H, W) in [-1, 1]."""
        folded, x = self.features(images)
        reconstruction = torch.tanh(self.reconstruct(x))
        if self.comparison:
            difference = folded - reconstruction
            x = self.compare(torch.cat([x, difference, difference.abs()], 1))
        return self.segment(x), F.pixel_shuffle(reconstruction, FOLD)


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
