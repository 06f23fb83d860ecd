"""The image-level detector of AnoSeg: a classifier of the image joined with its estimated map.

Known from the paper: the estimated map improves an image-level detector that sees it together with the image.
Ours: the network, its loss, and that it takes no part in the image score unless `detector_in_score` asks for it: it made the
score worse on drawn defects (docs/anoseg.md).
"""

from __future__ import annotations

import torch
from torch import nn


class Detector(nn.Module):
    """A small convolutional classifier of (image, map), normal against anomalous.

    Parameters
    ----------
    see_map : bool
        Whether it sees the map; without, it is the plain image-level detector that the paper's fourth question compares.
    """

    def __init__(self, see_map: bool = True, width: int = 16) -> None:
        super().__init__()
        self.see_map = see_map
        layers: list[nn.Module] = []
        for i, o in [(4, width), (width, 2 * width), (2 * width, 4 * width), (4 * width, 4 * width)]:
            layers += [nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(8 * width + 2, 1)

    def forward(self, images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        """Return logits (N,) for images (N, 3, H, W) in [-1, 1] and maps (N, 1, H, W) in 0..1."""
        maps = maps if self.see_map else torch.zeros_like(maps)
        x = self.features(torch.cat([images, maps], 1))
        flat = maps.flatten(1)
        top = flat.topk(max(1, flat.shape[1] // 500), 1).values
        return self.head(torch.cat([x.mean((2, 3)), x.amax((2, 3)), top[:, :1], top.mean(1, keepdim=True)], 1)).squeeze(1)
