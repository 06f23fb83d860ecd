"""Scores in bins: memory independent of the number of images, for sets that do not fit.

All numbers are those of maps whose scores are rounded down to the edges of bins, so counts at an edge are exact, and every
area and maximum is off by no more than what changes within one bin. The edges are laid so that this is little, whatever
the scores' scale and tails: a first pass counts scores in 2^21 coarse bins of 2^11 neighbouring float32 numbers (a `Sketch`),
and the edges divide what the numbers are sensitive to into equal parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from anoseg_bench.metrics.counts import Counts, Part, allowed
from anoseg_bench.metrics.curves import PIMO_RANGE

_SHIFT = np.uint32(11)
_COARSE = 1 << 21
_INSIDE = 1 << 11
#: Edges that a sketch gives; each bin then holds about 1e-4 of the sensitivity.
EDGES = 1 << 18
#: Bytes that exact mode needs for a normal and for a defective pixel of float32.
_BYTES = (12, 100)
#: Below this rate of clean pixels no number looks.
_FINEST_RATE = 1e-6
_SIGN = np.uint32(1 << 31)
#: The keys of -inf and inf; what lies beyond is no number.
_INFINITE = (np.uint32(0x007FFFFF), np.uint32(0xFF800000))


def ordered_keys(scores: np.ndarray) -> np.ndarray:
    """Return float32 numbers as uint32 of the same order, each number one apart from the next."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0 becomes 0
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def from_keys(keys: np.ndarray) -> np.ndarray:
    """Return the float32 numbers of `ordered_keys`."""
    return np.where(keys & _SIGN, keys & ~_SIGN, ~keys).astype(np.uint32).view(np.float32)


def _narrowed(part: Part) -> Part:
    """Return a part with its scores as float32; ValueError if that would merge some of them."""
    if part.normal.dtype == np.float32:
        return part
    arrays = [values.astype(np.float32) for values in (part.normal, part.defective)]
    if any(len(np.unique(a)) < len(np.unique(b)) for a, b in zip(arrays, (part.normal, part.defective), strict=True)):
        raise ValueError(
            "Expected scores that differ as float32, as these maps are too many to be kept whole, but some of float64 merge; "
            "subtract a constant and scale them, or give more memory."
        )
    return replace(part, normal=arrays[0], defective=arrays[1])


class Sketch:
    """Coarse histograms of the scores, from which edges are laid; sketches of parts of a test set add up.

    Attributes
    ----------
    defective, normal, clean : numpy.ndarray
        int64, (2^21,), pixels in each coarse bin.
    shared : numpy.ndarray
        float64, (2^21,), sum over normal images of the share of their pixels in each coarse bin.
    low, high : float
        The smallest and the largest score.
    """

    dtype = np.dtype(np.float32)

    def __init__(self) -> None:
        self.defective, self.normal, self.clean = (np.zeros(_COARSE, np.int64) for _ in range(3))
        self.shared = np.zeros(_COARSE)
        self.low, self.high = np.inf, -np.inf

    def add(self, part: Part) -> None:
        """Count the pixels of one image."""
        part = _narrowed(part)
        np.add.at(self.defective, ordered_keys(part.defective) >> _SHIFT, 1)
        normal = ordered_keys(part.normal) >> _SHIFT
        np.add.at(self.normal, normal, 1)
        if part.clean:
            np.add.at(self.clean, normal, 1)
            np.add.at(self.shared, normal, 1 / len(normal))
        self.low, self.high = min(self.low, part.low), max(self.high, part.high)

    def __iadd__(self, other: Sketch) -> Sketch:
        self.defective += other.defective
        self.normal += other.normal
        self.clean += other.clean
        self.shared += other.shared
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        return self

    def edges(self, number: int = EDGES) -> np.ndarray:
        """Return edges that divide the sensitivity of all numbers into about equal parts.

        The sensitivity of a bin is what recall, log(P + FP) and the log of the clean pixels' false-positive rate change over it.

        Returns
        -------
        numpy.ndarray
            float32, ascending, at most `number` + 1, the first -inf.
        """
        bins = np.flatnonzero(self.defective + self.normal)[::-1]  # from high to low
        defective, normal, clean = (h[bins].astype(np.float64) for h in (self.defective, self.normal, self.clean))
        positives = max(1.0, defective.sum())
        sensitivity = defective / positives
        for base, histogram in ((positives, normal), (_FINEST_RATE * max(1.0, clean.sum()), clean)):
            sensitivity += np.diff(np.log(base + np.cumsum(histogram)), prepend=np.log(base))
        keys = _keys_at(bins, sensitivity, np.linspace(0, sensitivity.sum(), number))
        return np.concatenate([[np.float32(-np.inf)], from_keys(np.unique(keys))])

    def rate_thresholds(self, rates: np.ndarray) -> np.ndarray:
        """Return thresholds with about these false-positive rates on clean pixels, float32."""
        bins = np.flatnonzero(self.clean)[::-1]
        return from_keys(_keys_at(bins, self.clean[bins], rates * self.clean.sum()))

    def pimo_thresholds(self, edges: np.ndarray) -> np.ndarray:
        """Return the edges, descending, that lie where the curve of per-image overlap is integrated."""
        bins = np.flatnonzero(self.shared)[::-1]
        keys = _keys_at(bins, self.shared[bins], np.array(PIMO_RANGE) * self.shared.sum()) >> _SHIFT
        high, low = from_keys(np.clip(keys + np.array([1, 0], np.uint32) << _SHIFT, *_INFINITE))
        first = max(0, int(np.searchsorted(edges, low, side="right")) - 1)
        return edges[first : int(np.searchsorted(edges, high)) + 1][::-1]


