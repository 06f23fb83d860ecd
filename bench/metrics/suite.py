"""All numbers of one category from its maps and masks, exact, pooled over the images of the category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.metrics import curves
from bench.metrics.counts import Counts, count, region_labels

#: Raise it when a number changes: stored evaluations of older versions are then not used.
VERSION = 1
#: The paper's threshold axis, 0..1.
THRESHOLD_GRID = np.linspace(0, 1, 201)
#: False-positive rates at which ROC and PRO curves are kept for plots.
FPR_GRID = np.concatenate([[0.0], np.logspace(-5, 0, 251)])


@dataclass(frozen=True)
class Metric:
    """Name of a number in `results.csv`, and how a table shows it."""

    name: str
    title: str
    definition: str


METRICS = {
    m.name: m
    for m in [
        Metric("pixel_auroc", "Pixel AUROC", "area under the ROC curve of all pixels"),
        Metric("image_auroc", "Image AUROC", "area under the ROC curve of the image scores"),
        Metric("iou_max", "IoU-max", "IoU at the oracle threshold, the best on the test set: an upper bound"),
        Metric("iou_0.5", "IoU@0.5", "IoU at the threshold 0.5, for maps that are probabilities"),
        Metric("iou_mean", "Mean IoU", "mean of IoU(t) over the threshold axis of the map's value"),
        Metric("iou_deployable", "IoU (deployable)", "IoU at the threshold with a false-positive rate of 1e-3 on held-out normals"),
        Metric("f1_max", "F1-max", "F1 of pixels at its oracle threshold"),
        Metric("pixel_ap", "Pixel AP", "step-wise average precision of all pixels"),
        Metric("aupro_0.3", "AUPRO@0.3", "area under the per-region overlap up to a false-positive rate of 0.3, divided by 0.3"),
    ]
}


@dataclass
class Evaluation:
    """Numbers of one category.

    Attributes
    ----------
    values : dict of str to float
        Under the names of `METRICS`, in 0..1, NaN where undefined; also ``threshold_oracle``,
        ``threshold_deployable``, ``f1_deployable`` and ``fpr_deployable``.
    reasons : dict of str to str
        Why a value is NaN.
    curves : dict of str to numpy.ndarray
        ``iou`` over `THRESHOLD_GRID`; ``roc`` and ``pro`` over ``fpr``.
    per_image : dict of str to numpy.ndarray
        ``score``, and ``iou_oracle``: IoU of each image at the oracle threshold (NaN without defect).
    defects : dict of str to dict
        ``pixel_auroc``, ``aupro_0.3``, ``image_auroc`` and ``images`` of each defect type, against all normal pixels
        or images of the category.
    scaled : bool
        Whether the threshold axis is the map's value min-max scaled on the test set.
    """

    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    curves: dict[str, np.ndarray] = field(default_factory=dict)
    per_image: dict[str, np.ndarray] = field(default_factory=dict)
    defects: dict[str, dict[str, float]] = field(default_factory=dict)
    scaled: bool = False

    def undefined(self, names: Sequence[str], reason: str) -> None:
        """Set the numbers `names` to NaN, with a reason."""
        for name in names:
            self.values[name] = float("nan")
            self.reasons[name] = reason


@dataclass(frozen=True)
class _Pixels:
    """Scores of all pixels: normal ones ascending; defective ones with their region's share and defect type."""

    normal: np.ndarray
    defective: np.ndarray
    shares: np.ndarray  # 1 / (pixels of the region), not yet divided by the number of regions
    image: np.ndarray  # index of each defective pixel's image
    regions: np.ndarray  # regions per image

    def counts(self, images: np.ndarray | None = None) -> Counts:
        """Return the counts for the defective pixels of some images (by default all) against all normal pixels."""
        if images is None:
            return count(self.defective, self.normal, self.shares / max(1, self.regions.sum()))
        keep = images[self.image]
        return count(self.defective[keep], self.normal, self.shares[keep] / max(1, self.regions[images].sum()))


