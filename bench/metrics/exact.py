"""All scores kept and sorted: every number exact."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from anoseg_bench.metrics.counts import Counts, Part, at_least, in_threads, just_above, rate_thresholds
from anoseg_bench.metrics.curves import PIMO_RANGE

#: From so many scores on, their ranges are sorted by several threads.
_MANY = 1 << 16
#: Ranges for each thread, as they are not equally long.
_RANGES = 2
#: Thresholds that are looked up together.
_BLOCK = 1 << 10


class Exact:
    """The scores of all images.

    Parameters
    ----------
    parts : sequence of Part
        The images.
    threads : int
        How many sort.
    """

    def __init__(self, parts: Sequence[Part], threads: int = 1) -> None:
        self.parts = parts
        self._defects = [p for p in parts if not p.clean]
        self.dtype = np.result_type(*(p.normal for p in parts))
        self._clean = _merged([p.normal for p in parts if p.clean], self.dtype, threads)
        self._around = _merged([p.normal for p in self._defects], self.dtype, threads)
        self.clean = len(self._clean)
        defective = np.concatenate([p.defective for p in parts])
        self.positives, self.negatives = len(defective), self.clean + len(self._around)
        order = np.argsort(defective)
        self._defective = defective[order]
        new = np.ones(self.positives, bool)
        np.not_equal(self._defective[1:], self._defective[:-1], out=new[1:])
        self._thresholds = self._defective[new]  # ascending here, descending in counts
        levels = np.empty(self.positives, np.int64)
        levels[order] = np.cumsum(new) - 1
        self._levels = np.split(levels, np.cumsum([len(p.defective) for p in self._defects])[:-1])
        normal = in_threads(self._reaching, (self._clean, self._around), min(threads, 2))
        self._fp, self._fp_above = np.sum(list(normal), axis=0)

    def _reaching(self, normal: np.ndarray) -> np.ndarray:
        """Return how many of the ascending scores are >= each threshold, and how many are > it, int64 (2, K)."""
        first = _positions(normal, self._thresholds)
        after = first.copy()
        inside = np.flatnonzero(first < len(normal))
        tied = inside[normal[first[inside]] == self._thresholds[inside]]
        after[tied] = np.searchsorted(normal, self._thresholds[tied], side="right")
        return len(normal) - np.stack([first, after])

    def counts(self, kind: str | None = None) -> Counts:
        """Return the counts for the defective pixels of one defect type (by default all) against all normal pixels."""
        return self._all if kind is None else self._counts(kind)

    @cached_property
    def _all(self) -> Counts:
        return self._counts(None)

    def _counts(self, kind: str | None) -> Counts:
        chosen = [i for i, p in enumerate(self._defects) if kind in (None, p.kind)]
        level = np.concatenate([self._levels[i] for i in chosen] or [np.empty(0, np.int64)])
        share = np.concatenate([self._defects[i].share for i in chosen] or [np.empty(0)])
        hits = np.bincount(level, minlength=len(self._thresholds))
        regions = max(1, sum(len(self._defects[i].regions) for i in chosen))
        overlap = np.bincount(level, share, minlength=len(self._thresholds)) / regions
        own = slice(None) if kind is None else np.flatnonzero(hits)  # ranks change only there
        return Counts(
            self._thresholds[own][::-1],
            np.cumsum(hits[own][::-1]),
            self._fp[own][::-1],
            self._fp_above[own][::-1],
            np.cumsum(overlap[own][::-1]),
            len(level),
            self.negatives,
        )

    def at(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return how many defective, normal and clean pixels are >= each threshold, int64."""
        clean = at_least(self._clean, thresholds)
        return at_least(self._defective, thresholds), clean + at_least(self._around, thresholds), clean

    def rate_thresholds(self, rates: np.ndarray) -> np.ndarray:
        """Return the smallest thresholds with at most these false-positive rates on clean pixels, of the scores' type."""
        return rate_thresholds(self._clean, rates)

    def pimo_thresholds(self) -> np.ndarray:
        """Return all thresholds, descending, at which the curve of per-image overlap turns within its range."""
        clean = [p.normal for p in self.parts if p.clean]
        wanted = int(PIMO_RANGE[1] * self.clean) + 2
        while True:
            tail = np.unique(self._clean[-wanted:])
            shared = np.mean([at_least(normal, tail[:1])[0] / len(normal) for normal in clean])
            if shared >= PIMO_RANGE[1] or wanted >= self.clean:
                break
            wanted *= 2
        return np.column_stack([just_above(tail), tail])[::-1].ravel()


def _merged(runs: Sequence[np.ndarray], dtype: np.dtype, threads: int) -> np.ndarray:
    """Return the scores of sorted runs in order; threads sort the scores of one range each, which the runs hold side by side."""
    merged = np.empty(sum(map(len, runs)), dtype)
    number = _RANGES * threads if threads > 1 and len(merged) >= _MANY else 1
    sample = np.sort(np.concatenate([run[:: max(1, len(run) >> 6)] for run in runs] or [merged]))
    inner = sample[np.arange(1, number) * len(sample) // number]
    cuts = np.array([[0, *np.searchsorted(run, inner), len(run)] for run in runs], np.int64).reshape(-1, number + 1)
    starts = cuts.sum(axis=0)

    def fill(i: int) -> None:
        part = merged[starts[i] : starts[i + 1]]
        np.concatenate([run[cut[i] : cut[i + 1]] for run, cut in zip(runs, cuts, strict=True)] or [part], out=part)
        part.sort()

    list(in_threads(fill, range(number), min(threads, number)))
    return merged


def _positions(ordered: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return ``numpy.searchsorted(ordered, thresholds)`` of ascending thresholds: by blocks, each within its own range."""
    found = np.empty(len(thresholds), np.int64)
    ends = np.append(np.searchsorted(ordered, thresholds[::_BLOCK]), len(ordered))
    for i, (start, stop) in enumerate(pairwise(ends)):
        block = slice(i * _BLOCK, (i + 1) * _BLOCK)
        found[block] = start + np.searchsorted(ordered[start:stop], thresholds[block])
    return found
