"""Synthetic anomalies of AnoSeg: hard augmentation, shapes, blending, labels; one image at a time, on its pixels as uint8.

Known from the paper: *hard augmentation* (rotation by 90 degrees, tile permutation, colour jitter) moves a normal image
out of its distribution, a patch of it is pasted on a normal image, and the pasted region is the reference mask. Ours:
everything else; each addition is a switch of the configuration.

OpenCV works on the region of an anomaly only, most of them small, so that making a training image costs a few per cent
of what the network needs for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from numpy.random import Generator

from anoseg_bench.methods._normals import Normals
from anoseg_bench.methods.anoseg.recipe import WHOLE, Cut, Recipe

if TYPE_CHECKING:
    from anoseg_bench.methods.anoseg import AnomalyConfig

#: What `to_tensors` returns.
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
#: Labels of pixels. What a paste covers without changing it visibly is neither: the losses leave it out.
NORMAL, ANOMALOUS, UNDECIDED = 0, 1, 2

#: Share of training images with at least one, two, three, ... anomalies, and where all are small (ours).
ANOMALIES, SMALL_ANOMALIES = (0.8, 0.4, 0.15), (0.8, 0.64, 0.48, 0.32, 0.16)
#: Share of the anomalies that `mixture` leaves as the paper makes them (ours).
PLAIN = 0.5
#: Share of fine lines among the other anomalies (ours).
LINES = 0.25
#: Our additions to how one anomaly is made.
ADDITIONS = (
    "varied_shapes",
    "fine_lines",
    "foreign_patches",
    "synthetic_fill",
    "deformation",
    "placement",
    "blending",
    "visible_change",
)
#: Shares of the anomalies that fall on the foreground, where there is one, and of the patches that come from it (ours).
ON_FOREGROUND, FROM_FOREGROUND = 0.85, 0.8
#: Ranges of the normals' contrast and gamma, of the balance of their channels, and of shading across the image, as multiples of the
#: range of their brightness; share of the normals that are shaded (ours).
CONTRAST, GAMMA, WHITE_BALANCE, SHADING, SHADED = 0.6, 0.6, 0.25, 0.2, 0.3


class Scene(NamedTuple):
    """What an anomaly is put on.

    Attributes
    ----------
    image : numpy.ndarray
        uint8 (S, S, 3), changed in place.
    other : numpy.ndarray
        uint8 (S, S, 3), another normal image.
    here, there : numpy.ndarray or None
        float (M, 2), points (y, x) on the foregrounds of the two, where anomalies fall and patches come from; None for anywhere.
    grey : bool
        Whether the images have no colour; anomalies then have none either.
    """

    image: np.ndarray
    other: np.ndarray
    here: np.ndarray | None = None
    there: np.ndarray | None = None
    grey: bool = False


class Region(NamedTuple):
    """Where an anomaly lies: a window of the image and the opacity of the anomaly in it.

    Attributes
    ----------
    window : tuple of slice
        Rows and columns of the image.
    alpha : numpy.ndarray
        float32, the window's shape, in 0..1.
    size : float
        Square root of the area aimed at, px.
    fine : bool
        Whether it is a fine line.
    """

    window: tuple[slice, slice]
    alpha: np.ndarray
    size: float
    fine: bool = False


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """Return a value whose logarithm is uniform."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def smooth_noise(rng: Generator, shape: tuple[int, int], cell: float, channels: int = 1) -> np.ndarray:
    """Return smooth noise of about unit variance, float32 (H, W[, channels]), correlated over `cell` pixels."""
    height, width = (max(2, math.ceil(side / cell) + 2) for side in shape)
    coarse = rng.standard_normal((height, width, channels), np.float32)
    fine = cv2.resize(coarse, (int(width * cell) + 1, int(height * cell) + 1), interpolation=cv2.INTER_CUBIC)
    if fine.shape[0] < shape[0] or fine.shape[1] < shape[1]:
        fine = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return fine[: shape[0], : shape[1]] * 1.4


# --- hard augmentation (known) ------------------------------------------------------------------------------------------


