"""CutPaste (Li et al. 2021) with GradCAM (Selvaraju et al. 2017): configuration and registration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from anoseg_bench.methods import METHODS
from anoseg_bench.methods.backbones import OptionalWeights, describe_weights
from anoseg_bench.methods.base import TrainedConfig

PUBLISHED_STEPS, PUBLISHED_VIEWS = 256 * 256, 64


class GradCAMConfig(TrainedConfig):
    """Configuration of `gradcam`."""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "demo": {"image_size": 64, "steps": 50},
        "quick": {"steps": 250},
    }

    backbone: str = Field("resnet18", description="a timm model")
    layer: str = Field("layer4", description="the module whose activations GradCAM weighs")
    weights: OptionalWeights = Field(
        None, description="start from these: a file (.safetensors, .pth), auto (an installed package's, or timm's cache), timm"
    )
    batch_size: int = Field(8, ge=1, description="normal images per training step, each in 3 views; images per prediction")
    steps: int | None = Field(800, ge=1, description="updates; takes the place of epochs and min_steps")
    learning_rate: float = Field(0.03, gt=0)

    def pretrained(self) -> str | None:
        """Return which weights the classifier starts from, for the tables' footnotes."""
        return None if self.weights is None else describe_weights(self.backbone, Path(self.weights))

    def deviations(self) -> str | None:
        """Return how the schedule is shorter than the published one."""
        views = 3 * self.batch_size
        steps = f"{self.steps} updates" if self.steps is not None else f"{self.epochs} epochs"
        return f"{steps} of {views} views (published: {PUBLISHED_STEPS} updates, batch {PUBLISHED_VIEWS})"


METHODS.register(
    "gradcam",
    "anoseg_bench.methods.gradcam.method:CutPasteGradCAM",
    config=GradCAMConfig,
    aliases=("cutpaste_gradcam",),
    summary="GradCAM of the CutPaste 3-way classifier (Li et al. 2021) on a timm backbone, from scratch by default",
    published=(
        "CutPaste 3-way (paper)",
        "far fewer updates, a network from scratch, another image size, maps by GradCAM and the classifier's own score; how the "
        "printed maps were made is not said there",
    ),
)
