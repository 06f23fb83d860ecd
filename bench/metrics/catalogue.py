"""All numbers of a category, each declared once: what tables, intervals, notes and docs show of it follows from here.

To add one that is a function of counts at thresholds, add an entry with `of_counts` to `CATALOGUE` and raise `suite.VERSION`;
`evaluate` then computes it from all scores, and the bootstrap from the kept grids, both by that function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

#: A number, (...,), of counts at K descending thresholds: TP and FP, float64 (..., K), and P and N, (...,).
OfCounts = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]

#: The two thresholds, with how tables call them.
THRESHOLDS = {"oracle": "oracle threshold (best on the test set)", "deployable": "deployable threshold (from held-out normals)"}


@dataclass(frozen=True)
class Metric:
    """A number of a category.

    Attributes
    ----------
    name : str
        In `Evaluation.values` and ``results.csv``.
    title : str
        In tables.
    definition : str
        In one line.
    shown : {"main", "summary", "table", ""}
        Whether it is a column of the terminal's summary, too; of the written summary; has a table of its own only; or none.
    resampled : bool
        Whether it has an interval: all but thresholds.
    by_defect : bool
        Whether it is taken of each defect type, too.
    falls : bool
        Whether smaller is better: of rates of false positives.
    optional : bool
        Whether few datasets have what it needs: it is then shown only where a cell has a value.
    of_counts : callable or None
        What computes it, of the counts of pixels; None where `suite` and `bootstrap` compute it among others.
    """

    name: str
    title: str
    definition: str
    shown: str = "table"
    resampled: bool = True
    by_defect: bool = False
    falls: bool = False
    optional: bool = False
    of_counts: OfCounts | None = None


def iou_max(tp: np.ndarray, fp: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Return the largest TP / (P + FP)."""
    return (tp / (positives[..., None] + fp)).max(axis=-1)


