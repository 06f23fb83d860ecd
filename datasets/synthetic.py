"""The embedded data set: industrial textures and objects drawn from seeds, with defects whose masks are exact.

Every drawing function draws the clean scene from `rng` and the defect from `flaw`, a generator of its own: the same item
drawn without its defect is the same picture outside the mask. Colours are RGB in [0, 1], lengths are pixels, positions
are (y, x); a signed distance is negative inside its shape.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator
from pydantic import Field

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import GOOD, Category, Dataset, DatasetConfig, Item, Origin
from anoseg_bench.errors import DataError

#: Raised whenever an image or a mask changes.
VERSION = 2

Size = tuple[int, int]
Colour = tuple[float, float, float]
Draw = Callable[[Generator, Size, str | None, Generator], "Canvas"]


@dataclass
class Canvas:
    """A scene while it is drawn; float32 throughout.

    Attributes
    ----------
    rgb : numpy.ndarray
        The colours, shape (H, W, 3).
    y, x : numpy.ndarray
        The pixel centres, shape (H, W).
    flaw : numpy.ndarray
        The part of each pixel that the defect covers, in [0, 1], shape (H, W).
    """

    rgb: np.ndarray
    y: np.ndarray
    x: np.ndarray
    flaw: np.ndarray

    @classmethod
    def blank(cls, size: Size, colour: Colour) -> Canvas:
        """Return a canvas of one colour."""
        y, x = np.indices(size, np.float32)
        return cls(np.full((*size, 3), colour, np.float32), y, x, np.zeros(size, np.float32))

    def near(self, y: float, x: float, reach: float) -> Canvas:
        """Return a view of the square of half-width `reach` around a point: what is drawn there is drawn here."""
        rows = slice(max(int(y - reach), 0), max(int(y + reach) + 1, 0))
        columns = slice(max(int(x - reach), 0), max(int(x + reach) + 1, 0))
        return Canvas(self.rgb[rows, columns], self.y[rows, columns], self.x[rows, columns], self.flaw[rows, columns])

    def frame(self, y: float, x: float, turn: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Return the coordinates (v, u) in a frame at (y, x), turned by `turn` radians."""
        dy, dx, c, s = self.y - y, self.x - x, math.cos(turn), math.sin(turn)
        return c * dy - s * dx, c * dx + s * dy

    def paint(self, alpha: np.ndarray, colour: Colour | np.ndarray) -> None:
        """Lay a colour, or an image of colours, over the scene with opacity `alpha`."""
        self.rgb += alpha[..., None] * (np.asarray(colour, np.float32) - self.rgb)

    def light(self, factor: np.ndarray) -> None:
        """Multiply the brightness."""
        self.rgb *= factor[..., None]

    def spoil(self, cover: np.ndarray, colour: Colour | np.ndarray, opacity: float | np.ndarray = 1.0) -> None:
        """Paint a defect and mark what it covers."""
        self.paint(cover * opacity, colour)
        self.mark(cover)

    def mark(self, cover: np.ndarray) -> None:
        """Count `cover` as covered by the defect."""
        np.maximum(self.flaw, cover, out=self.flaw)


def inside(distance: np.ndarray, softness: float = 1.0) -> np.ndarray:
    """Return the coverage in [0, 1] of the shape with this signed distance; its edge is `softness` wide."""
    return np.clip(0.5 - distance / softness, 0, 1)


def box(v: np.ndarray, u: np.ndarray, height: float, width: float, corner: float = 0.0) -> np.ndarray:
    """Return the signed distance to a box of these half-sizes around the origin, its corners rounded."""
    dv, du = np.abs(v) - height + corner, np.abs(u) - width + corner
    return np.hypot(np.maximum(dv, 0), np.maximum(du, 0)) + np.minimum(np.maximum(dv, du), 0) - corner


def hexagon(v: np.ndarray, u: np.ndarray, apothem: float) -> np.ndarray:
    """Return the signed distance (exact along its sides) to a hexagon around the origin."""
    return np.max([np.abs(math.cos(a) * u + math.sin(a) * v) for a in (0, math.pi / 3, 2 * math.pi / 3)], axis=0) - apothem


def blob(canvas: Canvas, flaw: Generator, y: float, x: float, radius: float, rough: float = 0.15) -> np.ndarray:
    """Return the signed distance, roughly, to a spot with an uneven outline."""
    v, u = canvas.frame(y, x, flaw.uniform(0, math.pi))
    u = u * flaw.uniform(0.7, 1.0)
    angle = np.arctan2(v, u)
    waves = sum(flaw.normal(0, 1.5 * rough / k) * np.cos(k * angle + flaw.uniform(0, 2 * math.pi)) for k in range(2, 12))
    return np.hypot(v, u) - radius * np.clip(1 + waves, 0.5, 1.5)


