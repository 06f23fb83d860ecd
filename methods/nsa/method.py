"""NSA (Schlüter et al. 2022, "Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and Localization").

A patch of another normal image, moved and resized, is blended in by Poisson image editing (Pérez et al. 2003); a network learns how
strongly each pixel was changed. The map is its output, the image score the mean of the map.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator

from anoseg_bench.methods import base
from anoseg_bench.methods._batches import Arrays, Batches
from anoseg_bench.methods._normals import Fingerprint, Normals
from anoseg_bench.methods._training import Descent, is_reported, mixed_precision
from anoseg_bench.methods._unet import Segmentation, UNet, levels_for
from anoseg_bench.methods.nsa import NSAConfig

#: Half widths of patches are LEAST_WIDTH + Gamma(WIDTH_SHAPE, WIDTH_SCALE), as shares of the side.
WIDTH_SHAPE, WIDTH_SCALE, LEAST_WIDTH = 2.0, 0.05, 0.03
#: Ranges of the factor by which patches are resized, of objects and of textures; it is drawn from a normal distribution.
RESIZED, RESIZED_TEXTURE, RESIZED_SPREAD = (0.7, 1.3), (0.5, 2.0), 0.5
#: Least share of a patch that is foreground, and of that foreground that falls on foreground; attempts to find such a place.
LEAST_OBJECT, LEAST_OVERLAP, ATTEMPTS = 0.5, 0.25, 200
#: A patch is halved after so many attempts: a thin foreground has no place for a larger one (ours).
PATIENCE = 40
#: Steepness of the label's logistic curve times its midpoint: 2 to 3 in all of the published settings.
STEEPNESS = 2.5
#: A change of more than so many of 255 is a change; sides of the median filters over it, px at 256 px, for that and for its size.
TOLERANCE, MEDIAN, MEDIAN_OF_SIZE = 1.0, 5, 11
#: Shifts of normals, as a share of the side, and turns, in degrees.
SHIFT, TURN = 0.012, 5.0
#: Side of a patch, px, at least: OpenCV keeps the image's own gradients within four pixels of a patch's edge.
LEAST_SIDE = 10


@dataclass(frozen=True)
class Recipe:
    """How training images are made: the paper's settings by category, each by a rule of ours or by the user.

    Attributes
    ----------
    patches : int
        At most, in an image.
    largest_half_width : float
        Of a patch, as a share of the side.
    foreground : bool
        Whether patches lie on the foreground.
    midpoint : float
        Change of grey, of 255, whose label is 0.5.
    texture, turns : bool
        See `NSAConfig`.
    """

    patches: int
    largest_half_width: float
    foreground: bool
    midpoint: float
    texture: bool
    turns: bool

    @classmethod
    def of(cls, facts: Fingerprint, config: NSAConfig) -> Recipe:
        """Apply the rules that the configuration leaves to them."""
        texture = facts.texture if config.texture == "auto" else config.texture
        widest = min(0.4, max(0.06, 0.75 * facts.inner_width)) if facts.plain else 0.4
        return cls(
            patches=(4 if texture else 3) if config.patches == "auto" else config.patches,
            largest_half_width=widest if config.largest_half_width == "auto" else config.largest_half_width,
            foreground=facts.plain if config.foreground == "auto" else config.foreground,
            midpoint=facts.visible if config.midpoint == "auto" else config.midpoint,
            texture=texture,
            turns=facts.turns if config.turns == "auto" else config.turns,
        )


class View(NamedTuple):
    """A normal image, uint8 (S, S, 3), and its foreground, uint8 (S, S), 0 or 1; all of it where that does not count."""

    image: np.ndarray
    foreground: np.ndarray


def blend(image: np.ndarray, patch: np.ndarray, corner: tuple[int, int], mixed: bool) -> np.ndarray:
    """Blend a patch into an image seamlessly (Pérez et al. 2003), all but the patch's outermost pixels.

    Parameters
    ----------
    image, patch : numpy.ndarray
        uint8 (S, S, 3) and (h, w, 3), h and w at least 5.
    corner : tuple of int
        Row and column of the patch's first pixel in the image.
    mixed : bool
        Whether of both gradients the stronger one counts, instead of the patch's.

    Returns
    -------
    numpy.ndarray
        uint8 (S, S, 3).
    """
    (top, left), (height, width) = corner, patch.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    mask[1:-1, 1:-1] = 255
    # OpenCV puts the centre of the mask's bounding box, the half rounded down, at the point that it is given
    centre = (left + 1 + (width - 2) // 2, top + 1 + (height - 2) // 2)
    return cv2.seamlessClone(patch, image, mask, centre, cv2.MIXED_CLONE if mixed else cv2.NORMAL_CLONE)


def label_change(before: np.ndarray, after: np.ndarray, where: np.ndarray, midpoint: float, soft: bool) -> np.ndarray:
    """Return the label of a training image: how strongly it was changed (section 3.2).

    Parameters
    ----------
    before, after : numpy.ndarray
        uint8 (S, S, 3).
    where : numpy.ndarray
        uint8 (S, S), 1 where a patch was put.
    midpoint : float
        Change of grey whose label is 0.5.
    soft : bool
        Whether labels grow with the change; else any change is 1.

    Returns
    -------
    numpy.ndarray
        float32 (S, S) in 0..1; 0 where nothing was changed.
    """
    side = before.shape[0]
    window, wider = (max(3, round(length * side / 256) | 1) for length in (MEDIAN, MEDIAN_OF_SIZE))
    change = cv2.absdiff(before, after).mean(2, dtype=np.float32) * where
    changed = cv2.medianBlur((change > TOLERANCE).astype(np.uint8), window).astype(np.float32)
    if not soft:
        return changed
    size = cv2.medianBlur((change * changed).round().astype(np.uint8), wider).astype(np.float32)
    return changed / (1 + np.exp(-STEEPNESS / midpoint * (size - midpoint)))


class Source:
    """Makes training images of the normals of a category.

    Parameters
    ----------
    images : numpy.ndarray
        uint8 (N, S, S, 3).
    """

    def __init__(self, images: np.ndarray, config: NSAConfig) -> None:
        self.normals, self.config = Normals.of(images), config
        self.recipe = Recipe.of(self.normals.fingerprint, config)

    def __len__(self) -> int:
        return len(self.normals.images)

    def findings(self) -> dict[str, dict[str, Any]]:
        """Return facts about the normals, and what follows from them."""
        return {"fingerprint": asdict(self.normals.fingerprint), "recipe": asdict(self.recipe)}

    def normal(self, rng: Generator, index: int) -> View:
        """Return a normal, slightly shifted; textures at times flipped, objects that lie in any direction turned a little."""
        image = self.normals.images[index]
        side = image.shape[0]
        foreground = np.ones((side, side), np.uint8)
        if self.recipe.foreground:
            foreground = self.normals.layers[index].foreground.astype(np.uint8)
        angle = math.radians(rng.uniform(-TURN, TURN)) if self.recipe.turns else 0.0
        cos, sin, centre = math.cos(angle), math.sin(angle), (side - 1) / 2
        flip = -1.0 if self.recipe.texture and rng.random() < 0.5 else 1.0
        matrix = np.array([[cos, -sin, 0.0], [flip * sin, flip * cos, 0.0]])
        shift = rng.uniform(-SHIFT, SHIFT, 2) * side
        matrix[:, 2] = centre + (shift if self.recipe.turns else shift.round()) - matrix[:, :2] @ (centre, centre)
        return View(
            cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101),
            cv2.warpAffine(foreground, matrix, (side, side), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101),
        )

    def _half_widths(self, rng: Generator, side: int) -> np.ndarray:
        """Draw half of the height and width of a patch, px."""
        drawn = LEAST_WIDTH + rng.gamma(WIDTH_SHAPE, WIDTH_SCALE, 2)
        return np.maximum(2, (np.clip(drawn, LEAST_WIDTH, self.recipe.largest_half_width) * side).astype(int))

    def cut(self, rng: Generator, source: View) -> View | None:
        """Cut a patch from a view, and resize it; None where none with enough foreground was found."""
        side = source.image.shape[0]
        half = self._half_widths(rng, side)
        points = np.flatnonzero(source.foreground)
        if not len(points):
            return None
        for attempt in range(1, ATTEMPTS + 1):
            centre = np.array(divmod(int(points[rng.integers(len(points))]), side))
            (top, left), (bottom, right) = np.maximum(centre - half, 0), np.minimum(centre + half, side)
            window = (slice(top, bottom), slice(left, right))
            if source.foreground[window].mean() > LEAST_OBJECT:
                break
            if attempt % PATIENCE == 0:
                half = np.maximum(2, half // 2)
        else:
            return None
        factor = np.clip(rng.normal(1, RESIZED_SPREAD), *(RESIZED_TEXTURE if self.recipe.texture else RESIZED))
        longest = self.recipe.largest_half_width * side  # the bound of half widths, as in the authors' code
        factor = min(factor, longest / max(bottom - top, right - left))
        shape = (max(LEAST_SIDE, round(factor * (right - left))), max(LEAST_SIDE, round(factor * (bottom - top))))  # width, height
        foreground = cv2.resize(source.foreground[window], shape, interpolation=cv2.INTER_NEAREST)
        return View(cv2.resize(source.image[window], shape), foreground)

    def place(self, rng: Generator, patch: View, foreground: np.ndarray) -> tuple[int, int] | None:
        """Return the first row and column of a place for a patch; None where none with enough foreground was found."""
        side, (height, width) = foreground.shape[0], patch.foreground.shape
        needed = LEAST_OVERLAP * patch.foreground.sum()
        for _ in range(ATTEMPTS):
            top, left = int(rng.integers(side - height + 1)), int(rng.integers(side - width + 1))
            if (foreground[top : top + height, left : left + width] & patch.foreground).sum() > needed:
                return top, left
        return None

    def image(self, rng: Generator, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Make a training image of a normal, uint8 (S, S, 3), and its label, float32 (S, S)."""
        before = self.normal(rng, index)
        step = 1 + int(rng.integers(max(1, len(self) - 1)))
        other = self.normal(rng, (index + step) % len(self))  # itself where there is no other
        after, where = before.image, np.zeros_like(before.foreground)
        for number in range(self.recipe.patches):
            if number and rng.random() < 0.5:
                continue
            patch = self.cut(rng, other)
            corner = None if patch is None else self.place(rng, patch, before.foreground)
            if patch is None or corner is None:
                continue
            window = tuple(slice(start, start + length) for start, length in zip(corner, patch.foreground.shape, strict=True))
            after = blend(after, patch.image, corner, self.recipe.texture)
            where[window] |= patch.foreground | before.foreground[window]
        return after, label_change(before.image, after, where, self.recipe.midpoint, self.config.soft_labels)

    def batch(self, rng: Generator, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Make training images, uint8 (N, S, S, 3), and their labels, float32 (N, S, S), of the normals of some numbers."""
        images, labels = zip(*(self.image(rng, i) for i in index), strict=True)
        return np.stack(images), np.stack(labels)


class Network(UNet):
    """A U-Net of the size of AnoSeg's from images to logits of their maps."""

    def __init__(self, levels: int, width: int) -> None:
        super().__init__(levels, width, coord=False)
        self.segment = Segmentation(self.channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 1, S, S) of images (N, 3, S, S) in [-1, 1]."""
        return self.segment(self.features(images)[1])


class NSA(base.Method):
    """NSA (Schlüter et al. 2022): a network that segments patches of other images, blended in seamlessly."""

    Config = NSAConfig
    probability = True

    def _build(self) -> None:
        config = self.config
        net = Network(levels_for(config.image_size), config.width)
        self.net = net.to(torch.device(self.device)).to(memory_format=torch.channels_last)
        self._findings: dict[str, Any] = {}

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        config = self.config
        self._build()
        source = self._source(images)
        self._findings = source.findings()
        with closing(Batches(source, self.seed, config.batch_size, config.steps).on(self.device)) as batches:
            self._train(batches, progress)

    def _train(self, batches: Iterable[Arrays], progress: base.Progress) -> None:
        steps = self.config.steps
        self.net.train()
        descent = Descent(self.net, steps, self.config.learning_rate, self.device)
        for step, (images, labels) in enumerate(batches, 1):
            loss = F.binary_cross_entropy_with_logits(self._logits(images.permute(0, 3, 1, 2)), labels)
            descent.step(loss)
            descent.schedule.step()
            if is_reported(step, steps):
                progress(step, steps, loss.item())
        descent.finish()

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, S, S) of images, uint8 (N, 3, S, S)."""
        with mixed_precision(self.device):
            logits = self.net(images.float() / 127.5 - 1)
        return logits.float().squeeze(1)

    @staticmethod
    def _pixels(images: torch.Tensor) -> np.ndarray:
        return np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())

    def _source(self, images: torch.Tensor) -> Source:
        return Source(self._pixels(images), self.config)

    @torch.no_grad()
    def _predict(self, images: torch.Tensor) -> base.Prediction:
        maps = torch.sigmoid(self._logits(images))
        return base.Prediction(maps, maps.mean((1, 2)))

    def findings(self) -> dict[str, Any]:
        """Return the fingerprint of the training images, and the recipe that followed from it."""
        return self._findings

    def _examples(self, images: torch.Tensor, number: int) -> base.Examples:
        source = self._source(images)
        rng = np.random.default_rng(self.seed)
        made, labels = source.batch(rng, rng.integers(len(source), size=number))
        layers = source.normals.layers[:number]
        return base.Examples(
            torch.from_numpy(made).permute(0, 3, 1, 2),
            torch.from_numpy(labels),
            images[:number],
            torch.from_numpy(np.stack([layer.foreground for layer in layers])),
            source.findings(),
            "the brighter, the stronger the change",
        )

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights."""
        return self.net.state_dict()

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the weights."""
        self._build()
        self.net.load_state_dict(state)
        self.net.eval()
