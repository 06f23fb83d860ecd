"""All numbers of one category from its maps and masks, pooled over the images of the category."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anoseg_bench.metrics import catalogue, curves
from anoseg_bench.metrics.axes import (
    FPR_GRID,
    RATE_AXIS,
    RATE_GRID,
    RATE_STEP,
    RECALL_GRID,
    VALUE_AXIS,
    VALUE_GRID,
    VALUE_STEP,
    value_thresholds,
)
from anoseg_bench.metrics.binned import Binned, Sketch, collect
from anoseg_bench.metrics.counts import Counts, Part, Parts, Scores, as_floats, check_repeatable
from anoseg_bench.metrics.exact import Exact
from anoseg_bench.metrics.images import ImageTable
from anoseg_bench.metrics.spro import Region, SaturatedParts, saturated
from anoseg_bench.metrics.thresholds import ALLOWED_ALARMS, ALLOWED_FPR, HeldOut, image_threshold, needed_scores, pixel_threshold

#: Raise it when a number changes: stored evaluations of older versions are then not used.
VERSION = 3
#: An IoU of at least this share of the largest counts for the width.
WIDTH_SHARE = 0.9
#: Points of the curve of per-image overlap that are kept of each image in bounded mode.
_PIMO_POINTS = 2048


@dataclass
class Evaluation:
    """Numbers of one category.

    Attributes
    ----------
    values : dict of str to float
        Those of `catalogue.CATALOGUE`, NaN where undefined; in 0..1 but for thresholds, which are in units of the map.
    reasons : dict of str to str
        Why a value is NaN.
    curves : dict of str to numpy.ndarray
        float64: ``iou`` over `VALUE_GRID` and ``iou_fpr`` over `RATE_CURVE`; ``roc`` and ``pro`` over ``fpr``
        (`FPR_GRID`); ``precision`` over `RECALL_GRID`; ``thresholds_value``, ``thresholds_rate`` and ``thresholds_held_out``, the
        thresholds of the grids per image; ``held_out_pixels``, int64 (N,), and ``held_out_counts``, int64 (N, K), of N held-out
        normal images at the last of these: how sure the deployable threshold is.
    per_image : dict of str to numpy.ndarray
        For M images: ``score``; ``iou_oracle`` (in bounded mode at the best threshold of the grids), ``iou_deployable`` and
        ``aupimo`` (NaN without defect); ``positives``,
        ``negatives``, ``regions``, int64; counts >= t on the grids of both axes, int64, ``tp_value`` and ``fp_value`` (M, 201),
        ``tp_rate`` and ``fp_rate`` (M, 196), ``tp_held_out`` and ``fp_held_out`` (M, K); ``overlap_rate``, float32 (M, 196), the
        sum over regions of the share >= t; where regions saturate, ``saturated_rate``, the same of
        min(share >= t / saturation, 1), and ``saturated_regions``, int64.
        Label values computed from these grids as approximate. In bounded mode the thresholds of the rates are estimates: the rate
        achieved is that of ``fp_rate`` on the normal images.
    defects : dict of str to dict
        Of each defect type, against all normal pixels or images of the category: ``images``, ``regions``, ``pixel_auroc``,
        ``aupro_0.3``, ``image_auroc``, and for both thresholds ``recall_S`` and ``image_recall_S``; where regions saturate,
        ``spro_0.05``, against the normal pixels of normal images and of its own.
    region_sizes : numpy.ndarray
        int64, pixels of every region, image by image.
    scaled : bool
        Whether the threshold axis is the map's value min-max scaled on the test set.
    mode : {"exact", "bounded"}
        Whether all scores were kept, or counted in bins.
    """

    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    curves: dict[str, np.ndarray] = field(default_factory=dict)
    per_image: dict[str, np.ndarray] = field(default_factory=dict)
    defects: dict[str, dict[str, float]] = field(default_factory=dict)
    region_sizes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    scaled: bool = False
    mode: str = "exact"

    def undefined(self, names: Iterable[str], reason: str) -> None:
        """Set the numbers `names` to NaN, with a reason."""
        for name in names:
            self.values[name] = float("nan")
            self.reasons[name] = reason


def evaluate(
    maps: Iterable[np.ndarray],
    masks: Iterable[np.ndarray],
    image_scores: Sequence[float] | np.ndarray | None = None,
    normal_maps: Iterable[np.ndarray] | None = None,
    normal_scores: Sequence[float] | np.ndarray | None = None,
    probability: bool = False,
    names: Sequence[str] | None = None,
    *,
    defects: Sequence[str] | None = None,
    regions: Iterable[Sequence[Region]] | None = None,
    allowed_fpr: float = ALLOWED_FPR,
    level: float = ALLOWED_ALARMS,
    memory: int | None = None,
    threads: int = 1,
) -> Evaluation:
    """Return all numbers of one category; a pixel is positive where score >= threshold, everywhere.

    Parameters
    ----------
    maps : iterable of numpy.ndarray
        float, (H, W), higher = more anomalous, compared as float32, or as float64 where they are; sizes may differ. A list,
        or an object that can be iterated more than once and gives one map after the other.
    masks : iterable of numpy.ndarray
        bool, (H, W) of the map, True where defective.
    image_scores : sequence of float, optional
        By default the maximum of each map.
    normal_maps : iterable of numpy.ndarray, optional
        Maps of held-out normal images, for the deployable threshold of pixels.
    normal_scores : sequence of float, optional
        Scores of the held-out normal images, for that of images; by default the maxima of `normal_maps`.
    probability : bool
        Whether the maps are probabilities; if not, the threshold axis is min-max scaled over `maps`.
    names : sequence of str, optional
        Names of the images, for messages.
    defects : sequence of str, optional
        Defect type of each image, for numbers per type; images without a defective pixel count as normal.
    regions : iterable of sequence of (numpy.ndarray, int), optional
        Of each image, its defective regions, bool (H, W), with how many pixels of each suffice, for sPRO; together they are its
        mask. A list, or an object that can be iterated more than once.
    allowed_fpr : float
        Pooled false-positive rate of pixels that the deployable threshold allows on `normal_maps`.
    level : float
        Probability with which the deployable threshold of images may call a normal image defective.
    memory : int, optional
        Bytes that exact mode may take; where it would take more, the mode is bounded: scores are counted in bins,
        laid so that areas and maxima are within 1e-4 (unless scores crowd on neighbouring float32 numbers), and the
        maps are read twice, a few at a time. By default 4 GiB, or half of the machine's memory if that is less.
    threads : int
        How many split and sort the scores; the numbers are the same.

    Returns
    -------
    Evaluation
        Every NaN in its ``values`` has a reason in its ``reasons``.

    Raises
    ------
    ValueError
        If a map holds NaN, differs in shape from its mask, or is no probability where it should be; if the lengths
        differ or scores are not one finite or infinite number per image; if maps or masks can be read once only; or if
        `allowed_fpr` or `level` is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.array([[True, False], [False, False]])
    >>> r = evaluate([np.array([[0.9, 0.1], [0.2, 0.95]])], [mask], probability=True)
    >>> round(r.values["pixel_auroc"], 3), r.values["iou_max"], r.reasons["image_auroc"]
    (0.667, 0.5, 'no normal image in the test set')
    """
    if not 0 <= allowed_fpr <= 1 or not 0 < level < 1:
        raise ValueError(f"Expected allowed_fpr in 0..1 and level between 0 and 1, but got {allowed_fpr} and {level}.")
    result = Evaluation(scaled=not probability)
    kinds = None if defects is None else [str(kind) for kind in defects]
    unseen = HeldOut() if normal_maps is None else pixel_threshold(normal_maps, allowed_fpr)
    memory = default_memory() if memory is None else memory
    scores, table = _reduce(Parts(maps, masks, kinds, names, threads), result, unseen, memory)
    if probability and not (table.low >= -1e-5 and table.high <= 1 + 1e-5):  # interpolation may round beyond
        raise ValueError(f"Expected probabilities in 0..1, but the maps hold {table.low:g}..{table.high:g}.")
    if probability and (unseen.peaks > 1 + 1e-5).any():
        raise ValueError(f"Expected probabilities in 0..1, but the held-out normal maps reach {unseen.peaks.max():g}.")
    held_out = unseen.peaks if normal_scores is None else _checked_scores("normal_scores", normal_scores)
    _pixel_numbers(result, scores)
    missing = "no finite threshold" if len(unseen.peaks) else "no held-out normal images"
    _threshold_numbers(result, scores, unseen.threshold, missing)
    _axis_numbers(result, scores, table, probability)
    result.per_image, result.region_sizes = table.arrays(), table.region_sizes()
    for name in table.kept:
        result.curves[f"thresholds_{name}"] = table.grids[name].astype(np.float64)
    if "held_out" in table.kept:
        result.curves |= {"held_out_pixels": unseen.pixels, "held_out_counts": unseen.counts}
    _pimo_number(result, table)
    _image_numbers(result, image_scores, held_out, level)
    if kinds is not None:
        _defect_numbers(result, scores, np.array(kinds))
    del scores, table  # sPRO may need as much memory
    _spro_numbers(result, maps, regions, kinds, names, memory)
    return result


def default_memory() -> int:
    """Return what exact mode may take: 4 GiB, or half of the memory of this machine or container if that is less."""
    import os

    limits = [8 << 30]
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if file.is_file() and (text := file.read_text().strip()).isdecimal():
            limits.append(int(text))
    return min(limits) // 2


def _reduce(parts: Parts, result: Evaluation, unseen: HeldOut, memory: int) -> tuple[Scores, ImageTable]:
    """Read the parts once, and once more where they do not fit into the memory."""
    held = collect(parts, memory)
    if isinstance(held, list):
        exact = Exact(held, parts.threads)
        low, high = min(p.low for p in held), max(p.high for p in held)
        grids = _grids(exact, result, low, high, unseen)
        if exact.positives and exact.negatives:
            c = exact.counts()
            grids["oracle"] = c.thresholds[[curves.iou(c.tp, c.fp, c.positives).argmax()]]
        table = ImageTable(grids, exact.pimo_thresholds() if exact.clean else np.empty(0, exact.dtype), 1)
        for part in held:
            table.add(part)
        return exact, table
    sketch, result.mode = held, "bounded"
    grids = _grids(sketch, result, sketch.low, sketch.high, unseen)
    axis = value_thresholds(sketch.low, sketch.high, result.scaled, VALUE_AXIS, sketch.dtype)
    binned = Binned(np.unique(np.concatenate([sketch.edges(), axis, grids.get("deployable", axis[:0])])))
    pimo = sketch.pimo_thresholds(binned.edges) if sketch.clean.any() else np.empty(0, np.float32)
    table = ImageTable(grids, pimo, max(1, len(pimo) // _PIMO_POINTS))
    del sketch, held
    for part in parts:
        binned.add(part)
        table.add(part)
    return binned, table


def _grids(scores: Exact | Sketch, result: Evaluation, low: float, high: float, unseen: HeldOut) -> dict[str, np.ndarray]:
    grids = {}
    if len(axis := value_thresholds(low, high, result.scaled, VALUE_GRID, scores.dtype)):
        grids["value"] = axis
    if np.any(scores.clean):
        grids["rate"] = scores.rate_thresholds(RATE_GRID)
    if len(unseen.thresholds):
        grids["held_out"] = unseen.thresholds.astype(scores.dtype)
    if not np.isnan(unseen.threshold):
        grids["deployable"] = np.array([unseen.threshold], scores.dtype)
    return grids


def _missing(positives: int, negatives: int, what: str) -> str | None:
    if positives == 0:
        return f"no defective {what} in the test set"
    return f"no normal {what} in the test set" if negatives == 0 else None


def _pixel_numbers(result: Evaluation, scores: Scores) -> None:
    reason = _missing(scores.positives, scores.negatives, "pixel")
    if reason:
        names = ["pixel_auroc", "aupro_0.3", "aupro_0.05", "threshold_oracle", *(name for name, _ in catalogue.computed())]
        result.undefined(names, reason)
        return
    c = scores.counts()
    fpr, overlap = curves.pro_curve(c)
    iou = curves.iou(c.tp, c.fp, c.positives)
    counts = [np.asarray(n, np.float64) for n in (c.tp, c.fp, c.positives, c.negatives)]
    result.values |= {name: float(of_counts(*counts)) for name, of_counts in catalogue.computed()}
    result.values |= {
        "pixel_auroc": curves.auroc(c),
        "aupro_0.3": float(curves.limited_area(fpr, overlap, 0.3)),
        "aupro_0.05": float(curves.limited_area(fpr, overlap, 0.05)),
        "threshold_oracle": float(c.thresholds[iou.argmax()]),
    }
    level = np.searchsorted(c.tp, np.ceil(RECALL_GRID * c.positives - 1e-6).clip(1))
    result.curves |= {
        "fpr": FPR_GRID,
        "roc": np.interp(FPR_GRID, *curves.roc_curve(c)),
        "pro": np.interp(FPR_GRID, fpr, overlap),
        "precision": (c.tp / (c.tp + c.fp))[level],
    }


def _threshold_numbers(result: Evaluation, scores: Scores, deployable: float, reason: str) -> None:
    result.values["threshold_deployable"] = deployable
    if np.isnan(deployable):
        result.undefined(["threshold_deployable"], reason)
    for which in ("oracle", "deployable"):
        threshold = result.values[f"threshold_{which}"]
        missing = result.reasons.get(f"threshold_{which}") or _missing(scores.positives, scores.negatives, "pixel")
        names = [f"{number}_{which}" for number in ("iou", "f1", "precision", "recall", "fpr", "normal_fpr")]
        if missing:
            result.undefined(names, missing)
            continue
        tp, fp, clean = (int(n[0]) for n in scores.at(np.array([threshold], scores.dtype)))
        result.values[f"iou_{which}"] = tp / (scores.positives + fp)
        _rates(result, "", which, tp, fp, scores.positives, scores.negatives)
        result.values[f"normal_fpr_{which}"] = clean / scores.clean if scores.clean else np.nan
        if not scores.clean:
            result.reasons[f"normal_fpr_{which}"] = "no normal image in the test set"


def _rates(result: Evaluation, prefix: str, which: str, tp: int, fp: int, positives: int, negatives: int) -> None:
    """Write F1, precision, recall and false-positive rate at a threshold."""
    result.values |= {
        f"{prefix}f1_{which}": 2 * tp / (tp + fp + positives),
        f"{prefix}recall_{which}": tp / positives,
        f"{prefix}fpr_{which}": fp / negatives,
    }
    if tp + fp:
        result.values[f"{prefix}precision_{which}"] = tp / (tp + fp)
    else:
        result.undefined([f"{prefix}precision_{which}"], "nothing reaches the threshold")


def _axis_numbers(result: Evaluation, scores: Scores, table: ImageTable, probability: bool) -> None:
    """Write mean IoU and width on both axes, and IoU at 0.5."""
    reason = _missing(scores.positives, scores.negatives, "pixel")
    axes = {
        "": (value_thresholds(table.low, table.high, not probability, VALUE_AXIS, scores.dtype), "the maps hold infinite values"),
        "_fpr": (scores.rate_thresholds(RATE_AXIS) if scores.clean else np.empty(0), "no normal image in the test set"),
    }
    for axis, (thresholds, unusable) in axes.items():
        if reason or not len(thresholds):
            result.undefined([f"iou_mean{axis}", f"iou_width{axis}"], reason or unusable)
            continue
        tp, fp, _ = scores.at(thresholds)
        iou = curves.iou(tp, fp, scores.positives)
        result.values[f"iou_mean{axis}"] = float(iou.mean())
        result.values[f"iou_width{axis}"] = float((iou >= WIDTH_SHARE * result.values["iou_max"]).mean())
        result.curves[f"iou{axis}"] = iou[:: RATE_STEP if axis else VALUE_STEP]
    if probability and not reason:
        result.values["iou_0.5"] = float(result.curves["iou"][len(VALUE_GRID) // 2])
    else:
        result.undefined(["iou_0.5"], reason or "the map is no probability")


def _pimo_number(result: Evaluation, table: ImageTable) -> None:
    defective = int((result.per_image["positives"] > 0).sum())
    finest = curves.PIMO_RANGE[0]
    reason = _missing(defective, table.clean, "image")
    if reason is None and not table.resolves(finest):
        reason = (
            f"needs {1 / finest:,.0f} pixels in normal images (their number times the smallest) to resolve a rate of {finest:g}"
        )
    if reason:
        result.undefined(["aupimo"], reason)
    else:
        result.values["aupimo"] = table.aupimo()


def _checked_scores(what: str, scores: Sequence[float] | np.ndarray) -> np.ndarray:
    checked = as_floats(np.asarray(scores))
    if checked.ndim != 1 or np.isnan(checked).any():
        raise ValueError(f"Expected {what} as one number per image without NaN, but got an array {checked.shape} or NaN in it.")
    return checked


def _image_counts(defective: np.ndarray, normal: np.ndarray) -> Counts:
    """Return the counts of image scores, as of pixels."""
    ones = np.ones(len(defective))
    return Exact([Part("", np.sort(normal), np.sort(defective), ones, ones.astype(np.int64), 0, 0)]).counts()


def _image_numbers(
    result: Evaluation, image_scores: Sequence[float] | np.ndarray | None, held_out: np.ndarray, level: float
) -> None:
    per_image = result.per_image
    if image_scores is not None:
        per_image["score"] = _checked_scores("image_scores", image_scores)
    scores, defective = per_image["score"], per_image["positives"] > 0
    if len(scores) != len(defective):
        raise ValueError(f"Expected one image score per map, {len(defective)}, but got {len(scores)}.")
    abnormal, normal = scores[defective], scores[~defective]
    reason = _missing(len(abnormal), len(normal), "image")
    if reason:
        result.undefined(["image_auroc", "image_ap", "image_f1_max", "image_threshold_oracle"], reason)
    else:
        c = _image_counts(abnormal, normal)
        counts = [np.asarray(n, np.float64) for n in (c.tp, c.fp, c.positives, c.negatives)]
        f1 = curves.f1(c.tp, c.fp, c.positives)
        result.values |= {
            "image_auroc": curves.auroc(c),
            "image_ap": float(catalogue.average_precision(*counts)),
            "image_f1_max": float(f1.max()),
            "image_threshold_oracle": float(c.thresholds[f1.argmax()]),
        }
    result.values["image_threshold_deployable"] = image_threshold(held_out, level)
    if np.isnan(result.values["image_threshold_deployable"]):
        few = f"needs {needed_scores(level)} held-out normal images, but there are {len(held_out)}"
        has_needed = len(held_out) >= needed_scores(level)
        result.undefined(["image_threshold_deployable"], "no finite threshold" if has_needed else few)
    for which in ("oracle", "deployable"):
        threshold = result.values[f"image_threshold_{which}"]
        missing = result.reasons.get(f"image_threshold_{which}") or reason
        if missing:
            result.undefined([f"image_{number}_{which}" for number in ("f1", "precision", "recall", "fpr")], missing)
            continue
        tp, fp = (int((s >= threshold).sum()) for s in (abnormal, normal))
        _rates(result, "image_", which, tp, fp, len(abnormal), len(normal))


def _defect_numbers(result: Evaluation, scores: Scores, defects: np.ndarray) -> None:
    per_image = result.per_image
    defective = per_image["positives"] > 0
    normal = per_image["score"][~defective]
    for kind in sorted(set(defects[defective].tolist())):
        members = (defects == kind) & defective
        c = scores.counts(kind)
        numbers: dict[str, float] = {"images": int(members.sum()), "regions": int(per_image["regions"][members].sum())}
        some = c.negatives > 0
        numbers["pixel_auroc"] = curves.auroc(c) if some else np.nan
        numbers["aupro_0.3"] = float(curves.limited_area(*curves.pro_curve(c), 0.3)) if some else np.nan
        own = per_image["score"][members]
        numbers["image_auroc"] = curves.auroc(_image_counts(own, normal)) if len(normal) else np.nan
        for which in ("oracle", "deployable"):
            level = np.searchsorted(-c.thresholds, -c.thresholds.dtype.type(result.values[f"threshold_{which}"]), side="right")
            numbers[f"recall_{which}"] = float(np.append(0, c.tp)[level] / c.positives)
            image_threshold_ = result.values[f"image_threshold_{which}"]
            numbers[f"image_recall_{which}"] = float((own >= image_threshold_).mean())
            for name, at in ((f"recall_{which}", f"threshold_{which}"), (f"image_recall_{which}", f"image_threshold_{which}")):
                if np.isnan(result.values[at]):
                    numbers[name] = np.nan
        result.defects[kind] = numbers


def _spro_numbers(
    result: Evaluation,
    maps: Iterable[np.ndarray],
    regions: Iterable[Sequence[Region]] | None,
    kinds: Sequence[str] | None,
    names: Sequence[str] | None,
    memory: int,
) -> None:
    """Write the area under sPRO, the mean over defect types, and that of each type."""
    positives = result.per_image["positives"]
    if regions is None:
        result.undefined(["spro_0.05"], "the dataset does not say how much of a defect is enough")
        return
    check_repeatable("regions", regions)
    images = [str(i) for i in range(len(positives))]
    parts = SaturatedParts(maps, regions, kinds or [""] * len(positives), names or images)
    counted = saturated(parts, result.curves.get("thresholds_rate", np.empty(0)), memory)
    if ((counted.regions > 0) != (positives > 0)).any():
        raise ValueError("Expected regions of each image with defective pixels, and of no other.")
    if counted.overlap.size:
        result.per_image |= {"saturated_rate": counted.overlap, "saturated_regions": counted.regions}
    areas = {kind: counted.area(kind, 0.05) for kind in counted.counts}
    for kind in areas if kinds else ():
        result.defects[kind]["spro_0.05"] = areas[kind]
    if areas and np.isfinite(list(areas.values())).all():
        result.values["spro_0.05"] = float(np.mean(list(areas.values())))
    else:
        result.undefined(["spro_0.05"], _missing(int(positives.sum()), 0, "pixel") or "")
