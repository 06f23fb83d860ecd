"""PaDiM (Defard et al. 2021): configuration and registration."""

from __future__ import annotations

from pydantic import Field

from anoseg_bench.methods import METHODS
from anoseg_bench.methods.backbones import BackboneConfig


class PaDiMConfig(BackboneConfig):
    """Configuration of `padim`."""

    strides: tuple[int, ...] = Field((4, 8, 16), min_length=1, description="of the feature maps used, finest first")
    dimensions: int = Field(100, ge=1, description="features kept, drawn at random; all where there are fewer")
    regularisation: float = Field(0.01, gt=0, description="added to the diagonal of each covariance")
    smoothing: float = Field(4.0, ge=0, description="sigma of the map's Gaussian smoothing, in pixels at 256 px")


METHODS.register(
    "padim",
    "anoseg_bench.methods.padim.method:PaDiM",
    config=PaDiMConfig,
    summary="PaDiM (Defard et al. 2021): Mahalanobis distance to the normal images' features at a place, pretrained",
    published=(
        "PaDiM WR50 (paper)",
        "another backbone (the paper: WideResNet-50), another image size, no crop, 10 % of the training images held out",
    ),
)
