"""The numbers of a category on resamples of its test images, from what is kept of each image: no map is read again.

Areas and maxima of pixels are taken over the kept grids of thresholds instead of all scores; a resample's number minus the one that
the grids give for the images themselves is what an interval needs (`anoseg_bench.metrics.confidence`), and there the coarseness
nearly cancels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anoseg_bench.metrics import catalogue, curves
from anoseg_bench.metrics.axes import RATE_CURVE
from anoseg_bench.metrics.counts import as_floats, just_above
from anoseg_bench.metrics.suite import WIDTH_SHARE
from anoseg_bench.metrics.thresholds import ALLOWED_ALARMS, ALLOWED_FPR, conformal_rank


def strata_of(defects: Sequence[str], positives: np.ndarray) -> list[np.ndarray]:
    """Return the numbers of the images that are resampled together: the normal ones, and those of each defect type.

    Defect types of a single image stand together, or, where there is only one, with the largest other type: of one image alone
    nothing can be learnt about others like it.
    """
    kinds = np.where(positives > 0, np.asarray(defects, object), "")
    members = {kind: np.flatnonzero(kinds == kind) for kind in sorted(set(kinds.tolist()))}
    normal = members.pop("", np.empty(0, int))
    single = [kind for kind in members if len(members[kind]) == 1]
    rest = [members[kind] for kind in members if kind not in single]
    if single:
        together = np.concatenate([members[kind] for kind in single])
        if len(together) == 1 and rest:
            largest = max(range(len(rest)), key=lambda i: len(rest[i]))
            rest[largest] = np.sort(np.append(rest[largest], together))
        else:
            rest.append(np.sort(together))
    return [some for some in (normal, *rest) if len(some)]


def draw(strata: Sequence[np.ndarray], number: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each image is in each of `number` resamples.

    Of a stratum of n images n - 1 are drawn, each counting n / (n - 1) times: so the variance of a mean is s^2 / n, with the
    unbiased s^2 (Rao and Wu 1988), where n draws would give (n - 1) / n of it. A single image is in every resample.

    Returns
    -------
    numpy.ndarray
        float64, (number + 1, M); the first row is ones, the images themselves.
    """
    weights = np.ones((number + 1, sum(map(len, strata))))
    for members in strata:
        n = len(members)
        if n > 1:
            weights[1:, members] = rng.multinomial(n - 1, np.full(n, 1 / n), size=number) * (n / (n - 1))
    return weights


@dataclass(frozen=True)
class Choices:
    """The deployable thresholds on resamples of the held-out images, the first row those of the images themselves.

    Attributes
    ----------
    image : numpy.ndarray
        float64, (B + 1,), NaN where there are too few images.
    pixel : numpy.ndarray or None
        int, (B + 1,): places among ``thresholds_held_out``; None where there are none.
    """

    image: np.ndarray
    pixel: np.ndarray | None


def choices(arrays: Mapping[str, np.ndarray], threshold: float, weights: np.ndarray) -> Choices:
    """Return the deployable thresholds that resamples of the held-out images give.

    Parameters
    ----------
    arrays : mapping of str to numpy.ndarray
        ``held_out_score`` (N,), and ``held_out_counts`` and ``held_out_pixels`` of `Evaluation.curves`; each may be missing.
    threshold : float
        The one of images that the images themselves give, NaN where there is none.
    weights : numpy.ndarray
        (B + 1, N), see `draw`.
    """
    image, pixel = np.full(len(weights), threshold), None
    scores = arrays.get("held_out_score")
    if scores is not None and math.isfinite(threshold) and len(scores) == weights.shape[1]:
        order = np.argsort(scores, kind="stable")
        reached = np.cumsum(weights[:, order], axis=1) >= conformal_rank(len(scores), ALLOWED_ALARMS) - 1e-6
        image = just_above(as_floats(scores)[order][reached.argmax(axis=1)]).astype(np.float64)
    if "held_out_counts" in arrays and len(arrays["held_out_counts"]) == weights.shape[1]:
        above = weights @ arrays["held_out_counts"]
        kept = above <= ALLOWED_FPR * (weights @ arrays["held_out_pixels"])[:, None] + 1e-6
        pixel = np.maximum(kept.sum(axis=1) - 1, 0)
    return Choices(image, pixel)


