"""A memory of the patches of normal images: which are kept, and how far others lie from the nearest of them, exactly."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

#: Queries at once, and patches of the bank in a tile: bounds on their distances then stay in a processor's cache.
QUERIES, TILE = 128, 32
#: Patches of the bank at once in an exported graph: a bound on its memory.
BLOCK = 2048
#: Share of the variance along the axes that bounds on distances are made of: of the pool, of the bank.
OF_POOL, OF_BANK = 0.88, 0.975
#: Patches whose distance to a new centre is computed at once.
POINTS = 65_536
#: Share of the points that the triangle inequality leaves below which only those are looked at.
FEW = 0.2
#: Share of the squared lengths by which a bound on squared distances is widened, for rounding.
SLACK = 1e-5


class Shortened:
    """Points on the few axes along which they differ most, for bounds on their distances.

    In the principal axes of some points, of which the first k are kept and the length of the rest r, two points a and b have

        |a - b|^2 >= |a_k - b_k|^2 + (a_r - b_r)^2,

    a bound that one product of matrices of k + 1 columns gives for many.

    Parameters
    ----------
    points : torch.Tensor
        float32, (N, D).
    share : float
        How much of their variance lies along the kept axes: the more, the closer the bound, and the dearer.
    """

    def __init__(self, points: torch.Tensor, share: float) -> None:
        self.mean = points.mean(0)
        scatter = points.new_zeros(points.shape[1], points.shape[1])
        for some in points.split(POINTS):
            scatter += (some - self.mean).T @ (some - self.mean)
        variances, axes = torch.linalg.eigh(scatter)
        self.axes = axes.flip(1).contiguous()
        explained = variances.flip(0).clamp(min=0).cumsum(0)
        self.kept = int((explained < share * explained[-1]).sum()) + 1

    def rotate(self, points: torch.Tensor) -> torch.Tensor:
        """Return points (N, D) in all principal axes, (N, D)."""
        return (points - self.mean) @ self.axes

    def shorten(self, rotated: torch.Tensor) -> torch.Tensor:
        """Return the first k coordinates of rotated points, and the length of the others, (N, k + 1)."""
        return torch.cat([rotated[:, : self.kept], torch.linalg.vector_norm(rotated[:, self.kept :], dim=1, keepdim=True)], 1)


def k_centre_greedy(points: torch.Tensor, number: int, progress: Callable[[int], None] = lambda done: None) -> torch.Tensor:
    """Choose points so that the largest distance of any point to its nearest chosen one is small (Gonzalez 1985).

    Each next one is the point furthest from those chosen; the first is drawn by torch's generator. The result is that of the
    plain algorithm, which computes all N distances to each new centre. Here a point p with centre c is passed over where the new
    centre n has d(n, c) >= 2 d(p, c), as then d(p, n) >= d(p, c) by the triangle inequality; later on, that is nearly all of them.
    Of the others only those are compared in full whose bound on d(p, n) is below d(p, c). Both rest on `Shortened` points.

    Parameters
    ----------
    points : torch.Tensor
        float32, (N, D).
    number : int
        How many are chosen, 1..N.
    progress : callable
        Called with how many are chosen, now and then.

    Returns
    -------
    torch.Tensor
        int64, (number,), which points, in the order of choice.
    """
    device, n = points.device, len(points)
    axes = Shortened(points, OF_POOL)
    short = torch.cat([axes.shorten(axes.rotate(some)) for some in points.split(POINTS)])
    norms = (1 - SLACK) * short.square().sum(1)
    nearest = torch.full((n,), math.inf, device=device)  # squared distance to the nearest centre
    owner = torch.zeros(n, dtype=torch.int32, device=device)  # and which that is
    centres = short.new_empty(number, short.shape[1])
    chosen = torch.empty(number, dtype=torch.int64)
    index = int(torch.randint(n, ()))
    for k in range(number):
        chosen[k], centres[k], near = index, short[index], nearest - norms[index]
        apart = torch.addmv(norms[chosen[:k].to(device)] + norms[index], centres[:k], centres[k], alpha=-2)  # of centres
        asked = (4 * nearest > apart.index_select(0, owner)).nonzero().squeeze(1) if k else owner
        if len(asked) > FEW * n:  # then those between are looked at, too, as they lie in a row
            closer = (torch.addmv(norms, short, centres[k], alpha=-2) < near).nonzero().squeeze(1)
        else:
            bounds = torch.addmv(norms[asked], short.index_select(0, asked), centres[k], alpha=-2)
            closer = asked[bounds < near[asked]]
        for some in closer.split(POINTS):
            distance = (points.index_select(0, some) - points[index]).square_().sum(1)
            less = distance < nearest[some]
            nearest[some[less]], owner[some[less]] = distance[less], k
        index = int(nearest.argmax())
        if (k + 1) % 100 == 0 or k + 1 == number:
            progress(k + 1)
    return chosen


class Neighbours:
    """Finds the nearest neighbour in a bank, exactly.

    Bounds on the distances to all patches (`Shortened`) come first. The patch with the least bound has some distance; only patches
    whose bound is below it, a few dozen, are compared in full. Bounds are first looked at by tiles of patches.

    Parameters
    ----------
    bank : torch.Tensor
        float32, (B, D).
    """

    def __init__(self, bank: torch.Tensor) -> None:
        self.axes = Shortened(bank, OF_BANK)
        rotated = self.axes.rotate(bank)
        self.order = rotated[:, 0].argsort()  # the patches of a tile are alike
        self.rotated = rotated[self.order].contiguous()
        spare = -len(bank) % TILE
        self.short = F.pad(self.axes.shorten(self.rotated), (0, 0, 0, spare))
        self.half_norms = F.pad(self.short[: len(bank)].square().sum(1) / 2, (0, spare), value=math.inf)[:, None]

    def find(self, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return Euclidean distances, float32 (Q,), and indices in the bank, int64 (Q,), of the nearest neighbours of (Q, D)."""
        found = [self._find(some) for some in queries.split(QUERIES)]
        distances, places = (torch.cat(part) for part in zip(*found, strict=True))
        return distances, self.order[places]

    def _find(self, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n, device = len(queries), queries.device
        rotated = self.axes.rotate(queries)
        short = self.axes.shorten(rotated)
        # half of each bound, less half of the query's square; tiles first, queries last
        bounds = torch.addmm(self.half_norms, self.short, short.T, alpha=-1).view(-1, TILE, n)
        lowest = bounds.amin(1)
        tile, every = lowest.argmin(0), torch.arange(n, device=device)
        place = tile * TILE + bounds[tile, :, every].argmin(1)
        best = (rotated - self.rotated[place]).square().sum(1)
        norms = short.square().sum(1)
        limit = (best - norms) / 2 + SLACK * (best + norms)
        tiles, asked = (lowest <= limit).nonzero(as_tuple=True)
        rows, inside = (bounds[tiles, :, asked] <= limit[asked][:, None]).nonzero(as_tuple=True)
        asked, candidates = asked[rows], tiles[rows] * TILE + inside
        for query, patch in zip(asked.split(POINTS), candidates.split(POINTS), strict=True):
            distance = (rotated[query] - self.rotated[patch]).square_().sum(1)
            best.scatter_reduce_(0, query, distance, "amin")
            nearest = distance == best[query]
            place[query[nearest]] = patch[nearest]
        return best.sqrt(), place


def find_plainly(queries: torch.Tensor, bank: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what `Neighbours.find` does, by one product of matrices with each `BLOCK` patches of a bank whose mean is near zero."""
    nearness, place = torch.full_like(queries[:, 0], -math.inf), torch.zeros_like(queries[:, 0], dtype=torch.int64)
    for first, some in zip(range(0, len(bank), BLOCK), bank.split(BLOCK), strict=True):
        here, index = torch.addmm(-some.square().sum(1) / 2, queries, some.T).max(1)
        closer = here > nearness
        nearness, place = torch.where(closer, here, nearness), torch.where(closer, index + first, place)
    return torch.linalg.vector_norm(queries - bank.index_select(0, place), dim=1), place