def path(flaw: Generator, y: float, x: float, length: float, turn: float, drift: float, jag: float = 0.0) -> np.ndarray:
    """Return the points (y, x), shape (N, 2), of a line centred at (y, x).

    It starts at the heading `turn`, which wanders by `drift` and is off by `jag` (deviations in radians) at each step.
    """
    steps = int(length / 3)
    headings = turn + np.cumsum(flaw.normal(0, drift, steps)) + flaw.normal(0, jag, steps)
    points = np.cumsum(3 * np.stack([np.sin(headings), np.cos(headings)], axis=1), axis=0)
    return points - points[steps // 2] + (y, x)


def stroke(canvas: Canvas, points: np.ndarray, width: float) -> np.ndarray:
    """Return the coverage of a line that thins out towards both ends."""
    fine = 4
    height, breadth = canvas.x.shape
    page = np.zeros((fine * height, fine * breadth), np.uint8)
    corners = np.round(fine * (points[:, ::-1] + 0.5)).astype(int).tolist()
    for k, (a, b) in enumerate(itertools.pairwise(corners)):
        taper = min(1.0, 0.55 + 2 * min(k, len(corners) - 2 - k) / len(corners))
        cv2.line(page, a, b, 255, max(round(fine * width * taper), 1))
    return cv2.resize(page, (breadth, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def noise(rng: Generator, size: Size, sigma: float, along: float | None = None) -> np.ndarray:
    """Return smooth Gaussian noise of mean 0 and deviation 1, correlated over `sigma` pixels (and over `along` in x)."""
    # Drawn coarse, then enlarged: a wide blur at full size would cost more than all the rest.
    (sy, dy), (sx, dx) = ((s, max(s / 2, 1.0)) for s in (sigma, along or sigma))
    coarse = rng.standard_normal((math.ceil(size[0] / dy) + 4, math.ceil(size[1] / dx) + 4), np.float32)
    blurred = cv2.GaussianBlur(coarse, (0, 0), sx / dx, sigmaY=sy / dy)
    large = cv2.resize(blurred, None, fx=dx, fy=dy, interpolation=cv2.INTER_CUBIC)[: size[0], : size[1]]
    return (large - large.mean()) / large.std()


def relief(height: np.ndarray, strength: float = 0.25) -> np.ndarray:
    """Return the brightness of a height field lit from the upper left, 1 where it is level."""
    dy, dx = np.gradient(height)
    return np.clip(1 + strength * (dy + dx), 0.25, 1.9)


def shadow(canvas: Canvas, cover: np.ndarray, offset: int, softness: float, strength: float) -> None:
    """Darken what lies to the lower right of a part."""
    cast = cv2.GaussianBlur(np.roll(cover, (offset, offset), (0, 1)), (0, 0), softness)
    canvas.light(1 - strength * cast)


def spot(flaw: Generator, size: Size) -> tuple[float, float]:
    """Return a place (y, x) away from the border."""
    return size[0] * flaw.uniform(0.2, 0.8), size[1] * flaw.uniform(0.2, 0.8)


def polar(y: float, x: float, radius: float, angle: float) -> tuple[float, float]:
    """Return the place (y, x) at this distance and angle from another."""
    return y + radius * math.sin(angle), x + radius * math.cos(angle)


def carried(y: float, x: float, turn: float, v: float, u: float) -> tuple[float, float]:
    """Return the place (y, x) of the point (v, u) of `Canvas.frame` with these arguments."""
    return polar(y, x, math.hypot(v, u), math.atan2(v, u) + turn)


def scratch(canvas: Canvas, flaw: Generator, points: np.ndarray, where: np.ndarray | float = 1.0) -> None:
    """Draw a scratch with a bright bottom and a dark lip; `where` limits it to a part."""
    opacity = flaw.uniform(0.45, 0.9)
    canvas.spoil(stroke(canvas, points + 1, 1.7) * where, canvas.rgb * 0.6, opacity)
    canvas.spoil(stroke(canvas, points, 1.7) * where, (0.95, 0.95, 0.95), opacity)


def stain(canvas: Canvas, flaw: Generator, distance: np.ndarray, colour: Colour, strength: tuple[float, float]) -> None:
    """Draw a translucent stain that is denser towards its edge, as one that has dried."""
    density = flaw.uniform(*strength) * (0.75 + 0.25 * np.exp(-(np.minimum(distance, 0) ** 2) / 8))
    canvas.spoil(inside(distance, 2.0), canvas.rgb * np.asarray(colour, np.float32), density)


def fabric(rng: Generator, size: Size, defect: str | None, flaw: Generator) -> Canvas:
    """Draw a twill of dark warp and pale weft."""
    canvas = Canvas.blank(size, (0, 0, 0))
    pitch = 6.0
    v, u = canvas.frame(rng.uniform(0, 18), rng.uniform(0, 18), rng.normal(0, 0.02))
    v, u = (v + noise(rng, size, 30)) / pitch, (u + noise(rng, size, 30)) / pitch
    row, column = np.floor(v).astype(int), np.floor(u).astype(int)
    warp = (row + column) % 3 != 0
    across = np.where(warp, u - column, v - row) - 0.5
    tone = rng.normal(1, 0.05, (2, 97)).astype(np.float32)
    shade = np.where(warp, tone[0, column % 97], tone[1, row % 97]) * (0.55 + 0.45 * np.cos(math.pi * across))
    canvas.rgb[:] = np.where(warp[..., None], (0.24, 0.33, 0.50), (0.66, 0.68, 0.70))
    canvas.light((shade * (1 + 0.05 * noise(rng, size, 0.8))).astype(np.float32))
    y, x = spot(flaw, size)
    if defect == "broken_thread":
        gap = box(v - math.floor(y / pitch) - 0.5, u - x / pitch, 0.5, flaw.uniform(3, 7), 0.2) * pitch
        canvas.spoil(inside(gap), (0.10, 0.12, 0.17), flaw.uniform(0.7, 0.95))
    elif defect == "hole":
        hole = blob(canvas, flaw, y, x, flaw.uniform(6, 13), 0.25)
        canvas.spoil(inside(hole - 2), (0.60, 0.63, 0.68), 0.6)
        # The ends of torn threads hang into the hole.
        frays = 3 * np.maximum(np.cos(2 * math.pi * u), np.cos(2 * math.pi * v))
        canvas.paint(inside(hole + frays, 2.0), (0.05, 0.05, 0.06))
    elif defect == "stain":
        stain(canvas, flaw, blob(canvas, flaw, y, x, flaw.uniform(10, 28)), (0.55, 0.42, 0.28), (0.35, 0.9))
    return canvas


def brushed_metal(rng: Generator, size: Size, defect: str | None, flaw: Generator) -> Canvas:
    """Draw brushed steel under a long lamp, seen by a monochrome camera."""
    canvas = Canvas.blank(size, (0.58, 0.58, 0.58))
    grain = 0.05 * noise(rng, size, 0.4, 50) + 0.035 * noise(rng, size, 0.4, 12) + 0.02 * noise(rng, size, 6, 90)
    lamp = 0.14 * np.exp(-(((canvas.y - size[0] * rng.uniform(0.3, 0.7)) / 45) ** 2))
    canvas.light(1 + grain + lamp + 0.02 * noise(rng, size, 40))
    y, x = spot(flaw, size)
    if defect == "dent":
        dent = blob(canvas, flaw, y, x, 1, 0.1) + 1
        radius = flaw.uniform(10, 22)
        canvas.light(relief(-radius * np.maximum(1 - (dent / radius) ** 2, 0) ** 2, flaw.uniform(0.07, 0.2)))
        canvas.mark(inside(dent - 0.92 * radius))
    elif defect == "pitting":
        for _ in range(flaw.integers(8, 20)):
            pit = np.hypot(*canvas.frame(*flaw.normal((y, x), 9))) - flaw.uniform(1.3, 3.2)
            canvas.spoil(inside(pit), (0.2, 0.2, 0.2), flaw.uniform(0.5, 0.9))
    elif defect == "scratch":
        scratch(canvas, flaw, path(flaw, y, x, flaw.uniform(50, 120), flaw.uniform(0.3, 2.8), 0.03))
    elif defect == "smudge":
        stain(canvas, flaw, blob(canvas, flaw, y, x, flaw.uniform(14, 30)), (0.6, 0.6, 0.6), (0.2, 0.5))
    return canvas


def tile(rng: Generator, size: Size, defect: str | None, flaw: Generator) -> Canvas:
    """Draw a terrazzo tile: stone chips in pale cement."""
    canvas = Canvas.blank(size, (0.76, 0.72, 0.66))
    canvas.light(1 + 0.02 * noise(rng, size, 25) + 0.025 * noise(rng, size, 1.2))
    stones: tuple[tuple[float, float, Colour], ...] = (
        (5, 1.5, (0.55, 0.43, 0.36)),
        (3.5, 1.5, (0.88, 0.86, 0.82)),
        (2.5, 1.6, (0.36, 0.35, 0.35)),
    )
    for grain, level, colour in stones:
        canvas.paint(0.85 * inside((level - noise(rng, size, grain)) * grain), colour)
    y, x = spot(flaw, size)
    if defect == "chip":
        chip = blob(canvas, flaw, y, x, flaw.uniform(9, 22), 0.2)
        broken = np.full((*size, 3), (0.70, 0.66, 0.60), np.float32) * (1 + 0.05 * noise(flaw, size, 1.5))[..., None]
        canvas.spoil(inside(chip), broken * relief(cv2.GaussianBlur(np.clip(chip, -5, 0), (0, 0), 1), 0.3)[..., None])
    elif defect == "crack":
        turn = flaw.uniform(0, 2 * math.pi)
        main = path(flaw, y, x, flaw.uniform(80, 170), turn, 0.08, 0.6)
        branch = path(flaw, 0, 0, flaw.uniform(25, 60), turn + flaw.choice((-0.9, 0.9)), 0.08, 0.6)
        for points in (main, branch - branch[0] + main[len(main) // 3]):
            canvas.spoil(stroke(canvas, points, 2.2), (0.2, 0.17, 0.15), flaw.uniform(0.6, 0.9))
    elif defect == "discolouration":
        stain(canvas, flaw, blob(canvas, flaw, y, x, flaw.uniform(18, 37)), (0.95, 0.75, 0.45), (0.25, 0.6))
    return canvas


def gasket(rng: Generator, size: Size, defect: str | None, flaw: Generator) -> Canvas:
    """Draw a black rubber gasket with three lugs on a pale belt."""
    canvas = Canvas.blank(size, (0.77, 0.79, 0.76))
    canvas.light(1 + 0.015 * noise(rng, size, 1.5) + 0.015 * noise(rng, size, 1, 20))
    (y, x), turn = rng.uniform(-4, 4, 2) + np.array(size) / 2, rng.uniform(0, 2 * math.pi)
    radius, width = 0.33 * min(size), 0.075 * min(size)
    v, u = canvas.frame(y, x, turn)
    rim = np.abs(np.hypot(v, u) - radius) - width
    lugs = [(1.12 * radius * math.sin(a), 1.12 * radius * math.cos(a)) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    rubber, bores = (np.min([np.hypot(v - b, u - a) for b, a in lugs], axis=0) - r for r in (1.35 * width, 0.5 * width))
    distance = np.maximum(np.minimum(rim, rubber), -bores)
    cover = inside(distance)
    belt = 0.85 * canvas.rgb
    shadow(canvas, cover, 2, 2.5, 0.35)
    canvas.paint(cover, (0.17, 0.17, 0.18))
    canvas.light(1 + cover * (relief(cv2.GaussianBlur(np.clip(-distance, 0, 5), (0, 0), 1.2), 0.5) - 1))
    canvas.light(1 + cover * 0.06 * noise(rng, size, 0.8))
    angle = turn + (2 * flaw.integers(3) + 1) * math.pi / 3 + flaw.uniform(-0.5, 0.5)
    if defect == "dust":
        for _ in range(flaw.integers(3, 8)):
            place = polar(y, x, radius + flaw.uniform(-0.6, 0.6) * width, angle + flaw.normal(0, 0.35))
            grain = blob(canvas, flaw, *place, flaw.uniform(2, 4.5), 0.2)
            canvas.spoil(inside(grain) * cover, (0.62, 0.58, 0.50), flaw.uniform(0.5, 0.9))
    elif defect == "nick":
        bite = blob(canvas, flaw, *polar(y, x, radius + width, angle), flaw.uniform(6, 11))
        canvas.spoil(inside(bite) * cover, belt)
    elif defect == "tear":
        points = path(flaw, *polar(y, x, radius, angle), 4 * width, angle, 0.1, 0.4)
        canvas.spoil(stroke(canvas, points, flaw.uniform(2.5, 4)) * cover, belt * 0.8)
    return canvas


def flange(rng: Generator, size: Size, defect: str | None, flaw: Generator) -> Canvas:
    """Draw a turned flange with six bolts, at any rotation."""
    canvas = Canvas.blank(size, (0.20, 0.24, 0.29))
    canvas.light(1 + 0.04 * noise(rng, size, 1.2) + 0.05 * noise(rng, size, 20))
    (y, x), turn = rng.uniform(-3, 3, 2) + np.array(size) / 2, rng.uniform(0, 2 * math.pi)
    v, u = canvas.frame(y, x)
    reach = np.hypot(v, u)
    disc = inside(np.maximum(reach - 82, 24 - reach))
    shadow(canvas, disc, 4, 4, 0.6)
    grooves = np.interp(reach, np.arange(140), rng.normal(0, 0.03, 140)).astype(np.float32)
    gloss = 0.10 * np.cos(2 * (np.arctan2(v, u) + 0.8 + rng.normal(0, 0.05)))
    edge = relief(cv2.GaussianBlur(np.clip(np.minimum(82 - reach, reach - 24), 0, 4), (0, 0), 1), 0.25)
    canvas.paint(disc, (0.62 * (1 + grooves + gloss) * edge)[..., None] * np.array((1.0, 0.99, 0.96), np.float32))
    between = turn + (flaw.integers(6) + 0.5) * math.pi / 3
    if defect == "rust":
        patch = blob(canvas, flaw, *polar(y, x, flaw.uniform(38, 74), between), flaw.uniform(8, 20), 0.2)
        canvas.spoil(inside(patch, 2.0) * disc, (0.45, 0.24, 0.11), np.clip(0.65 + 0.2 * noise(flaw, size, 1.5), 0.3, 0.95))
    elif defect == "scratch":
        points = path(flaw, *polar(y, x, 54, between), flaw.uniform(40, 90), flaw.uniform(0, 2 * math.pi), 0.05)
        scratch(canvas, flaw, points, disc)
    lost = flaw.integers(6) if defect == "missing_bolt" else None
    for k in range(6):
        place = polar(y, x, 54, turn + k * math.pi / 3)
        bolt(canvas.near(*place, 24), *place, rng.uniform(0, math.pi), k == lost)
    return canvas


def bolt(canvas: Canvas, y: float, x: float, turn: float, lost: bool) -> None:
    """Draw a hexagon bolt on its washer, or, where it is lost, its bore."""
    v, u = canvas.frame(y, x, turn)
    reach = np.hypot(v, u)
    washer, cast = inside(reach - 15), inside(np.hypot(canvas.y - y - 1, canvas.x - x - 1) - 15, 3.0)
    if lost:
        canvas.paint(inside(reach - 8), (0.07, 0.07, 0.08))
        canvas.paint(inside(np.abs(reach - 8.5) - 0.7), (0.78, 0.78, 0.76))
        canvas.mark(np.maximum(washer, cast))
        return
    canvas.paint(0.45 * cast, (0, 0, 0))
    canvas.paint(washer, (0.70, 0.66, 0.52))
    canvas.flaw *= 1 - washer
    head = hexagon(v, u, 9.5)
    canvas.paint(inside(head - 1.2, 2.5), (0.25, 0.23, 0.18))
    shade = relief(np.minimum(np.clip(-head, 0, 3), 1.5), 0.3) * (1 + 0.006 * (x - canvas.x + y - canvas.y))
    canvas.paint(inside(head), shade[..., None] * np.array((0.80, 0.74, 0.56), np.float32))


def blister(rng: Generator, size: Size, defect: str | None, flaw: Generator) -> Canvas:
    """Draw a blister of ten two-coloured capsules."""
    canvas = Canvas.blank(size, (0.72, 0.73, 0.75))
    (y, x), turn = rng.uniform(-3, 3, 2) + np.array(size) / 2, rng.normal(0, 0.012)
    v, u = canvas.frame(y, x, turn)
    emboss = 0.03 * (np.cos((u + v) * 2 * math.pi / 9) + np.cos((u - v) * 2 * math.pi / 9))
    canvas.light(1 + emboss + 0.03 * noise(rng, size, 30) + 0.012 * noise(rng, size, 0.8))
    marred = flaw.integers(10)
    for k in range(10):
        row, column = (k // 5 - 0.5) * 72, (k % 5 - 2) * 42
        place = polar(y, x, math.hypot(row, column), math.atan2(row, column) + turn)
        capsule(canvas.near(*place, 38), *place, turn, rng.normal(1, 0.02), defect if k == marred else None, flaw)
    if defect == "hair":
        points = path(flaw, *spot(flaw, size), flaw.uniform(50, 100), flaw.uniform(0, 2 * math.pi), 0.15)
        canvas.spoil(stroke(canvas, points, 1.7), (0.16, 0.11, 0.09), 0.85)
    return canvas


def capsule(canvas: Canvas, y: float, x: float, turn: float, tone: float, defect: str | None, flaw: Generator) -> None:
    """Draw a cavity of the blister and the capsule in it."""
    v, u = canvas.frame(y, x, turn)
    cavity = box(v, u, 32, 16, 16)
    canvas.light(1 + inside(cavity) * (0.88 * relief(np.clip(cavity, -5, 0), 0.12) - 1))
    shell = box(v, u, 27, 11, 11)
    cover, upper = inside(shell), inside(v)
    empty = canvas.rgb.copy()
    dome = tone * (0.72 + 0.28 * np.sqrt(np.clip(-shell / 11, 0, 1)))[..., None]
    canvas.paint(cover, dome * np.array((0.93, 0.87, 0.72), np.float32))
    canvas.paint(cover * upper, dome * np.array((0.78, 0.20, 0.16), np.float32))
    if defect == "missing":
        canvas.spoil(cover, empty)
    elif defect == "wrong_colour":
        half, colour = (upper, (0.25, 0.52, 0.30)) if flaw.random() < 0.5 else (1 - upper, (0.88, 0.62, 0.25))
        canvas.spoil(cover * half, dome * np.array(colour, np.float32))
    elif defect == "broken":
        end = polar(y, x, flaw.uniform(18, 26), turn + flaw.choice((-1, 1)) * math.pi / 2)
        canvas.spoil(inside(blob(canvas, flaw, *end, flaw.uniform(8, 13), 0.25)) * cover, empty)
    canvas.paint(0.45 * inside(box(v, u + 6, 20, 1.5, 1.5), 3.0), (1, 1, 1))


#: Slot centres of the circuit board before its shift, by row and by column.
ROWS, COLUMNS = (41, 99, 157, 215), (38, 98, 158, 218)
EMPTY, CAPACITOR, RESISTOR = range(3)


def bare_board(rng: Generator, size: Size, dy: float, dx: float) -> Canvas:
    """Draw tracks, vias, silk screen and pads, which repeat from slot to slot and run on beyond the picture."""
    canvas = Canvas.blank(size, (0.10, 0.36, 0.22))
    canvas.light(1 + 0.02 * noise(rng, size, 20) + 0.025 * noise(rng, size, 0.8))
    v, u = (canvas.y - dy - ROWS[0] + 29) % 58 - 29, (canvas.x - dx - COLUMNS[0] + 30) % 60 - 30
    via = np.hypot(np.abs(v) - 29, np.abs(u) - 30)
    canvas.paint(0.8 * inside(np.minimum(np.abs(v), np.abs(np.abs(u) - 30)) - 1.6), (0.16, 0.48, 0.30))
    canvas.paint(inside(via - 5), (0.72, 0.62, 0.36))
    canvas.paint(inside(via - 2), (0.08, 0.09, 0.08))
    canvas.paint(0.8 * inside(np.abs(box(v, u, 15, 24)) - 0.6) * inside(6 - np.abs(u)), (0.85, 0.88, 0.85))
    canvas.paint(inside(box(v, np.abs(u) - 14, 10, 6, 1)), (0.74, 0.72, 0.66))
    return canvas


def circuit(rng: Generator, size: Size, defect: str | None, flaw: Generator) -> Canvas:
    """Draw a board of which the left column takes capacitors and the right one resistors.

    A `misplaced` part stands in the other kind's column. Only its position tells: the board repeats at one pitch, the
    columns between hold either kind and any slot may be empty, so that the slots around it also occur around a part in its
    place, and the light comes from a side of its own in each picture.
    """
    dy, dx = rng.uniform(-2, 2, 2)
    canvas = bare_board(rng, size, dy, dx)
    kinds = rng.choice((CAPACITOR, RESISTOR), (4, 4))
    kinds[:, 0], kinds[:, 3] = CAPACITOR, RESISTOR
    kinds[rng.random((4, 4)) < 0.25] = EMPTY
    row, column = flaw.integers(4), flaw.choice((0, 3))
    if defect == "misplaced":
        kinds[row, column] = RESISTOR if column == 0 else CAPACITOR
    for (r, c), kind in np.ndenumerate(kinds):
        py, px = np.array((ROWS[r] + dy, COLUMNS[c] + dx)) + rng.uniform(-1, 1, 2)
        footprint = part(canvas.near(py, px, 26), py, px, rng.normal(0, 0.03), rng.normal(1, 0.03), kind)
        if defect == "misplaced" and (r, c) == (row, column):
            canvas.near(py, px, 26).mark(footprint)
    py, px = ROWS[row] + dy, COLUMNS[flaw.integers(3)] + dx + 30
    if defect == "scorch":
        burn = blob(canvas, flaw, py + flaw.uniform(-20, 20), px + flaw.uniform(-25, 25), flaw.uniform(10, 24))
        stain(canvas, flaw, burn, (0.5, 0.3, 0.3), (0.5, 0.9))
    elif defect == "solder_bridge":
        v, u = canvas.frame(py + flaw.uniform(-6, 6), px)
        bead = np.maximum(np.abs(v) - flaw.uniform(2.5, 4) - u * u / 60, np.abs(u) - flaw.uniform(11, 15))
        canvas.spoil(inside(bead), np.repeat(0.68 * relief(np.clip(-bead, 0, 2.5), 0.25)[..., None], 3, 2))
    return canvas


def part(canvas: Canvas, y: float, x: float, turn: float, tone: float, kind: int) -> np.ndarray:
    """Draw a capacitor or a resistor, or leave the slot empty, and return the coverage of its outline."""
    v, u = canvas.frame(y, x, turn)
    outline = box(v, u, 10, 18, 1.5)
    cover = inside(outline)
    if kind == EMPTY:
        return cover
    body, cap, width = ((0.66, 0.50, 0.34), 0.84, 11) if kind == CAPACITOR else ((0.13, 0.13, 0.15), 0.62, 13)
    shade = tone * relief(np.clip(-outline, 0, 2), 0.2)[..., None]
    canvas.paint(cover, shade * cap)
    canvas.paint(cover * inside(np.abs(u) - width), shade * np.array(body, np.float32))
    if kind == RESISTOR:
        canvas.paint(0.8 * inside(np.abs(box(v, np.abs(np.abs(u) - 4) - 4, 4, 2.5)) - 0.6), (0.9, 0.9, 0.9))
    return cover


def screw(rng: Generator, size: Size, defect: str | None, flaw: Generator) -> Canvas:
    """Draw a countersunk screw that lies in any direction on pale paper."""
    canvas = Canvas.blank(size, (0.83, 0.83, 0.81))
    canvas.light(1 + 0.012 * noise(rng, size, 0.8) + 0.012 * noise(rng, size, 40))
    (y, x), turn = rng.uniform(-6, 6, 2) + np.array(size) / 2, rng.uniform(0, 2 * math.pi)
    v, u = canvas.frame(y, x, turn)
    core, crest, pitch, phase = 6.5, 11.5, 11.0, rng.uniform(0, 1)
    # The thread winds: its crests meet the lower outline half a pitch after the upper one.
    winding = u / pitch + phase - np.arcsin(np.clip(v / crest, -1, 1)) / (2 * math.pi)
    thread = (0.5 + 0.5 * np.cos(2 * math.pi * winding)) ** 2 * np.interp(u, (-26, -16, 76, 96), (0, 1, 1, 0))
    radius = np.interp(u, (-97, -93, -76, -28, -24, 72, 96), (19, 19, 7.5, 7.5, core, core, 1.2)) + (crest - core) * thread
    distance = np.maximum(np.abs(v) - radius, np.abs(u) - 96)
    distance = (distance / np.maximum(np.hypot(*np.gradient(distance)), 1)).astype(np.float32)
    cover = inside(distance)
    # The tip is thin and casts no shadow, or the shadow of one that broke off would stay.
    cast = cover * np.interp(u, (70, 84), (1, 0)).astype(np.float32)
    for offset, softness, strength in ((2, 2.5, 0.35), (5, 7.0, 0.25)):
        shadow(canvas, cast, offset, softness, strength)
    ground = canvas.rgb.copy()
    body = metal(cv2.GaussianBlur(np.sqrt(np.clip(radius**2 - v**2, 0, None)).astype(np.float32), (0, 0), 0.8))
    canvas.paint(cover, (body * (1 + 0.03 * noise(rng, size, 0.7)))[..., None] * np.array((1.0, 0.98, 0.94), np.float32))
    side = flaw.choice((-1, 1))
    if defect == "nicked_thread":
        # On this side the crests are where `winding` is whole.
        along = (flaw.integers(0, 7) - phase + side / 4) * pitch
        bite = blob(canvas, flaw, *carried(y, x, turn, side * crest, along), flaw.uniform(5, 7.5))
        gone = inside(np.max([bite, core + 0.5 - np.abs(v), np.abs(u - along) - 0.45 * pitch], axis=0)) * inside(-side * v)
        canvas.paint(gone, ground)
        canvas.mark(gone * cover)
    elif defect == "blunt_tip":
        gone = inside(96 - flaw.uniform(9, 14) + flaw.normal(0, 0.25) * v - u + 0.3 * np.cos(0.9 * v + flaw.uniform(0, 6)))
        canvas.paint(gone, ground)
        canvas.mark(gone * cover)
    elif defect == "burr":
        along = flaw.choice((flaw.uniform(-95, -90), flaw.uniform(-70, -32)))
        edge = np.interp(along, (-93, -76), (19, 7.5))
        lean, reach = flaw.uniform(-0.5, 0.5), flaw.uniform(6, 9)
        out = side * v - edge
        sliver = np.abs(u - along - lean * out - 0.03 * lean * out**2) - flaw.uniform(2.2, 3.0) * (1 - 0.7 * out / reach)
        shade = np.where(u - along - lean * out > 0, 0.30, 0.42)[..., None]
        canvas.spoil(inside(np.maximum(np.maximum(sliver, out - reach), -out - 2)) * (1 - cover), shade)
    return canvas


def metal(height: np.ndarray) -> np.ndarray:
    """Return the brightness of polished metal with this height field under a soft lamp to the upper left."""
    dy, dx = np.gradient(height)
    upright = 1 / np.sqrt(1 + dy**2 + dx**2)
    towards = upright * (0.8 + 0.42 * (dy + dx))
    return 0.18 + 0.32 * np.clip(towards, 0, 1) + 0.36 * np.clip(towards, 0, 1) ** 8


#: The strokes of the tablet's mark, "K7", each from (v, u) to (v, u).
MARK = (
    ((-22, -32), (22, -32)),
    ((2, -32), (-22, -8)),
    ((-4, -26), (22, -8)),
    ((-22, 10), (-22, 34)),
    ((-22, 34), (22, 16)),
)


def segment(v: np.ndarray, u: np.ndarray, start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """Return the distance to the straight line from `start` to `end`."""
    dv, du = end[0] - start[0], end[1] - start[1]
    along = np.clip(((v - start[0]) * dv + (u - start[1]) * du) / (dv * dv + du * du), 0, 1)
    return np.hypot(v - start[0] - along * dv, u - start[1] - along * du)


def pill(rng: Generator, size: Size, defect: str | None, flaw: Generator) -> Canvas:
    """Draw a speckled oval tablet with a printed mark."""
    canvas = Canvas.blank(size, (0.13, 0.14, 0.16))
    canvas.light(1 + 0.06 * noise(rng, size, 0.9) + 0.05 * noise(rng, size, 30))
    (y, x), turn = rng.uniform(-4, 4, 2) + np.array(size) / 2, rng.normal(0, 0.025)
    v, u = canvas.frame(y, x, turn)
    oval = np.hypot(v / 66, u / 98)
    distance = (oval - 1) * oval / np.maximum(np.hypot(v / 66**2, u / 98**2), 1e-6)
    cover = inside(distance)
    shadow(canvas, cover, 4, 5, 0.6)
    bulge = 14 * np.sqrt(np.clip(1 - np.clip(1 + distance / 26, 0, 1) ** 2.5, 0, 1))
    canvas.paint(cover, relief(cv2.GaussianBlur(bulge, (0, 0), 2), 0.10)[..., None] * np.array((0.80, 0.78, 0.73), np.float32))
    canvas.light(1 + cover * (0.012 * noise(rng, size, 0.9) + 0.01 * noise(rng, size, 8)))
    specks: tuple[tuple[float, float, Colour], ...] = (
        (0.9, 2.5, (0.72, 0.25, 0.20)),
        (1.1, 2.5, (0.78, 0.55, 0.22)),
        (0.8, 2.8, (0.45, 0.30, 0.26)),
    )
    for grain, level, colour in specks:
        canvas.paint(0.8 * cover * inside((level - noise(rng, size, grain)) * grain, 0.7), colour)
    my, mx = rng.normal((y, x), 1.0)
    face = canvas.near(my, mx, 52)
    v, u = face.frame(my, mx, turn)
    bare, ink = face.rgb.copy(), (0.33, 0.36, 0.42)
    printed = inside(np.min([segment(v, u, *each) for each in MARK], axis=0) - 3.2, 1.5)
    face.paint((0.72 + 0.06 * noise(rng, (v.shape[0], v.shape[1]), 1.5)) * printed, ink)
    angle, out = flaw.uniform(0, 2 * math.pi), math.sqrt(flaw.uniform(0, 0.7))
    place = carried(y, x, turn, 66 * out * math.sin(angle), 98 * out * math.cos(angle))
    if defect == "contamination":
        colours = ((0.20, 0.26, 0.24), (0.25, 0.33, 0.48), (0.33, 0.40, 0.25))
        dirt = blob(canvas, flaw, *place, flaw.uniform(2.8, 4.5))
        canvas.spoil(inside(dirt, 1.5) * cover, colours[flaw.integers(3)], flaw.uniform(0.5, 0.85))
    elif defect == "crack":
        points = path(flaw, *place, flaw.uniform(35, 80), flaw.uniform(0, 2 * math.pi), 0.08, 0.5)
        canvas.spoil(stroke(canvas, points, 1.7) * cover, canvas.rgb * 0.72, flaw.uniform(0.5, 0.9))
    elif defect == "discolouration":
        tints = ((0.98, 0.91, 0.70), (0.98, 0.84, 0.80), (0.87, 0.88, 0.84))
        patch = np.maximum(blob(canvas, flaw, *place, flaw.uniform(12, 24)), distance + 3)
        stain(canvas, flaw, patch, tints[flaw.integers(3)], (0.45, 0.8))
    elif defect == "faulty_imprint":
        (start, end), share = MARK[flaw.integers(len(MARK))], flaw.uniform(0.2, 0.8)
        at = start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
        patch = inside(blob(face, flaw, *carried(my, mx, turn, *at), flaw.uniform(8, 13)))
        if flaw.random() < 0.5:
            face.paint(patch, bare)
            face.mark(patch * printed)
        else:
            dv, du = polar(0, 0, flaw.uniform(6, 10), flaw.uniform(0, 2 * math.pi))
            smear = np.min([segment(v - k * dv, u - k * du, start, end) for k in (0.3, 0.65, 1.0)], axis=0) - 3.2
            face.spoil(inside(smear, 2.0) * patch * (1 - printed), ink, flaw.uniform(0.25, 0.45))
    return canvas


#: Leads on each side of the connector, and their pitch.
LEADS, PITCH = 11, 15.0


def connector(rng: Generator, size: Size, defect: str | None, flaw: Generator) -> Canvas:
    """Draw a black connector with a row of gilt leads on either side, on a blue mat."""
    canvas = Canvas.blank(size, (0.50, 0.60, 0.68))
    canvas.light(1 + 0.02 * noise(rng, size, 0.9) + 0.02 * noise(rng, size, 25))
    (y, x), turn = rng.uniform(-2, 2, 2) + np.array(size) / 2, rng.normal(0, 0.008)
    v, u = canvas.frame(y, x, turn)
    housing = np.maximum(box(v, u, 34, 94, 3), (u - v - 118) / math.sqrt(2))
    cover = inside(housing)
    shadow(canvas, cover, 3, 3, 0.5)
    marred = flaw.integers(2 * LEADS)
    for k in range(2 * LEADS):
        side, along = 1 if k < LEADS else -1, (k % LEADS - LEADS // 2) * PITCH
        foot = carried(y, x, turn, side * 33, along)
        facing, tone = turn if side > 0 else turn + math.pi, rng.normal(1, 0.03)
        lead(canvas.near(*foot, 34), *foot, facing, tone, defect if k == marred else None, flaw)
    shade = relief(cv2.GaussianBlur(np.clip(-housing, 0, 4), (0, 0), 0.8), 0.4)
    canvas.paint(cover, shade[..., None] * np.array((0.17, 0.17, 0.18), np.float32))
    canvas.flaw *= 1 - cover
    well = box(v, u, 17, 80, 2)
    canvas.light(1 + inside(well - 2) * (relief(cv2.GaussianBlur(np.clip(well, -4, 0), (0, 0), 0.8), 0.4) - 1))
    canvas.paint(0.6 * inside(well), (0.07, 0.07, 0.08))
    step = (u + PITCH / 2) % PITCH - PITCH / 2
    contact = np.maximum(box(np.abs(v) - 9, step, 5, 2.2, 1), np.abs(u) - (LEADS // 2 + 0.5) * PITCH)
    canvas.paint(inside(contact), (0.66, 0.55, 0.30))
    canvas.paint(inside(np.hypot(v + 26, u + 84) - 2.5), (0.30, 0.30, 0.31))
    canvas.light(1 + cover * 0.05 * noise(rng, size, 0.8))
    if defect == "chipped_housing":
        side, along = flaw.choice((-1, 1)), (flaw.integers(LEADS - 1) - LEADS // 2 + 0.5) * PITCH
        chip = blob(canvas, flaw, *carried(y, x, turn, side * 33, along), flaw.uniform(4.5, 8), 0.2)
        broken = 1.3 * relief(cv2.GaussianBlur(np.clip(chip, -4, 0), (0, 0), 1), 0.3) * (1 + 0.08 * noise(flaw, size, 1))
        canvas.spoil(inside(chip) * cover, broken[..., None] * np.array((0.31, 0.31, 0.32), np.float32))
    elif defect == "contamination":
        place = polar(y, x, flaw.uniform(10, 78), turn + flaw.choice((0, math.pi)) + flaw.uniform(-0.1, 0.1))
        crumb = blob(canvas, flaw, *place, flaw.uniform(3.5, 6), 0.25)
        canvas.spoil(inside(crumb), relief(np.clip(-crumb, 0, 3), 0.2)[..., None] * np.array((0.52, 0.50, 0.46), np.float32), 0.9)
    return canvas


def lead(canvas: Canvas, y: float, x: float, turn: float, tone: float, defect: str | None, flaw: Generator) -> None:
    """Draw a lead of the connector, which leaves the housing at (y, x) down its own frame, or what became of it."""
    bare = canvas.rgb.copy()
    outline = solder_tail(canvas, y, x, turn, tone)
    if defect == "missing_lead":
        v, _ = canvas.frame(y, x, turn)
        gone = inside(flaw.uniform(2, 9) - v)
        canvas.paint(gone, bare)
        canvas.mark(gone * inside(outline - 0.8))
    elif defect == "bent_lead":
        canvas.rgb[:] = bare
        bent = solder_tail(canvas, y, x, turn + flaw.choice((-1, 1)) * flaw.uniform(0.26, 0.36), tone)
        canvas.mark(inside(np.minimum(bent, outline) - 0.8))


def solder_tail(canvas: Canvas, y: float, x: float, turn: float, tone: float) -> np.ndarray:
    """Draw a straight lead and return the signed distance to it."""
    v, u = canvas.frame(y, x, turn)
    outline = box(v - 9, u, 15, 3.4, 1.2)
    canvas.paint(0.8 * inside(outline - 0.8, 1.5), (0.16, 0.14, 0.10))
    # The bend below the shoulder turns away from the lamp, the foot lies level.
    slope = np.interp(v, (4, 9, 13, 17), (1.0, 0.72, 0.85, 1.08))
    shade = tone * slope * relief(np.clip(-outline, 0, 1.6), 0.25)
    canvas.paint(inside(outline), shade[..., None] * np.array((0.78, 0.68, 0.42), np.float32))
    return outline


@dataclass(frozen=True)
class Subject:
    """What a category shows: how it is drawn, at which sizes (H, W), and with which defect types.

    Attributes
    ----------
    grey : bool
        Whether the camera is monochrome.
    positional : frozenset of str
        The defect types that only their position gives away.
    good_test_gain : float
        The exposure of the good test images, where all others have 1: brightness then tells good from defective test
        images, and is no sign of a defect.
    at_most : int, optional
        The category has at most so many training images, whatever is asked.
    """

    draw: Draw
    group: Literal["textures", "objects"]
    sizes: tuple[Size, ...]
    defects: tuple[str, ...]
    grey: bool = False
    positional: frozenset[str] = frozenset()
    good_test_gain: float = 1.0
    at_most: int | None = None


SUBJECTS = {
    "fabric": Subject(fabric, "textures", ((192, 192),), ("broken_thread", "hole", "stain")),
    "brushed_metal": Subject(brushed_metal, "textures", ((160, 224),), ("dent", "pitting", "scratch", "smudge"), grey=True),
    "tile": Subject(tile, "textures", ((256, 256),), ("chip", "crack", "discolouration")),
    "gasket": Subject(gasket, "objects", ((160, 160), (160, 200), (192, 176)), ("dust", "nick", "tear")),
    "flange": Subject(flange, "objects", ((192, 192),), ("missing_bolt", "rust", "scratch")),
    "blister": Subject(blister, "objects", ((160, 224),), ("broken", "hair", "missing", "wrong_colour")),
    "circuit": Subject(
        circuit, "objects", ((256, 256),), ("misplaced", "scorch", "solder_bridge"), positional=frozenset({"misplaced"})
    ),
    "screw": Subject(screw, "objects", ((256, 256),), ("blunt_tip", "burr", "nicked_thread"), good_test_gain=0.94),
    "pill": Subject(pill, "objects", ((192, 256),), ("contamination", "crack", "discolouration", "faulty_imprint")),
    "connector": Subject(
        connector, "objects", ((160, 240),), ("bent_lead", "chipped_housing", "contamination", "missing_lead"), at_most=40
    ),
}


def expose(canvas: Canvas, sensor: Generator, grey: bool, exposure: float = 1.0) -> np.ndarray:
    """Take the picture: lens blur, uneven light from a random side, gain and noise; uint8, shape (H, W, 3)."""
    height, width = canvas.x.shape
    angle, slope, gain = sensor.uniform(0, 2 * math.pi), sensor.uniform(0, 0.14), sensor.normal(1, 0.02)
    light = gain + slope * (math.cos(angle) * (canvas.x / width - 0.5) + math.sin(angle) * (canvas.y / height - 0.5))
    grain = 0.01 * sensor.standard_normal((height, width, 1 if grey else 3), np.float32)
    picture = exposure * light[..., None] * blur(canvas.rgb) + grain
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def blur(image: np.ndarray) -> np.ndarray:
    """Blur as the lens does."""
    return cv2.GaussianBlur(image, (5, 5), 0.6)


def render(category: str, name: str, defect: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw an item; without `defect` its clean twin, which differs within the mask only.

    Parameters
    ----------
    category, name : str
        Of the item: the seed.
    defect : str, optional
        A defect type of the category.

    Returns
    -------
    image : numpy.ndarray
        uint8 RGB, shape (H, W, 3).
    mask : numpy.ndarray
        bool, shape (H, W): the pixels of which the defect makes up more than a quarter.
    """
    shown = SUBJECTS[category]
    seed = zlib.crc32(f"{category}/{name}".encode())
    rng, flaw, sensor = (np.random.default_rng((seed, stream)) for stream in range(3))
    size = shown.sizes[rng.integers(len(shown.sizes))]
    canvas = shown.draw(rng, size, defect, flaw)
    # The name decides, not `defect`: a defective item and its clean twin are exposed alike.
    exposure = shown.good_test_gain if name.startswith("test/good/") else 1.0
    return expose(canvas, sensor, shown.grey, exposure), blur(canvas.flaw) > 0.25


def draw_image(category: str, name: str, defect: str | None) -> np.ndarray:
    """Return the image of `render`."""
    return render(category, name, defect)[0]


def draw_mask(category: str, name: str, defect: str) -> np.ndarray:
    """Return the mask of `render`."""
    return render(category, name, defect)[1]


class SyntheticConfig(DatasetConfig):
    """How many images a category has."""

    train: int = Field(default=120, ge=1, description="normal images to learn from; a category may have fewer")
    validation: int = Field(default=20, ge=0, description="normal images to choose thresholds by, in place of a hold-out")
    test_good: int = Field(default=20, ge=1, description="normal test images")
    per_defect: int = Field(default=8, ge=1, description="test images of each defect type")


@DATASETS.register("synthetic", aliases=("embedded",))
class Synthetic(Dataset):
    """Drawn industrial textures and objects with exact masks: needs no files."""

    origin = Origin(
        "the embedded synthetic set, drawn by this project",
        "Apache-2.0",
        "none: the images are this project's own",
    )
    Config = SyntheticConfig
    needs_root = False
    config: SyntheticConfig

    def __init__(self, root: Path | None = None, config: SyntheticConfig | None = None) -> None:
        super().__init__(root, config)
        self.label = "synthetic"

    def categories(self) -> list[str]:
        """Return the names of the categories, sorted."""
        return sorted(SUBJECTS)

    def load(self, category: str) -> Category:
        """List the items of a category; draws nothing."""
        if category not in SUBJECTS:
            raise DataError(
                f"Expected a category of the synthetic data set ({', '.join(self.categories())}), but got '{category}'."
            )
        config, subject = self.config, SUBJECTS[category]

        def items(folder: str, count: int, defect: str | None = None) -> list[Item]:
            names = [f"{folder}/{k:03d}" for k in range(count)]
            return [
                Item(
                    name,
                    defect or GOOD,
                    partial(draw_image, category, name, defect),
                    partial(draw_mask, category, name, defect) if defect else None,
                )
                for name in names
            ]

        test = items("test/good", config.test_good)
        for defect in subject.defects:
            test += items(f"test/{defect}", config.per_defect, defect)
        count = config.train if subject.at_most is None else min(config.train, subject.at_most)
        train, validation = items("train/good", count), items("validation/good", config.validation)
        return Category(category, train, test, validation, subject.group, subject.positional)

    def content(self) -> str:
        """Return the version of the images (and of how many there are at most) and the numbers of them asked for."""
        return f"synthetic-{VERSION}:" + ",".join(f"{name}={number}" for name, number in self.config)
