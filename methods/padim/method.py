"""PaDiM (Defard et al. 2021, "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection") from top to bottom."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from anoseg_bench.methods import base
from anoseg_bench.methods._features import DistanceMethod, prefixed, unprefixed
from anoseg_bench.methods.padim import PaDiMConfig

#: Places whose covariances are taken apart at once.
PLACES = 1024


class PaDiM(DistanceMethod):
    """PaDiM (Defard et al. 2021): a Gaussian of the features at each place of the normal images; map: the Mahalanobis distance."""

    Config = PaDiMConfig

    @torch.no_grad()
    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features kept at each place, (P, N, D); coarser feature maps are enlarged by repetition."""
        maps = self.features(images.to(self.device))
        size = maps[0].shape[-2:]
        embedded, first = [], 0
        for feature_map in maps:
            own = self.kept[(self.kept >= first) & (self.kept < first + feature_map.shape[1])] - first
            embedded.append(F.interpolate(feature_map.index_select(1, own), size=size, mode="nearest"))
            first += feature_map.shape[1]
        return torch.cat(embedded, 1).flatten(2).permute(2, 0, 1)

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        config = self.config
        self._build(weights=True)
        channels = sum(self.features.channels)
        self.kept = torch.randperm(channels)[: config.dimensions].sort().values.to(self.device)
        batches = images.split(config.batch_size)
        total, products, shift = (torch.empty(0),) * 3
        for step, batch in enumerate(batches, 1):
            x = self._embed(batch)
            if step == 1:  # sums of what is near zero lose no digits
                shift = x.mean(1)
                total, products = torch.zeros_like(shift), torch.zeros(*shift.shape, shift.shape[1], device=shift.device)
            x = x - shift[:, None]
            total += x.sum(1)
            products.baddbmm_(x.transpose(1, 2), x)
            progress(step, len(batches), None)
        offset = total / len(images)
        self.mean = shift + offset
        self.whitening = self._whiten(products, offset, len(images))

    def _whiten(self, products: torch.Tensor, offset: torch.Tensor, count: int) -> torch.Tensor:
        """Return for each place a triangular W, in place of the products: W' W is the inverse of the regularised covariance."""
        ridge = self.config.regularisation * torch.eye(offset.shape[1], device=offset.device)
        for some, mean in zip(products.split(PLACES), offset.split(PLACES), strict=True):
            covariance = (some - count * mean[:, :, None] * mean[:, None]) / max(1, count - 1) + ridge
            factor = torch.linalg.cholesky(covariance)
            some.copy_(torch.linalg.solve_triangular(factor, torch.eye(len(ridge), device=ridge.device), upper=False))
        return products

    @torch.no_grad()
    def _predict(self, images: torch.Tensor) -> base.Prediction:
        x = (self._embed(images) - self.mean[:, None]).contiguous()
        distances = torch.linalg.vector_norm(x @ self.whitening.transpose(1, 2), dim=2).T
        side = math.isqrt(distances.shape[1])
        return base.Prediction(self.smoothing(distances.reshape(-1, side, side)))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the Gaussians, the features kept and the backbone."""
        own = {"kept": self.kept, "mean": self.mean, "whitening": self.whitening}
        return own | prefixed("features", self.features)

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the Gaussians, the features kept and the backbone."""
        self._build(weights=False)
        self.kept, self.mean, self.whitening = (state[name].to(self.device) for name in ("kept", "mean", "whitening"))
        self.features.load_state_dict(unprefixed("features", state))
