"""The floors: `Random`, `PixelStats` and `ImageStats`."""

from __future__ import annotations

import zlib

import torch

from anoseg_bench.methods import base
from anoseg_bench.methods.floors import FloorConfig


class Random(base.Method):
    """Uniform noise per pixel, a function of the image's bytes and the seed only."""

    Config = FloorConfig
    no_graph = "its maps are noise"

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


class ImageStats(base.Method):
    """Distance of a few statistics of the whole image to those of the normal images; it looks for no defect.

    Each statistic is taken in units of its standard deviation over the normal images (of `SMALLEST` at least, in 0..1 of the range
    of values), and the score is the root of the mean of the squares. The map is the score everywhere.
    """

    Config = FloorConfig
    #: Standard deviation of a statistic that the normal images have in common.
    SMALLEST = 1e-3
    #: Width of the border, as a share of the side.
    BORDER = 0.05

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        values = torch.cat([self.statistics(batch.to(self.device)) for batch in images.split(self.config.batch_size)])
        self.mean = values.mean(0)
        self.deviation = values.std(0, correction=0).clamp(min=self.SMALLEST)

    def _predict(self, images: torch.Tensor) -> base.Prediction:
        scores = ((self.statistics(images) - self.mean) / self.deviation).square().mean(1).sqrt()
        return base.Prediction(scores[:, None, None].expand(-1, *images.shape[2:]).contiguous(), scores)

    def statistics(self, images: torch.Tensor) -> torch.Tensor:
        """Return brightness, contrast, sharpness, saturation, red minus blue, and brightness of the border, in units of the range.

        Parameters
        ----------
        images : torch.Tensor
            uint8, (N, 3, H, W).

        Returns
        -------
        torch.Tensor
            float32, (N, 6).
        """
        colours = images.to(torch.float32) / 255
        red, green, blue = colours.unbind(1)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        middle = luma[:, 1:-1, 1:-1]
        around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
        frame = max(1, round(self.BORDER * luma.shape[-1]))
        outside = torch.ones(luma.shape[1:], dtype=torch.bool, device=luma.device)
        outside[frame:-frame, frame:-frame] = False
        columns = [
            luma.mean((1, 2)),
            luma.std((1, 2), correction=0),
            (around - 4 * middle).abs().mean((1, 2)),
            (colours.amax(1) - colours.amin(1)).mean((1, 2)),
            (red - blue).mean((1, 2)),
            luma[:, outside].mean(1),
        ]
        return torch.stack(columns, dim=1)

    def state(self) -> dict[str, torch.Tensor]:
        """Return mean and standard deviation of the statistics over the normal images, (6,) each."""
        return {"mean": self.mean, "deviation": self.deviation}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over both."""
        self.mean, self.deviation = (state[name].to(self.device) for name in ("mean", "deviation"))