def resampled(
    per_image: Mapping[str, np.ndarray],
    weights: np.ndarray,
    chosen: Choices,
    probability: bool,
    defects: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Return the numbers that `catalogue` calls resampled, on resamples; the oracle chooses its threshold on each of them.

    Parameters
    ----------
    per_image : mapping of str to numpy.ndarray
        `Evaluation.per_image`, and the ``thresholds_*`` of its curves.
    weights : numpy.ndarray
        (B, M), see `draw`.
    chosen : Choices
        The deployable thresholds, (B,).
    probability : bool
        Whether 0.5 means something on the map's axis.
    defects : sequence of str, optional
        Defect type of each image; without, there is no sPRO, a mean over them.

    Returns
    -------
    dict of str to numpy.ndarray
        float64, (B,), NaN where undefined.
    """
    out = {name: np.full(len(weights), np.nan) for name in catalogue.names_resampled()}
    defective = per_image["positives"] > 0
    if defective.any() and not defective.all():
        out |= _of_images(per_image["score"].astype(np.float64), defective, weights, chosen.image)
    if defective.any() and "thresholds_value" in per_image:
        out |= _of_pixels(per_image, weights, chosen.pixel, probability)
    if "tp_rate" in per_image and np.isfinite(per_image["aupimo"]).any():
        out["aupimo"] = _aupimo(per_image, weights, defective)
    if defective.any() and "saturated_rate" in per_image and defects is not None:
        kinds = np.asarray(defects)
        members = [(kinds == kind) & defective for kind in sorted(set(kinds[defective].tolist()))]
        out["spro_0.05"] = np.mean([_spro(per_image, weights, own) for own in members], axis=0)
    return out


def resampled_defects(
    per_image: Mapping[str, np.ndarray],
    weights: np.ndarray,
    members: Mapping[str, np.ndarray],
    oracle: Mapping[str, float],
    chosen: Choices,
) -> dict[str, dict[str, np.ndarray]]:
    """Return the numbers of each defect type on resamples, against all normal pixels or images of the category.

    Parameters
    ----------
    per_image, weights
        As in `resampled`.
    members : mapping of str to numpy.ndarray
        By defect type, bool, (M,): its images.
    oracle : mapping of str to float
        ``threshold_oracle`` and ``image_threshold_oracle`` of the category, taken as given; NaN where undefined.
    chosen : Choices
        The deployable thresholds, (B,).

    Returns
    -------
    dict of str to dict of str to numpy.ndarray
        By defect type and number, float64, (B,), NaN where undefined.
    """
    names = catalogue.names_resampled(by_defect=True)
    found = {defect: {name: np.full(len(weights), np.nan) for name in names} for defect in members}
    own_of = {defect: own for defect, own in members.items() if own.any()}
    normal, scores = per_image["positives"] == 0, per_image["score"].astype(np.float64)
    of_images = {"oracle": np.full(len(weights), oracle["image_threshold_oracle"]), "deployable": chosen.image}
    for defect, own in own_of.items():
        out, mine = found[defect], weights[:, own]
        if normal.any():
            out["image_auroc"] = _auroc_of_images(scores[own], scores[normal], mine, weights[:, normal])
        for which, thresholds in of_images.items():
            if np.isfinite(thresholds).all():
                out[f"image_recall_{which}"] = _reaching(scores[own], mine, thresholds) / mine.sum(axis=1)
    axes = [axis for axis in ("value", "rate") if f"thresholds_{axis}" in per_image]
    if not axes:
        return found
    levels = np.concatenate([per_image[f"thresholds_{axis}"] for axis in axes])
    order = np.argsort(-levels, kind="stable")
    tp, fp = (np.concatenate([per_image[f"{what}_{axis}"] for axis in axes], axis=1)[:, order] for what in ("tp", "fp"))
    negatives = (weights @ per_image["negatives"])[:, None]
    rates = _whole(weights @ fp / negatives)
    shown_rates = weights @ per_image["fp_rate"] / negatives if "rate" in axes else None
    for defect, own in own_of.items():
        out, mine = found[defect], weights[:, own]
        positives = mine @ per_image["positives"][own]
        hits = mine @ tp[own]
        out["pixel_auroc"] = np.trapezoid(_whole(hits / positives[:, None]), rates, axis=1)
        if np.isfinite(oracle["threshold_oracle"]):
            out["recall_oracle"] = _at(hits, levels[order], oracle["threshold_oracle"]) / positives
        if chosen.pixel is not None:
            out["recall_deployable"] = _pick(mine @ per_image["tp_held_out"][own], chosen.pixel) / positives
        if shown_rates is not None:
            overlap = mine @ per_image["overlap_rate"][own].astype(np.float64) / (mine @ per_image["regions"][own])[:, None]
            out["aupro_0.3"] = _limited_areas(shown_rates, overlap, 0.3)
        if "saturated_rate" in per_image:
            out["spro_0.05"] = _spro(per_image, weights, own)
    return found


def _spro(per_image: Mapping[str, np.ndarray], weights: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the area under sPRO of the images of one defect type with the normal ones: (B,)."""
    mine, among = weights[:, members], members | (per_image["positives"] == 0)
    overlap = mine @ per_image["saturated_rate"][members].astype(np.float64)
    rates = weights[:, among] @ per_image["fp_rate"][among] / (weights[:, among] @ per_image["negatives"][among])[:, None]
    return _limited_areas(rates, overlap / (mine @ per_image["saturated_regions"][members])[:, None], 0.05)


def _aupimo(per_image: Mapping[str, np.ndarray], weights: np.ndarray, defective: np.ndarray) -> np.ndarray:
    """Return AUPIMO on the kept thresholds of the rates, of resampled normal and defective images: (B,)."""
    axes = [axis for axis in ("value", "rate", "held_out") if f"thresholds_{axis}" in per_image]
    order = np.argsort(-np.concatenate([per_image[f"thresholds_{axis}"] for axis in axes]), kind="stable")
    tp, fp = (np.concatenate([per_image[f"{what}_{axis}"] for axis in axes], axis=1)[:, order] for what in ("tp", "fp"))
    normal = fp[~defective] / per_image["negatives"][~defective, None]
    near = np.flatnonzero(np.diff(normal.mean(axis=0), prepend=-1) > 0)  # each rate once
    near = near[: np.searchsorted(normal.mean(axis=0)[near], 20 * curves.PIMO_RANGE[1]) + 1]
    mine, others = weights[:, defective], weights[:, ~defective]
    shared = others @ normal[:, near] / others.sum(axis=1)[:, None]
    recall = mine @ (tp[defective][:, near] / per_image["positives"][defective, None]) / mine.sum(axis=1)[:, None]
    start = ((0, 0), (1, 0))
    return curves.log_area(np.pad(shared, start), np.pad(recall, start))


def _reaching(scores: np.ndarray, weights: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return how much of the resampled images reaches the threshold of its resample: (B,)."""
    return (weights * (scores >= thresholds[:, None])).sum(axis=1)


def _auroc_of_images(high: np.ndarray, low: np.ndarray, of_high: np.ndarray, of_low: np.ndarray) -> np.ndarray:
    """Return the AUROC of scores of defective (m,) and of normal images (n,), resampled by weights (B, m) and (B, n): (B,)."""
    above = high[:, None] - low
    wins = (above > 0) + 0.5 * (above == 0)
    return np.vecdot(of_high @ wins, of_low) / (of_high.sum(axis=1) * of_low.sum(axis=1))


def _of_images(scores: np.ndarray, defective: np.ndarray, weights: np.ndarray, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """Return the numbers of images: weighted forms of those of `anoseg_bench.metrics.suite`."""
    abnormal, normal = weights[:, defective], weights[:, ~defective]
    positives, negatives = abnormal.sum(axis=1), normal.sum(axis=1)
    out = {"image_auroc": _auroc_of_images(scores[defective], scores[~defective], abnormal, normal)}
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # of images that tie, the counts behind the last
    tp, fp = (np.cumsum(weights[:, order] * of[order], axis=1)[:, last] for of in (defective, ~defective))
    out["image_ap"] = catalogue.average_precision(tp, fp, positives, negatives)
    f1 = 2 * tp / (tp + fp + positives[:, None])
    best = f1.argmax(axis=1)
    out["image_f1_max"] = _pick(f1, best)
    out |= _rates("image_", "oracle", _pick(tp, best), _pick(fp, best), positives, negatives)
    if np.isfinite(thresholds).all():
        tp, fp = (_reaching(s, w, thresholds) for w, s in ((abnormal, scores[defective]), (normal, scores[~defective])))
        out |= _rates("image_", "deployable", tp, fp, positives, negatives)
    return out


def _pick(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return one of each row of values (B, K): (B,)."""
    return np.take_along_axis(values, places[:, None], axis=1)[:, 0]


def _rates(
    prefix: str, which: str, tp: np.ndarray, fp: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the numbers at a threshold."""
    with np.errstate(invalid="ignore"):
        precision = tp / (tp + fp)
    return {
        f"{prefix}f1_{which}": 2 * tp / (tp + fp + positives),
        f"{prefix}precision_{which}": precision,
        f"{prefix}recall_{which}": tp / positives,
        f"{prefix}fpr_{which}": fp / negatives,
    }


def _of_pixels(
    per_image: Mapping[str, np.ndarray], weights: np.ndarray, chosen: np.ndarray | None, probability: bool
) -> dict[str, np.ndarray]:
    positives, negatives = weights @ per_image["positives"], weights @ per_image["negatives"]
    clean = per_image["positives"] == 0
    axes = [axis for axis in ("value", "rate") if f"thresholds_{axis}" in per_image]
    thresholds = np.concatenate([per_image[f"thresholds_{axis}"] for axis in axes])
    tp, fp = (np.concatenate([per_image[f"{what}_{axis}"] for axis in axes], axis=1) for what in ("tp", "fp"))
    hits, alarms, clean_alarms = weights @ tp, weights @ fp, weights[:, clean] @ fp[clean]
    iou = hits / (positives[:, None] + alarms)
    best = iou.max(axis=1)
    value = slice(len(per_image["thresholds_value"]))
    out = {
        "iou_mean": iou[:, value].mean(axis=1),
        "iou_width": _width(iou[:, value], best),
    }
    if probability:
        out["iou_0.5"] = iou[:, value.stop // 2]
    if "rate" in axes:
        rate = slice(value.stop, None)
        out |= _of_rates(per_image, weights, iou[:, rate], alarms[:, rate] / negatives[:, None], best)
    order = np.argsort(-thresholds, kind="stable")
    thresholds, hits, alarms, clean_alarms, iou = (n[..., order] for n in (thresholds, hits, alarms, clean_alarms, iou))
    out["pixel_auroc"] = np.trapezoid(_whole(hits / positives[:, None]), _whole(alarms / negatives[:, None]), axis=1)
    whole = np.c_[hits, positives], np.c_[alarms, negatives]
    out |= {name: of_counts(*whole, positives, negatives) for name, of_counts in catalogue.computed()}
    oracle = iou.argmax(axis=1)
    counts = {"oracle": [_pick(n, oracle) for n in (hits, alarms, clean_alarms)]}
    if chosen is not None:
        at = [per_image[f"{what}_held_out"] for what in ("tp", "fp", "fp")]
        whose = [weights, weights, weights * clean]
        counts["deployable"] = [_pick(w @ n, chosen) for w, n in zip(whose, at, strict=True)]
    for which, (true, false, clean_false) in counts.items():
        out |= _rates("", which, true, false, positives, negatives)
        out[f"iou_{which}"] = true / (positives + false)
        if clean.any():
            out[f"normal_fpr_{which}"] = clean_false / (weights[:, clean] @ per_image["negatives"][clean])
    return out


def _width(iou: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return the share of an even axis on which IoU (B, K), straight between its points, is >= `WIDTH_SHARE` of the best: (B,)."""
    level = WIDTH_SHARE * best[:, None]
    low, high = np.minimum(iou[:, 1:], iou[:, :-1]), np.maximum(iou[:, 1:], iou[:, :-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(high > low, (high - level) / (high - low), high >= level)
    return np.clip(share, 0, 1).mean(axis=1)


def _whole(rates: np.ndarray) -> np.ndarray:
    """Return rates (B, K) as a curve from 0 to 1, (B, K + 2)."""
    return np.pad(rates, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))


def _limited_areas(x: np.ndarray, y: np.ndarray, limit: float) -> np.ndarray:
    """Return `curves.limited_area` of each of the curves (B, K), led from (0, 0) to (1, 1)."""
    return curves.limited_area(_whole(x), _whole(y), limit)


def _at(counts: np.ndarray, thresholds: np.ndarray, threshold: float) -> np.ndarray:
    """Return counts (B, K) at descending thresholds, between two of them in proportion, at one threshold: (B,)."""
    right = int(np.searchsorted(-thresholds, -threshold))
    if right in (0, len(thresholds)):
        return counts[:, min(right, len(thresholds) - 1)]
    upper, lower = thresholds[right - 1], thresholds[right]
    share = (upper - threshold) / (upper - lower)
    return counts[:, right - 1] + share * (counts[:, right] - counts[:, right - 1])


def _of_rates(
    per_image: Mapping[str, np.ndarray], weights: np.ndarray, iou: np.ndarray, x: np.ndarray, best: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the numbers over false-positive rates, whose thresholds move with the resampled normal images.

    Parameters
    ----------
    iou, x : numpy.ndarray
        float64, (B, K): IoU and false-positive rate of all normal pixels at the kept thresholds.
    best : numpy.ndarray
        float64, (B,): IoU-max.
    """
    clean = per_image["positives"] == 0
    rates = weights[:, clean] @ per_image["fp_rate"][clean] / (weights[:, clean] @ per_image["negatives"][clean])[:, None]
    overlap = weights @ per_image["overlap_rate"].astype(np.float64) / (weights @ per_image["regions"])[:, None]
    axis = np.log(RATE_CURVE)
    logs = np.log(np.maximum(rates, 1e-12))
    on_axis = np.array([np.interp(axis, r, i) for r, i in zip(logs, iou, strict=True)])
    return {
        "iou_mean_fpr": on_axis.mean(axis=1),
        "iou_width_fpr": _width(on_axis, best),
        "aupro_0.3": _limited_areas(x, overlap, 0.3),
        "aupro_0.05": _limited_areas(x, overlap, 0.05),
    }