def permute_tiles(image: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the 2x2 tiles of an image (S, S, 3) with an even side in another order: the old number of each new one."""
    half = image.shape[0] // 2
    tiles = image.reshape(2, half, 2, half, 3).transpose(0, 2, 1, 3, 4).reshape(4, half, half, 3)
    return tiles[order].reshape(2, 2, half, half, 3).transpose(0, 2, 1, 3, 4).reshape(image.shape)


def permute_point(point: np.ndarray, order: np.ndarray, side: int) -> np.ndarray:
    """Return where a point (x, y) of an image of a side is after `permute_tiles`."""
    half = side // 2
    old = np.clip(point // half, 0, 1)
    row, column = divmod(int(np.flatnonzero(order == 2 * old[1] + old[0])[0]), 2)
    return point - half * old + half * np.array([column, row])


def colour_jitter(rng: Generator, patch: np.ndarray, grey: bool, strength: float = 1.0) -> np.ndarray:
    """Change brightness and contrast of a patch, float32 (h, w, 3) in 0..255, and unless it is grey the balance of its channels."""
    contrast = math.exp(rng.uniform(-0.7, 0.7) * strength)
    shift = rng.uniform(-100, 100) * strength + (0.0 if grey else rng.uniform(-50, 50, 3).astype(np.float32) * strength)
    mean = np.float32(patch.mean())
    return (patch - mean) * np.float32(contrast) + (mean + np.float32(shift))


# --- shapes -------------------------------------------------------------------------------------------------------------


def point_of(rng: Generator, points: np.ndarray) -> np.ndarray:
    """Return one of some points (y, x), moved a little: they lie on a grid."""
    return points[rng.integers(len(points))] + rng.normal(0, 2, 2)


def place(rng: Generator, scene: Scene, seek_structure: bool) -> tuple[float, float]:
    """Return a point (y, x): of the foreground where there is one; else uniform, or of three that with most structure (ours)."""
    if scene.here is not None and rng.random() < ON_FOREGROUND:
        y, x = point_of(rng, scene.here)
        return float(y), float(x)
    image = scene.image
    side = image.shape[0]
    points = rng.uniform(0, side, (3 if seek_structure and rng.random() < 0.7 else 1, 2))
    if len(points) == 1:
        return float(points[0, 0]), float(points[0, 1])
    reach = max(3, side // 16)

    def structure(point: np.ndarray) -> float:
        y, x = (int(min(max(c, reach), side - reach)) for c in point)
        return float(image[y - reach : y + reach : 2, x - reach : x + reach : 2, 1].std())

    y, x = max(points, key=structure)
    return float(y), float(x)


def draw_region(rng: Generator, scene: Scene, config: AnomalyConfig, areas: tuple[float, float]) -> Region:
    """Draw the region of an anomaly, whose area is log-uniform: a rectangle; with `varied_shapes` also a scar, a blob or shreds.

    A region is {(u, v) : d(u, v) + noise < 1}, where d is 1 on the edge of a rotated rectangle or ellipse.
    """
    side = scene.image.shape[0]
    kind = rng.choice(["rectangle", "scar", "blob", "shreds"], p=[0.2, 0.25, 0.35, 0.2]) if config.varied_shapes else "rectangle"
    area, aspect = side * side * log_uniform(rng, *areas), log_uniform(rng, 0.3, 3.3)
    if kind == "scar":
        area, aspect = min(0.3 * area, 0.03 * side * side), 8 * max(aspect, 1 / aspect)
    angle = rng.uniform(0, math.pi) if config.varied_shapes else 0.0
    a, b = max(math.sqrt(area * aspect) / 2, 1.0), max(math.sqrt(area / aspect) / 2, 0.7)
    cy, cx = place(rng, scene, config.placement)
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    reach = 1.3 if config.varied_shapes else 1.0
    ry, rx = reach * (a * sin + b * cos) + 2, reach * (a * cos + b * sin) + 2
    if kind == "scar":
        ry, rx = ry + 0.5 * a * cos, rx + 0.5 * a * sin
    rows = slice(*np.clip([int(cy - ry), int(cy + ry) + 1], 0, side).tolist())  # none, where a turned part lies beside the image
    columns = slice(*np.clip([int(cx - rx), int(cx + rx) + 1], 0, side).tolist())
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(cy)
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None] - np.float32(cx)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    if kind == "scar":
        v = v + (rng.uniform(-0.5, 0.5) / a) * u * u
    if kind in ("rectangle", "scar"):
        distance = np.maximum(np.abs(u) / a, np.abs(v) / b)
    else:
        distance = np.sqrt((u / (1.13 * a)) ** 2 + (v / (1.13 * b)) ** 2)
    if kind != "rectangle":
        rough = {"scar": 0.3, "blob": 0.3, "shreds": 0.9}[kind]
        distance = distance + rough * smooth_noise(
            rng, distance.shape, max(2.0, (b if kind == "scar" else math.sqrt(a * b)) * rng.uniform(0.3, 1))
        )
    softness = log_uniform(rng, 1, 1 + 0.5 * b) if config.blending else 1.0  # width of the edge, px
    return Region((rows, columns), np.clip((1 - distance) * (b / softness) + 0.5, 0, 1), math.sqrt(area))


def draw_line(rng: Generator, scene: Scene, config: AnomalyConfig) -> Region:
    """Draw the region of a fine line: a scratch, a crack, a thread (ours).

    A line, straight or crooked, at times branched, is a walk of equal steps whose heading drifts and jumps. It is up to 1.2
    times as long as the image is wide, and from one pixel to 2 % of that wide.
    """
    side = scene.image.shape[0]
    length, width = side * log_uniform(rng, 0.06, 1.2), log_uniform(rng, 1, max(2.0, 0.02 * side))
    drift, jump = rng.uniform(0, 0.25), rng.uniform(0, 0.8) * (rng.random() < 0.5)
    step = max(2.0, side / 64)

    def walk(start: np.ndarray, heading: float, length: float) -> np.ndarray:
        count = max(2, round(length / step))
        headings = heading + np.cumsum(rng.normal(0, drift, count)) + rng.normal(0, jump, count)
        return start + np.cumsum(step * np.stack([np.cos(headings), np.sin(headings)], 1), 0)

    heading = rng.uniform(0, 2 * math.pi)
    trunk = walk(np.zeros(2), heading, length)
    lines = [trunk + np.array(place(rng, scene, config.placement))[::-1] - trunk[len(trunk) // 2]]  # (x, y)
    while rng.random() < 0.25 and len(lines) < 4:
        turn = rng.choice([-1, 1]) * rng.uniform(0.4, 1.3)
        lines.append(walk(lines[0][rng.integers(len(trunk))], heading + turn, length * rng.uniform(0.2, 0.6)))
    points = np.concatenate(lines)
    low = np.floor(points.min(0) - width - 2).clip(0, side).astype(int)
    high = np.ceil(points.max(0) + width + 2).clip(low, side).astype(int)
    alpha = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    if alpha.size:  # else it lies beside the image
        fine = alpha.repeat(4, 0).repeat(4, 1)
        cv2.polylines(fine, [np.round(4 * (line - low)).astype(np.int32) for line in lines], False, 255, max(1, round(4 * width)))
        alpha = cv2.resize(fine, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    return Region(window, alpha.astype(np.float32) / 255, math.sqrt(length * width), fine=True)


# --- what fills a region ------------------------------------------------------------------------------------------------


def cut(rng: Generator, scene: Scene, foreign: bool, region: Region, config: AnomalyConfig) -> np.ndarray:
    """Cut a patch for a region from elsewhere in an image; hard augmented at times (known), rescaled and turned (ours).

    Parameters
    ----------
    foreign : bool
        Whether from the other image.

    Returns
    -------
    numpy.ndarray
        float32 (h, w, 3), about 0..255.
    """
    source, points = (scene.other, scene.there) if foreign else (scene.image, scene.here)
    side = source.shape[0]
    (rows, columns), shape = region.window, region.alpha.shape
    hard = config.hard_augmentation and rng.random() < 0.6
    turns, scale, order = 0.0, 1.0, np.arange(4)
    if hard:
        turns = rng.integers(4) * math.pi / 2
        if rng.random() < 0.4:
            order = rng.permutation(4)
            source = permute_tiles(source, order)
    if config.foreign_patches and rng.random() < 0.5:
        scale = log_uniform(rng, 0.5, 2)
        turns += rng.uniform(-math.pi / 4, math.pi / 4)
    centre = np.array([(columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2])
    near = config.foreign_patches and rng.random() < 0.35  # from beside its place: a part is missing, doubled or moved
    if near:
        there = centre + rng.uniform(-0.2, 0.2, 2) * side
    elif points is not None and rng.random() < FROM_FOREGROUND:
        there = permute_point(point_of(rng, points)[::-1], order, side)
    else:
        there = rng.uniform(0.1, 0.9, 2) * side
    cos, sin = math.cos(turns) / scale, math.sin(turns) / scale
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    matrix[:, 2] = there - matrix[:, :2] @ np.array([shape[1] / 2, shape[0] / 2])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(source, matrix, shape[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101).astype(np.float32)
    return colour_jitter(rng, patch, scene.grey, rng.random()) if hard and rng.random() < 0.7 else patch


def fill(rng: Generator, here: np.ndarray, grey: bool) -> np.ndarray:
    """Return smooth random colours with some structure, float32 (h, w, 3): stains, holes, dust, foreign matter (ours)."""
    shape = here.shape[:2]
    colour = rng.uniform(0, 255, 1 if grey or rng.random() < 0.5 else 3).astype(np.float32)
    plain = np.broadcast_to(colour, (*shape, 3))
    if min(shape) <= 3:
        return plain
    cell = log_uniform(rng, 1.5, max(2.0, max(shape) / 3))
    return plain + np.float32(rng.uniform(0, 45)) * smooth_noise(rng, shape, cell)[..., None]


def deform(rng: Generator, image: np.ndarray, region: Region) -> np.ndarray:
    """Bend the image in a region: displace its pixels by smooth noise, float32 (h, w, 3) (ours)."""
    (rows, columns), shape = region.window, region.alpha.shape
    reach = log_uniform(rng, 2, max(3.0, min(0.5 * region.size, 0.12 * image.shape[0])))
    field = smooth_noise(rng, shape, max(3.0, 0.4 * max(shape)), 2) * np.float32(reach)
    field[..., 0] += np.arange(columns.start, columns.stop, dtype=np.float32)
    field[..., 1] += np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    return cv2.remap(image, field, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101).astype(np.float32)  # type: ignore[call-overload]


def retouch(rng: Generator, here: np.ndarray, grey: bool) -> np.ndarray:
    """Change colours or sharpness of what is there, float32 (h, w, 3): stains, shadows, worn places (ours)."""
    if rng.random() < 0.3 and min(here.shape[:2]) > 3:
        size = 2 * int(rng.uniform(1, max(2, min(here.shape[:2]) / 4))) + 1
        here = cv2.blur(here, (size, size), borderType=cv2.BORDER_REFLECT_101)
        return here if rng.random() < 0.5 else colour_jitter(rng, here, grey, 0.3)
    return colour_jitter(rng, here, grey, 0.7)


def shade(rng: Generator, here: np.ndarray) -> np.ndarray:
    """Darken or lighten what is there, float32 (h, w, 3): cracks and scratches (ours)."""
    return here * np.float32(rng.uniform(0.1, 0.8)) if rng.random() < 0.6 else here + np.float32(rng.uniform(20, 120))


def membrane(difference: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Spread the difference at the edge of a region smoothly over it.

    An approximation of the membrane that Poisson blending adds to a patch (Perez et al. 2003; Farbman et al. 2009): means
    over the edge in windows of three sizes, the smallest that sees enough of the edge counting most.

    Parameters
    ----------
    difference : numpy.ndarray
        float32 (h, w, 3), image minus patch.
    alpha : numpy.ndarray
        float32 (h, w), the region's opacity.
    """
    inside = (alpha > 0.5).astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    edge = (cv2.dilate(inside, kernel) - cv2.erode(inside, kernel, borderType=cv2.BORDER_REPLICATE)).astype(np.float32)
    if not edge.any():
        return np.zeros_like(difference)
    weighted = np.dstack([difference * edge[..., None], edge])
    spread = np.broadcast_to(weighted.sum((0, 1)) / edge.sum(), weighted.shape)[..., :3]
    for part in (1.0, 0.4, 0.15):
        size = 2 * int(part * max(alpha.shape) / 2) + 1
        near = cv2.blur(cv2.blur(weighted, (size, size)), (size, size))
        trust = np.minimum(1, near[..., 3:] * size)
        spread = spread + trust * (near[..., :3] / np.maximum(near[..., 3:], 1e-6) - spread)
    return spread


def blend(rng: Generator, here: np.ndarray, patch: np.ndarray, region: Region) -> np.ndarray:
    """Blend a patch into its surroundings, float32 (h, w, 3): at times seamlessly, at times faintly (ours)."""
    alpha = region.alpha
    if not region.fine and rng.random() < 0.4 and min(alpha.shape) > 3:
        patch = patch + membrane(here - patch, alpha)
    opacity = 1.0 if rng.random() < 0.6 else rng.uniform(0.2, 1)
    return here + (alpha * np.float32(opacity))[..., None] * (patch - here)


def patch_for(rng: Generator, scene: Scene, region: Region, config: AnomalyConfig) -> np.ndarray:
    """Return what fills a region, float32 (h, w, 3): most often a patch of a normal image."""
    here, grey = scene.image[region.window].astype(np.float32), scene.grey
    choice = rng.random()
    if region.fine and choice < 0.5:
        return shade(rng, here)
    if config.synthetic_fill and choice < (0.75 if region.fine else 0.2):
        return fill(rng, here, grey)
    if not region.fine and config.synthetic_fill and choice < 0.3:
        return retouch(rng, here, grey)
    if not region.fine and config.deformation and choice < 0.42:
        return deform(rng, scene.image, region)
    return cut(rng, scene, config.foreign_patches and rng.random() < 0.6, region, config)


@cache
def without_additions(config: AnomalyConfig) -> AnomalyConfig:
    """Return a configuration whose anomalies are the paper's alone: rectangles of the image itself, wholly anomalous."""
    return config.model_copy(update=dict.fromkeys(ADDITIONS, False))


# --- one anomaly, one image, one batch ----------------------------------------------------------------------------------


def label_region(before: np.ndarray, after: np.ndarray, region: Region, visible: int) -> np.ndarray:
    """Return the labels of a region: anomalous where the change is visible, as a human would outline it (ours).

    Gaps that are small beside the region are closed. The rest of what was pasted stays undecided.

    Parameters
    ----------
    before, after : numpy.ndarray
        uint8 (h, w, 3).
    visible : int
        A change of more than so many of 255, in any channel, is.
    """
    change = cv2.blur(cv2.absdiff(before, after).max(2), (3, 3))
    seen = (change > visible).astype(np.uint8)
    reach = int(np.clip(0.15 * region.size, 1, 12))
    border = cv2.copyMakeBorder(seen, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=0)
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    closed = cv2.erode(cv2.dilate(border, kernel), kernel, borderType=cv2.BORDER_REPLICATE)[reach:-reach, reach:-reach]
    labels = np.where(region.alpha > 0.02, np.uint8(UNDECIDED), np.uint8(NORMAL))
    labels[(closed > 0) & (region.alpha > 0.25)] = ANOMALOUS
    return labels


def paste(rng: Generator, scene: Scene, labels: np.ndarray, config: AnomalyConfig, recipe: Recipe) -> None:
    """Put one synthetic anomaly on a scene's image and its labels, in place.

    Parameters
    ----------
    labels : numpy.ndarray
        uint8 (S, S).
    config : AnomalyConfig
        Its switches say what takes part.
    """
    if config.mixture and rng.random() < PLAIN:
        config = without_additions(config)
    if config.fine_lines and rng.random() < LINES:
        region = draw_line(rng, scene, config)
    else:
        region = draw_region(rng, scene, config, recipe.areas)
    if region.alpha.size == 0:
        return
    before = scene.image[region.window]
    here = before.astype(np.float32)
    patch = patch_for(rng, scene, region, config)
    after = blend(rng, here, patch, region) if config.blending else np.where(region.alpha[..., None] > 0.5, patch, here)
    after = np.clip(after, 0, 255).astype(np.uint8)
    if config.visible_change:
        new = label_region(before, after, region, recipe.visible)
    else:
        new = np.where(region.alpha > 0.5, np.uint8(ANOMALOUS), np.uint8(NORMAL))
    scene.image[region.window] = after
    old = labels[region.window]
    labels[region.window] = np.where((old == ANOMALOUS) | (new == NORMAL), old, new)


def draw_motion(rng: Generator, side: int, turns: bool, much: float = 1.0) -> np.ndarray:
    """Return a slight shift, turn and scaling about the centre of an image, float (2, 3); the turn by any angle on demand."""
    angle = rng.uniform(-math.pi, math.pi) if turns else much * rng.uniform(-0.05, 0.05)
    scale = math.exp(much * rng.uniform(-0.04, 0.04))
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    centre = np.full(2, (side - 1) / 2)
    matrix[:, 2] = centre + much * rng.uniform(-0.03, 0.03, 2) * side - matrix[:, :2] @ centre
    return matrix


def move(image: np.ndarray, matrix: np.ndarray, background: np.ndarray | None = None) -> np.ndarray:
    """Return an image moved by (x, y) -> matrix (x, y, 1), uint8 (S, S, 3); before a given background, only what stands out."""
    if background is None:
        return cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    standing_out = cv2.subtract(image, background, dtype=cv2.CV_16S)
    moved = cv2.warpAffine(standing_out, matrix, image.shape[1::-1], flags=cv2.INTER_LINEAR)
    return cv2.add(background, moved, dtype=cv2.CV_8U)


def expose(rng: Generator, image: np.ndarray, strength: float, grey: bool) -> np.ndarray:
    """Return an image under another exposure, uint8 (S, S, 3): brightness, contrast, gamma, white balance, slight shading (ours).

    Parameters
    ----------
    strength : float
        Range of the brightness, a log ratio: its factor lies between exp(-strength) and exp(strength).
    """
    gain, contrast, gamma = np.exp(rng.uniform(-strength, strength, 3) * (1, CONTRAST, GAMMA))
    balance = np.ones(3) if grey else np.exp(WHITE_BALANCE * rng.uniform(-strength, strength, 3))
    middle = max(image.mean() / 255, 1e-3)  # contrast and gamma leave it where it is
    values = middle * (np.linspace(0, 1, 256)[:, None] / middle) ** gamma
    table = gain * balance * (middle + contrast * (values - middle))
    exposed = cv2.LUT(image, np.clip(255 * table + 0.5, 0, 255).astype(np.uint8).reshape(1, 256, 3))
    if rng.random() < SHADED:
        direction, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0, SHADING * strength)
        across = np.linspace(-1, 1, image.shape[0], dtype=np.float32)
        factor = 1 + np.float32(slope) * (math.sin(direction) * across[:, None] + math.cos(direction) * across)
        exposed = cv2.multiply(exposed, cv2.merge([factor.astype(np.float32)] * 3), dtype=cv2.CV_8U)
    return exposed


