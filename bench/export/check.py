"""Whether an exported model says what the harness says, on images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from anoseg_bench.errors import BenchError
from anoseg_bench.evaluation.cell import resize, scores_of_maps
from anoseg_bench.evaluation.maps import to_original
from anoseg_bench.export.formats import Runner
from anoseg_bench.methods.base import Method
from anoseg_bench.store.cells import CellResult

#: Largest difference of maps, as a share of their range: 1 for probabilities, else from the smallest to the largest value seen.
TOLERANCE = 1e-3
#: Images of one size that an exported model is given at once.
BATCH = 2


@dataclass(frozen=True)
class Check:
    """What a comparison of an exported model with the harness saw.

    Attributes
    ----------
    images : int
    map_range : float
        The range of the maps, of which `TOLERANCE` is a share.
    largest_map_difference, largest_score_difference : float
        In units of the maps and scores.
    decisions : int
        Images whose decision was compared; all are the same.
    pixels, pixels_decided_otherwise : int
        Of the maps; how many reach the threshold in one of both only: those that lie within rounding of it.
    """

    images: int
    map_range: float
    largest_map_difference: float
    largest_score_difference: float
    decisions: int
    pixels: int
    pixels_decided_otherwise: int


def reference(method: Method, images: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return what the harness says of images (H, W, 3): their maps at their sizes, and their scores."""
    prediction = method.predict(torch.stack([resize(image, method.config.input_size) for image in images]))
    scores = scores_of_maps(prediction.maps)["map_max"] if prediction.scores is None else prediction.scores
    shapes = [(image.shape[0], image.shape[1]) for image in images]
    return [to_original(map_, shape) for map_, shape in zip(prediction.maps.numpy(), shapes, strict=True)], scores.numpy()


def check(method: Method, result: CellResult, run: Runner, images: Iterable[tuple[str, np.ndarray]]) -> Check:
    """Compare an exported model with the harness on named images.

    Raises
    ------
    BenchError
        If a map differs by more than `TOLERANCE`, or a decision does.
    """
    image_threshold, pixel_threshold = (result.value(n) for n in ("image_threshold_deployable", "threshold_deployable"))
    lowest, highest = (0.0, 1.0) if method.probability else (math.inf, -math.inf)
    done = decisions = pixels = otherwise = 0
    worst, worst_score, where = 0.0, 0.0, ""
    for names, batch in batches(images):
        maps, scores = reference(method, batch)
        try:
            found = run(np.stack(batch))
        except Exception as error:  # of a runtime, each of which has its own
            raise BenchError(f"The exported model cannot be run on '{names[0]}': {' '.join(str(error).split())[:300]}") from error
        for i, (name, map_, score) in enumerate(zip(names, maps, scores, strict=True)):
            difference = float(np.abs(found["map"][i] - map_).max())
            if not difference <= worst:  # NaN, too
                worst, where = difference, name
            worst_score = max(worst_score, abs(float(found["score"][i]) - float(score)))
            lowest, highest = min(lowest, float(map_.min())), max(highest, float(map_.max()))
            if "defective" in found:
                decisions += 1
                if bool(found["defective"][i]) != (float(score) >= image_threshold):
                    raise BenchError(
                        f"The exported model decides otherwise than the harness on '{name}' (scores {found['score'][i]:.9g} and "
                        f"{score:.9g}, threshold {image_threshold:.9g}), so nothing is written."
                    )
            if "mask" in found:
                pixels += map_.size
                otherwise += int((found["mask"][i] != (map_ >= pixel_threshold)).sum())
        done += len(batch)
    span = max(highest - lowest, np.finfo(np.float32).tiny)
    if not worst <= TOLERANCE * span:
        raise BenchError(
            f"The exported model's map of '{where}' differs from the harness's by {worst:.3g}, where {TOLERANCE * span:.3g} is "
            f"allowed ({TOLERANCE:g} of the maps' range), so nothing is written."
        )
    return Check(done, span, worst, worst_score, decisions, pixels, otherwise)


def batches(images: Iterable[tuple[str, np.ndarray]]) -> Iterable[tuple[list[str], list[np.ndarray]]]:
    """Yield names and images of one size, `BATCH` at most at once."""
    names: list[str] = []
    some: list[np.ndarray] = []
    for name, image in images:
        if some and (len(some) == BATCH or image.shape != some[0].shape):
            yield names, some
            names, some = [], []
        names.append(name)
        some.append(image)
    if some:
        yield names, some