def f1_max(tp: np.ndarray, fp: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Return the largest 2 TP / (TP + FP + P)."""
    return (2 * tp / (tp + fp + positives[..., None])).max(axis=-1)


def average_precision(tp: np.ndarray, fp: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Return the step-wise average precision, sum of (R_k - R_{k-1}) P_k, not interpolated."""
    with np.errstate(invalid="ignore"):
        precision = np.where(tp + fp > 0, tp / (tp + fp), 0.0)
    return np.vecdot(np.diff(tp, axis=-1, prepend=0.0), precision) / positives


def _at_thresholds() -> Iterable[Metric]:
    """Yield the numbers at both thresholds."""
    pixels = {
        "iou": ("IoU", "TP / (P + FP) of pixels"),
        "f1": ("F1", "2 TP / (TP + FP + P) of pixels"),
        "precision": ("precision", "of the pixels that reach the threshold, the share that is defective"),
        "recall": ("recall of pixels", "of the defective pixels, the share that reaches the threshold"),
        "fpr": ("marked, of all normal pixels", "of all normal pixels, the share that reaches the threshold"),
        "normal_fpr": ("marked, of the pixels of normal images", "of the pixels of normal images, the share that reaches it"),
    }
    images = {
        "f1": ("F1 of images", "2 TP / (TP + FP + P) of images"),
        "precision": ("precision of images", "of the images that reach the threshold, the share that is defective"),
        "recall": ("recall of images", "of the defective images, the share that reaches the threshold: the detection rate"),
        "fpr": ("false alarms, of the normal images", "of the normal images, the share that reaches the threshold"),
    }
    for which, words in THRESHOLDS.items():
        for prefix, numbers in (("", pixels), ("image_", images)):
            of = "images" if prefix else "pixels"
            yield Metric(f"{prefix}threshold_{which}", f"threshold of {of}, {which}", f"the {words} of {of}", "", resampled=False)
            for name, (title, definition) in numbers.items():
                if (prefix, name, which) != ("", "iou", "deployable"):  # which has a table of its own
                    yield Metric(
                        f"{prefix}{name}_{which}",
                        f"{title} ({which})",
                        f"{definition}, at the {words}",
                        "",
                        by_defect=name == "recall",
                        falls=name in ("fpr", "normal_fpr"),
                    )


CATALOGUE: list[Metric] = [
    Metric("pixel_auroc", "Pixel AUROC", "area under the ROC curve of all pixels", "main", by_defect=True),
    Metric(
        "iou_max",
        "IoU-max",
        "IoU at the oracle threshold, the best on the test set: an upper bound",
        "main",
        of_counts=iou_max,
    ),
    Metric("image_auroc", "Image AUROC", "area under the ROC curve of the image scores", "main", by_defect=True),
    Metric(
        "iou_deployable", "IoU (deployable)", "IoU at the threshold with a false-positive rate of 1e-3 on held-out normals", "main"
    ),
    Metric(
        "aupro_0.3",
        "AUPRO@0.3",
        "area under the per-region overlap up to a false-positive rate of 0.3, divided by 0.3",
        "main",
        by_defect=True,
    ),
    Metric("iou_0.5", "IoU@0.5", "IoU at the threshold 0.5, for maps that are probabilities", "main"),
    Metric("pixel_ap", "Pixel AP", "step-wise average precision of all pixels", "summary", of_counts=average_precision),
    Metric(
        "aupimo",
        "AUPIMO",
        "mean recall of defective images over log10 of the false-positive rate they share, 1e-5..1e-4",
        "summary",
    ),
    Metric("iou_mean", "Mean IoU (value)", "mean of IoU(t) over the map's value, 0..1", "summary"),
    Metric(
        "iou_mean_fpr",
        "Mean IoU (FPR)",
        "mean of IoU over log10 of the false-positive rate on normal images, 1e-5..1e-1",
        "summary",
    ),
    Metric(
        "spro_0.05",
        "AU-sPRO@0.05",
        "mean over defect types of the area under the saturated per-region overlap up to a false-positive rate of 0.05, over 0.05",
        "summary",
        by_defect=True,
        optional=True,
    ),
    Metric("f1_max", "F1-max", "F1 of pixels at its oracle threshold, which is that of IoU-max", of_counts=f1_max),
    Metric("aupro_0.05", "AUPRO@0.05", "the same as AUPRO@0.3 up to 0.05, divided by 0.05"),
    Metric("image_ap", "Image AP", "step-wise average precision of the image scores"),
    Metric("image_f1_max", "Image F1-max", "F1 of images at its oracle threshold"),
    Metric("iou_width", "width (value)", "share of the map's value, 0..1, over which IoU >= 0.9 IoU-max", ""),
    Metric("iou_width_fpr", "width (FPR)", "share of log10 of the false-positive rate over which IoU >= 0.9 IoU-max", ""),
    *_at_thresholds(),
]


def metric(name: str) -> Metric:
    """Return a metric by its name."""
    return next(m for m in CATALOGUE if m.name == name)


def tabled() -> dict[str, Metric]:
    """Return the metrics that have a table, in order."""
    return {m.name: m for m in CATALOGUE if m.shown}


def names_shown(*where: str) -> list[str]:
    """Return the names of the metrics shown there: ``"main"``, ``"summary"``, ``"table"``."""
    return [m.name for m in CATALOGUE if m.shown in where]


def names_resampled(by_defect: bool = False) -> list[str]:
    """Return the names of the metrics that have intervals, of a category or of each defect type."""
    return [m.name for m in CATALOGUE if m.resampled and (m.by_defect or not by_defect)]


def computed() -> list[tuple[str, OfCounts]]:
    """Return the metrics that are functions of counts, with these."""
    return [(m.name, m.of_counts) for m in CATALOGUE if m.of_counts]


def as_markdown() -> str:
    """Return the catalogue as a table for the docs."""
    lines = ["| name | title | definition | interval | by defect type |", "|---|---|---|---|---|"]
    for m in CATALOGUE:
        marks = " | ".join("yes" if mark else "" for mark in (m.resampled, m.by_defect))
        lines.append(f"| `{m.name}` | {m.title} | {m.definition} | {marks} |")
    return "\n".join(lines) + "\n"
