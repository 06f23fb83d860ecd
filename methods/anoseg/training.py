"""Training of AnoSeg: generator against discriminator, then the detector on the generator's maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from methods.anoseg import AnoSegConfig
from methods.anoseg.batches import Batch
from methods.anoseg.detector import Detector
from methods.anoseg.losses import (
    adversarial_loss,
    discriminator_loss,
    normal_pair,
    reconstruction_loss,
    segmentation_loss,
)
from methods.anoseg.network import Discriminator, Generator


def mixed_precision(device: str) -> torch.autocast:
    """Return the context in which convolutions compute in bfloat16, where the device does so by itself.

    On CPUs with AVX512-BF16 a step of the generator then takes little more than half the time of float32; others would emulate it.
    """
    kind = torch.device(device).type
    able = torch.cuda.is_bf16_supported(False) if kind == "cuda" else kind == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(kind, torch.bfloat16, enabled=able)


def train_generator(
    generator: Generator, batches: Iterator[Batch], steps: int, config: AnoSegConfig, device: str
) -> Iterator[float]:
    """Train generator and discriminator in turn, and leave the generator with its averaged weights; yields its loss.

    Ours: AdamW with a one-cycle schedule (Smith and Topin 2018), an exponential moving average of the weights.
    """
    generator.train()
    discriminator = Discriminator().to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(generator.parameters(), config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=max(20, steps), pct_start=0.1)
    opponent = torch.optim.Adam(discriminator.parameters(), 2e-4, betas=(0.5, 0.999))
    average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(min(0.99, 1 - 10 / (steps + 10))), use_buffers=True)
    for _ in range(steps):
        x, clean, masks, decided = next(batches)
        with mixed_precision(device):
            logits, reconstruction = generator(x)
        logits, reconstruction = logits.float(), reconstruction.float()
        loss = segmentation_loss(logits, masks, decided, config.anomaly_weight)
        normal = (1 - masks) * decided
        if config.reconstruction:
            loss = loss + config.reconstruction_weight * reconstruction_loss(reconstruction, x, normal)
        if config.restoration:
            loss = loss + config.restoration_weight * reconstruction_loss(reconstruction, clean, 1 - normal)
        if config.adversarial:
            pair = normal_pair(reconstruction, torch.sigmoid(logits))
            with mixed_precision(device):
                judged = discriminator(*pair)
            loss = loss + config.adversarial_weight * adversarial_loss(judged.float())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(generator.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(generator)
        if config.adversarial:
            train_discriminator(discriminator, opponent, normal_pair(x, masks), pair, device)
        yield loss.item()
    if config.weight_averaging:
        generator.load_state_dict(average.module.state_dict())
    generator.eval()


def train_discriminator(
    discriminator: Discriminator,
    optimiser: torch.optim.Optimizer,
    real: tuple[torch.Tensor, torch.Tensor],
    fake: tuple[torch.Tensor, torch.Tensor],
    device: str,
) -> None:
    """Train the discriminator for one step to tell pairs of image and reference mask from those of the generator."""
    with mixed_precision(device):
        judged, doubted = discriminator(*real), discriminator(*(part.detach() for part in fake))
    loss = discriminator_loss(judged.float(), doubted.float())
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def train_detector(
    detector: Detector, maps_of: Callable[[torch.Tensor], torch.Tensor], batches: Iterator[Batch], steps: int, device: str
) -> Iterator[float]:
    """Train the detector on synthetic anomalies and the maps that the finished generator gives them; yields its loss."""
    detector.train()
    optimiser = torch.optim.AdamW(detector.parameters(), 1e-3, weight_decay=1e-3)
    for _ in range(steps):
        x, _, masks, _ = next(batches)
        with mixed_precision(device):
            maps = maps_of(x)
        loss = F.binary_cross_entropy_with_logits(detector(x, maps), masks.flatten(1).amax(1))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        yield loss.item()
    detector.eval()