def collect(parts: Iterable[Part], memory: int) -> list[Part] | Sketch:
    """Read the parts once and return them, or a sketch of them where exact mode would take more than `memory` bytes."""
    held: list[Part] = []
    sketch: Sketch | None = None
    taken = 0
    for part in parts:
        if sketch is None:
            held.append(part)
            taken += (_BYTES[0] * len(part.normal) + _BYTES[1] * len(part.defective)) * part.normal.itemsize // 4
            if taken > memory:
                sketch = Sketch()
                while held:
                    sketch.add(held.pop())
        else:
            sketch.add(part)
    return held if sketch is None else sketch


def _keys_at(bins: np.ndarray, weight: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the keys above which the weight sums up to `levels`, if it lies evenly inside each coarse bin."""
    reached = np.cumsum(weight)
    at = np.minimum(np.searchsorted(reached, levels), len(bins) - 1)
    left = np.clip((reached[at] - levels) / np.maximum(weight[at], 1e-300), 0, 1)  # share of the bin that is still below
    inside = np.minimum(np.floor(left * _INSIDE), _INSIDE - 1).astype(np.uint32)
    return np.clip((bins[at].astype(np.uint32) << _SHIFT) + inside, *_INFINITE)


class Binned:
    """Counts of pixels between edges; those of parts of a test set, made with the same edges, add up.

    Parameters
    ----------
    edges : numpy.ndarray
        float32, ascending, distinct, the first -inf. A score belongs to the last edge that is not above it.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, edges: np.ndarray) -> None:
        self.edges = edges
        self._normal, self._clean = np.zeros(len(edges), np.int64), np.zeros(len(edges), np.int64)
        self._hits: dict[str, np.ndarray] = {}
        self._share: dict[str, np.ndarray] = {}
        self._regions: dict[str, int] = {}

    def add(self, part: Part) -> None:
        """Count the pixels of one image."""
        part = _narrowed(part)
        bins = len(self.edges)
        normal = np.bincount(self._bin(part.normal), minlength=bins)
        self._normal += normal
        if part.clean:
            self._clean += normal
            return
        level = self._bin(part.defective)
        for histograms, weights in ((self._hits, None), (self._share, part.share)):
            counts = np.bincount(level, weights, minlength=bins)
            if part.kind in histograms:
                histograms[part.kind] += counts
            else:
                histograms[part.kind] = counts
        self._regions[part.kind] = self._regions.get(part.kind, 0) + len(part.regions)

    def _bin(self, scores: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.edges, scores, side="right") - 1

    def __iadd__(self, other: Binned) -> Binned:
        if not np.array_equal(self.edges, other.edges):
            raise ValueError("Expected counts between the same edges to add up, but the edges differ.")
        self._normal += other._normal
        self._clean += other._clean
        for mine, theirs in ((self._hits, other._hits), (self._share, other._share)):
            for kind, histogram in theirs.items():
                mine[kind] = mine[kind] + histogram if kind in mine else histogram.copy()
        for kind, number in other._regions.items():
            self._regions[kind] = self._regions.get(kind, 0) + number
        return self

    @property
    def positives(self) -> int:
        """Defective pixels."""
        return sum(int(h.sum()) for h in self._hits.values())

    @property
    def negatives(self) -> int:
        """Normal pixels."""
        return int(self._normal.sum())

    @property
    def clean(self) -> int:
        """Pixels of normal images."""
        return int(self._clean.sum())

    def _total(self, histograms: dict[str, np.ndarray], kind: str | None) -> np.ndarray:
        chosen = [h for k, h in histograms.items() if kind in (None, k)]
        return np.sum(chosen, axis=0) if chosen else np.zeros(len(self.edges))

    def counts(self, kind: str | None = None) -> Counts:
        """Return the counts for the defective pixels of one defect type (by default all) against all normal pixels."""
        hits = self._total(self._hits, kind)[::-1].astype(np.int64)
        some = hits > 0
        normal = self._normal[::-1]
        fp = np.cumsum(normal)
        regions = sum(n for k, n in self._regions.items() if kind in (None, k))
        return Counts(
            self.edges[::-1][some],
            np.cumsum(hits)[some],
            fp[some],
            (fp - normal)[some],
            np.cumsum(self._total(self._share, kind)[::-1])[some] / max(1, regions),
            int(hits.sum()),
            int(fp[-1]),
        )

    def at(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return how many defective, normal and clean pixels lie in bins with an edge >= each threshold, int64."""
        first = np.searchsorted(self.edges, thresholds, side="left")
        defective, normal, clean = (
            np.append(np.cumsum(h[::-1].astype(np.int64))[::-1], 0)[first]
            for h in (self._total(self._hits, None), self._normal, self._clean)
        )
        return defective, normal, clean

    def rate_thresholds(self, rates: np.ndarray) -> np.ndarray:
        """Return the smallest edges with at most these false-positive rates on clean pixels, NaN above all, float32."""
        above = np.cumsum(self._clean[::-1])  # at edges from high to low
        number = np.searchsorted(above, allowed(rates, self.clean), side="right")
        return np.append(np.float32(np.nan), self.edges[::-1])[number]
