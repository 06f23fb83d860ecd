"""AnoSeg from top to bottom: fit trains generator and detector on synthetic anomalies, predict gives maps and scores."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import torch
from torchvision.transforms.functional import gaussian_blur

from anoseg_bench.methods import base
from anoseg_bench.methods._batches import Batches
from anoseg_bench.methods._features import prefixed, unprefixed
from anoseg_bench.methods._unet import levels_for
from anoseg_bench.methods.anoseg import AnoSegConfig
from anoseg_bench.methods.anoseg.anomalies import Source, to_tensors
from anoseg_bench.methods.anoseg.detector import Detector
from anoseg_bench.methods.anoseg.network import Generator
from anoseg_bench.methods.anoseg.pose import Pose
from anoseg_bench.methods.anoseg.recipe import describe
from anoseg_bench.methods.anoseg.tones import Tones
from anoseg_bench.methods.anoseg.training import train_detector, train_generator

#: What a trained model consists of.
PARTS = ("pose", "tones", "generator", "detector")
#: Share of the pixels whose mean is the image score: by measurement, see docs/anoseg.md.
TOP = 0.001


#: Bound of the map's logits: without it, those above 17 would all become the 1.0 of float32, whatever their order.
BOUND = 12.0


def to_map(logits: torch.Tensor) -> torch.Tensor:
    """Return the map in (0, 1) of logits, which keeps the order of the highest: sigmoid(b tanh(l / b)), b = `BOUND` (ours)."""
    return torch.sigmoid(BOUND * torch.tanh(logits / BOUND))


def top_mean(maps: torch.Tensor, share: float) -> torch.Tensor:
    """Return the mean of the hottest pixels, (N,), of maps (N, 1, H, W); `share` of them, at least one."""
    flat = maps.flatten(1)
    return flat.topk(max(1, round(share * flat.shape[1])), 1).values.mean(1)


def hottest(maps: torch.Tensor, beside: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of the `TOP` hottest pixels, (N,), of maps (N, 1, H, W), or of `Pose.beside` where that is more."""
    of_map = top_mean(maps, TOP)
    return of_map if beside is None else torch.maximum(of_map, top_mean(beside, TOP))


def smoothed(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return maps (N, 1, S, S) in 0..1 smoothed by a Gaussian; its sigma is given in pixels at 128 px."""
    sigma *= maps.shape[-1] / 128
    return gaussian_blur(maps, 2 * int(3 * sigma) + 1, sigma).clamp(0, 1) if sigma > 0 else maps


class AnoSeg(base.Method):
    """AnoSeg (Song et al. 2021): the network outputs the anomaly map directly; see the package for what is ours."""

    Config = AnoSegConfig
    probability = True

    def _build(self) -> None:
        config = self.config
        self.generator = Generator(levels_for(config.image_size), config.width, config.coord, config.comparison)
        self.generator.to(torch.device(self.device)).to(memory_format=torch.channels_last)
        self.detector = Detector(config.detector_map).to(self.device)
        self.pose = Pose(config.image_size, config.input_size).to(self.device)
        self.tones = Tones(config).to(self.device)
        self._findings: dict[str, Any] = {}

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        config = self.config
        self._build()
        steps = config.steps
        total = steps + config.detector_steps
        source = self._source(images)
        self._findings = self._describe(source)
        with closing(Batches(source, self.seed, config.batch_size, total).on(self.device)) as made:
            batches = map(to_tensors, made)
            for step, loss in train_generator(self.generator, batches, steps, config, self.device):
                progress(step, total, loss)
            for step, loss in train_detector(self.detector, self._maps, batches, config.detector_steps, self.device):
                progress(steps + step, total, loss)

    def _source(self, images: torch.Tensor) -> Source:
        """Return what makes training images of normals, uint8 (N, 3, G, G), and learn their pose, contrast and light."""
        seen = self.tones.learn(self.pose.learn(images)).permute(0, 2, 3, 1)
        return Source.of(np.ascontiguousarray(seen.numpy()), self.config, self.pose.cut)

    def _describe(self, source: Source) -> dict[str, Any]:
        return describe(source.normals.fingerprint, source.recipe, self.pose.cut)

    def findings(self) -> dict[str, Any]:
        """Return the fingerprint of the training images, and the recipe that followed from it; empty where nothing was trained."""
        return self._findings

    def _maps(self, images: torch.Tensor) -> torch.Tensor:
        """Return smoothed maps (N, 1, S, S) in 0..1 for images in [-1, 1]."""
        with torch.no_grad():
            return smoothed(to_map(self.generator(images)[0].float()), self.config.smoothing)

    @torch.no_grad()
    def _predict(self, images: torch.Tensor) -> base.Prediction:
        seen, placed = self.pose(images)
        x = self.tones(seen) / 127.5 - 1
        maps = self._maps(x)
        of_map, whole = hottest(maps, self.pose.beside(placed)), self.pose.back(maps, placed).squeeze(1)
        if not self.config.detector:
            return base.Prediction(whole, of_map)
        detected = torch.sigmoid(self.detector(x, maps))
        scores = (of_map + detected) / 2 if self.config.detector_in_score else of_map
        return base.Prediction(whole, scores, {"detector": detected})

    def _examples(self, images: torch.Tensor, number: int) -> base.Examples:
        self.pose, self.tones = Pose(self.config.image_size, self.config.input_size), Tones(self.config)
        source = self._source(images)
        size = self.config.batch_size
        shown: list[tuple[torch.Tensor, torch.Tensor]] = []
        for x, _, masks, weights in map(to_tensors, Batches(source, self.seed, size, -(-4 * number // size) + 1).on("cpu")):
            some = masks.flatten(1).amax(1) > 0
            shown += zip(((x[some] + 1) * 127.5).round().byte(), (masks + 0.5 * (weights == 0))[some, 0], strict=True)
            if len(shown) >= number:
                break
        pictures, marks = (torch.stack(part) for part in zip(*shown[:number], strict=True))
        normals = torch.from_numpy(source.normals.images[:number]).permute(0, 3, 1, 2)
        foregrounds = torch.from_numpy(np.stack([layer.foreground for layer in source.normals.layers[:number]]))
        return base.Examples(pictures, marks, normals, foregrounds, self._describe(source))

    def state(self) -> dict[str, torch.Tensor]:
        """Return pose, tones, and the weights of generator and detector."""
        parts = (prefixed(name, getattr(self, name)) for name in PARTS)
        return {key: value for part in parts for key, value in part.items()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what `state` returned."""
        self._build()
        for name in PARTS:
            getattr(self, name).load_state_dict(unprefixed(name, state))
            getattr(self, name).eval()
