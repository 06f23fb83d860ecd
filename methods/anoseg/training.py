"""Training of AnoSeg: generator against discriminator, then the detector on the generator's maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from anoseg_bench.methods._training import Descent, is_reported
from anoseg_bench.methods.anoseg import AnoSegConfig
from anoseg_bench.methods.anoseg.anomalies import Batch
from anoseg_bench.methods.anoseg.detector import Detector
from anoseg_bench.methods.anoseg.losses import (
    adversarial_loss,
    discriminator_loss,
    normal_pair,
    reconstruction_loss,
    segmentation_loss,
)
from anoseg_bench.methods.anoseg.network import Discriminator, Generator

#: Steps that a GPU takes one kernel after another before it records them as one graph.
WARM_UP = 3


class Rivals:
    """Generator and discriminator in training, in float32: in bfloat16 they learn less, see docs/anoseg.md."""

    def __init__(self, generator: Generator, steps: int, config: AnoSegConfig, device: str) -> None:
        self.generator, self.config = generator, config
        self.discriminator = Discriminator().to(device).to(memory_format=torch.channels_last)
        self.descent = Descent(generator, steps, config.learning_rate, device, config.weight_averaging)
        self.opponent = torch.optim.Adam(
            self.discriminator.parameters(), 2e-4, betas=(0.5, 0.999), capturable=device.startswith("cuda"), fused=True
        )

    def step(self, x: torch.Tensor, clean: torch.Tensor, masks: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Train both by one batch; returns the generator's loss."""
        config = self.config
        logits, reconstruction = self.generator(x)
        loss = segmentation_loss(logits, masks, weights, config.anomaly_weight)
        normal = (1 - masks) * weights
        if config.reconstruction:
            loss = loss + config.reconstruction_weight * reconstruction_loss(reconstruction, x, normal)
        if config.restoration:
            loss = loss + config.restoration_weight * reconstruction_loss(reconstruction, clean, (normal == 0).float())
        if config.adversarial:
            pair = normal_pair(reconstruction, torch.sigmoid(logits))
            self.discriminator.requires_grad_(False)
            loss = loss + config.adversarial_weight * adversarial_loss(self.discriminator(*pair))
        self.descent.step(loss)
        if config.adversarial:
            self._step_discriminator(normal_pair(x, masks), pair)
        return loss.detach()

    def _step_discriminator(self, real: tuple[torch.Tensor, torch.Tensor], fake: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Train the discriminator to tell pairs of image and reference mask from those of the generator."""
        self.discriminator.requires_grad_(True)
        pairs = (torch.cat([r, f.detach()]) for r, f in zip(real, fake, strict=True))
        loss = discriminator_loss(*self.discriminator(*pairs).chunk(2))
        self.opponent.zero_grad(set_to_none=True)
        loss.backward()
        self.opponent.step()


class Recorded:
    """A step that a GPU replays as one graph: its many small kernels would otherwise wait for their launches.

    Parameters
    ----------
    step : callable
        Takes a batch and returns a loss; its tensors keep their shapes.
    device : str
        Elsewhere than on CUDA, the step is called as it is.
    """

    def __init__(self, step: Callable[..., torch.Tensor], device: str) -> None:
        self.step, self.calls = step, 0
        self.stream = torch.cuda.Stream(device) if device.startswith("cuda") else None
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *batch: torch.Tensor) -> torch.Tensor:
        if self.stream is None:
            return self.step(*batch)
        self.calls += 1
        if self.calls <= WARM_UP:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                loss = self.step(*batch)
            torch.cuda.current_stream().wait_stream(self.stream)
            return loss
        if self.graph is None:
            self.graph, self.batch = torch.cuda.CUDAGraph(), [part.clone() for part in batch]
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # others pin memory meanwhile
                self.loss = self.step(*self.batch)
        torch._foreach_copy_(self.batch, list(batch))
        self.graph.replay()
        return self.loss


def train_generator(
    generator: Generator, batches: Iterator[Batch], steps: int, config: AnoSegConfig, device: str
) -> Iterator[tuple[int, float]]:
    """Train generator and discriminator in turn, and leave the generator with its averaged weights.

    Yields
    ------
    tuple of int and float
        A step, from 1, and its loss; not of every step.
    """
    generator.train()
    rivals = Rivals(generator, steps, config, device)
    advance = Recorded(rivals.step, device)
    for step in range(1, steps + 1):
        loss = advance(*next(batches))
        rivals.descent.schedule.step()
        if is_reported(step, steps):
            yield step, loss.item()
    rivals.descent.finish()


def train_detector(
    detector: Detector, maps_of: Callable[[torch.Tensor], torch.Tensor], batches: Iterator[Batch], steps: int, device: str
) -> Iterator[tuple[int, float]]:
    """Train the detector on synthetic anomalies and the maps that the finished generator gives them; yields as above."""
    detector.train()
    optimiser = torch.optim.AdamW(detector.parameters(), 1e-3, weight_decay=1e-3)
    for step in range(1, steps + 1):
        x, _, masks, _ = next(batches)
        maps = maps_of(x)
        loss = F.binary_cross_entropy_with_logits(detector(x, maps), masks.flatten(1).amax(1))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if is_reported(step, steps):
            yield step, loss.item()
    detector.eval()
