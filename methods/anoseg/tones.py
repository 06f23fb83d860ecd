"""What values the networks see: contrast stretched, and light brought into the range of the normal images (ours)."""

from __future__ import annotations

import torch
from torch import nn

from anoseg_bench.methods.anoseg import AnomalyConfig

#: Largest gain of `contrast_table`, and the values that the darkest and brightest of the normal images then take.
GAIN, DARKEST, BRIGHTEST = 8.0, 20, 235
#: Shares of an image's pixels below the levels that tell its light.
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: Share of the normal images on either side whose light is beyond the range that images are brought into.
TAIL = 0.01
#: The most that an image is brightened or darkened, as a log ratio: what is darker than that is no other exposure.
MOST = 0.4


def contrast_table(images: torch.Tensor) -> torch.Tensor:
    """Return what each value 0..255 becomes so that images which use a part of the range only, like dark ones, use most.

    Parameters
    ----------
    images : torch.Tensor
        uint8, normal; all but 0.1 % of their values at either end span the range.

    Returns
    -------
    torch.Tensor
        uint8 (256,); the identity where the range is used already.
    """
    values = torch.arange(256, dtype=torch.float64)
    share = torch.bincount(images.flatten(), minlength=256).cumsum(0) / images.numel()
    low, high = (int((share < limit).sum()) for limit in (0.001, 0.999))
    gain = min(GAIN, (BRIGHTEST - DARKEST) / max(1, high - low))
    return ((values - low) * gain + DARKEST if gain > 1.2 else values).round().clamp(0, 255).byte()


class Tones(nn.Module):
    """Brings images to the contrast and into the light of the normal ones.

    The light of an image is how much brighter it is than the normal images usually are: the median over the deciles of its grey
    values of their log ratio to the usual ones. Another exposure moves all deciles alike, a defect of a few percent of the image
    hardly any. An image whose light is beyond that of all but 1 % of the normal images is darkened or brightened as far as that;
    any other stays as it is.

    Parameters
    ----------
    config : AnomalyConfig
        ``contrast`` and ``same_light`` switch the two on, ``image_size`` is the images' side.
    """

    table: torch.Tensor
    usual: torch.Tensor
    bounds: torch.Tensor

    def __init__(self, config: AnomalyConfig) -> None:
        super().__init__()
        self.contrast, self.same_light = config.contrast, config.same_light
        last = ((config.image_size + 1) // 2) ** 2 - 1
        self.places = [round(share * last) for share in SHARES]
        self.register_buffer("table", torch.arange(256, dtype=torch.uint8))
        self.register_buffer("usual", torch.zeros(len(SHARES)))
        self.register_buffer("bounds", torch.zeros(2))

    @torch.no_grad()
    def learn(self, images: torch.Tensor) -> torch.Tensor:
        """Take contrast and light from normal images, uint8 (N, 3, S, S), and return them as the networks see them, uint8."""
        if self.contrast:
            self.table.copy_(contrast_table(images))
        levels = torch.cat([self._levels(some) for some in images.split(64)])
        self.usual.copy_(levels.mean(0))
        self.bounds.copy_(self._light(levels.to(self.usual.device)).quantile(torch.tensor([TAIL, 1 - TAIL]).to(self.usual)))
        return self.table.cpu()[images.int()]

    def _levels(self, images: torch.Tensor) -> torch.Tensor:
        """Return logs of the deciles of the grey values of images, from every other row and column, (N, 9)."""
        grey = images[:, :, ::2, ::2].float().sum(1).flatten(1)
        return (grey.sort(1).values[:, self.places] + 3).log()

    def _light(self, levels: torch.Tensor) -> torch.Tensor:
        """Return the median log ratio of deciles to the usual ones, (N,)."""
        return (levels - self.usual).sort(1).values[:, len(SHARES) // 2]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (N, 3, S, S), 0..255, as the networks see them, float32 in 0..255."""
        values = images.float()
        if self.same_light:
            light = self._light(self._levels(images))
            change = (torch.minimum(torch.maximum(light, self.bounds[0]), self.bounds[1]) - light).clamp(-MOST, MOST)
            gain = torch.where(change == 0, torch.ones_like(change), change.exp()).view(-1, 1, 1, 1)
            values = ((values + 1) * gain - 1).clamp(0, 255)
        below = values.floor()  # no value is rounded: runtimes differ by less than one that way
        low, high = (self.table[place.long()].float() for place in (below, (below + 1).clamp(max=255)))
        return low + (values - below) * (high - low)
