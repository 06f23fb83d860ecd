"""AnoSeg's anomalies, rules and segmentation loss over a frozen pretrained backbone (ours, from top to bottom).

What the decoder sees of a feature map is how far it lies from the normal images' at its place: minus their mean, over their spread.
An object that turns freely has no place; there mean and spread are those over all places.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from anoseg_bench.methods import base
from anoseg_bench.methods._batches import Batches
from anoseg_bench.methods._features import Features, prefixed, unprefixed
from anoseg_bench.methods._memory import find_plainly, k_centre_greedy
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
PARTS = ("pose", "tones", "features", "deviation", "memory", "decoder", "judge")
#: Normal images whose spread over all places counts as much as that at one place: a guard where there are few.
PRIOR = 10
#: Deviations are bounded to so many spreads.
FAR = 8.0
#: Finest stride whose features count for the image score: those of stride 2 are of single pixels.
FINEST = 4
#: Stride of the places that the memory compares, patches that it is chosen from, and the share that it keeps.
PLACES, POOL, CORESET = 8, 40_000, 0.1
#: How much map, deviations and memory count in the image score: by measurement, see docs/methods.md.
WEIGHTS = (1.0, 0.5, 1.0)


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


def counted(strides: Sequence[int]) -> list[int]:
    """Return which feature maps count for the image score: those of `FINEST` strides or coarser, if there are any."""
    return [i for i, stride in enumerate(strides) if stride >= FINEST] or list(range(len(strides)))


class Memory(nn.Module):
    """How far the features at each place lie from the nearest ones of the normal images, at any place (as PatchCore's).

    Features at a place are means over 3x3 places, of all counted strides, at the places of stride `PLACES` or the next coarser.
    Channels are standardised, and the strides count alike however many channels they have: else the coarsest alone would speak.
    A tenth of the normal images' are kept, so that none lies far from those (Roth et al. 2022, section 3.2).

    Parameters
    ----------
    channels, strides : sequence of int
        Of the feature maps.
    """

    mean: torch.Tensor
    spread: torch.Tensor
    bank: torch.Tensor

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.counted = counted(strides)
        self.places = next((i for i in self.counted if strides[i] >= PLACES), self.counted[-1])
        self.channels = [channels[i] for i in self.counted]
        for name, value in {"mean": 0.0, "spread": 1.0}.items():
            self.register_buffer(name, torch.full((sum(self.channels),), value))
        self.register_buffer("bank", torch.zeros(0, sum(self.channels)))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        self.bank = self.bank.new_zeros(state_dict[f"{prefix}bank"].shape)  # of any size
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _gathered(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return the features at the places of images, (N, P, D)."""
        size = maps[self.places].shape[-2:]
        near = (F.avg_pool2d(maps[i], 3, 1, 1) for i in self.counted)
        alike = [x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear") for x in near]
        return torch.cat(alike, 1).flatten(2).transpose(1, 2)

    @torch.no_grad()
    def learn(self, batches: Iterable[list[torch.Tensor]], images: int) -> torch.Tensor:
        """Take the memory from batches of feature maps of a number of normal images; return whose each kept one is, int64 (B,)."""
        parts = []
        for maps in batches:
            for own in self._gathered(maps):
                kept = min(len(own), max(1, POOL // images))
                parts.append(own[torch.randperm(len(own))[:kept].to(own.device)])
        pool, whose = torch.cat(parts), torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part) for part in parts]))
        self.mean.copy_(pool.mean(0))
        by_stride = pool.std(0, correction=0).split(self.channels)
        self.spread.copy_(torch.cat([own.clamp(min=float(0.1 * own.mean()) + 1e-6) * len(own) ** 0.5 for own in by_stride]))
        pool = (pool - self.mean) / self.spread
        chosen = k_centre_greedy(pool, max(1, round(CORESET * len(pool))))
        self.bank = pool[chosen.to(pool.device)]
        return whose[chosen]

    def forward(self, maps: list[torch.Tensor], own: torch.Tensor | None = None) -> torch.Tensor:
        """Return how far the furthest place of each image lies, (N,), from those that are not its `own`, bool (N, B)."""
        places = (self._gathered(maps) - self.mean) / self.spread
        if own is None:
            distances, _ = find_plainly(places.flatten(0, 1), self.bank)
            return distances.view(places.shape[0], -1).amax(1)
        others = (self.bank[~mine] if not mine.all() else self.bank for mine in own.to(self.bank.device))
        return torch.stack([find_plainly(some, bank)[0].amax() for some, bank in zip(places, others, strict=True)])


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

    Three numbers speak of an image: the hottest pixels of its map, as a logit, which tell what looks like the drawn anomalies; the
    largest deviation of its features from those at their place, over all channels and 3x3 places; and the largest distance from
    the nearest ones at any place (`Memory`): the last two tell what looks like nothing known. Each less its median over the
    training images, over their normal-consistent interquartile range; the score is their sum, weighed by `WEIGHTS`.

    Parameters
    ----------
    strides : sequence of int
        Of the feature maps.
    """

    usual: torch.Tensor
    spread: torch.Tensor

    def __init__(self, strides: Sequence[int]) -> None:
        super().__init__()
        self.counted = counted(strides)
        self.register_buffer("usual", torch.zeros(3))
        self.register_buffer("spread", torch.ones(3))

    def numbers(self, of_map: torch.Tensor, deviations: list[torch.Tensor], furthest: torch.Tensor) -> torch.Tensor:
        """Return the numbers, (N, 3), of the hottest of maps, (N,) in (0, 1), and of what `Deviation` and `Memory` returned."""
        over_all = [deviations[i][:, -1:] for i in self.counted]
        size = over_all[0].shape[-2:]
        mean = torch.stack([F.interpolate(x, size=size, mode="bilinear") for x in over_all]).mean(0)
        return torch.stack([torch.logit(of_map, 1e-7), F.avg_pool2d(mean, 3, 1, 1).flatten(1).amax(1), furthest], 1)

    def learn(self, numbers: torch.Tensor) -> None:
        """Take median and spread of the numbers of the training images, (N, 3)."""
        low, middle, high = numbers.quantile(torch.tensor([0.25, 0.5, 0.75], device=numbers.device), dim=0)
        self.usual.copy_(middle)
        self.spread.copy_(((high - low) / 1.349).clamp(min=0.02))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return scores (N,) for numbers (N, 3)."""
        return ((numbers - self.usual) / self.spread) @ numbers.new_tensor(WEIGHTS)


