"""PatchCore (Roth et al. 2022): configuration and registration."""

from __future__ import annotations

from pydantic import Field

from anoseg_bench.methods import METHODS
from anoseg_bench.methods.backbones import BackboneConfig


class PatchCoreConfig(BackboneConfig):
    """Configuration of `patchcore`."""

    strides: tuple[int, ...] = Field((8, 16), min_length=1, description="of the feature maps used, finest first")
    coreset: float = Field(0.1, gt=0, le=1, description="share of the patches that the memory bank keeps")
    largest_bank: int = Field(20_000, ge=1, description="patches in the memory bank, at most")
    neighbours: int = Field(9, ge=1, description="neighbours in the bank that weigh the image score; 1: none does")
    smoothing: float = Field(4.0, ge=0, description="sigma of the map's Gaussian smoothing, in pixels at 256 px")


METHODS.register(
    "patchcore",
    "anoseg_bench.methods.patchcore.method:PatchCore",
    config=PatchCoreConfig,
    summary="PatchCore (Roth et al. 2022): distance to the nearest patch of normal images, by pretrained features",
    published=(
        "patchcore Wide ResNet-50",
        "another backbone (the paper: WideResNet-50), another image size, no crop, 10 % of the training images held out",
    ),
)
