"""AnoSeg's anomalies, rules and segmentation loss over a frozen pretrained backbone (ours, from top to bottom).

What the decoder sees of a feature map is how far it lies from the normal images' at its place: minus their mean, over their spread.
An object that turns freely has no place; there mean and spread are those over all places.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchvision.transforms.functional import gaussian_blur

from anoseg_bench.methods import base
from anoseg_bench.methods._features import Features, prefixed, unprefixed
from anoseg_bench.methods.anoseg import AnoSegPretrainedConfig
from anoseg_bench.methods.anoseg.anomalies import Source
from anoseg_bench.methods.anoseg.batches import Batches
from anoseg_bench.methods.anoseg.fingerprint import describe
from anoseg_bench.methods.anoseg.losses import segmentation_loss
from anoseg_bench.methods.anoseg.method import TOP, contrast_table, to_map, top_mean
from anoseg_bench.methods.anoseg.network import coordinate_channels
from anoseg_bench.methods.anoseg.training import is_reported, mixed_precision

#: Normal images whose spread over all places counts as much as that at one place: a guard where there are few.
PRIOR = 10
#: Deviations are bounded to so many spreads.
FAR = 8.0


class Deviation(nn.Module):
    """How far feature maps lie from those of normal images: (x - mean) / spread, signed, absolute, and over all channels.

    Parameters
    ----------
    channels, sides : sequence of int
        Of the feature maps.
    """

    def __init__(self, channels: list[int], sides: list[int]) -> None:
        super().__init__()
        for i, (count, side) in enumerate(zip(channels, sides, strict=True)):
            self.register_buffer(f"mean{i}", torch.zeros(count, side, side))
            self.register_buffer(f"spread{i}", torch.ones(count, side, side))

    @torch.no_grad()
    def learn(self, maps: list[torch.Tensor], everywhere: bool) -> None:
        """Take mean and spread of feature maps (N, C, h, w), at each place or `everywhere` alike."""
        for i, x in enumerate(maps):
            mean, variance = x.mean(0), x.var(0, correction=0)
            overall = x.mean((0, 2, 3))[:, None, None]
            total = x.var((0, 2, 3), correction=0)[:, None, None]
            if everywhere:
                mean, variance = overall.expand_as(mean), total.expand_as(variance)
            else:
                pooled = variance.mean((1, 2), keepdim=True)
                variance = (len(x) * variance + PRIOR * pooled) / (len(x) + PRIOR)
            getattr(self, f"mean{i}").copy_(mean)
            getattr(self, f"spread{i}").copy_((variance + 1e-2 * total + 1e-6).sqrt())

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return what the decoder sees, (N, 2 C + 1, h, w) each; last the mean square over the channels, as a log."""
        seen = []
        for i, x in enumerate(maps):
            away = ((x - getattr(self, f"mean{i}")) / getattr(self, f"spread{i}")).clamp(-FAR, FAR)
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
        for net in (self.features, self.deviation, self.decoder):
            net.to(torch.device(self.device)).to(memory_format=torch.channels_last)
        self.table = torch.arange(256, dtype=torch.uint8, device=self.device)
        self._findings: dict[str, Any] = {}

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        config = self.config
        self._build(weights=True)
        if config.contrast:
            self.table = contrast_table(images).to(self.device)
        stretched = self.table.cpu()[images.int()]
        source = Source.of(np.ascontiguousarray(stretched.permute(0, 2, 3, 1).numpy()), config)
        self._findings = describe(source.normals.fingerprint, source.recipe)
        self._learn_normals(stretched, source.recipe.turns)
        with closing(Batches(source, self.seed, config.batch_size, config.steps).on(self.device)) as batches:
            self._train(batches, progress)

    @torch.no_grad()
    def _learn_normals(self, images: torch.Tensor, everywhere: bool) -> None:
        """Take mean and spread of the normal images' features, one feature map after another to bound memory."""
        parts = [self.features(batch.to(self.device)) for batch in images.split(self.config.batch_size)]
        self.deviation.learn([torch.cat(maps) for maps in zip(*parts, strict=True)], everywhere)

    def _train(self, batches: Any, progress: base.Progress) -> None:
        config, steps = self.config, self.config.steps
        self.decoder.train()
        optimiser = torch.optim.AdamW(self.decoder.parameters(), config.learning_rate, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, config.learning_rate, total_steps=max(20, steps), pct_start=0.1, cycle_momentum=False
        )
        weights = [value for value in self.decoder.state_dict().values() if value.is_floating_point()]
        average = [value.clone() for value in weights]
        update = get_ema_multi_avg_fn(min(0.99, 1 - 10 / (steps + 10)))
        for step, (x, _, masks, counts) in enumerate(batches, 1):
            loss = segmentation_loss(self._logits((x + 1) * 127.5), masks, counts, config.anomaly_weight)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            if config.weight_averaging:
                with torch.no_grad():
                    update(average, weights, None)
            if is_reported(step, steps):
                progress(step, steps, loss.item())
        if config.weight_averaging:
            with torch.no_grad():
                torch._foreach_copy_(weights, average)
        self.decoder.eval()

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 1, S, S) for images (N, 3, S, S), 0..255."""
        with torch.no_grad():
            deviations = self.deviation(self.features(images))
        with mixed_precision(self.device):
            logits = self.decoder(deviations)
        return F.interpolate(logits.float(), size=images.shape[-2:], mode="bilinear")

    @torch.no_grad()
    def _predict(self, images: torch.Tensor) -> base.Prediction:
        maps = to_map(self._logits(self.table[images.int()]))
        sigma = self.config.smoothing * images.shape[-1] / 128
        if sigma > 0:
            maps = gaussian_blur(maps, 2 * int(3 * sigma) + 1, sigma).clamp(0, 1)
        return base.Prediction(maps.squeeze(1), top_mean(maps, TOP))

    def findings(self) -> dict[str, Any]:
        """Return the fingerprint of the training images, and the recipe that followed from it."""
        return self._findings

    def state(self) -> dict[str, torch.Tensor]:
        """Return backbone, deviation, decoder, and the table of contrast."""
        parts = (prefixed(name, getattr(self, name)) for name in ("features", "deviation", "decoder"))
        return {"table": self.table} | {key: value for part in parts for key, value in part.items()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what `state` returned."""
        self._build(weights=False)
        self.table = state["table"].to(self.device)
        for name in ("features", "deviation", "decoder"):
            getattr(self, name).load_state_dict(unprefixed(name, state))
        self.decoder.eval()