class AnoSegPretrained(base.Method):
    """AnoSeg's anomalies and rules over a frozen pretrained backbone; a decoder gives the map (ours)."""

    Config = AnoSegPretrainedConfig
    probability = True

    def _build(self, weights: bool) -> None:
        config = self.config
        self.features = Features(config.backbone, config.weights if weights else None, config.strides)
        channels, sides = self.features.channels, [-(-config.image_size // stride) for stride in config.strides]
        self.deviation = Deviation(channels, sides)
        self.memory = Memory(channels, config.strides)
        self.decoder = Decoder(channels, config.widths, config.coord)
        self.judge = Judge(config.strides)
        for net in (self.features, self.deviation, self.memory, self.decoder, self.judge):
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
            self.deviation.learn(self._seen(stretched), source.recipe.turns)
            whose = self.memory.learn(self._seen(stretched), len(images))
        with closing(Batches(source, self.seed, config.batch_size, config.steps).on(self.device)) as batches:
            self._train(map(to_tensors, batches), progress)
        own = torch.arange(len(images))[:, None] == whose
        parts = zip(images.split(config.batch_size), own.split(config.batch_size), strict=True)
        self.judge.learn(torch.cat([self._judged(some.to(self.device), mine)[1] for some, mine in parts]))

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

    def _seen(self, images: torch.Tensor) -> Iterator[list[torch.Tensor]]:
        """Return the feature maps of images as the networks see them, a batch at a time."""
        return (self._see(some.to(self.device)) for some in images.split(self.config.batch_size))

    def _decoded(self, deviations: list[torch.Tensor], side: int) -> torch.Tensor:
        """Return logits (N, 1, side, side) for what `Deviation` returned."""
        with mixed_precision(self.device):
            logits = self.decoder(deviations)
        return F.interpolate(logits.float(), size=(side, side), mode="bilinear")

    @torch.no_grad()
    def _judged(self, images: torch.Tensor, own: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return maps (N, 1, H, W), and what the score rests on, (N, 3), of images (N, 3, G, G), 0..255; for `own` see `Memory`."""
        seen, placed = self.pose(images)
        features = self._see(self.tones(seen))
        deviations = self.deviation(features)
        maps = smoothed(to_map(self._decoded(deviations, seen.shape[-1])), self.config.smoothing)
        numbers = self.judge.numbers(hottest(maps, self.pose.beside(placed)), deviations, self.memory(features, own))
        return self.pose.back(maps, placed), numbers

    @torch.no_grad()
    def _predict(self, images: torch.Tensor) -> base.Prediction:
        maps, numbers = self._judged(images)
        return base.Prediction(maps.squeeze(1), self.judge(numbers))

    def findings(self) -> dict[str, Any]:
        """Return the fingerprint of the training images, and the recipe that followed from it."""
        return self._findings

    def state(self) -> dict[str, torch.Tensor]:
        """Return pose, tones, backbone, deviation, memory, decoder and judge."""
        parts = (prefixed(name, getattr(self, name)) for name in PARTS)
        return {key: value for part in parts for key, value in part.items()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what `state` returned."""
        self._build(weights=False)
        for name in PARTS:
            getattr(self, name).load_state_dict(unprefixed(name, state))
        self.decoder.eval()
