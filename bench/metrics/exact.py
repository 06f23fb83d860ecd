"""All scores kept and sorted: every number exact."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from anoseg_bench.metrics.counts import Counts, Part, at_least, just_above, rate_thresholds
from anoseg_bench.metrics.curves import PIMO_RANGE


class Exact:
    """The scores of all images.

    Parameters
    ----------
    parts : sequence of Part
        The images.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self._clean = _sorted([p.normal for p in parts if p.clean])
        self._around = _sorted([p.normal for p in parts if not p.clean])
        self._defective = _sorted([p.defective for p in parts])
        self.dtype = np.result_type(*(p.normal for p in parts))
        self.clean = len(self._clean)
        self.positives, self.negatives = len(self._defective), self.clean + len(self._around)
        distinct = np.append(self._defective[1:] != self._defective[:-1], True) if self.positives else np.empty(0, bool)
        self._thresholds = self._defective[distinct]  # ascending here, descending in counts
        self._fp, self._fp_above = self._false_positives()
        self._defects = [p for p in parts if not p.clean]
        self._levels = [np.searchsorted(self._thresholds, p.defective) for p in self._defects]

    def _false_positives(self) -> tuple[np.ndarray, np.ndarray]:
        fp = np.zeros(len(self._thresholds), np.int64)
        fp_above = np.zeros_like(fp)
        for normal in (self._clean, self._around):
            first = np.searchsorted(normal, self._thresholds, side="left")
            after = first.copy()
            inside = np.flatnonzero(first < len(normal))
            tied = inside[normal[first[inside]] == self._thresholds[inside]]
            after[tied] = np.searchsorted(normal, self._thresholds[tied], side="right")
            fp += len(normal) - first
            fp_above += len(normal) - after
        return fp, fp_above

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


def _sorted(arrays: list[np.ndarray]) -> np.ndarray:
    joined = np.concatenate(arrays) if arrays else np.empty(0, np.float32)
    joined.sort()
    return joined
