"""Saturated per-region overlap (sPRO): a region counts as found once enough of it is, as logical anomalies need it.

Notation: a defective image has regions A_r, which may overlap, each with its saturation area s_r, 1 <= s_r <= |A_r| pixels. A pixel
is positive where score >= t. sPRO(t) is the mean over regions of min(|positive pixels of A_r| / s_r, 1), and FPR(t) the share that
is positive of the pixels outside all regions of their image (Bergmann et al. 2022, "Beyond dents and scratches: logical constraints
in unsupervised anomaly detection and localization", IJCV 130). Each defect type is taken by itself with the normal images, as the
published evaluation of MVTec LOCO AD does.

Only the s_r highest scores of a region raise its term, each by 1 / s_r: with these shares in the place of 1 / |A_r|, the counts of
per-region overlap are those of sPRO.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anoseg_bench.metrics import curves
from anoseg_bench.metrics.binned import Binned, Sketch, collect
from anoseg_bench.metrics.counts import Counts, Part, as_floats, part
from anoseg_bench.metrics.exact import Exact

#: A defective region, bool (H, W), and how many of its pixels suffice.
Region = tuple[np.ndarray, int]


def saturated_part(scores: np.ndarray, regions: Sequence[Region], kind: str = "", where: str = "") -> Part:
    """Split the scores of one image by its regions, none in a normal image.

    Returns
    -------
    Part
        Its ``share`` is what each pixel adds to the sum over regions of min(|positive pixels| / s, 1).

    Raises
    ------
    ValueError
        As `part` does, and if a saturation area is not between one pixel and all of its region; `where` names the image.
    """
    scores = as_floats(scores)
    union = np.zeros(scores.shape, bool)
    share = np.zeros(scores.shape)
    for mask, saturation in regions:
        if mask.shape != scores.shape or mask.dtype != bool or not 1 <= saturation <= mask.sum():
            raise ValueError(
                f"Expected regions as bool {scores.shape} with saturation areas from 1 to their pixels for image {where}, but got "
                f"{mask.dtype} {mask.shape} of {np.count_nonzero(mask)} pixels with {saturation}."
            )
        union |= mask
        inside = np.flatnonzero(mask)
        enough = np.argpartition(scores.ravel()[inside], len(inside) - saturation)[len(inside) - saturation :]
        share.ravel()[inside[enough]] += 1 / saturation
    whole = part(scores, union, kind, where)
    return replace(
        whole, share=share[union][np.argsort(scores[union])], regions=np.array([mask.sum() for mask, _ in regions], np.int64)
    )


@dataclass(frozen=True)
class SaturatedParts:
    """The images of a test set as parts for sPRO, one at a time, as often as wanted."""

    maps: Iterable[np.ndarray]
    regions: Iterable[Sequence[Region]]
    kinds: Sequence[str]
    names: Sequence[str]

    def __iter__(self) -> Iterator[Part]:
        for scores, regions, kind, name in zip(self.maps, self.regions, self.kinds, self.names, strict=True):
            yield saturated_part(scores, regions, kind, name)


@dataclass(frozen=True)
class Saturated:
    """What sPRO is made of.

    Attributes
    ----------
    counts : dict of str to Counts
        Of each defect type with the normal images: ``overlap`` is sPRO.
    overlap : numpy.ndarray
        float32, (M, K): for each image, the sum over its regions of min(|positive pixels| / s, 1) at given thresholds.
    regions : numpy.ndarray
        int64, (M,): its regions.
    """

    counts: dict[str, Counts]
    overlap: np.ndarray
    regions: np.ndarray

    def area(self, kind: str, limit: float) -> float:
        """Return the area under sPRO of a defect type up to a false-positive rate, divided by it; NaN without normal pixels."""
        counts = self.counts[kind]
        return float(curves.limited_area(*curves.pro_curve(counts), limit)) if counts.negatives else np.nan


def saturated(parts: Iterable[Part], thresholds: np.ndarray, memory: int) -> Saturated:
    """Count each defect type with the normal images; where that takes more than `memory` bytes, in bins.

    Parameters
    ----------
    parts : iterable of Part
        See `saturated_part`; iterated once more where they do not fit.
    thresholds : numpy.ndarray
        (K,), at which the overlap of each image is kept.
    """
    rows: list[np.ndarray] = []
    regions: list[int] = []

    def kept(read: Iterable[Part]) -> Iterator[Part]:
        for one in read:
            rows.append(one.overlap(thresholds))
            regions.append(len(one.regions))
            yield one

    held = collect(parts, memory)
    if isinstance(held, Sketch):
        counts = _in_bins(kept(parts), held.edges())
    else:
        held = list(kept(held))
        kinds = sorted({one.kind for one in held if not one.clean})
        counts = {kind: Exact([one for one in held if one.clean or one.kind == kind]).counts() for kind in kinds}
    return Saturated(counts, np.array(rows, np.float32), np.array(regions, np.int64))


def _in_bins(parts: Iterable[Part], edges: np.ndarray) -> dict[str, Counts]:
    normal = Binned(edges)
    of_kind: dict[str, Binned] = defaultdict(lambda: Binned(edges))
    for one in parts:
        (normal if one.clean else of_kind[one.kind]).add(one)
    for kind in of_kind:
        of_kind[kind] += normal
    return {kind: of_kind[kind].counts() for kind in sorted(of_kind)}
