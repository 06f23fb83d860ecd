"""The two augmentations of CutPaste (Li et al. 2021, section 2.2 and appendix A), with the paper's ranges."""

from __future__ import annotations

import math

import torch
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as tf

JITTER = ColorJitter(0.1, 0.1, 0.1, 0.1)


def _uniform(low: float, high: float) -> float:
    return float(torch.rand(())) * (high - low) + low


def _place(size: int, extent: int) -> int:
    return int(torch.randint(size - extent + 1, ()))


def _crop(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    top, left = _place(image.shape[1], height), _place(image.shape[2], width)
    return JITTER(image[:, top : top + height, left : left + width])


def cutpaste(image: torch.Tensor) -> torch.Tensor:
    """Paste a patch of the image, of 2 to 15 % of its area and aspect ratio 0.3 to 3.3, at another place.

    Parameters
    ----------
    image : torch.Tensor
        float, (3, H, W) in 0..1; not changed.
    """
    _, h, w = image.shape
    area = _uniform(0.02, 0.15) * h * w
    aspect = math.exp(_uniform(math.log(0.3), math.log(3.3)))
    height, width = (max(1, min(side, round(math.sqrt(a)))) for side, a in ((h, area / aspect), (w, area * aspect)))
    patch = _crop(image, height, width)
    top, left = _place(h, height), _place(w, width)
    out = image.clone()
    out[:, top : top + height, left : left + width] = patch
    return out


def cutpaste_scar(image: torch.Tensor) -> torch.Tensor:
    """Paste a thin patch, 2-16 by 10-25 px at 256 px, rotated by -45 to 45 degrees, at another place.

    Parameters
    ----------
    image : torch.Tensor
        float, (3, H, W) in 0..1; not changed.
    """
    _, h, w = image.shape
    scale = min(h, w) / 256
    width, height = max(1, round(_uniform(2, 16) * scale)), max(2, round(_uniform(10, 25) * scale))
    patch = torch.cat([_crop(image, height, width), torch.ones(1, height, width)])
    patch = tf.rotate(patch, _uniform(-45, 45), expand=True)
    patch, inside = patch[:3], patch[3:] > 0.5
    top, left = _place(h, patch.shape[1]), _place(w, patch.shape[2])
    out = image.clone()
    view = out[:, top : top + patch.shape[1], left : left + patch.shape[2]]
    view.copy_(torch.where(inside, patch, view))
    return out
