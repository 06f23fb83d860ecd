"""Training of AnoSeg: generator against discriminator, then the detector on the generator's maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from anoseg_bench.methods.anoseg import AnomalyConfig, AnoSegConfig
from anoseg_bench.methods.anoseg.batches import Batch
from anoseg_bench.methods.anoseg.detector import Detector
from anoseg_bench.methods.anoseg.losses import (
    adversarial_loss,
    discriminator_loss,
    normal_pair,
    reconstruction_loss,
    segmentation_loss,
)
from anoseg_bench.methods.anoseg.network import Discriminator, Generator

#: Losses of a training that are reported: reading one makes a GPU wait.
REPORTED = 200
#: Steps that a GPU takes one kernel after another before it records them as one graph.
WARM_UP = 3


def mixed_precision(device: str) -> torch.autocast:
    """Return the context in which convolutions compute in bfloat16, where the device does so by itself.

    On CPUs with AVX512-BF16 a step of the generator then takes little more than half the time of float32; others would emulate it.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        able = torch.cuda.is_bf16_supported(False)
    else:
        able = kind == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(kind, torch.bfloat16, enabled=able)


class Descent:
    """A network in training: AdamW with a one-cycle schedule (Smith and Topin 2018), a moving average of the weights (all ours)."""

    def __init__(self, net: nn.Module, steps: int, config: AnomalyConfig, device: str) -> None:
        self.net, self.averages = net, config.weight_averaging
        capturable = device.startswith("cuda")
        rate = torch.tensor(config.learning_rate, device=device) if capturable else config.learning_rate
        self.optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=1e-4, capturable=capturable, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, config.learning_rate, total_steps=max(20, steps), pct_start=0.1, cycle_momentum=False
        )
        self.weights = [value for value in net.state_dict().values() if value.is_floating_point()]
        self.average = [value.clone() for value in self.weights]
        self.update_average = get_ema_multi_avg_fn(min(0.99, 1 - 10 / (steps + 10)))

    def step(self, loss: torch.Tensor) -> None:
        """Change the weights by a loss; the schedule is the caller's."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        if self.averages:
            with torch.no_grad():
                self.update_average(self.average, self.weights, None)

    @torch.no_grad()
    def finish(self) -> None:
        """Leave the network with its averaged weights."""
        if self.averages:
            torch._foreach_copy_(self.weights, self.average)
        self.net.eval()


class Rivals:
    """Generator and discriminator in training."""

    def __init__(self, generator: Generator, steps: int, config: AnoSegConfig, device: str) -> None:
        self.generator, self.config, self.device = generator, config, device
        self.discriminator = Discriminator().to(device).to(memory_format=torch.channels_last)
        self.descent = Descent(generator, steps, config, device)
        self.opponent = torch.optim.Adam(
            self.discriminator.parameters(), 2e-4, betas=(0.5, 0.999), capturable=device.startswith("cuda"), fused=True
        )

    def step(self, x: torch.Tensor, clean: torch.Tensor, masks: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Train both by one batch; returns the generator's loss."""
        config = self.config
        with mixed_precision(self.device):
            logits, reconstruction = self.generator(x)
        logits, reconstruction = logits.float(), reconstruction.float()
        loss = segmentation_loss(logits, masks, weights, config.anomaly_weight)
        normal = (1 - masks) * weights
        if config.reconstruction:
            loss = loss + config.reconstruction_weight * reconstruction_loss(reconstruction, x, normal)
        if config.restoration:
            loss = loss + config.restoration_weight * reconstruction_loss(reconstruction, clean, (normal == 0).float())
        if config.adversarial:
            pair = normal_pair(reconstruction, torch.sigmoid(logits))
            self.discriminator.requires_grad_(False)
            with mixed_precision(self.device):
                fake_logits = self.discriminator(*pair)
            loss = loss + config.adversarial_weight * adversarial_loss(fake_logits.float())
        self.descent.step(loss)
        if config.adversarial:
            self._step_discriminator(normal_pair(x, masks), pair)
        return loss.detach()

    def _step_discriminator(self, real: tuple[torch.Tensor, torch.Tensor], fake: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Train the discriminator to tell pairs of image and reference mask from those of the generator."""
        self.discriminator.requires_grad_(True)
        with mixed_precision(self.device):
            pairs = (torch.cat([r, f.detach()]) for r, f in zip(real, fake, strict=True))
            real_logits, fake_logits = self.discriminator(*pairs).chunk(2)
        loss = discriminator_loss(real_logits.float(), fake_logits.float())
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


def is_reported(step: int, steps: int) -> bool:
    """Return whether the loss of a step, from 1, is read and reported."""
    return step % max(1, steps // REPORTED) == 0 or step == steps


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
        with mixed_precision(device):
            maps = maps_of(x)
        loss = F.binary_cross_entropy_with_logits(detector(x, maps), masks.flatten(1).amax(1))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if is_reported(step, steps):
            yield step, loss.item()
    detector.eval()
