"""NSA (Schlüter et al. 2022): configuration and registration.

What the paper sets by hand for each category follows here from the training images (ours), or is set by hand for all of them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from anoseg_bench.methods import METHODS
from anoseg_bench.methods.base import Auto, MethodConfig

PUBLISHED_IMAGES = 64_000


class NSAConfig(MethodConfig):
    """Configuration of `nsa`; published values unless said otherwise."""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "demo": {"image_size": 64, "images_seen": 3000, "batch_size": 16},
        "quick": {"image_size": 128, "images_seen": 6000, "batch_size": 16},
    }

    image_size: int = Field(256, ge=64, le=2048, multiple_of=32, description="side of the square that images are resized to, px")
    batch_size: int = Field(32, ge=1, description="images per training step (published: 64) and per prediction")
    images_seen: int = Field(PUBLISHED_IMAGES, ge=1, description="training images made (published: 320 or 560 passes)")
    width: int = Field(16, ge=4, description="half the channels of the first level of the U-Net (ours)")
    learning_rate: float = Field(1e-3, gt=0, description="at its highest (published: Adam from there along a cosine)")
    soft_labels: bool = Field(True, description="labels grow with the change, by a logistic curve; else any change is anomalous")
    patches: Auto | Annotated[int, Field(ge=1)] = Field("auto", description="patches in an image, at most (auto: 3, in textures 4)")
    largest_half_width: Auto | Annotated[float, Field(gt=0.03, le=0.45)] = Field(
        "auto", description="of patches, as a share of the side (auto: by the inner width of the foreground)"
    )
    foreground: Auto | bool = Field("auto", description="patches lie on the foreground (auto: before a plain background)")
    midpoint: Auto | Annotated[float, Field(gt=0, le=255)] = Field(
        "auto", description="change of grey whose label is 0.5 (auto: by the grain)"
    )
    texture: Auto | bool = Field("auto", description="normals are flipped, gradients mixed, patches resized by 0.5 to 2")
    turns: Auto | bool = Field("auto", description="normals are turned by up to 5 degrees (auto: what lies in any direction is)")

    @property
    def steps(self) -> int:
        """Updates."""
        return -(-self.images_seen // self.batch_size)

    def deviations(self) -> str | None:
        """Return how the schedule is shorter than the published one."""
        if self.images_seen >= PUBLISHED_IMAGES:
            return None
        return f"{self.images_seen} training images (published: 320 or 560 passes over some 200)"


METHODS.register(
    "nsa",
    "anoseg_bench.methods.nsa.method:NSA",
    config=NSAConfig,
    summary="NSA (Schlüter et al. 2022): a network that segments patches of other images, blended in seamlessly",
    published=(
        "NSA logistic",
        "its settings by category are rules here; 64,000 training images in every category instead of 320 or 560 passes; "
        "whole images instead of crops, a U-Net and descent as for anoseg "
        "instead of a ResNet-18 without connections and Adam; batches of 32",
    ),
)
