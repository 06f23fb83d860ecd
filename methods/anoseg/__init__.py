"""AnoSeg (Song et al. 2021, arXiv 2110.03396): configuration and registration; the parts are modules beside this one.

What the abstract and reviews of the paper state is marked *known*; what they leave open is our choice, marked *ours*.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from anoseg_bench.methods import METHODS
from anoseg_bench.methods.backbones import BackboneConfig
from anoseg_bench.methods.base import Auto, MethodConfig

#: How many times as large as what the networks see the images are that a part is cut out of.
ZOOM = 2


class AnomalyConfig(MethodConfig):
    """What decides how synthetic anomalies are made: each addition of ours has a switch of its own."""

    image_size: int = Field(256, ge=64, le=2048, multiple_of=32, description="side of the square that images are resized to, px")
    batch_size: int = Field(32, ge=1, description="images per training step and per prediction")
    images_seen: int = Field(144_000, ge=1, description="training images that the network learns from, whatever the batch (ours)")

    hard_augmentation: bool = Field(True, description="rotate, permute and jitter what is pasted, as the paper does")
    coord: bool = Field(True, description="two coordinate channels in [-1, 1], joined to the deepest levels (where: ours)")

    # our additions
    varied_shapes: bool = Field(True, description="ours: scars, blobs and noise shapes beside rectangles")
    fine_lines: bool = Field(True, description="ours: a part of the anomalies are fine lines: scratches, cracks, threads")
    foreign_patches: bool = Field(True, description="ours: patches of other training images, rescaled, beside the image's own")
    synthetic_fill: bool = Field(True, description="ours: a part of the anomalies is filled with smooth random colour")
    deformation: bool = Field(True, description="ours: a part of the anomalies bends the image instead")
    placement: bool = Field(True, description="ours: anomalies fall more often where the image has structure")
    blending: bool = Field(True, description="ours: opacities from faint to full and soft or seamless edges")
    visible_change: bool = Field(True, description="ours: the mask is kept only where the paste changes the image visibly")
    mixture: bool = Field(True, description="ours: half of the anomalies stay as the paper makes them, hard and whole")
    normal_augmentation: bool = Field(True, description="ours: slight shifts and turns of the normals, and other exposures")
    motion: bool = Field(True, description="ours: these shifts and turns, but for the turns of what turns freely")
    contrast: bool = Field(True, description="ours: images that use a part of the range of values only are stretched to it")
    same_light: bool = Field(True, description="ours: images darker or brighter than the normal ones are brought into their light")
    weight_averaging: bool = Field(True, description="ours: predict with an exponential moving average of the weights")

    # rules: "auto" follows from the training images, see `recipe`; what is set by hand holds for any category
    # (but a weight of the foreground where there is none)
    foreground: bool = Field(True, description="ours: before a plain background, anomalies fall on the foreground")
    foreground_weight: Auto | Annotated[int, Field(ge=1, le=255)] = Field(
        "auto", description="ours: how much a pixel of the foreground counts in the losses, beside 1 for one of the background"
    )
    largest_area: Auto | Annotated[float, Field(gt=0, le=1)] = Field(
        "auto", description="ours: of an anomaly, as a share of the image"
    )
    turns: Auto | bool = Field("auto", description="ours: normals are turned by any angle")
    pose: bool = Field(True, description="ours: a part that lies in any direction is cut out and turned the same way")
    visible: Auto | Annotated[int, Field(ge=0, lt=255)] = Field(
        "auto", description="ours: a change of more than that is an anomaly"
    )
    exposure: Auto | Annotated[float, Field(ge=0, le=1)] = Field(
        "auto", description="ours: range of the normals' brightness, as a log ratio"
    )

    anomaly_weight: float = Field(
        3.0, gt=0, description="ours: weight of anomalous pixels in the cross-entropy; above 1 the map is bolder"
    )
    learning_rate: float = Field(2e-3, gt=0)
    smoothing: float = Field(1.0, ge=0, description="ours: sigma of the map's Gaussian smoothing, in pixels at 128 px")

    @property
    def steps(self) -> int:
        """Updates of the network that gives the map."""
        return -(-self.images_seen // self.batch_size)

    @property
    def input_size(self) -> int:
        """Side of the images that the method is given, px: larger, where a part may be cut out of them."""
        return self.image_size * (ZOOM if self.pose else 1)


class AnoSegConfig(AnomalyConfig):
    """Configuration of AnoSeg; every part of the paper and every addition of ours has a switch of its own."""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "demo": {"image_size": 64, "images_seen": 4000, "batch_size": 16},
        "quick": {"image_size": 96, "images_seen": 9_000, "batch_size": 16},
    }

    version: ClassVar[int] = 12

    # the paper's parts (known), beside those of the anomalies; their weights are ours
    adversarial: bool = Field(True, description="adversarial loss on (image, map) pairs")
    adversarial_weight: float = Field(0.02, ge=0)
    reconstruction: bool = Field(True, description="reconstruction loss on normal regions")
    reconstruction_weight: float = Field(1.0, ge=0)
    detector: bool = Field(True, description="a classifier of (image, map) gives an image score of its own")
    detector_map: bool = Field(True, description="the detector sees the map beside the image")
    detector_in_score: bool = Field(False, description="the image score is the mean of the map's and the detector's")

    # our additions
    restoration: bool = Field(True, description="ours: under anomalies, the reconstruction learns what was there before")
    restoration_weight: float = Field(1.0, ge=0)
    comparison: bool = Field(True, description="ours: a second small U-Net sees the difference of image and reconstruction")

    width: int = Field(16, ge=4, description="half the channels of the first level of the U-Net (ours)")

    @property
    def detector_steps(self) -> int:
        """Updates of the detector, on as many more batches (ours)."""
        return self.steps // 8 if self.detector else 0


class AnoSegPretrainedConfig(AnomalyConfig, BackboneConfig):
    """Configuration of `anoseg_pretrained`: AnoSeg's anomalies and rules, and the backbone."""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "demo": {"image_size": 64, "images_seen": 2000},
        "quick": {"image_size": 128, "images_seen": 4000},
    }

    version: ClassVar[int] = 6

    motion: bool = Field(
        False, description="shifts and turns of the normals, whose features are compared with those at their place"
    )
    batch_size: int = Field(16, ge=1, description="images per training step and per prediction")
    images_seen: int = Field(16_000, ge=1, description="training images that the decoder learns from, whatever the batch")
    strides: tuple[int, ...] = Field((2, 4, 8, 16), min_length=1, description="of the feature maps used, finest first")
    widths: tuple[int, ...] = Field(
        (32, 32, 48, 64, 96), min_length=2, description="channels of the decoder: at full size, at each stride"
    )

    @model_validator(mode="after")
    def _as_many(self) -> AnoSegPretrainedConfig:
        if len(self.widths) != len(self.strides) + 1:
            raise ValueError(f"expected one of widths more than strides, but got {len(self.widths)} and {len(self.strides)}")
        return self


METHODS.register(
    "anoseg",
    "anoseg_bench.methods.anoseg.method:AnoSeg",
    config=AnoSegConfig,
    summary="AnoSeg (Song et al. 2021): a network that outputs the anomaly map directly, trained on synthetic anomalies",
    published=(
        "AnoSeg",
        "what the paper leaves open, networks, schedule and details of its anomalies, and what it does not have, further kinds of "
        "anomalies and rules from the training images, are this project's: docs/anoseg.md",
    ),
)
METHODS.register(
    "anoseg_pretrained",
    "anoseg_bench.methods.anoseg.pretrained:AnoSegPretrained",
    config=AnoSegPretrainedConfig,
    summary="AnoSeg's anomalies and rules over a frozen pretrained backbone: a decoder gives the map (ours)",
)
