"""What ``--tables`` chooses: what stands in the compact table of a paper."""

from __future__ import annotations

from dataclasses import dataclass

from anoseg_bench.errors import UsageError
from anoseg_bench.metrics import tabled
from anoseg_bench.registry import nearest

#: The word that puts intervals beneath the numbers.
INTERVALS = "intervals"


@dataclass(frozen=True)
class PaperChoice:
    """Metrics of the compact table, in order, and whether their 95 % intervals stand beneath the numbers.

    The usual ones are those of the field, and IoU where it can be had in use: no number is at a threshold of the test set.
    """

    metrics: tuple[str, ...] = ("pixel_auroc", "aupro_0.3", "iou_deployable", "image_auroc")
    intervals: bool = False


def choose_paper(text: str | None) -> PaperChoice:
    """Return what ``--tables paper:pixel_auroc,aupro_0.3,intervals`` chooses; without metrics, the usual ones.

    Raises
    ------
    UsageError
        If another table than ``paper`` is named, or a metric that has no table.
    """
    table, _, listed = (text or "paper").partition(":")
    if table.strip() != "paper":
        raise UsageError(f"Expected --tables paper or paper:METRICS, e.g. 'paper:pixel_auroc,image_auroc', but got '{text}'.")
    names = list(dict.fromkeys(filter(None, map(str.strip, listed.split(",")))))
    metrics = tuple(name for name in names if name != INTERVALS)
    for name in metrics:
        if name not in tabled():
            raise UsageError(f"--tables paper: no metric is called '{name}'. {nearest(name, [*tabled(), INTERVALS])}")
    return PaperChoice(metrics or PaperChoice.metrics, INTERVALS in names)
