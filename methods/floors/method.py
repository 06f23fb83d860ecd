"""The floors: `Random` and `PixelStats`."""

from __future__ import annotations

import zlib

import torch

from anoseg_bench.methods import base
from anoseg_bench.methods.floors import FloorConfig


class Random(base.Method):
    """Uniform noise per pixel, a function of the image's bytes and the seed only."""

    Config = FloorConfig

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        pass

    def _predict(self, images: torch.Tensor) -> base.Prediction:
        maps = []
        for image in images.cpu():
            torch.manual_seed(zlib.crc32(image.numpy().tobytes(), self.seed))
            maps.append(torch.rand(image.shape[1:]))
        return base.Prediction(torch.stack(maps))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the seed, all that the maps depend on."""
        return {"seed": torch.tensor(self.seed)}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the seed."""
        self.seed = int(state["seed"])


class PixelStats(base.Method):
    """Euclidean distance of a pixel's colour to the mean colour of the normal images at its place."""

    Config = FloorConfig

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        self.mean = images.to(torch.float32).mean(0).to(self.device)

    def _predict(self, images: torch.Tensor) -> base.Prediction:
        return base.Prediction((images.float() - self.mean).norm(dim=1) / 255)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the mean image, (3, H, W), 0..255."""
        return {"mean": self.mean}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the mean image."""
        self.mean = state["mean"].to(self.device)
