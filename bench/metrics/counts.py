"""Reduction of maps and masks to counts.

Notation: a test set has P defective and N normal pixels; C of the normal ones lie in normal images ("clean" pixels), the
others around defects. A pixel is positive where score >= t. Ranks change only at scores of defective pixels, so the
K distinct ones, in descending order, are the only thresholds that areas and maxima need: between two of them, a lower t
only adds false positives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from scipy import ndimage

_EIGHT = np.ones((3, 3), bool)
#: Results for each thread that wait to be taken, so that no thread waits for work.
_WAITING = 2
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Counts:
    """Counts at K distinct scores of defective pixels, in descending order.

    Attributes
    ----------
    thresholds : numpy.ndarray
        float32, or float64 where the scores are; (K,).
    tp, fp, fp_above : numpy.ndarray
        int64, (K,): defective pixels >= t; normal pixels >= t; normal pixels > t.
    overlap : numpy.ndarray
        float64, (K,): mean over regions of the share of a region >= t (per-region overlap).
    positives, negatives : int
        P and N.
    """

    thresholds: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fp_above: np.ndarray
    overlap: np.ndarray
    positives: int
    negatives: int


@dataclass(frozen=True)
class Part:
    """The scores of one image.

    Attributes
    ----------
    kind : str
        The image's defect type.
    normal, defective : numpy.ndarray
        float32 or float64, ascending: scores of normal and of defective pixels.
    share : numpy.ndarray
        float64, for each defective pixel 1 / (pixels of its region).
    regions : numpy.ndarray
        int64, pixels of each region.
    low, high : float
        The smallest and the largest score.
    """

    kind: str
    normal: np.ndarray
    defective: np.ndarray
    share: np.ndarray
    regions: np.ndarray
    low: float
    high: float

    @property
    def clean(self) -> bool:
        """Whether the image has no defective pixel."""
        return len(self.defective) == 0

    def overlap(self, thresholds: np.ndarray) -> np.ndarray:
        """Return the sum over regions of the share of a region >= each threshold, float64."""
        share_above = np.append(np.cumsum(self.share[::-1])[::-1], 0.0)
        return share_above[np.searchsorted(self.defective, thresholds)]


class Scores(Protocol):
    """The scores of all images, kept whole (`anoseg_bench.metrics.exact`) or in bins (`anoseg_bench.metrics.binned`)."""

    @property
    def dtype(self) -> np.dtype:
        """The type of the scores, float32 or float64."""

    @property
    def positives(self) -> int:
        """Defective pixels."""

    @property
    def negatives(self) -> int:
        """Normal pixels."""

    @property
    def clean(self) -> int:
        """Pixels of normal images."""

    def counts(self, kind: str | None = None) -> Counts:
        """Return the counts for the defective pixels of one defect type (by default all) against all normal pixels."""

    def at(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return how many defective, normal and clean pixels are >= each threshold, int64."""

    def rate_thresholds(self, rates: np.ndarray) -> np.ndarray:
        """Return the smallest thresholds with at most these false-positive rates on clean pixels, of the scores' type."""


def as_floats(values: np.ndarray) -> np.ndarray:
    """Return numbers as float32 where their type fits into it (floats of 16 bit, whole numbers of 16), else as float64."""
    values = np.asarray(values)
    return values.astype(np.float32 if np.can_cast(values.dtype, np.float32) else np.float64, copy=False)


