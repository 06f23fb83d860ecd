"""What is kept of each image: counts at thresholds that are common to all, and its own numbers."""

from __future__ import annotations

import numpy as np

from anoseg_bench.metrics import curves
from anoseg_bench.metrics.counts import Part, as_floats, at_least


class ImageTable:
    """Counts of each image at common thresholds.

    Parameters
    ----------
    grids : dict of str to numpy.ndarray
        Thresholds: ``value``, ``rate``, ``held_out``, and of one number ``deployable``, ``oracle``; each may be missing.
    pimo : numpy.ndarray
        (Q,), descending: the thresholds of the curve of per-image overlap.
    step : int
        Every how many of the latter are kept for each image.

    Attributes
    ----------
    kept : list of str
        The grids whose counts are kept of each image.
    low, high : float
        The smallest and the largest score.
    clean : int
        Images without a defective pixel.
    """

    def __init__(self, grids: dict[str, np.ndarray], pimo: np.ndarray, step: int) -> None:
        self.grids, self.pimo = grids, pimo
        self.kept = [name for name in grids if name in ("value", "rate", "held_out")]
        self.low, self.high, self.clean = np.inf, -np.inf, 0
        self._thresholds = np.concatenate([*grids.values(), pimo[:0]])
        self._rate = grids.get("rate", pimo[:0])
        self._shared, self._recall = np.zeros(len(pimo)), np.zeros(len(pimo))
        self._few = np.unique(np.append(np.arange(0, len(pimo), step), len(pimo) - 1))[: len(pimo)]  # the last one, too
        self._rows: dict[str, list] = {name: [] for name in ("tp", "fp", "overlap", "recall", "peak", "sizes", "negatives")}

    def add(self, part: Part) -> None:
        """Keep the counts of one image."""
        if part.clean:
            self.clean += 1
            self._shared += at_least(part.normal, self.pimo) / len(part.normal)
        else:
            recall = at_least(part.defective, self.pimo) / len(part.defective)
            self._recall += recall
            self._rows["recall"].append(recall[self._few].astype(np.float32))
        row = {
            "tp": at_least(part.defective, self._thresholds),
            "fp": at_least(part.normal, self._thresholds),
            "overlap": part.overlap(self._rate).astype(np.float32),
            "peak": part.high,
            "sizes": part.regions,
            "negatives": len(part.normal),
        }
        for name, value in row.items():
            self._rows[name].append(value)
        self.low, self.high = min(self.low, part.low), max(self.high, part.high)

    def region_sizes(self) -> np.ndarray:
        """Return the pixels of every region, int64, image by image."""
        return np.concatenate(self._rows["sizes"])

    def arrays(self) -> dict[str, np.ndarray]:
        """Return one array per number with a row for each image, as `Evaluation.per_image` describes them."""
        tp, fp = np.array(self._rows["tp"]), np.array(self._rows["fp"])
        positives = np.array([sizes.sum() for sizes in self._rows["sizes"]], np.int64)
        defective = positives > 0
        arrays: dict[str, np.ndarray] = {
            "score": as_floats(np.array(self._rows["peak"], self._thresholds.dtype)),
            "positives": positives,
            "negatives": np.array(self._rows["negatives"], np.int64),
            "regions": np.array([len(sizes) for sizes in self._rows["sizes"]], np.int64),
        }
        columns: dict[str, int] = {}
        stop = 0
        for name, grid in self.grids.items():
            start, stop = stop, stop + len(grid)
            if name in self.kept:
                arrays[f"tp_{name}"], arrays[f"fp_{name}"] = tp[:, start:stop], fp[:, start:stop]
            else:
                columns[name] = start
        if "rate" in self.grids:
            arrays["overlap_rate"] = np.array(self._rows["overlap"])
        if "oracle" not in columns and stop and positives.any() and arrays["negatives"].any():
            # in bounded mode it is found too late: the best of the grids
            columns["oracle"] = int(np.argmax(tp.sum(axis=0) / (positives.sum() + fp.sum(axis=0))))
        for name in ("oracle", "deployable"):
            arrays[f"iou_{name}"] = np.full(len(tp), np.nan)
            if name in columns:
                column = columns[name]
                arrays[f"iou_{name}"][defective] = curves.iou(tp[defective, column], fp[defective, column], positives[defective])
        arrays["aupimo"] = np.full(len(tp), np.nan)
        if defective.any() and self.clean and self.resolves(curves.PIMO_RANGE[0]):
            shared = np.append(0.0, self._shared[self._few] / self.clean)
            arrays["aupimo"][defective] = [curves.log_area(shared, np.append(0.0, recall)) for recall in self._rows["recall"]]
        return arrays

    def resolves(self, rate: float) -> bool:
        """Return whether one pixel of a normal image counts for no more than `rate` in the shared false-positive rate."""
        pairs = zip(self._rows["negatives"], self._rows["sizes"], strict=True)
        return all(rate * self.clean * pixels >= 1 - 1e-9 for pixels, sizes in pairs if len(sizes) == 0)

    def aupimo(self) -> float:
        """Return the mean over defective images of the area under the curve of per-image overlap."""
        mean = self._recall / (len(self._rows["sizes"]) - self.clean)
        return float(curves.log_area(np.append(0.0, self._shared / self.clean), np.append(0.0, mean)))