def evaluate(
    maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    image_scores: Sequence[float] | np.ndarray | None = None,
    normal_maps: Sequence[np.ndarray] | None = None,
    *,
    probability: bool = False,
    names: Sequence[str] | None = None,
    defects: Sequence[str] | None = None,
    allowed_fpr: float = 1e-3,
) -> Evaluation:
    """Return all numbers of one category; a pixel is positive where score >= threshold, everywhere.

    Parameters
    ----------
    maps : sequence of numpy.ndarray
        float, (H, W), higher = more anomalous, compared as float32; sizes may differ from image to image.
    masks : sequence of numpy.ndarray
        bool, (H, W) of the map, True where defective.
    image_scores : sequence of float, optional
        By default the maximum of each map.
    normal_maps : sequence of numpy.ndarray, optional
        Maps of held-out normal images, for the deployable threshold.
    probability : bool
        Whether the maps are probabilities; if not, the threshold axis is min-max scaled over `maps`.
    names : sequence of str, optional
        Names of the images, for messages.
    defects : sequence of str, optional
        Defect type of each image, for numbers per type; images without a defective pixel count as normal.
    allowed_fpr : float
        Pooled false-positive rate that the deployable threshold allows on `normal_maps`.

    Raises
    ------
    ValueError
        If a map holds NaN or differs in shape from its mask, or the lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.array([[True, False], [False, False]])
    >>> r = evaluate([np.array([[0.9, 0.1], [0.2, 0.95]])], [mask], probability=True)
    >>> round(r.values["pixel_auroc"], 3), r.values["iou_max"], r.reasons["image_auroc"]
    (0.667, 0.5, 'no normal image in the test set')
    """
    result = Evaluation(scaled=not probability)
    pixels = _collect(maps, masks, names)
    scores = np.array([m.max() for m in maps] if image_scores is None else image_scores, np.float32)
    if len(scores) != len(maps):
        raise ValueError(f"Expected one image score per map, {len(maps)}, but got {len(scores)}.")
    is_defective = np.array([bool(m.any()) for m in masks])
    result.per_image["score"] = scores
    _image_numbers(result, scores, is_defective)
    _pixel_numbers(result, pixels, probability)
    _deployable_numbers(result, pixels, normal_maps, allowed_fpr)
    _per_image_iou(result, maps, masks)
    if defects is not None:
        _defect_numbers(result, pixels, scores, is_defective, np.array(defects))
    return result


def _collect(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], names: Sequence[str] | None) -> _Pixels:
    if len(maps) != len(masks) or len(maps) == 0:
        raise ValueError(f"Expected as many maps as masks, at least one, but got {len(maps)} and {len(masks)}.")
    normal = np.empty(sum(int(m.size - np.count_nonzero(m)) for m in masks), np.float32)
    parts, shares, regions, filled = [], [], np.zeros(len(maps), np.int64), 0
    for i, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
        where = names[i] if names is not None else f"number {i}"
        if scores.shape != mask.shape or mask.dtype != bool:
            raise ValueError(
                f"Expected a bool mask of the map's shape {scores.shape} for image {where}, but got {mask.dtype} {mask.shape}."
            )
        if np.isnan(scores).any():
            raise ValueError(f"Expected a map without NaN, but image {where} has one.")
        outside = scores[~mask]
        normal[filled : filled + len(outside)] = outside
        filled += len(outside)
        labels, sizes = region_labels(mask)
        regions[i] = len(sizes)
        parts.append(scores[mask].astype(np.float32))
        shares.append(1 / sizes[labels])
    normal.sort()
    image = np.repeat(np.arange(len(maps)), [len(p) for p in parts])
    return _Pixels(normal, np.concatenate(parts), np.concatenate(shares), image, regions)


def _missing(positives: int, negatives: int, what: str) -> str | None:
    if positives == 0:
        return f"no defective {what} in the test set"
    return f"no normal {what} in the test set" if negatives == 0 else None


def _image_auroc(scores: np.ndarray, defective: np.ndarray, normal: np.ndarray) -> float:
    return curves.auroc(count(scores[defective], np.sort(scores[normal])))


def _image_numbers(result: Evaluation, scores: np.ndarray, is_defective: np.ndarray) -> None:
    reason = _missing(int(is_defective.sum()), int((~is_defective).sum()), "image")
    if reason:
        result.undefined(["image_auroc"], reason)
    else:
        result.values["image_auroc"] = _image_auroc(scores, is_defective, ~is_defective)


