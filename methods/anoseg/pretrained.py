"""AnoSeg's anomalies, rules and segmentation loss over a frozen pretrained backbone (ours, from top to bottom).

What the decoder sees of a feature map is how far it lies from the normal images' at its place: minus their mean, over their spread.
An object that turns freely has no place; there mean and spread are those over all places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from anoseg_bench.methods import base
from anoseg_bench.methods._batches import Batches
from anoseg_bench.methods._features import Features, prefixed, unprefixed
from anoseg_bench.methods._training import Descent, is_reported, mixed_precision
from anoseg_bench.methods._unet import coordinate_channels
from anoseg_bench.methods.anoseg import AnoSegPretrainedConfig
from anoseg_bench.methods.anoseg.anomalies import Batch, Source, to_tensors
from anoseg_bench.methods.anoseg.losses import segmentation_loss
from anoseg_bench.methods.anoseg.method import hottest, smoothed, to_map
from anoseg_bench.methods.anoseg.pose import Pose
from anoseg_bench.methods.anoseg.recipe import describe
from anoseg_bench.methods.anoseg.tones import Tones

#: What a trained model consists of.
PARTS = ("pose", "tones", "features", "deviation", "decoder", "judge")
#: Normal images whose spread over all places counts as much as that at one place: a guard where there are few.
PRIOR = 10
#: Deviations are bounded to so many spreads.
FAR = 8.0
#: Finest stride whose deviations count for the image score: those of stride 2 are of single pixels.
FINEST = 4
#: How much they count in the image score beside the map, whose weight is 1: by measurement, see docs/methods.md.
BESIDE = 0.5


class Deviation(nn.Module):
    """How far feature maps lie from those of normal images: (x - mean) / spread, signed, absolute, and over all channels.

    Parameters
    ----------
    channels, sides : sequence of int
        Of the feature maps.
    """

    def __init__(self, channels: list[int], sides: list[int]) -> None:
        super().__init__()
        self.number = len(channels)
        for i, (count, side) in enumerate(zip(channels, sides, strict=True)):
            self.register_buffer(f"mean{i}", torch.zeros(count, side, side))
            self.register_buffer(f"spread{i}", torch.ones(count, side, side))

    @torch.no_grad()
    def learn(self, batches: Iterable[list[torch.Tensor]], everywhere: bool) -> None:
        """Take mean and spread of batches of feature maps (N, C, h, w), at each place or `everywhere` alike."""
        count, sums = 0, [[torch.zeros_like(mean, dtype=torch.float64) for _ in range(2)] for mean, _ in self._facts()]
        for maps in batches:
            count += len(maps[0])
            for x, (total, squares) in zip(maps, sums, strict=True):
                total.add_(x.sum(0, dtype=torch.float64))
                squares.add_(x.double().square_().sum(0))
        for (mean, spread), (total, squares) in zip(self._facts(), sums, strict=True):
            means, overall = total / count, total.mean((1, 2), keepdim=True) / count
            variance = squares / count - means.square()
            whole = squares.mean((1, 2), keepdim=True) / count - overall.square()
            if everywhere:
                means, variance = overall, whole
            else:
                variance = (count * variance + PRIOR * variance.mean((1, 2), keepdim=True)) / (count + PRIOR)
            mean.copy_(means.expand_as(mean))
            spread.copy_((variance.clamp(min=0) + 1e-2 * whole + 1e-6).sqrt().expand_as(spread))

    def _facts(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return mean and spread of each feature map."""
        return [(getattr(self, f"mean{i}"), getattr(self, f"spread{i}")) for i in range(self.number)]

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return what the decoder sees, (N, 2 C + 1, h, w) each; last the mean square over the channels, as a log."""
        seen = []
        for x, (mean, spread) in zip(maps, self._facts(), strict=True):
            away = ((x - mean) / spread).clamp(-FAR, FAR)
            seen.append(torch.cat([away, away.abs(), away.square().mean(1, keepdim=True).log1p()], 1))
        return seen


def layer(inputs: int, outputs: int) -> nn.Sequential:
    """One 3x3 convolution with batch normalisation and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Decoder(nn.Module):
    """From deviations at several strides, finest first, to logits at the finest: one convolution at each, and one more at the end.

    Parameters
    ----------
    channels : list of int
        Of the feature maps; deviations have twice as many and one more.
    widths : sequence of int
        Channels at the end, then at each stride from the finest.
    coord : bool
        Whether coordinate channels join the coarsest deviations.
    """

    def __init__(self, channels: list[int], widths: tuple[int, ...], coord: bool) -> None:
        super().__init__()
        self.coord = coord
        below = [*widths[2:], 2 * coord]  # what comes from the next coarser stride, or the coordinates
        self.levels = nn.ModuleList(layer(2 * c + 1 + b, w) for c, b, w in zip(channels, below, widths[1:], strict=True))
        self.last = layer(widths[1], widths[0])
        self.segment = nn.Conv2d(widths[0], 1, 1)
        assert self.segment.bias is not None
        nn.init.constant_(self.segment.bias, -3.0)  # anomalies are rare

    def forward(self, deviations: list[torch.Tensor]) -> torch.Tensor:
        """Return logits (N, 1, h, w)."""
        coarsest = deviations[-1]
        x = coordinate_channels(coarsest).to(coarsest.dtype) if self.coord else coarsest[:, :0]
        for level, seen in zip(reversed(self.levels), reversed(deviations), strict=True):
            x = x if x.shape[-1] == seen.shape[-1] else F.interpolate(x, size=seen.shape[-2:], mode="nearest")
            x = level(torch.cat([seen, x], 1))
        return self.segment(self.last(x))


