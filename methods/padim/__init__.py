"""PaDiM (Defard et al. 2021): configuration and registration."""

from __future__ import annotations

from pydantic import Field

from anoseg_bench.methods import METHODS
from anoseg_bench.methods.backbones import DistanceConfig


class PaDiMConfig(DistanceConfig):
    """Configuration of `padim`."""

    strides: tuple[int, ...] = Field((4, 8, 16), min_length=1, description="of the feature maps used, finest first")
    dimensions: int = Field(200, ge=1, description="features kept, drawn at random; all where there are fewer")
    regularisation: float = Field(0.01, gt=0, description="added to the diagonal of each covariance")


METHODS.register(
    "padim",
    "anoseg_bench.methods.padim.method:PaDiM",
    config=PaDiMConfig,
    summary="PaDiM (Defard et al. 2021): Mahalanobis distance to the normal images' features at a place, pretrained",
    published=("PaDiM WR50 (paper)", PaDiMConfig.DIFFERS),
)
