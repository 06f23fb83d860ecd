"""Losses of AnoSeg: segmentation, adversarial, masked reconstruction (known from the paper; their forms are ours)."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def segmentation_loss(
    logits: torch.Tensor, masks: torch.Tensor, weights: torch.Tensor, anomaly_weight: float = 1.0
) -> torch.Tensor:
    """Pixel-wise loss between map and reference mask: cross-entropy plus soft Dice over the batch.

    The paper's pixel-wise loss is known, its norm is not. Cross-entropy calibrates the map; Dice (Milletari et al.
    2016) copes with anomalies that cover few pixels.

    Parameters
    ----------
    logits, masks, weights : torch.Tensor
        float, (N, 1, H, W); the masks 0 or 1, and how much each pixel counts, 0 for nothing.
    anomaly_weight : float
        Weight of an anomalous pixel in the cross-entropy, beside 1 for a normal one (ours).
    """
    bolder = weights * (1 + (anomaly_weight - 1) * masks)
    entropy = F.binary_cross_entropy_with_logits(logits, masks, bolder, reduction="sum") / (weights.sum() + 1)
    probability, marked = torch.sigmoid(logits) * weights, masks * weights
    dice = 1 - (2 * (probability * masks).sum() + 1) / (probability.sum() + marked.sum() + 1)
    return entropy + dice


def reconstruction_loss(reconstruction: torch.Tensor, images: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """L1 between reconstruction and image on the normal region, i.e. where `normal` is not 0 (known; norm and weights are ours).

    Parameters
    ----------
    reconstruction, images : torch.Tensor
        float, (N, 3, H, W).
    normal : torch.Tensor
        float, (N, 1, H, W), the weights of the pixels.
    """
    return ((reconstruction - images).abs() * normal).sum() / (3 * normal.sum() + 1)


def normal_pair(images: torch.Tensor, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pair (image on its normal region, map) that the discriminator judges.

    Known: the pairs serve to learn the distribution of normal regions. Ours: how; the image is blanked by the map.
    """
    return images * (1 - maps), maps


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Hinge loss of the discriminator (Lim and Ye 2017; the kind of GAN is ours)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def adversarial_loss(fake: torch.Tensor) -> torch.Tensor:
    """Hinge loss of the generator."""
    return -fake.mean()
