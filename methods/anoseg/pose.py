"""Where a part lies before a plain background: images cut to it, turned its way, and maps brought back (ours).

An image of a part that lies in any direction is background for the most part, and shows each of its places in any direction. Turned
the same way and cut to the part, normal images are alike place by place, and the part has several times as many pixels for the same
work. One that always lies the same way is cut out where that saves enough of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from anoseg_bench.methods._normals import Normals
from anoseg_bench.methods.anoseg.recipe import WHOLE, Cut

#: Normal images that tell whether and how they are to be cut, and what is background.
LOOKED_AT = 64
#: What is added on each side of the part, as a share of its length; how many times as long as wide a cut may be.
MARGIN, SLENDER = 0.06, 4.0
#: Share of the part beyond the cut on either side, and share of the training images whose part is.
BEYOND, UNCOVERED = 0.0025, 0.02
#: Lengths of the part in the training images that differ by more, from the 5th to the 95th percentile, are not of one part.
VARIED = 1.5
#: Share of an image that the cut to a part that always lies the same way has at most: above that it is not worth it.
WORTH = 2 / 3
#: What stands out beside the cut stands out by so many times what this share of the normal images has there.
BESIDE, NORMAL = 1.25, 0.95
#: A part is missing where an image shows less foreground than this share of the least that normal images show.
MISSING = 0.5
#: Least distance from the background, of 255, of what stands out.
LEAST = 8.0
#: Times that a part is looked for, each but the first within the cut found before: what lies beside it does not count then.
LOOKS = 3


class Placed(NamedTuple):
    """Where parts lie.

    Attributes
    ----------
    centre, axis : torch.Tensor
        float32 (N, 2), x and y of the part's centre, from -1 to 1 across the image, and of a unit vector along it.
    distance : torch.Tensor
        float32 (N, S, S), how far the image lies from its background, 0..255.
    """

    centre: torch.Tensor
    axis: torch.Tensor
    distance: torch.Tensor


class Pose(nn.Module):
    """Cuts images to the part that they show, if the normal ones show one before a plain background.

    The background is the image's median border, plus how the normal images' backgrounds differ from theirs. Where normal parts lie
    in any direction, what stands out of it, more the further, has a centre and a main axis, and the cut is turned their way; of the
    two directions that is taken in which the image is more like the normal ones. Where they lie in one, the cut is the same for all
    images. Where there is no such part, images are made smaller, no more.

    Parameters
    ----------
    side, given : int
        S and G, px of the images that the networks see and of those given, a multiple; if they are the same, nothing is cut.
    """

    ground: torch.Tensor
    limits: torch.Tensor
    present: torch.Tensor
    middle: torch.Tensor
    reach: torch.Tensor
    odd: torch.Tensor

    def __init__(self, side: int, given: int) -> None:
        super().__init__()
        self.side, self.zoom = side, given // side
        self.used = self.turned = False
        self.register_buffer("ground", torch.zeros(3, side, side))
        self.register_buffer("limits", torch.ones(2))  # of a foreground, and of what stands out beside the cut
        self.register_buffer("present", torch.zeros(()))  # least share of an image that is foreground where the part is there
        self.register_buffer("middle", torch.zeros(2))  # of the cut where it is not turned, x and y from -1 to 1
        self.register_buffer("reach", torch.ones(2))  # half the sides of the cut, along (or x) and across (or y)
        self.register_buffer("odd", torch.zeros(3, side, side))  # what of the part changes sign when a cut is turned by half

    def get_extra_state(self) -> torch.Tensor:
        """Return whether images are cut and turned, to be stored with the rest."""
        return torch.tensor([self.used, self.turned])

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Take over what `get_extra_state` returned."""
        self.used, self.turned = state.tolist()

    @property
    def cut(self) -> Cut:
        """What images are cut to."""
        return Cut(float(self.reach[0]), float(self.reach[1]), self.turned) if self.used else WHOLE

    @torch.no_grad()
    def learn(self, images: torch.Tensor) -> torch.Tensor:
        """Find out whether and how normal images are cut; return them as the networks see them.

        Parameters
        ----------
        images : torch.Tensor
            uint8 (N, 3, G, G).

        Returns
        -------
        torch.Tensor
            uint8 (N, 3, S, S), on the CPU.
        """
        self.used = self.zoom > 1 and self._find(images)
        self.turned &= self.used
        return torch.cat([self(some)[0].round().byte().cpu() for some in self._batches(images)])

    def _batches(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        return (some.to(self.ground.device) for some in images.split(LOOKED_AT))

    def _find(self, images: torch.Tensor) -> bool:
        """Find background, reach and direction of the part; return whether images are to be cut to it."""
        some = images[np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).astype(int)]
        small = self._smaller(some).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        normals = Normals.of(small)
        if not normals.fingerprint.plain:
            return False
        self.turned = normals.fingerprint.turns
        ground = np.mean([layer.background - layer.colour for layer in normals.layers], 0, np.float32)
        self.ground.copy_(torch.from_numpy(ground).permute(2, 0, 1))
        foreground = torch.from_numpy(np.stack([layer.foreground for layer in normals.layers])).to(self.ground.device)
        distance = self._distance(self._smaller(some.to(self.ground.device)))
        near = F.max_pool2d(foreground[:, None].float(), 7, 1, 3)[:, 0] > 0
        if bool(near.all()):
            return False
        noise, contrast = np.quantile(distance[~near].cpu(), 0.999), np.quantile(distance[foreground].cpu(), 0.5)
        self.limits.fill_(float(max(LEAST, min(1.2 * noise, 0.5 * contrast))))
        if not self._measure(some.to(self.ground.device)):
            return False
        if self.turned:
            self._agree(some.to(self.ground.device))
        outside, seen = [], []
        for placed in map(self._place, self._batches(images)):
            outside.append(torch.where(self._within(placed, self.side), 0.0, placed.distance).amax((1, 2)).cpu())
            seen.append(self._foreground(placed).cpu())
        # the most and the least that normal images show, but for a few odd ones
        beside = float(np.quantile(torch.cat(outside), NORMAL, method="lower"))
        self.limits[1] = max(float(self.limits[0]), BESIDE * beside)
        self.present.fill_(MISSING * float(np.quantile(torch.cat(seen), 1 - NORMAL, method="higher")))
        return True

    def _measure(self, images: torch.Tensor) -> bool:
        """Find how far the part reaches; return whether the cut is worth it, and, turned, the part as long in all images."""
        self.middle.zero_()
        placed = self._place(images, looks=1)
        cover = self._cover(placed.distance).flatten(1)
        ends = []
        for offsets in self._offsets(placed, self.side):
            offset, order = offsets.flatten(1).sort(1)
            share = cover.gather(1, order).cumsum(1)
            beyond = ((share < limit * share[:, -1:]).sum(1, keepdim=True) for limit in (BEYOND, 1 - BEYOND))
            ends.append(torch.cat([offset.gather(1, place.clamp(max=share.shape[1] - 1)) for place in beyond], 1))
        low, high = torch.stack(ends).unbind(2)  # of each axis and image
        length = (high - low)[0]
        if self.turned:  # about the centre, so that it may be turned by half
            high = torch.maximum(-low, high)
            low = -high
        low, high = low.quantile(UNCOVERED, 1), high.quantile(1 - UNCOVERED, 1)
        margin = MARGIN * (high - low).max()
        low, high = low - margin, high + margin
        if not self.turned:
            low, high = low.clamp(min=-1), high.clamp(max=1)
        reach = (high - low) / 2
        self.middle.copy_((low + high) / 2)
        self.reach.copy_(torch.maximum(reach, reach.max() / SLENDER))
        shortest, longest = length.quantile(torch.tensor([0.05, 0.95], device=length.device))
        if self.turned:
            return bool(longest < VARIED * shortest and self.reach.prod() < 1)
        return bool(self.reach.prod() < WORTH)

    def _agree(self, images: torch.Tensor) -> None:
        """Find in which of its two directions a part lies.

        What changes when a cut is turned by half has one sign in either direction: its main component over the images tells.
        """
        cuts = self._before_ground(images, self._place(images))
        odd = cuts - cuts.flip(2, 3)
        main = torch.linalg.eigh(odd.flatten(1) @ odd.flatten(1).T).eigenvectors[:, -1]
        self.odd.copy_((odd * torch.where(main < 0, -1.0, 1.0)[:, None, None, None]).mean(0))

    def _smaller(self, images: torch.Tensor) -> torch.Tensor:
        """Return images at the size that the networks see, float32."""
        return F.avg_pool2d(images.float(), self.zoom) if self.zoom > 1 else images.float()

    def _distance(self, images: torch.Tensor) -> torch.Tensor:
        """Return how far images (N, 3, S, S) lie from their background, 0..255, (N, S, S)."""
        width = max(2, self.side // 32)
        edges = images[:, :, :width], images[:, :, -width:], images[..., :width], images[..., -width:]
        border = torch.cat([edge.flatten(2) for edge in edges], 2).sort(2).values
        colour = border[:, :, border.shape[2] // 2, None, None]
        smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return (smooth - colour - self.ground).abs().amax(1)

    def _cover(self, distance: torch.Tensor) -> torch.Tensor:
        """Return how much of a pixel is foreground, 0..1."""
        return ((distance - self.limits[0]) / self.limits[0]).clamp(0, 1)

    def _foreground(self, placed: Placed) -> torch.Tensor:
        """Return how much of images is foreground, 0..1, (N,)."""
        return self._cover(placed.distance).mean((1, 2))

    def _places(self, side: int) -> torch.Tensor:
        """Return the places of the pixels of a side, from -1 to 1."""
        return (torch.arange(side, device=self.ground.device) * 2 + 1) / side - 1

    def _place(self, images: torch.Tensor, looks: int = LOOKS) -> Placed:
        """Return where the parts of images (N, 3, G, G) lie; turned ones by moments, in one of their two directions."""
        distance = self._distance(self._smaller(images))
        if not self.turned:
            upright = torch.zeros_like(distance[:, 0, :2])
            return Placed(upright + self.middle, upright + torch.tensor([1.0, 0.0], device=distance.device), distance)
        cover = self._cover(distance)
        placed = self._by_moments(cover, distance)
        for _ in range(looks - 1):
            placed = self._by_moments(cover * self._within(placed, self.side), distance)
        return placed

    def _by_moments(self, cover: torch.Tensor, distance: torch.Tensor) -> Placed:
        places = self._places(self.side)
        columns, rows = cover.sum(1), cover.sum(2)
        mass = columns.sum(1) + 1e-6
        x, y = (columns * places).sum(1) / mass, (rows * places).sum(1) / mass
        dx, dy = places - x[:, None], places - y[:, None]
        xx, yy = (columns * dx * dx).sum(1), (rows * dy * dy).sum(1)
        xy = ((cover * dx[:, None]).sum(2) * dy).sum(1)
        twice = (xx - yy) / (torch.sqrt((xx - yy) ** 2 + 4 * xy**2) + 1e-9)  # the cosine of the doubled angle
        sine = torch.sqrt(((1 - twice) / 2).clamp(min=0)) * torch.where(xy < 0, -1.0, 1.0)
        axis = torch.stack([torch.sqrt(((1 + twice) / 2).clamp(min=0)), sine], 1)
        return Placed(torch.stack([x, y], 1), axis, distance)

    def _offsets(self, placed: Placed, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return how far the pixels of an image (N, side, side) lie from the part's centre, along and across."""
        places = self._places(side)
        dx, dy = places - placed.centre[:, :1], places - placed.centre[:, 1:]
        cosine, sine = placed.axis[:, :1], placed.axis[:, 1:]
        along = (dx * cosine)[:, None] + (dy * sine)[:, :, None]
        return along, (dy * cosine)[:, :, None] - (dx * sine)[:, None]

    def _within(self, placed: Placed, side: int) -> torch.Tensor:
        """Return which pixels of an image are in the cut, bool (N, side, side)."""
        along, across = self._offsets(placed, side)
        return (along.abs() <= self.reach[0]) & (across.abs() <= self.reach[1])

    def _cut(self, images: torch.Tensor, placed: Placed, zoom: int) -> torch.Tensor:
        """Return images, float32 (N, 3, zoom * S, zoom * S), cut to their parts and turned their way, float32 (N, 3, S, S)."""
        places = self._places(zoom * self.side)
        along, across = places * self.reach[0], (places * self.reach[1])[:, None]
        (x, y), (cosine, sine) = (pair[:, :, None, None].unbind(1) for pair in (placed.centre, placed.axis))
        grid = torch.stack([x + along * cosine - across * sine, y + along * sine + across * cosine], -1)
        return F.avg_pool2d(F.grid_sample(images, grid, "bilinear", "border", align_corners=False), zoom)

    def _before_ground(self, images: torch.Tensor, placed: Placed) -> torch.Tensor:
        """Return cuts of how images differ from the ground, whose shading does not turn with the part, float32 (N, 3, S, S)."""
        return self._cut(self._smaller(images) - self.ground, placed, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, Placed | None]:
        """Return images, uint8 (N, 3, G, G), as the networks see them, float32 (N, 3, S, S), 0..255, and where their parts lay."""
        if not self.used:
            return self._smaller(images), None
        placed = self._place(images)
        cuts = self._cut(images.float(), placed, self.zoom)
        if not self.turned:
            return cuts, placed
        other = (self._before_ground(images, placed) * self.odd).sum((1, 2, 3))[:, None] < 0
        placed = placed._replace(axis=torch.where(other, -placed.axis, placed.axis))
        return torch.where(other[..., None, None], cuts.flip(2, 3), cuts), placed

    def beside(self, placed: Placed | None) -> torch.Tensor | None:
        """Return what stands out beside the cut, where normal images have nothing, float32 (N, 1, S, S) in 0..1.

        All does where the part is missing.
        """
        if placed is None:
            return None
        out = ((placed.distance - self.limits[1]) / self.limits[1]).clamp(0, 1)
        out = torch.where((self._foreground(placed) < self.present)[:, None, None], 1.0, out)
        return torch.where(self._within(placed, self.side), 0.0, out)[:, None]

    def back(self, maps: torch.Tensor, placed: Placed | None) -> torch.Tensor:
        """Return maps of what the networks see, (N, 1, S, S), as maps of the images, (N, 1, G, G); beside the cut what stands out.

        Where nothing was cut they stay as they are.
        """
        beside = self.beside(placed)
        if placed is None or beside is None:
            return maps
        side = self.zoom * self.side
        along, across = self._offsets(placed, side)
        grid = torch.stack([along / self.reach[0], across / self.reach[1]], -1)
        back = F.grid_sample(maps, grid, "bilinear", "border", align_corners=False)
        beside = F.interpolate(beside, size=(side, side), mode="bilinear")
        return torch.where(self._within(placed, side)[:, None], back, beside)
