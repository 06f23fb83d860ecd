"""Run of one cell: load, hold out, fit, predict, bring maps to the images' size, evaluate, store."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from bench.metrics import Evaluation, evaluate
from bench.plan import Cell
from bench.provenance import provenance
from bench.store import Store, to_json
from datasets.base import Category, Item, split_off
from methods import METHODS
from methods.base import Method

#: Longest side, in pixels, of what is kept of images and maps for galleries.
THUMBNAIL = 160
#: Points kept of a training curve.
CURVE_POINTS = 200

Progress = Callable[[str, int, int, float | None], None]


def hold_out(category: Category, share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Return (training items, held-out normal items).

    The category's validation images are held out where it has some; else a seeded `share` of the training images, at
    least one, and at least one is left to train on. With a share of 0 nothing is held out.
    """
    if share == 0:
        return category.train, []
    if category.validation:
        return category.train, category.validation
    return split_off(category.train, share, seed)


def resize(image: np.ndarray, size: int) -> torch.Tensor:
    """Return an image (H, W, 3) as uint8 (3, size, size): bilinear, antialiased, the aspect ratio given up."""
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def to_original(map_: torch.Tensor, shape: tuple[int, int]) -> np.ndarray:
    """Return a map (h, w) at the size of its image, (H, W): bilinear, align_corners=False."""
    return F.interpolate(map_[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0].numpy()


def thumbnail(array: np.ndarray, resample: Image.Resampling = Image.Resampling.BOX) -> np.ndarray:
    """Return an image, mask or map reduced to at most `THUMBNAIL` px; smaller ones as they are."""
    scale = THUMBNAIL / max(array.shape[:2])
    if scale >= 1:
        return array
    size = (max(1, round(array.shape[1] * scale)), max(1, round(array.shape[0] * scale)))
    return np.asarray(Image.fromarray(array).resize(size, resample))


class _Predictor:
    """Predicts items one batch at a time and keeps maps at the images' size, scores, and the time of the method alone."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.seconds = 0.0
        self.images = 0

    def __call__(self, items: list[Item], progress: Callable[[int, int], None]) -> tuple[list[np.ndarray], np.ndarray]:
        config = self.method.config
        maps: list[np.ndarray] = []
        scores: list[torch.Tensor] = []
        for start in range(0, len(items), config.batch_size):
            originals = [item.load_image() for item in items[start : start + config.batch_size]]
            batch = torch.stack([resize(image, config.image_size) for image in originals])
            began = time.perf_counter()
            prediction = self.method.predict(batch)
            self.seconds += time.perf_counter() - began
            self.images += len(batch)
            scores.append(prediction.maps.flatten(1).amax(1) if prediction.scores is None else prediction.scores)
            maps += [to_original(m, image.shape[:2]) for m, image in zip(prediction.maps, originals, strict=True)]
            progress(len(maps), len(items))
        return maps, torch.cat(scores).numpy() if scores else np.empty(0, np.float32)


def run_cell(cell: Cell, category: Category, store: Store, progress: Progress, save_maps: bool = False) -> None:
    """Run a cell and write its result to the store.

    Parameters
    ----------
    progress : callable
        Called as ``progress(stage, done, total, loss)``.
    save_maps : bool
        Whether all maps are kept, as float32 TIFF at the images' size.

    Raises
    ------
    BenchError
        If the data or the method break their contract.
    """
    config = cell.variant.config
    train, held_out = hold_out(category, cell.holdout, cell.seed)
    method: Method = METHODS[cell.variant.method].load()(config, seed=cell.seed, device=cell.device)
    curve: list[tuple[int, float]] = []

    def training(step: int, steps: int, loss: float) -> None:
        if step % max(1, steps // CURVE_POINTS) == 0 or step == steps:
            curve.append((step, loss))
        progress("train", step, steps, loss)

    images = torch.stack([resize(item.load_image(), config.image_size) for item in train])
    began = time.perf_counter()
    method.fit(images, training)
    train_seconds = time.perf_counter() - began

    predict = _Predictor(method)
    held_out_maps, _ = predict(held_out, lambda done, total: progress("held-out", done, total, None))
    maps, scores = predict(category.test, lambda done, total: progress("predict", done, total, None))
    masks = [item.load_mask(m.shape) for item, m in zip(category.test, maps, strict=True)]
    evaluation = evaluate(
        maps,
        masks,
        scores,
        held_out_maps,
        probability=method.probability,
        names=[item.name for item in category.test],
        defects=[item.defect for item in category.test],
    )
    record = _record(cell, category, len(train), len(held_out), evaluation)
    record["timing"] = {
        "train_s": train_seconds,
        "predict_s": predict.seconds,
        "images_per_s": predict.images / max(predict.seconds, 1e-9),
    }
    record["training_curve"] = curve
    record["provenance"] = provenance(cell.device)
    arrays = evaluation.curves | evaluation.per_image
    peak = max(float(np.abs(m).max()) for m in maps)
    kind = np.float16 if 1e-2 < peak < 6e4 else np.float32
    arrays |= {f"map/{i}": thumbnail(m).astype(kind) for i, m in enumerate(maps)}
    with store.writing(cell.variant.method, cell.key) as folder:
        np.savez_compressed(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
        if save_maps:
            _write_maps(folder / "maps", [*category.test, *held_out], [*maps, *held_out_maps])
        (folder / "cell.json").write_text(to_json(record), encoding="utf-8")
    _write_previews(store.previews(cell.content), category.test, masks)


def _record(cell: Cell, category: Category, train: int, held_out: int, evaluation: Evaluation) -> dict[str, Any]:
    good = sum(item.is_good for item in category.test)
    return {
        "identity": cell.identity,
        "method": cell.variant.method,
        "config": cell.variant.config.model_dump(mode="json"),
        "deviations": cell.variant.config.deviations(),
        "dataset": cell.dataset,
        "category": cell.category,
        "group": category.group,
        "seed": cell.seed,
        "content": cell.content,
        "values": evaluation.values,
        "reasons": evaluation.reasons,
        "defects": evaluation.defects,
        "scaled": evaluation.scaled,
        "items": [[item.name, item.defect] for item in category.test],
        "images": {"train": train, "held_out": held_out, "test_good": good, "test_defective": len(category.test) - good},
    }


def _write_previews(path: Path, items: list[Item], masks: list[np.ndarray]) -> None:
    if path.exists():
        return
    previews = {}
    for i, (item, mask) in enumerate(zip(items, masks, strict=True)):
        previews[f"image/{i}"] = thumbnail(item.load_image())
        previews[f"mask/{i}"] = thumbnail(mask.astype(np.uint8) * 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}.npz")
    np.savez_compressed(temporary, **previews)  # type: ignore[arg-type]
    temporary.replace(path)


def _write_maps(folder: Path, items: list[Item], maps: list[np.ndarray]) -> None:
    for item, map_ in zip(items, maps, strict=True):
        path = folder / f"{item.name}.tiff"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(map_.astype(np.float32)).save(path, compression="tiff_adobe_deflate")
