"""PatchCore (Roth et al. 2022, "Towards Total Recall in Industrial Anomaly Detection") from top to bottom."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from anoseg_bench.methods import base
from anoseg_bench.methods._features import DistanceMethod, prefixed, unprefixed
from anoseg_bench.methods._memory import Neighbours, find_plainly, k_centre_greedy
from anoseg_bench.methods.patchcore import PatchCoreConfig


class PatchCore(DistanceMethod):
    """PatchCore (Roth et al. 2022): a patch is as anomalous as it is far from the nearest patch of the normal images."""

    Config = PatchCoreConfig
    enlarge = "nearest"

    @torch.no_grad()
    def _patches(self, images: torch.Tensor) -> torch.Tensor:
        """Return the patches of images, (N, h, w, D): means over 3x3 neighbourhoods, coarser feature maps resized (section 3.1)."""
        maps = [F.avg_pool2d(x, 3, 1, 1) for x in self.features(images.to(self.device))]
        size = maps[0].shape[-2:]
        maps = [maps[0], *(F.interpolate(x, size=size, mode="bilinear") for x in maps[1:])]
        return torch.cat(maps, 1).permute(0, 2, 3, 1)

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        config = self.config
        self._build(weights=True)
        pool = self._pool(images)
        number = max(1, round(config.coreset * len(pool)))
        chosen = k_centre_greedy(pool, number, lambda done: progress(done, number, None))
        self._remember(pool[chosen.to(pool.device)])

    def _remember(self, bank: torch.Tensor) -> None:
        self.bank = bank
        self.neighbours = Neighbours(bank)

    def _pool(self, images: torch.Tensor) -> torch.Tensor:
        """Return the patches of all images, (P, D), or of each image as many of them, drawn at random, as `largest_pool` allows."""
        pool = torch.empty(0)
        kept, done = 0, 0
        for batch in images.split(self.config.batch_size):
            patches = self._patches(batch).flatten(1, 2)
            if not done:
                kept = min(patches.shape[1], max(1, self.config.largest_pool // len(images)))
                pool = torch.empty(len(images) * kept, patches.shape[2], device=patches.device)
            for patch in patches:
                some = patch[torch.randperm(len(patch))[:kept].to(patch.device)] if kept < len(patch) else patch
                pool[done : done + kept] = some
                done += kept
        return pool

    def _predict(self, images: torch.Tensor) -> base.Prediction:
        return self._judge(images, self.neighbours.find)

    def _graph(self, images: torch.Tensor) -> base.Prediction:
        return self._judge(images, self._find_plainly)

    @torch.no_grad()
    def _judge(self, images: torch.Tensor, find: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> base.Prediction:
        patches = self._patches(images)
        n, height, width, _ = patches.shape
        distances, indices = find(patches.flatten(0, 2))
        maps = self.smoothing(distances.view(n, height, width))
        return base.Prediction(maps, self._scores(patches.flatten(1, 2), distances.view(n, -1), indices.view(n, -1)))

    def _find_plainly(self, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.neighbours.axes.mean  # what is near zero loses no digits
        return find_plainly(queries - mean, self.bank - mean)

    def _scores(self, patches: torch.Tensor, distances: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Return the largest distance of each image, less where that patch's neighbour lies apart in the bank (equation 7).

        Parameters
        ----------
        patches, distances, indices : torch.Tensor
            (N, P, D), (N, P) and (N, P).
        """
        largest, where = distances.max(1)
        neighbours = min(self.config.neighbours, len(self.bank))
        if neighbours == 1:
            return largest
        every = torch.arange(patches.shape[0], device=patches.device)  # `len` would fix it in an exported graph
        centres = self.bank[indices[every, where]]
        around = torch.cdist(centres, self.bank).topk(neighbours, largest=False).indices  # the first is the centre itself
        apart = torch.linalg.vector_norm(patches[every, where][:, None] - self.bank[around], dim=2)
        return (1 - F.softmax(apart, 1)[:, 0]) * largest

    def state(self) -> dict[str, torch.Tensor]:
        """Return the bank and the backbone."""
        return {"bank": self.bank} | prefixed("features", self.features)

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the bank and the backbone."""
        self._build(weights=False)
        self._remember(state["bank"].to(self.device))
        self.features.load_state_dict(unprefixed("features", state))