def at_least(ordered: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return how many of the ascending `ordered` are >= each threshold, int64; none is >= NaN."""
    return len(ordered) - np.searchsorted(ordered, thresholds, side="left").astype(np.int64, copy=False)


def just_above(scores: np.ndarray) -> np.ndarray:
    """Return the smallest thresholds above some scores: the next numbers of their type, NaN (nothing is >= it) above infinity."""
    with np.errstate(over="ignore"):  # above the largest number is infinity
        above = np.nextafter(scores, scores.dtype.type(np.inf))
    return np.where(np.isposinf(scores), scores.dtype.type(np.nan), above)


def allowed(rates: np.ndarray | float, number: int) -> np.ndarray:
    """Return the largest whole k with k / number <= rate, int64, free of rounding."""
    k = np.floor(np.asarray(rates) * number)
    k += (k + 1) / number <= rates
    k -= k / number > rates
    return k.astype(np.int64)


def rate_thresholds(ordered: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return the smallest t at which at most a share `rates` of the ascending scores is >= t (above ties)."""
    k = allowed(rates, len(ordered))
    everything = k >= len(ordered)
    return np.where(everything, ordered[0], just_above(ordered[len(ordered) - 1 - np.where(everything, 0, k)]))


def region_labels(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label the 8-connected regions of a mask.

    Parameters
    ----------
    mask : numpy.ndarray
        bool, (H, W), not empty.

    Returns
    -------
    labels : numpy.ndarray
        int, one per pixel of the mask in row-major order, from 0.
    sizes : numpy.ndarray
        int64, pixels of each region.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels, number = ndimage.label(box, structure=_EIGHT)
    flat = labels[box] - 1
    return flat, np.bincount(flat, minlength=number)


def part(scores: np.ndarray, mask: np.ndarray, kind: str = "", where: str = "") -> Part:
    """Split the scores of one image by its mask.

    Raises
    ------
    ValueError
        If the map holds NaN or differs in shape from its mask, or the mask is not bool; `where` names the image.
    """
    scores, mask = np.asarray(scores), np.asarray(mask)
    if scores.ndim != 2 or scores.shape != mask.shape or mask.dtype != bool or scores.size == 0 or scores.dtype.kind not in "fiub":
        raise ValueError(
            f"Expected a map (H, W) of numbers and a bool mask of its shape for image {where}, but got a map {scores.dtype} "
            f"{scores.shape} and a mask {mask.dtype} {mask.shape}; a mask of other numbers becomes bool by mask > 0."
        )
    scores = as_floats(scores)
    low, high = float(scores.min()), float(scores.max())
    if np.isnan(high):
        raise ValueError(f"Expected a map without NaN, but image {where} has one.")
    if not mask.any():
        nothing = scores[:0, 0]
        return Part(kind, np.sort(scores, axis=None), nothing, np.empty(0), np.empty(0, np.int64), low, high)
    normal, defective = scores[~mask], scores[mask]
    labels, sizes = region_labels(mask)
    normal.sort()
    order = np.argsort(defective)
    return Part(kind, normal, defective[order], (1 / sizes)[labels[order]], sizes, low, high)


def in_threads(function: Callable[[T], R], given: Iterable[T], threads: int) -> Iterator[R]:
    """Yield ``map(function, given)``, worked at by threads, a few ahead; an error comes at its place.

    It helps where the function lets go of Python's lock, as sorting does.
    """
    if threads == 1:
        yield from map(function, given)
        return
    with ThreadPoolExecutor(threads) as pool:
        coming: deque[Future[R]] = deque()
        for one in given:
            coming.append(pool.submit(function, one))
            if len(coming) > _WAITING * threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def check_repeatable(what: str, given: Iterable) -> None:
    """Raise ValueError if something can be iterated once only."""
    if iter(given) is given:
        raise ValueError(f"Expected {what} that can be read more than once (a list, say), but got an iterator.")


class Parts:
    """The images of a test set as parts, one at a time, as often as wanted.

    Parameters
    ----------
    maps, masks : iterable of numpy.ndarray
        That can be iterated more than once: lists, or objects that read one array after the other.
    kinds, names : sequence of str, optional
        Defect types; names for messages.
    threads : int
        How many split and sort.

    Raises
    ------
    ValueError
        If `maps` or `masks` are iterators, which are gone after one pass.
    """

    def __init__(
        self,
        maps: Iterable[np.ndarray],
        masks: Iterable[np.ndarray],
        kinds: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        threads: int = 1,
    ) -> None:
        check_repeatable("maps", maps)
        check_repeatable("masks", masks)
        self.maps, self.masks, self.kinds, self.names, self.threads = maps, masks, kinds, names, threads

    def __iter__(self) -> Iterator[Part]:
        return in_threads(lambda given: part(*given), self._given(), self.threads)

    def _given(self) -> Iterator[tuple[np.ndarray, np.ndarray, str, str]]:
        number = 0
        masks = iter(self.masks)
        for number, scores in enumerate(self.maps, 1):
            mask = next(masks, None)
            if mask is None:
                raise ValueError(f"Expected as many masks as maps, but got only {number - 1} masks.")
            for what, given in (("defects", self.kinds), ("names", self.names)):
                if given is not None and len(given) < number:
                    raise ValueError(f"Expected one of {what} per map, but got only {len(given)}.")
            where = f"number {number - 1}" if self.names is None else self.names[number - 1]
            yield scores, mask, "" if self.kinds is None else self.kinds[number - 1], where
        if number == 0 or next(masks, None) is not None:
            raise ValueError(f"Expected as many maps as masks, at least one, but got {number} maps.")
        for what, given in (("defects", self.kinds), ("names", self.names)):
            if given is not None and len(given) != number:
                raise ValueError(f"Expected one of {what} per map, {number}, but got {len(given)}.")
