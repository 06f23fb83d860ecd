"""Galleries of maps: per category, test images chosen by one rule for all methods, then each method's worst cases."""

from __future__ import annotations

import math
import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.frame import Names, Results, number_of, opened, plain
from bench.store import CellResult, slug
from datasets.base import GOOD

ROWS = 14
EXAMPLES, NORMAL_EXAMPLES = 2, 1
PANEL, GAP, LABEL, HEADER, CAPTION = 1.2, 0.06, 2.0, 0.75, 0.95  # inches
MAP_COLOURS, LINE_COLOUR = "magma", "#00E5FF"


@dataclass
class Column:
    """One variant's maps of a category.

    Attributes
    ----------
    maps : dict of int to numpy.ndarray
        Reduced maps of the images to show.
    low, high : float
        The colour scale, one for the category.
    threshold : float
        The oracle threshold, NaN where undefined.
    """

    variant: str
    maps: dict[int, np.ndarray] = field(default_factory=dict)
    iou: np.ndarray = field(default_factory=lambda: np.empty(0))
    low: float = 0.0
    high: float = 1.0
    threshold: float = math.nan


def choose(items: list[tuple[str, str]], arrays: Mapping[str, Mapping[str, np.ndarray]]) -> dict[int, list[str]]:
    """Return the test images to show with the variants that they are the worst case of.

    Parameters
    ----------
    items : list of tuple of str
        Name and defect type of each test image.
    arrays : mapping
        ``iou_oracle`` and ``score`` of each variant.

    Returns
    -------
    dict of int to list of str
        First the examples (the first two of each defect type and a normal one), which may be worst cases too; then the
        defective image with the lowest IoU and the normal image with the highest score, of each variant.
    """
    seen: Counter[str] = Counter()
    examples = []
    for i, (_, defect) in enumerate(items):
        seen[defect] += 1
        if seen[defect] <= (NORMAL_EXAMPLES if defect == GOOD else EXAMPLES):
            examples.append(i)
    chosen: dict[int, list[str]] = {i: [] for i in sorted(examples, key=lambda i: (items[i][1] == GOOD, i))}
    worst = defaultdict(list)
    for variant, found in arrays.items():
        iou, score = found["iou_oracle"], found["score"]
        if np.isfinite(iou).any():
            worst[int(np.nanargmin(iou))].append(variant)
        normal = [i for i, (_, defect) in enumerate(items) if defect == GOOD]
        if normal:
            worst[max(normal, key=lambda i: score[i])].append(variant)
    for i in sorted(worst, key=lambda i: (items[i][1] == GOOD, i)):
        chosen.setdefault(i, []).extend(worst[i])
    return chosen


def _column(variant: str, result: CellResult | None, shown: list[int]) -> Column:
    column = Column(variant)
    if result is None:
        return column
    column.threshold = number_of(result.record["values"].get("threshold_oracle"))
    with opened(result) as arrays:
        column.iou = arrays["iou_oracle"]
        low, high = 0.0, -math.inf
        for i in range(len(result.record["items"])):
            if f"map/{i}" not in arrays:
                continue
            values = arrays[f"map/{i}"].astype(np.float32)
            finite = values[np.isfinite(values)]
            low, high = min(low, finite.min(initial=low)), max(high, finite.max(initial=high))
            if i in shown:
                column.maps[i] = values
    if result.record.get("scaled") and math.isfinite(high):
        column.low, column.high = float(low), float(high) if high > low else float(low) + 1
    return column


def _place(ax: Axes, image: np.ndarray, x: float, y: float, **style) -> tuple[float, float, float]:
    """Show an image in the panel at (x, y), its sides in proportion; return its left, top and the size of a pixel."""
    height, width = image.shape[:2]
    pixel = PANEL / max(height, width)
    left, top = x + (PANEL - width * pixel) / 2, y + (PANEL - height * pixel) / 2
    ax.imshow(image, extent=(left, left + width * pixel, top + height * pixel, top), aspect="auto", **style)
    return left, top, pixel


def _draw_map(ax: Axes, column: Column, i: int, x: float, y: float) -> None:
    if i not in column.maps:
        ax.text(x + PANEL / 2, y + PANEL / 2, "no map", ha="center", va="center", color="0.5", fontsize=8)
        return
    values = column.maps[i]
    left, top, pixel = _place(ax, values, x, y, cmap=MAP_COLOURS, vmin=column.low, vmax=column.high)
    above = np.pad(values >= column.threshold, 1)  # padded, so that the line closes where it meets the border
    if above.any():
        rows, columns = (np.arange(size) - 0.5 for size in above.shape)
        ax.contour(left + columns * pixel, top + rows * pixel, above, [0.5], colors=LINE_COLOUR, linewidths=0.9)
    if i < len(column.iou) and math.isfinite(column.iou[i]):
        box = {"facecolor": "black", "alpha": 0.6, "pad": 1, "edgecolor": "none"}
        ax.text(x + 0.04, y + 0.04, f"IoU {100 * column.iou[i]:.0f}", va="top", color="white", fontsize=6, bbox=box)


def _label(item: tuple[str, str], worst: list[str]) -> str:
    name, defect = map(plain, item)
    why = f"highest score of {', '.join(worst)}" if defect == GOOD else f"lowest IoU of {', '.join(worst)}"
    lines = [textwrap.wrap(text, 30, max_lines=5, placeholder="…") for text in (defect, name, why if worst else "example")]
    return "\n".join("\n".join(part) for part in lines)
