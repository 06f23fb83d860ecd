"""Synthetic anomalies of AnoSeg: hard augmentation, shapes, blending, masks; all on batches, on the training device.

Known from the paper: hard augmentation (rotation, tile permutation, colour jitter) moves a normal image out of its
distribution and a part of it is pasted on a normal image; the pasted region is the reference mask. Ours: everything else.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from methods.anoseg import AnoSegConfig


def uniform(n: int, low: float, high: float, like: torch.Tensor) -> torch.Tensor:
    """Return n uniform values as (n, 1, 1, 1)."""
    return torch.rand(n, 1, 1, 1, device=like.device) * (high - low) + low


def chance(n: int, p: float, like: torch.Tensor) -> torch.Tensor:
    """Return n booleans, each True with probability p, as (n, 1, 1, 1)."""
    return torch.rand(n, 1, 1, 1, device=like.device) < p


def warp(images: torch.Tensor, angle: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Rotate by `angle` (radians), magnify by `scale` and shift (fraction of the side), mirrored at the borders.

    Parameters
    ----------
    images : torch.Tensor
        (N, C, H, W).
    angle, scale : torch.Tensor
        (N, 1, 1, 1).
    shift : torch.Tensor
        (N, 2).
    """
    a, s = angle.flatten(), scale.flatten()
    theta = torch.stack([torch.cos(a) / s, -torch.sin(a) / s, shift[:, 0], torch.sin(a) / s, torch.cos(a) / s, shift[:, 1]], 1)
    grid = F.affine_grid(theta.view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def colour_jitter(images: torch.Tensor, strength: float, grey: bool) -> torch.Tensor:
    """Change contrast, brightness and, unless the images are grey, the balance of the channels.

    The strength varies from image to image, and a third keep their colours: only structure and place betray them.

    Parameters
    ----------
    images : torch.Tensor
        (N, 3, H, W) in 0..1.
    strength : float
        Largest change of brightness.
    """
    n = len(images)
    amount = uniform(n, -0.5, 1, images).clamp(min=0)
    mean = images.mean((2, 3), keepdim=True)
    channels = 1 if grey else 3
    shift = (torch.rand(n, channels, 1, 1, device=images.device) * 2 - 1) * strength * (1.0 if grey else 0.5)
    brightness = uniform(n, -strength, strength, images) * (0.0 if grey else 1.0)
    contrast = torch.exp(uniform(n, -0.7, 0.7, images) * amount)
    return ((images - mean) * contrast + mean + (brightness + shift) * amount).clamp(0, 1)


def hard_augment(images: torch.Tensor, grey: bool) -> torch.Tensor:
    """Augment hard, as the paper does: rotation by 90-degree steps, permutation of 2x2 tiles, colour jitter.

    Parameters
    ----------
    images : torch.Tensor
        (N, 3, S, S) in 0..1.
    """
    out = []
    half = images.shape[-1] // 2
    for image, turns, permute in zip(images, torch.randint(4, (len(images),)), torch.rand(len(images)) < 0.5, strict=True):
        turned = torch.rot90(image, int(turns), (1, 2))
        if permute:
            tiles = [turned[:, i : i + half, j : j + half] for i in (0, half) for j in (0, half)]
            a, b, c, d = torch.randperm(4).tolist()
            turned = torch.cat([torch.cat([tiles[a], tiles[b]], 2), torch.cat([tiles[c], tiles[d]], 2)], 1)
        out.append(turned)
    return colour_jitter(torch.stack(out), 0.4, grey)


def smooth_noise(n: int, size: int, cells: list[int], like: torch.Tensor, channels: int = 1) -> torch.Tensor:
    """Value noise of unit variance, shape (N, channels, size, size), as many cells per side as one of `cells`, per image."""
    noise = torch.empty(n, channels, size, size, device=like.device)
    pick = torch.randint(len(cells), (n,))
    for k, c in enumerate(cells):
        index = (pick == k).nonzero().flatten().to(like.device)
        if len(index):
            grid = torch.randn(len(index), channels, c + 3, c + 3, device=like.device)
            noise[index] = F.interpolate(grid, size=(size, size), mode="bicubic", align_corners=True)
    return noise / 0.7


def shapes(n: int, size: int, varied: bool, like: torch.Tensor) -> torch.Tensor:
    """Draw one soft region per image, shape (N, 1, size, size) in 0..1: rectangles, scars, blobs, noise shapes.

    Areas are log-uniform from 0.1 % to 30 % of the image. A region is {u : d(u) + noise(u) < 1}, where d is 1 on
    the edge of a rotated rectangle or ellipse.
    """
    axis = torch.linspace(-1, 1, size, device=like.device)
    x, y = axis.view(1, 1, 1, -1), axis.view(1, 1, -1, 1)
    cx, cy, angle = uniform(n, -1, 1, like), uniform(n, -1, 1, like), uniform(n, 0, math.pi, like)
    area = torch.exp(uniform(n, math.log(1e-3), math.log(0.3), like))
    aspect = torch.exp(uniform(n, math.log(0.3), math.log(3.3), like))
    kind = torch.randint(4 if varied else 1, (n, 1, 1, 1), device=like.device)  # rectangle, scar, blob, noise
    scar = kind == 1
    area = torch.where(scar, (area * 0.3).clamp(max=0.03), area)
    aspect = torch.where(scar, aspect.clamp(min=1) * 8, aspect)
    a = torch.sqrt(area * aspect).clamp(min=2 / size)  # half axes; the side of the image is 2
    b = torch.sqrt(area / aspect).clamp(min=1.2 / size)
    u = (x - cx) * torch.cos(angle) + (y - cy) * torch.sin(angle)
    v = (y - cy) * torch.cos(angle) - (x - cx) * torch.sin(angle)
    v = torch.where(scar, v + uniform(n, -0.6, 0.6, like) * u * u / a.clamp(min=0.05), v)
    box = torch.maximum((u / a).abs(), (v / b).abs())
    ellipse = torch.sqrt((u / (1.13 * a)) ** 2 + (v / (1.13 * b)) ** 2)
    distance = torch.where(kind >= 2, ellipse, box)
    if varied:
        noise = smooth_noise(n, size, [6, 12, 24], like)
        distance = distance + torch.where(kind == 2, 0.35, torch.where(kind == 3, 1.0, torch.where(scar, 0.3, 0.0))) * noise
        distance = torch.where(kind == 3, distance * 0.8 + 0.1, distance)
    edge = (b * size / 2).clamp(max=20)  # with this steepness the region fades over about two pixels
    if varied:
        edge = edge * torch.exp(uniform(n, math.log(0.15), 0, like))
    return torch.sigmoid((1 - distance) * 2 * edge)


def paste(images: torch.Tensor, config: AnoSegConfig, grey: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Put one synthetic anomaly on each image.

    Parameters
    ----------
    images : torch.Tensor
        float, (N, 3, S, S) in 0..1.
    config : AnoSegConfig
        Its switches say what takes part.
    grey : bool
        Whether the images have no colour; anomalies then have none either.

    Returns
    -------
    images : torch.Tensor
        With anomalies, (N, 3, S, S).
    masks : torch.Tensor
        bool, (N, 1, S, S).
    """
    n, _, size, _ = images.shape
    patch = images
    if config.foreign_patches:
        patch = torch.where(chance(n, 0.7, images), images[torch.randperm(n, device=images.device)], patch)
    if config.hard_augmentation:
        patch = hard_augment(patch, grey)
    scale = torch.exp(uniform(n, -0.7, 0.7, images)) if config.foreign_patches else torch.ones(n, 1, 1, 1, device=images.device)
    angle = uniform(n, -math.pi / 4, math.pi / 4, images) * chance(n, 0.5 if config.foreign_patches else 0.0, images)
    patch = warp(patch, angle, scale, torch.rand(n, 2, device=images.device) * 2 - 1)
    if config.synthetic_fill:
        patch = torch.where(chance(n, 0.25, images), random_fill(images, grey), patch)
    if config.deformation:
        patch = torch.where(chance(n, 0.2, images), deform(images), patch)
    alpha = shapes(n, size, config.varied_shapes, images)
    region = alpha > 0.5
    if config.blending:
        low = F.avg_pool2d(F.avg_pool2d(images - patch, 9, 1, 4), 9, 1, 4)
        patch = torch.where(chance(n, 0.25, images), (patch + low).clamp(0, 1), patch)  # seamless: the image's own colour
        blended = images + alpha * uniform(n, 0.25, 1.3, images).clamp(max=1) * (patch - images)
    else:
        blended = torch.where(region, patch, images)
    if config.visible_change:
        region = region & visible(blended - images)
    return blended, region


def deform(images: torch.Tensor) -> torch.Tensor:
    """Bend the images: displace their pixels by smooth noise of up to a tenth of the side, (N, 3, S, S) in 0..1."""
    n, _, size, _ = images.shape
    field = smooth_noise(n, size, [4, 8, 16], images, 2) * uniform(n, 0.02, 0.12, images)
    identity = torch.eye(2, 3, device=images.device).expand(n, 2, 3)
    grid = F.affine_grid(identity, list(images.shape), align_corners=False) + field.permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def visible(difference: torch.Tensor) -> torch.Tensor:
    """Return where a paste changes the image visibly, closed over gaps, as bool (N, 1, S, S).

    Parameters
    ----------
    difference : torch.Tensor
        (N, 3, S, S), of images in 0..1.
    """
    width = difference.shape[-1] // 64 * 2 + 1
    change = F.avg_pool2d(difference.abs().amax(1, keepdim=True), 3, 1, 1, count_include_pad=False)
    grown = F.max_pool2d((change > 0.04).float(), width, 1, width // 2)
    return -F.max_pool2d(-grown, width, 1, width // 2) > 0.5


def random_fill(images: torch.Tensor, grey: bool) -> torch.Tensor:
    """Return smooth random colours with some structure, (N, 3, S, S) in 0..1: stains, holes, dust, foreign matter."""
    n, _, size, _ = images.shape
    channels = 1 if grey else 3
    base = torch.rand(n, 1, 1, 1, device=images.device)
    tint = 0.0 if grey else (torch.rand(n, 3, 1, 1, device=images.device) - 0.5) * uniform(n, 0, 1, images)
    noise = smooth_noise(n, size, [8, 24, 48], images, channels) * uniform(n, 0, 0.15, images)
    return (base + tint + noise).expand(n, 3, size, size).clamp(0, 1)


def augment_normal(images: torch.Tensor) -> torch.Tensor:
    """Shift and rotate slightly and change the brightness and contrast a little, (N, 3, S, S) in 0..1 (ours)."""
    n = len(images)
    shift = (torch.rand(n, 2, device=images.device) * 2 - 1) * 0.04
    moved = warp(images, uniform(n, -0.05, 0.05, images), torch.exp(uniform(n, -0.04, 0.04, images)), shift)
    return (moved * uniform(n, 0.93, 1.07, images) + uniform(n, -0.03, 0.03, images)).clamp(0, 1)


def training_batch(normals: torch.Tensor, config: AnoSegConfig, grey: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a training batch: a quarter of the images stays normal, the others carry one to three anomalies.

    Parameters
    ----------
    normals : torch.Tensor
        uint8, (N, 3, S, S).

    Returns
    -------
    images : torch.Tensor
        float, (N, 3, S, S) in 0..1.
    masks : torch.Tensor
        float, (N, 1, S, S), 0 or 1.
    """
    images = normals.float() / 255
    if config.normal_augmentation:
        images = augment_normal(images)
    n, _, size, _ = images.shape
    masks = torch.zeros(n, 1, size, size, dtype=torch.bool, device=images.device)
    some = torch.rand(n, device=images.device)
    for p in (0.75, 0.35, 0.15):
        index = (some < p).nonzero().flatten()
        if len(index):
            images[index], region = paste(images[index], config, grey)
            masks[index] |= region
    return images, masks.float()
