"""Feature maps of a frozen backbone, and how maps of distances become anomaly maps: what methods on pretrained features share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from anoseg_bench.errors import MethodError
from anoseg_bench.methods import base
from anoseg_bench.methods.backbones import create_model


@torch.no_grad()
def fold_normalisation(net: nn.Module) -> None:
    """Fold batch normalisations of a frozen network, in place, into the convolutions whose output they take.

    Which those are is seen by following a small image through the network.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in net.modules()):
        return
    net.eval()
    made: dict[int, tuple[nn.Conv2d, torch.Tensor]] = {}
    pairs: dict[nn.BatchNorm2d, nn.Conv2d] = {}

    def after(conv: nn.Module, _: Any, output: torch.Tensor) -> None:
        made[id(output)] = (cast("nn.Conv2d", conv), output)

    def before(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if id(inputs[0]) in made:
            pairs[cast("nn.BatchNorm2d", norm)] = made[id(inputs[0])][0]

    hooks = [m.register_forward_hook(after) for m in net.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(before) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    net(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    for name, norm in list(net.named_modules()):
        if isinstance(norm, nn.BatchNorm2d) and norm in pairs:
            conv = pairs[norm]
            assert norm.running_mean is not None and norm.running_var is not None
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            rest = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]  # of timm's BatchNormAct2d
            parent, _, child = name.rpartition(".")
            setattr(net.get_submodule(parent), child, nn.Sequential(*rest))


class Features(nn.Module):
    """The feature maps of a timm model at some strides, frozen.

    Parameters
    ----------
    weights : path or None
        None for random weights, which `load_state_dict` then replaces.
    strides : sequence of int
        Of the feature maps wanted, finest first.

    Raises
    ------
    MethodError
        If the model has no such feature map; the message says which it has.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: str, weights: Path | None, strides: Sequence[int]) -> None:
        super().__init__()
        with torch.device("meta"):  # facts alone
            known: Any = create_model(backbone, None, features_only=True)[0].feature_info
        there = known.reduction()
        if missing := [stride for stride in strides if stride not in there]:
            have = ", ".join(map(str, dict.fromkeys(there)))
            raise MethodError(f"'{backbone}' has no feature map of stride {missing[0]}; it has {have}.")
        last = [max(i for i, stride in enumerate(there) if stride == wanted) for wanted in strides]
        self.net, mean, std = create_model(backbone, weights, features_only=True, out_indices=tuple(last))
        self.channels = [known.channels()[i] for i in last]
        if isinstance(blocks := getattr(self.net, "blocks", None), nn.Sequential):  # of other networks timm itself leaves out
            del blocks[known.info[max(last)]["stage"] :]  # the stages after the last one wanted
        fold_normalisation(self.net)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take over the tensors of a state; those of stages after the last one wanted, which older models have, are passed over."""
        own = self.state_dict()
        return super().load_state_dict({key: value for key, value in state_dict.items() if key in own}, strict, assign)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return feature maps (N, C, S / stride, S / stride) of images, uint8 (N, 3, S, S)."""
        x = (images.float() - self.mean) / self.std
        return self.net(x.contiguous(memory_format=torch.channels_last))


class Smoothing(nn.Module):
    """Brings maps of patches (N, h, w) to the size of images and smooths them by a Gaussian.

    Both steps are linear and separable, so a map M becomes A M A', where the columns of A are what becomes of a single row.

    Parameters
    ----------
    grid, size : int
        Sides of what comes in and goes out.
    sigma : float
        Of the Gaussian, px; its window ends at 4 sigma.
    mode : {"nearest", "bilinear"}
        How maps are enlarged.
    """

    matrix: torch.Tensor

    def __init__(self, grid: int, size: int, sigma: float, mode: str) -> None:
        super().__init__()
        rows = F.interpolate(torch.eye(grid)[:, None], size=size, mode="linear" if mode == "bilinear" else mode)  # (grid, 1, size)
        if sigma > 0:
            reach = min(int(4 * sigma + 0.5), size - 1)
            kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
            rows = F.conv1d(F.pad(rows, (reach, reach), mode="reflect"), (kernel / kernel.sum()).view(1, 1, -1))
        self.register_buffer("matrix", rows[:, 0].T.contiguous(), persistent=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return maps (N, size, size) for maps (N, grid, grid)."""
        return self.matrix @ maps @ self.matrix.T


class DistanceMethod(base.Method):
    """A method whose map is the distance of feature maps from those of normal images, brought to the size of the images."""

    #: How maps are enlarged.
    enlarge: ClassVar[str] = "bilinear"

    def _build(self, weights: bool) -> None:
        """Make the backbone, with its weights or with random ones that a state takes the place of."""
        config = self.config
        self.features = Features(config.backbone, config.weights if weights else None, config.strides)
        self.features.to(torch.device(self.device)).to(memory_format=torch.channels_last)
        grid, size = -(-config.image_size // config.strides[0]), config.image_size
        self.smoothing = Smoothing(grid, size, config.smoothing * size / 256, self.enlarge).to(self.device)


def prefixed(name: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of a module under ``name.``, for a method's `state`."""
    return {f"{name}.{key}": value for key, value in module.state_dict().items()}


def unprefixed(name: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors that `prefixed` put into a state."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
