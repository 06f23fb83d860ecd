"""Reconstruction-error baselines (Bergmann et al. 2018): configuration and registration."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from anoseg_bench.methods import METHODS
from anoseg_bench.methods.base import TrainedConfig

PUBLISHED_EPOCHS = 200


class AutoencoderConfig(TrainedConfig):
    """Configuration of `ae_recon` and `ae_ssim`."""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "demo": {"image_size": 64, "steps": 150},
        "quick": {"epochs": 30},
    }

    image_size: int = Field(
        128,
        ge=32,
        le=2048,
        multiple_of=32,
        description="side of the square that images are resized to, px; the paper's network is for 128",
    )
    epochs: int = Field(PUBLISHED_EPOCHS, ge=1, description="passes over the training images, if steps is not given")
    latent: int = Field(100, ge=1, description="size of the bottleneck")
    learning_rate: float = Field(2e-4, gt=0)
    weight_decay: float = Field(1e-5, ge=0)
    batch_size: int = Field(8, ge=1, description="images per training step and per prediction")

    def deviations(self) -> str | None:
        """Return how the schedule is shorter than the published one."""
        if self.steps is not None:
            return f"{self.steps} updates (published: {PUBLISHED_EPOCHS} epochs)"
        return f"{self.epochs} epochs (published: {PUBLISHED_EPOCHS})" if self.epochs < PUBLISHED_EPOCHS else None


DIFFERS = "no augmentation of the training images, another image size"

METHODS.register(
    "ae_recon",
    "anoseg_bench.methods.autoencoder.method:ReconstructionAE",
    config=AutoencoderConfig,
    aliases=("ae_l2",),
    summary="autoencoder, squared reconstruction error (Bergmann et al. 2018)",
    published=("AE-L2", DIFFERS),
)
METHODS.register(
    "ae_ssim",
    "anoseg_bench.methods.autoencoder.method:StructuralAE",
    config=AutoencoderConfig,
    summary="autoencoder, structural dissimilarity (Bergmann et al. 2018)",
    published=("AE-SSIM", DIFFERS),
)
