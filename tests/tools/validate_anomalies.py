"""Compare variants of methods without any test image: held-out normal images, marred in ways that training does not use.

    python -m tests.tools.validate_anomalies --methods 'anoseg,anoseg[comparison=false]' --dataset mvtec_ad --data-root DIR \
        --category bottle,grid --set anoseg.images_seen=14400

Most of AnoSeg's configuration was chosen by these numbers (not `mixture` and `fine_lines`, see README). Training pastes, fills,
bends and, since version 6, draws lines of its own; here parts are painted over from their surroundings, discs are turned, noise
is added, pieces of other categories laid on, lines drawn in another way. Masks: what changed visibly.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn.metrics import average_precision_score

from anoseg_bench.evaluation.cell import resize
from anoseg_bench.evaluation.holdout import hold_out
from anoseg_bench.evaluation.maps import to_original
from anoseg_bench.methods import METHODS
from anoseg_bench.metrics import evaluate
from anoseg_bench.validation import choose_categories, open_dataset
from anoseg_bench.variants import parse_methods

Marred = tuple[np.ndarray, np.ndarray]  # float32 image (S, S, 3), and where it may have changed, 0..1 (S, S)
SHOWN = ["pixel_auroc", "pixel_ap", "iou_max", "iou_0.5", "iou_deployable", "iou_mean", "image_auroc"]


def _line(rng: np.random.Generator, side: int, length: float, drift: float, jag: float, width: float) -> np.ndarray:
    """Return the coverage of a wandering line."""
    steps = max(3, int(length / 3))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, drift, steps)) + rng.normal(0, jag, steps)
    points = np.cumsum(3 * np.stack([np.cos(heading), np.sin(heading)], 1), 0)
    points += rng.uniform(0.1, 0.9, 2) * side - points[steps // 2]
    fine = np.zeros((4 * side, 4 * side), np.uint8)
    cv2.polylines(fine, [np.round(4 * points).astype(np.int32)], False, 255, max(1, round(4 * width)))
    return cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _blob(rng: np.random.Generator, side: int, radius: float) -> np.ndarray:
    """Return the coverage of a spot with an uneven outline."""
    cy, cx = rng.uniform(0.1, 0.9, 2) * side
    y, x = np.mgrid[:side, :side]
    angle = np.arctan2(y - cy, x - cx)
    waves = sum(rng.normal(0, 0.25 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 9))
    distance = np.hypot(y - cy, (x - cx) * rng.uniform(0.7, 1.3))
    return np.clip(radius * (1 + waves) - distance + 0.5, 0, 1).astype(np.float32)


def _over(image: np.ndarray, other: np.ndarray, alpha: np.ndarray) -> Marred:
    return image + alpha[..., None] * (other - image), alpha


def scratch(rng, image, unit, others):
    """Draw a thin bright or dark line."""
    alpha = _line(rng, len(image), rng.uniform(15, 70) * unit, 0.08, 0, rng.uniform(0.8, 2) * unit)
    return image + alpha[..., None] * (rng.choice([-1, 1]) * rng.uniform(25, 110)), alpha


def crack(rng, image, unit, others):
    """Draw a jagged dark line."""
    alpha = _line(rng, len(image), rng.uniform(20, 80) * unit, 0.25, 0.7, rng.uniform(0.8, 2.5) * unit)
    return image * (1 - alpha[..., None] * rng.uniform(0.4, 0.9)), alpha


def stain(rng, image, unit, others):
    """Darken a soft spot, at times with a tint where there is colour."""
    alpha = cv2.GaussianBlur(_blob(rng, len(image), rng.uniform(4, 18) * unit), (0, 0), 1.5 * unit)
    coloured = np.ptp(image, axis=2).max() > 8 and rng.random() < 0.5
    return _over(image, image * (1 - rng.uniform(0.15, 0.5) * (rng.uniform(0.4, 1, 3) if coloured else np.ones(3))), alpha)


def missing(rng, image, unit, others, radius=(5, 20)):
    """Paint a part over from its surroundings (Telea 2004)."""
    alpha = (_blob(rng, len(image), rng.uniform(*radius) * unit) > 0.1).astype(np.float32)
    painted = cv2.inpaint(image.astype(np.uint8), alpha.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    return _over(image, painted.astype(np.float32), alpha)


def absent(rng, image, unit, others):
    """Paint a large part over."""
    return missing(rng, image, unit, others, (22, 40))


def foreign(rng, image, unit, others):
    """Lay a piece of another category on the image, without colour where it has none."""
    other = others[rng.integers(len(others))].astype(np.float32)
    other = other if np.ptp(image, axis=2).max() > 8 else np.repeat(other.mean(2, keepdims=True), 3, 2)
    return _over(image, other, _blob(rng, len(image), rng.uniform(3, 18) * unit))


def swirl(rng, image, unit, others):
    """Turn the pixels of a disc, most in its middle."""
    radius, (cy, cx) = rng.uniform(8, 24) * unit, rng.uniform(0.15, 0.85, 2) * len(image)
    y, x = np.mgrid[: len(image), : len(image)].astype(np.float32)
    distance = np.hypot(y - cy, x - cx)
    turn = rng.choice([-1, 1]) * rng.uniform(0.6, 1.6) * np.clip(1 - distance / radius, 0, 1)
    u = cx + (x - cx) * np.cos(turn) - (y - cy) * np.sin(turn)
    v = cy + (x - cx) * np.sin(turn) + (y - cy) * np.cos(turn)
    moved = cv2.remap(image, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return moved, (distance < radius).astype(np.float32)


def turned(rng, image, unit, others):
    """Turn a whole disc: a part in a wrong pose."""
    radius, (cy, cx) = rng.uniform(8, 26) * unit, rng.uniform(0.25, 0.75, 2) * len(image)
    matrix = cv2.getRotationMatrix2D((float(cx), float(cy)), float(rng.uniform(25, 155)), 1)
    y, x = np.mgrid[: len(image), : len(image)]
    alpha = np.clip(radius - np.hypot(y - cy, x - cx) + 0.5, 0, 1).astype(np.float32)
    return _over(image, cv2.warpAffine(image, matrix, image.shape[:2], borderMode=cv2.BORDER_REFLECT), alpha)


def noise(rng, image, unit, others):
    """Add noise to a spot: a worn or rough place."""
    grain = cv2.blur(rng.normal(0, rng.uniform(15, 50), image.shape[:2]).astype(np.float32), (2, 2))
    alpha = _blob(rng, len(image), rng.uniform(4, 16) * unit)
    return image + (alpha * grain)[..., None], alpha


KINDS: dict[str, Callable[..., Marred]] = {
    f.__name__: f for f in (scratch, crack, stain, missing, absent, foreign, swirl, turned, noise)
}


def mar(rng: np.random.Generator, image: np.ndarray, kind: str, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an image marred (uint8) and the mask of what changed visibly, gaps closed (bool)."""
    unit = len(image) / 128
    after, alpha = KINDS[kind](rng, image.astype(np.float32), unit, others)
    after = np.clip(after, 0, 255).astype(np.uint8)
    change = (cv2.blur((cv2.absdiff(after, image).max(2) > 8).astype(np.float32), (3, 3)) > 0.2).astype(np.uint8)
    kernel = np.ones((max(3, int(6 * unit)) | 1,) * 2, np.uint8)
    return after, (cv2.morphologyEx(change, cv2.MORPH_CLOSE, kernel) > 0) & (alpha > 0.2)