@dataclass(frozen=True)
class Source:
    """Makes training images of the normals of a category.

    Attributes
    ----------
    normals : Normals
        What they are made of.
    config : AnomalyConfig
        Its switches say what takes part.
    recipe : Recipe
        What follows from the normals' fingerprint.
    points : list of numpy.ndarray or None
        For each normal, points (y, x) of its foreground, float (M, 2), where that counts.
    grey : bool
        Whether the normals have no colour.
    """

    normals: Normals
    config: AnomalyConfig
    recipe: Recipe
    points: list[np.ndarray] | None
    grey: bool

    @classmethod
    def of(cls, images: np.ndarray, config: AnomalyConfig, cut: Cut = WHOLE) -> Source:
        """Look at normal images, uint8 (N, S, S, 3), and decide how to make training images of them; for `cut` see `Recipe.of`."""
        normals = Normals.of(images)
        recipe = Recipe.of(normals.fingerprint, config, cut)
        points = [2.0 * np.argwhere(layer.foreground[::2, ::2]) for layer in normals.layers] if recipe.on_foreground else None
        grey = bool((images.max(-1).astype(np.int16) - images.min(-1)).max() <= 8)
        return cls(normals, config, recipe, points, grey)

    def __len__(self) -> int:
        return len(self.normals.images)

    def _points(self, index: int, matrix: np.ndarray | None = None) -> np.ndarray | None:
        """Return the points of a normal's foreground, moved with it; None where they do not count, or there are none."""
        if self.points is None or not len(self.points[index]):
            return None
        if matrix is None:
            return self.points[index]
        return (self.points[index][:, ::-1] @ matrix[:, :2].T + matrix[:, 2])[:, ::-1]

    def normal(self, rng: Generator, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return a normal, moved and under another exposure, uint8 (S, S, 3), its pixels' weights, and points of its foreground."""
        image, layers = self.normals.images[index], self.normals.layers[index]
        weights = np.ones(image.shape[:2], np.uint8)
        if self.recipe.foreground_weight > 1:
            weights[layers.foreground] = self.recipe.foreground_weight
        if not self.config.normal_augmentation:
            return image, weights, self._points(index)
        moves = self.recipe.motion > 0 or self.recipe.turns
        matrix = draw_motion(rng, image.shape[0], self.recipe.turns, self.recipe.motion) if moves else np.eye(2, 3)
        if self.recipe.foreground_weight > 1:
            weights = cv2.warpAffine(weights, matrix, weights.shape[::-1], flags=cv2.INTER_NEAREST, borderValue=1)
        moved = move(image, matrix, layers.background if self.recipe.turns and self.normals.fingerprint.plain else None)
        return expose(rng, moved, self.recipe.exposure, self.grey), weights, self._points(index, matrix)

    def batch(self, rng: Generator, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Make a training batch: a part of the images stays normal, the others carry some anomalies.

        Parameters
        ----------
        index : numpy.ndarray
            (N,), which normals make the batch.

        Returns
        -------
        images, clean : numpy.ndarray
            uint8 (N, S, S, 3), with the anomalies and before they were added.
        labels : numpy.ndarray
            uint8 (N, S, S): `NORMAL`, `ANOMALOUS` or `UNDECIDED`.
        weights : numpy.ndarray
            uint8 (N, S, S): how much a pixel counts, at least 1.
        """
        normals, weights, points = zip(*(self.normal(rng, i) for i in index), strict=True)
        clean = np.stack(normals)
        out, labels = clean.copy(), np.zeros(clean.shape[:3], np.uint8)
        for image, here, label in zip(out, points, labels, strict=True):
            some = rng.random()
            for share in SMALL_ANOMALIES if self.recipe.small else ANOMALIES:
                if some < share:
                    other = int(rng.integers(len(self.normals.images)))
                    scene = Scene(image, self.normals.images[other], here, self._points(other), self.grey)
                    paste(rng, scene, label, self.config, self.recipe)
        return out, clean, labels, np.stack(weights)


def to_tensors(arrays: tuple[torch.Tensor, ...]) -> Batch:
    """Return what a training learns from, for what `Source.batch` makes.

    images, clean : float32 (N, 3, S, S) in [-1, 1], channels last; masks : float32 (N, 1, S, S), 0 or 1; weights : the same,
    0 where a pixel is not valid, else how much a pixel counts.
    """
    images, clean, labels, weights = arrays
    images, clean = (x.permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (images, clean))
    return images, clean, (labels == ANOMALOUS)[:, None].float(), (weights * (labels != UNDECIDED))[:, None].float()
