"""Autoencoders of Bergmann et al. 2018, "Improving unsupervised defect segmentation ... structural similarity"."""

from __future__ import annotations

import abc
import math

import torch
from kornia.metrics import ssim
from torch import nn

from anoseg_bench.methods import base
from anoseg_bench.methods._layers import batches
from anoseg_bench.methods.autoencoder import AutoencoderConfig

#: (channels, kernel, stride) of the encoder for 128 px, without the bottleneck (Table 1 of the paper).
LAYERS = [(32, 4, 2), (32, 4, 2), (32, 3, 1), (64, 4, 2), (64, 3, 1), (128, 4, 2), (64, 3, 1), (32, 3, 1)]


def autoencoder(size: int, latent: int) -> nn.Sequential:
    """Build the paper's autoencoder for images of `size` px: for each doubling over 128 px one strided layer more.

    The encoder ends in a convolution over all that is left (8x8 at powers of two), linear, to `latent` numbers; the
    decoder mirrors it. LeakyReLU with slope 0.2 everywhere else; the output is in 0..1.
    """
    halvings = int(math.log2(size / 8))  # so that 8 to 15 pixels are left for the bottleneck
    extra = halvings - 4
    layers = [(32, 4, 2)] * extra + LAYERS[max(0, -extra) :]
    rest = size // 2**halvings
    encoder: list[nn.Module] = []
    decoder: list[nn.Module] = []
    inputs = 3
    for outputs, kernel, stride in layers:
        encoder += [nn.Conv2d(inputs, outputs, kernel, stride, 1), nn.LeakyReLU(0.2, inplace=True)]
        decoder = [nn.LeakyReLU(0.2, inplace=True), nn.ConvTranspose2d(outputs, inputs, kernel, stride, 1), *decoder]
        inputs = outputs
    bottleneck = [nn.Conv2d(inputs, latent, rest), nn.ConvTranspose2d(latent, inputs, rest)]
    return nn.Sequential(*encoder, *bottleneck, *decoder, nn.Sigmoid())


class Autoencoder(base.Method):
    """What both autoencoders share; they differ in `error`, which is the loss as well as the map."""

    Config = AutoencoderConfig

    @abc.abstractmethod
    def error(self, images: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        """Return the error per pixel, (N, H, W), of images (N, 3, H, W) in 0..1."""

    def _build(self) -> nn.Module:
        return (
            autoencoder(self.config.image_size, self.config.latent)
            .to(torch.device(self.device))
            .to(memory_format=torch.channels_last)
        )

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        config = self.config
        self.net = self._build().train()
        optimiser = torch.optim.Adam(self.net.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        steps = config.total_steps(len(images))
        for step, batch in enumerate(batches(images, config.batch_size, steps, self.device), 1):
            x = (batch.float() / 255).contiguous(memory_format=torch.channels_last)
            loss = self.error(x, self.net(x)).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            progress(step, steps, loss.item())
        self.net.eval()

    @torch.no_grad()
    def _predict(self, images: torch.Tensor) -> base.Prediction:
        x = images.float() / 255
        return base.Prediction(self.error(x, self.net(x)))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights."""
        return self.net.state_dict()

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the weights."""
        self.net = self._build().eval()
        self.net.load_state_dict(state)


class ReconstructionAE(Autoencoder):
    """Autoencoder with the squared error, averaged over the channels."""

    def error(self, images: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        """Return the mean over channels of the squared difference."""
        return (images - reconstruction).square().mean(1)


class StructuralAE(Autoencoder):
    """Autoencoder with the structural dissimilarity (1 - SSIM) / 2, window 11, averaged over the channels."""

    def error(self, images: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        """Return (1 - SSIM) / 2 (Wang et al. 2004), the mean over channels."""
        return (1 - ssim(images, reconstruction, window_size=11).mean(1)) / 2