def validation_set(normals: np.ndarray, others: np.ndarray, per_kind: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return marred images, their masks (of at least 5 pixels each) and kinds."""
    rng = np.random.default_rng(seed)
    made = []
    for kind in KINDS:
        tries = (mar(rng, normals[rng.integers(len(normals))], kind, others) for _ in range(20 * per_kind))
        made += [(*found, kind) for found in (t for t in tries if t[1].sum() >= 5)][:per_kind]
    return np.stack([m[0] for m in made]), np.stack([m[1] for m in made]), [m[2] for m in made]


def main() -> None:
    """Train the variants and print their numbers, in percent."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--methods", default="anoseg")
    parse.add_argument("--dataset", default="synthetic")
    parse.add_argument("--data-root", type=Path)
    parse.add_argument("--category", default="all")
    parse.add_argument("--profile", default="quick")
    parse.add_argument("--set", action="append", default=[])
    parse.add_argument("--device", default="cpu")
    parse.add_argument("--per-kind", type=int, default=24)
    parse.add_argument("--seed", type=int, default=0)
    arguments = parse.parse_args()
    arguments.config = None
    _, dataset, settings = open_dataset(arguments)
    variants = parse_methods(arguments.methods, arguments.profile, settings)
    print("category variant", *SHOWN, "| AP:", *KINDS)
    for category in choose_categories(dataset, arguments.category):
        train, held_out = hold_out(dataset.load(category), 0.1, arguments.seed)
        for variant in variants:
            size = variant.config.input_size
            images, normals = (torch.stack([resize(i.load_image(), size) for i in items]) for items in (train, held_out))
            pixels = normals.permute(0, 2, 3, 1).contiguous().numpy()
            sources = [c for c in dataset.categories() if c != category] or [category]
            others = np.stack(
                [resize(i.load_image(), size).permute(1, 2, 0).numpy() for c in sources for i in dataset.load(c).train[:10]]
            )
            marred, masks, kinds = validation_set(pixels, others, arguments.per_kind, seed=7)
            method = METHODS[variant.method].load()(variant.config, seed=arguments.seed, device=arguments.device)
            method.fit(images)
            clean, defective = method.predict(normals), method.predict(torch.from_numpy(marred).permute(0, 3, 1, 2).contiguous())
            maps = [to_original(one.numpy(), masks.shape[1:]) for prediction in (defective, clean) for one in prediction.maps]
            truth = np.concatenate([masks, np.zeros((len(clean.maps), *masks.shape[1:]), bool)])
            scores = [p.scores if p.scores is not None else p.maps.flatten(1).amax(1) for p in (defective, clean)]
            values = evaluate(
                maps, list(truth), torch.cat(scores).numpy(), maps[len(masks) :], scores[1].numpy(), method.probability
            ).values
            by_kind = []
            for kind in KINDS:
                chosen = np.array([k == kind for k in kinds] + [True] * len(clean.maps))
                by_kind.append(average_precision_score(truth[chosen].ravel(), np.stack(maps)[chosen].ravel()))
            shown = [f"{100 * v:.1f}" for v in (*(values[name] for name in SHOWN), *by_kind)]
            print(category, variant.label, *shown[: len(SHOWN)], "|", *shown[len(SHOWN) :], flush=True)


if __name__ == "__main__":
    main()