def _pixel_numbers(result: Evaluation, pixels: _Pixels, probability: bool) -> None:
    c = pixels.counts()
    reason = _missing(c.positives, c.negatives, "pixel")
    if reason:
        names = ["pixel_auroc", "pixel_ap", "aupro_0.3", "iou_max", "f1_max", "iou_mean", "iou_0.5", "threshold_oracle"]
        result.undefined(names, reason)
        return
    fpr, overlap = curves.pro_curve(c)
    iou, f1 = curves.iou(c.tp, c.fp, c.positives), curves.f1(c.tp, c.fp, c.positives)
    result.values |= {
        "pixel_auroc": curves.auroc(c),
        "pixel_ap": curves.average_precision(c),
        "aupro_0.3": curves.limited_area(fpr, overlap, 0.3),
        "iou_max": float(iou.max()),
        "f1_max": float(f1.max()),
        "threshold_oracle": float(c.thresholds[iou.argmax()]),
    }
    tpr = np.concatenate([[0.0], np.column_stack([np.append(0, c.tp[:-1]), c.tp]).ravel() / c.positives, [1.0]])
    result.curves |= {"fpr": FPR_GRID, "roc": np.interp(FPR_GRID, fpr, tpr), "pro": np.interp(FPR_GRID, fpr, overlap)}

    defective = np.sort(pixels.defective)
    low, high = (0.0, 1.0) if probability else (min(pixels.normal[0], defective[0]), max(pixels.normal[-1], defective[-1]))
    if not np.isfinite([low, high]).all():
        result.undefined(["iou_mean", "iou_0.5"], "the maps hold infinite values")
        return
    thresholds = (low + THRESHOLD_GRID * (np.float64(high) - low)).astype(np.float32)
    over_grid = curves.iou(*curves.counts_at(defective, pixels.normal, thresholds), c.positives)
    result.curves["iou"] = over_grid
    result.values["iou_mean"] = float(over_grid.mean())
    if probability:
        result.values["iou_0.5"] = float(over_grid[np.searchsorted(THRESHOLD_GRID, 0.5)])
    else:
        result.undefined(["iou_0.5"], "the map is no probability")


def _deployable_numbers(result: Evaluation, pixels: _Pixels, normal_maps: Sequence[np.ndarray] | None, allowed_fpr: float) -> None:
    names = ["iou_deployable", "f1_deployable", "fpr_deployable", "threshold_deployable"]
    if not normal_maps:
        result.undefined(names, "no held-out normal images")
        return
    held_out = np.sort(np.concatenate([m.ravel() for m in normal_maps]).astype(np.float32))
    if np.isnan(held_out[-1]):
        raise ValueError("Expected maps without NaN, but one of the held-out normal images has one.")
    threshold = curves.smallest_threshold(held_out, allowed_fpr)
    result.values["threshold_deployable"] = threshold
    reason = _missing(len(pixels.defective), len(pixels.normal), "pixel")
    if reason:
        result.undefined(names[:3], reason)
        return
    tp, fp = curves.counts_at(np.sort(pixels.defective), pixels.normal, np.array([threshold], np.float32))
    positives = len(pixels.defective)
    result.values |= {
        "iou_deployable": float(curves.iou(tp, fp, positives)[0]),
        "f1_deployable": float(curves.f1(tp, fp, positives)[0]),
        "fpr_deployable": float(fp[0] / len(pixels.normal)),
    }


def _per_image_iou(result: Evaluation, maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> None:
    threshold = np.float32(result.values["threshold_oracle"])
    values = np.full(len(maps), np.nan)
    for i, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
        if mask.any():
            predicted = scores.astype(np.float32) >= threshold
            values[i] = np.count_nonzero(predicted & mask) / np.count_nonzero(predicted | mask)
    result.per_image["iou_oracle"] = values


def _defect_numbers(result: Evaluation, pixels: _Pixels, scores: np.ndarray, is_defective: np.ndarray, defects: np.ndarray) -> None:
    for defect in sorted(set(defects[is_defective].tolist())):
        members = (defects == defect) & is_defective
        c = pixels.counts(members)
        some = not _missing(c.positives, c.negatives, "pixel")
        result.defects[defect] = {
            "images": int(members.sum()),
            "pixel_auroc": curves.auroc(c) if some else float("nan"),
            "aupro_0.3": curves.limited_area(*curves.pro_curve(c), 0.3) if some else float("nan"),
            "image_auroc": _image_auroc(scores, members, ~is_defective) if (~is_defective).any() else float("nan"),
        }
