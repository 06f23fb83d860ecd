"""AnoSeg from top to bottom: training of generator and discriminator, training of the detector, prediction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms.functional import gaussian_blur

from methods import base
from methods._layers import batches
from methods.anoseg import AnoSegConfig
from methods.anoseg.anomalies import training_batch
from methods.anoseg.detector import Detector
from methods.anoseg.losses import (
    adversarial_loss,
    discriminator_loss,
    normal_pair,
    reconstruction_loss,
    segmentation_loss,
)
from methods.anoseg.network import Discriminator, Generator


class AnoSeg(base.Method):
    """AnoSeg (Song et al. 2021): the network outputs the anomaly map directly; see the package for what is ours."""

    Config = AnoSegConfig
    probability = True

    def _build(self) -> None:
        self.generator = (
            Generator(self.config.width, self.config.coord).to(torch.device(self.device)).to(memory_format=torch.channels_last)
        )
        self.detector = Detector().to(self.device)

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        config = self.config
        self._build()
        grey = bool((images.amax(1).int() - images.amin(1).int()).max() <= 8)
        steps = config.total_steps(len(images))
        detector_steps = steps // 8 if config.detector else 0
        total = steps + detector_steps
        for step, loss in enumerate(self._fit_generator(images, steps, grey), 1):
            progress(step, total, loss)
        for step, loss in enumerate(self._fit_detector(images, detector_steps, grey), steps + 1):
            progress(step, total, loss)

    def _fit_generator(self, images, steps, grey):
        """Train generator and discriminator in turn; yields the generator's loss."""
        config, generator = self.config, self.generator.train()
        discriminator = Discriminator().to(self.device)
        optimiser = torch.optim.AdamW(generator.parameters(), config.learning_rate, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=max(20, steps), pct_start=0.1)
        opponent = torch.optim.Adam(discriminator.parameters(), 2e-4, betas=(0.5, 0.999))
        average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(min(0.99, 1 - 10 / (steps + 10))), use_buffers=True)
        for normals in batches(images, config.batch_size, steps, self.device):
            x, masks = training_batch(normals, config, grey)
            x = x * 2 - 1
            logits, reconstruction = generator(x)
            loss = segmentation_loss(logits, masks)
            if config.reconstruction:
                loss = loss + config.reconstruction_weight * reconstruction_loss(reconstruction, x, masks)
            if config.adversarial:
                fake = normal_pair(reconstruction, torch.sigmoid(logits))
                loss = loss + config.adversarial_weight * adversarial_loss(discriminator(*fake))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(generator.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            average.update_parameters(generator)
            if config.adversarial:
                real = discriminator(*normal_pair(x, masks))
                opponent_loss = discriminator_loss(real, discriminator(*(t.detach() for t in fake)))
                opponent.zero_grad(set_to_none=True)
                opponent_loss.backward()
                opponent.step()
            yield loss.item()
        if config.weight_averaging:
            generator.load_state_dict(average.module.state_dict())
        generator.eval()

    def _fit_detector(self, images, steps, grey):
        """Train the detector on synthetic anomalies and the maps that the finished generator gives them."""
        detector = self.detector.train()
        optimiser = torch.optim.AdamW(detector.parameters(), 1e-3, weight_decay=1e-3)
        for normals in batches(images, self.config.batch_size, steps, self.device):
            x, masks = training_batch(normals, self.config, grey)
            with torch.no_grad():
                maps = self._maps(x)
            target = masks.flatten(1).amax(1)
            loss = F.binary_cross_entropy_with_logits(detector(x * 2 - 1, maps), target)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            yield loss.item()
        detector.eval()

    def _maps(self, images: torch.Tensor) -> torch.Tensor:
        """Return smoothed maps (N, 1, S, S) in 0..1 for images in 0..1."""
        maps = torch.sigmoid(self.generator(images * 2 - 1)[0])
        sigma = self.config.smoothing * images.shape[-1] / 128
        return gaussian_blur(maps, 2 * int(3 * sigma) + 1, sigma) if sigma > 0 else maps

    @torch.no_grad()
    def _predict(self, images: torch.Tensor) -> base.Prediction:
        x = images.float() / 255
        maps = self._maps(x).clamp(0, 1)
        scores = None
        if self.config.detector:
            scores = (torch.sigmoid(self.detector(x * 2 - 1, maps)) + maps.flatten(1).amax(1)) / 2
        return base.Prediction(maps.squeeze(1), scores)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights of generator and detector."""
        return {
            f"{name}.{key}": value
            for name, net in (("generator", self.generator), ("detector", self.detector))
            for key, value in net.state_dict().items()
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the weights."""
        self._build()
        for name, net in (("generator", self.generator), ("detector", self.detector)):
            net.load_state_dict({k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")})
            net.eval()