class Judge(nn.Module):
    """The image score: how far an image lies above the training images, in their spreads, by its map and by its features.

    Two numbers speak of an image: the hottest pixels of its map, as a logit, which tell what looks like the drawn anomalies; and
    the largest deviation of its features, over all channels and 3x3 places, which tells what looks like nothing known. Each less
    its median over the training images, over their normal-consistent interquartile range; the score is their sum, where the second
    counts half.

    Parameters
    ----------
    strides : sequence of int
        Of the feature maps.
    """

    usual: torch.Tensor
    spread: torch.Tensor

    def __init__(self, strides: Sequence[int]) -> None:
        super().__init__()
        self.counted = [i for i, stride in enumerate(strides) if stride >= FINEST] or list(range(len(strides)))
        self.register_buffer("usual", torch.zeros(2))
        self.register_buffer("spread", torch.ones(2))

    def numbers(self, of_map: torch.Tensor, deviations: list[torch.Tensor]) -> torch.Tensor:
        """Return both numbers, (N, 2), of the hottest of maps, (N,) in (0, 1), and of what `Deviation` returned."""
        over_all = [deviations[i][:, -1:] for i in self.counted]
        size = over_all[0].shape[-2:]
        mean = torch.stack([F.interpolate(x, size=size, mode="bilinear") for x in over_all]).mean(0)
        return torch.stack([torch.logit(of_map, 1e-7), F.avg_pool2d(mean, 3, 1, 1).flatten(1).amax(1)], 1)

    def learn(self, numbers: torch.Tensor) -> None:
        """Take median and spread of both numbers of the training images, (N, 2)."""
        low, middle, high = numbers.quantile(torch.tensor([0.25, 0.5, 0.75], device=numbers.device), dim=0)
        self.usual.copy_(middle)
        self.spread.copy_(((high - low) / 1.349).clamp(min=0.02))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return scores (N,) for numbers (N, 2)."""
        by_map, by_features = ((numbers - self.usual) / self.spread).unbind(1)
        return by_map + BESIDE * by_features


class AnoSegPretrained(base.Method):
    """AnoSeg's anomalies and rules over a frozen pretrained backbone; a decoder gives the map (ours)."""

    Config = AnoSegPretrainedConfig
    probability = True

    def _build(self, weights: bool) -> None:
        config = self.config
        self.features = Features(config.backbone, config.weights if weights else None, config.strides)
        channels, sides = self.features.channels, [-(-config.image_size // stride) for stride in config.strides]
        self.deviation = Deviation(channels, sides)
        self.decoder = Decoder(channels, config.widths, config.coord)
        self.judge = Judge(config.strides)
        for net in (self.features, self.deviation, self.decoder, self.judge):
            net.to(torch.device(self.device)).to(memory_format=torch.channels_last)
        self.pose = Pose(config.image_size, config.input_size).to(self.device)
        self.tones = Tones(config).to(self.device)
        self._findings: dict[str, Any] = {}

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        config = self.config
        self._build(weights=True)
        posed = self.pose.learn(images)
        stretched = self.tones.learn(posed)
        source = Source.of(np.ascontiguousarray(stretched.permute(0, 2, 3, 1).numpy()), config, self.pose.cut)
        self._findings = describe(source.normals.fingerprint, source.recipe, self.pose.cut)
        with torch.no_grad():
            seen = (self._see(batch.to(self.device)) for batch in stretched.split(config.batch_size))
            self.deviation.learn(seen, source.recipe.turns)
        with closing(Batches(source, self.seed, config.batch_size, config.steps).on(self.device)) as batches:
            self._train(map(to_tensors, batches), progress)
        self.judge.learn(torch.cat([self._judged(batch.to(self.device))[1] for batch in images.split(config.batch_size)]))

    def _train(self, batches: Iterable[Batch], progress: base.Progress) -> None:
        config, steps = self.config, self.config.steps
        self.decoder.train()
        descent = Descent(self.decoder, steps, config.learning_rate, self.device, config.weight_averaging)
        for step, (x, _, masks, weights) in enumerate(batches, 1):
            with torch.no_grad():
                deviations = self.deviation(self._see((x + 1) * 127.5))
            loss = segmentation_loss(self._decoded(deviations, x.shape[-1]), masks, weights, config.anomaly_weight)
            descent.step(loss)
            descent.schedule.step()
            if is_reported(step, steps):
                progress(step, steps, loss.item())
        descent.finish()

    def _see(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the feature maps, float32, of images (N, 3, S, S), 0..255."""
        with mixed_precision(self.device):
            return [x.float() for x in self.features(images)]

    def _decoded(self, deviations: list[torch.Tensor], side: int) -> torch.Tensor:
        """Return logits (N, 1, side, side) for what `Deviation` returned."""
        with mixed_precision(self.device):
            logits = self.decoder(deviations)
        return F.interpolate(logits.float(), size=(side, side), mode="bilinear")

    @torch.no_grad()
    def _judged(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return maps (N, 1, H, W), and what the score rests on, (N, 2), of images (N, 3, G, G), 0..255."""
        seen, placed = self.pose(images)
        deviations = self.deviation(self._see(self.tones(seen)))
        maps = smoothed(to_map(self._decoded(deviations, seen.shape[-1])), self.config.smoothing)
        numbers = self.judge.numbers(hottest(maps, self.pose.beside(placed)), deviations)
        return self.pose.back(maps, placed), numbers

    @torch.no_grad()
    def _predict(self, images: torch.Tensor) -> base.Prediction:
        maps, numbers = self._judged(images)
        return base.Prediction(maps.squeeze(1), self.judge(numbers))

    def findings(self) -> dict[str, Any]:
        """Return the fingerprint of the training images, and the recipe that followed from it."""
        return self._findings

    def state(self) -> dict[str, torch.Tensor]:
        """Return pose, tones, backbone, deviation, decoder and judge."""
        parts = (prefixed(name, getattr(self, name)) for name in PARTS)
        return {key: value for part in parts for key, value in part.items()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what `state` returned."""
        self._build(weights=False)
        for name in PARTS:
            getattr(self, name).load_state_dict(unprefixed(name, state))
        self.decoder.eval()
