"""PatchCore (Roth et al. 2022): configuration and registration."""

from __future__ import annotations

from pydantic import Field

from anoseg_bench.methods import METHODS
from anoseg_bench.methods.backbones import DistanceConfig


class PatchCoreConfig(DistanceConfig):
    """Configuration of `patchcore`."""

    largest_pool: int = Field(
        200_000, ge=1, description="patches that the bank is chosen from, at most: an even share of each image's, drawn at random"
    )
    coreset: float = Field(0.1, gt=0, le=1, description="share of these patches that the memory bank keeps")
    neighbours: int = Field(9, ge=1, description="neighbours in the bank that weigh the image score; 1: none does")


METHODS.register(
    "patchcore",
    "anoseg_bench.methods.patchcore.method:PatchCore",
    config=PatchCoreConfig,
    summary="PatchCore (Roth et al. 2022): distance to the nearest patch of normal images, by pretrained features",
    published=("patchcore Wide ResNet-50", PatchCoreConfig.DIFFERS),
)
