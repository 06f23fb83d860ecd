"""AnoSeg from top to bottom: fit trains generator and detector on synthetic anomalies, predict gives maps and scores."""

from __future__ import annotations

import torch
from torchvision.transforms.functional import gaussian_blur

from methods import base
from methods.anoseg import AnoSegConfig
from methods.anoseg.batches import Batches
from methods.anoseg.detector import Detector
from methods.anoseg.network import Generator, levels_for
from methods.anoseg.training import train_detector, train_generator

#: Largest gain of `contrast_table`, and the values that the darkest and brightest of the normal images then take.
GAIN, DARKEST, BRIGHTEST = 8.0, 20, 235


def contrast_table(images: torch.Tensor) -> torch.Tensor:
    """Return what each value 0..255 becomes so that images which use a part of the range only, like dark ones, use most (ours).

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


class AnoSeg(base.Method):
    """AnoSeg (Song et al. 2021): the network outputs the anomaly map directly; see the package for what is ours."""

    Config = AnoSegConfig
    probability = True

    def _build(self) -> None:
        config = self.config
        self.generator = Generator(levels_for(config.image_size), config.width, config.coord, config.comparison)
        self.generator.to(torch.device(self.device)).to(memory_format=torch.channels_last)
        self.detector = Detector(config.detector_map).to(self.device)
        self.table = torch.arange(256, dtype=torch.uint8, device=self.device)

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        config = self.config
        self._build()
        if config.contrast:
            self.table = contrast_table(images).to(self.device)
        steps = config.total_steps(len(images))
        detector_steps = steps // 8 if config.detector else 0
        total = steps + detector_steps
        with Batches(self.table.cpu()[images.int()], config, self.seed, total, self.device) as batches:
            for step, loss in enumerate(train_generator(self.generator, batches, steps, config, self.device), 1):
                progress(step, total, loss)
            learning = train_detector(self.detector, self._maps, batches, detector_steps, self.device)
            for step, loss in enumerate(learning, steps + 1):
                progress(step, total, loss)

    def _maps(self, images: torch.Tensor) -> torch.Tensor:
        """Return smoothed maps (N, 1, S, S) in 0..1 for images in [-1, 1]."""
        with torch.no_grad():
            maps = torch.sigmoid(self.generator(images)[0].float())
        sigma = self.config.smoothing * images.shape[-1] / 128
        return gaussian_blur(maps, 2 * int(3 * sigma) + 1, sigma).clamp(0, 1) if sigma > 0 else maps

    @torch.no_grad()
    def _predict(self, images: torch.Tensor) -> base.Prediction:
        x = self.table[images.int()].float() / 127.5 - 1
        maps = self._maps(x)
        if not self.config.detector:
            return base.Prediction(maps.squeeze(1))
        detected = torch.sigmoid(self.detector(x, maps))
        return base.Prediction(maps.squeeze(1), (detected + maps.flatten(1).amax(1)) / 2, {"detector": detected})

    def _examples(self, images: torch.Tensor, number: int) -> base.Examples:
        shown: list[tuple[torch.Tensor, torch.Tensor]] = []
        table = contrast_table(images) if self.config.contrast else torch.arange(256, dtype=torch.uint8)
        with Batches(table[images.int()], self.config, self.seed, number, "cpu") as batches:
            for x, _, masks, decided in batches:
                some = masks.flatten(1).amax(1) > 0
                shown += zip(((x[some] + 1) * 127.5).round().byte(), (masks + 0.5 * (1 - decided))[some, 0], strict=True)
                if len(shown) >= number:
                    break
        return base.Examples(*(torch.stack(part) for part in zip(*shown[:number], strict=True)))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights of generator and detector, and the table of contrast."""
        return {"table": self.table} | {
            f"{name}.{key}": value
            for name, net in (("generator", self.generator), ("detector", self.detector))
            for key, value in net.state_dict().items()
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the weights and the table."""
        self._build()
        self.table = state["table"].to(self.device)
        for name, net in (("generator", self.generator), ("detector", self.detector)):
            net.load_state_dict({k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")})
            net.eval()
