"""Galleries of maps: per category, test images chosen by one rule for all methods, with each method's worst cases."""

from __future__ import annotations

import math
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from anoseg_bench.datasets.base import GOOD
from anoseg_bench.formatting import one_line
from anoseg_bench.report.frame import MARK, FileNames, opened
from anoseg_bench.report.results import Results
from anoseg_bench.store.cells import CellResult, slug
from anoseg_bench.store.files import write_by

ROWS_PER_PAGE = 14
EXAMPLES, NORMAL_EXAMPLES = 2, 1
PANEL, GAP, LABEL, HEADER = 1.15, 0.06, 1.9, 0.65  # inches
DPI = 110
MAP_COLOURS, LINE_COLOUR = "magma", "#00E5FF"


@dataclass
class Column:
    """One variant's maps of a category.

    Attributes
    ----------
    maps : dict of int to numpy.ndarray
        Reduced maps by the number of their test image.
    iou, iou_deployable, score : numpy.ndarray
        Of each test image: IoU at the oracle and at the deployable threshold (NaN without defect or threshold), and image score.
    low, high : float
        The colour scale, one for the category.
    threshold : float
        The oracle threshold, NaN where undefined.
    missing : str
        Why there is no map.
    """

    variant: str
    maps: dict[int, np.ndarray] = field(default_factory=dict)
    iou: np.ndarray = field(default_factory=lambda: np.empty(0))
    iou_deployable: np.ndarray = field(default_factory=lambda: np.empty(0))
    score: np.ndarray = field(default_factory=lambda: np.empty(0))
    low: float = 0.0
    high: float = 1.0
    threshold: float = math.nan
    missing: str = "failed"

    @classmethod
    def read(cls, variant: str, result: CellResult | None) -> Column:
        """Return the maps of a cell, none where it failed."""
        column = cls(variant)
        if result is None:
            return column
        column.threshold = result.value("threshold_oracle")
        with opened(result) as arrays:
            for name, own in (("iou", "iou_oracle"), ("iou_deployable", "iou_deployable"), ("score", "score")):
                setattr(column, name, arrays[own] if own in arrays else np.empty(0))
            for i in range(len(result.record.items)):
                if f"map/{i}" in arrays:
                    column.maps[i] = arrays[f"map/{i}"]
        if result.record.scaled:
            finite = [values[np.isfinite(values)] for values in column.maps.values()]
            column.low = min((float(v.min(initial=0)) for v in finite), default=0.0)
            column.high = max((float(v.max(initial=0)) for v in finite), default=1.0)
            column.high += column.high == column.low
        return column


def read_columns(results: Results, cells: Iterable[CellResult | None], items: Sequence[tuple[str, str]]) -> list[Column]:
    """Return the maps of a category's cells, one of each variant; of one that was tested on other images than `items` none."""
    return [
        Column(title, missing="other test images") if cell and cell.record.items != items else Column.read(title, cell)
        for title, cell in zip(results.titles, cells, strict=True)
    ]


def choose(items: Sequence[Sequence[str]], columns: Sequence[Column]) -> dict[int, list[str]]:
    """Return the test images to show, each with the variants that it is the worst case of.

    Parameters
    ----------
    items : sequence of (name, defect type)
        The test images.
    columns : sequence of Column
        What each variant makes of them.

    Returns
    -------
    dict of int to list of str
        First the examples (the first two of each defect type, and a normal one), which may be worst cases too; then, for
        each variant, the defective image with the lowest IoU and the normal image with the highest score.
    """
    seen: Counter[str] = Counter()
    chosen: dict[int, list[str]] = {}
    order = sorted(range(len(items)), key=lambda i: items[i][1] == GOOD)  # defective images first
    for i in order:
        seen[items[i][1]] += 1
        if seen[items[i][1]] <= (NORMAL_EXAMPLES if items[i][1] == GOOD else EXAMPLES):
            chosen[i] = []
    worst = defaultdict(list)
    normal = [i for i, (_, defect) in enumerate(items) if defect == GOOD]
    for column in columns:
        if np.isfinite(column.iou).any():
            worst[int(np.nanargmin(column.iou))].append(column.variant)
        if normal and len(column.score) == len(items):
            worst[max(normal, key=lambda i: column.score[i])].append(column.variant)
    for i in (i for i in order if i in worst):
        chosen.setdefault(i, []).extend(worst[i])
    return chosen


def _place(ax: Axes, image: np.ndarray, x: float, y: float, **style) -> tuple[float, float, float]:
    """Show an image in the panel at (x, y), its sides in proportion; return its left, top and the size of a pixel."""
    height, width = image.shape[:2]
    pixel = PANEL / max(height, width)
    left, top = x + (PANEL - width * pixel) / 2, y + (PANEL - height * pixel) / 2
    ax.imshow(image, extent=(left, left + width * pixel, top + height * pixel, top), aspect="auto", **style)
    return left, top, pixel


def _draw_map(ax: Axes, column: Column, i: int, x: float, y: float) -> None:
    if i not in column.maps:
        text = "no map" if column.maps else column.missing
        ax.text(x + PANEL / 2, y + PANEL / 2, text, ha="center", va="center", color="0.5", fontsize=8)
        return
    values = column.maps[i].astype(np.float32)
    left, top, pixel = _place(ax, values, x, y, cmap=MAP_COLOURS, vmin=column.low, vmax=column.high)
    above = np.pad(values >= column.threshold, 1)  # padded, so that the line closes where it meets the border
    if above.any():
        rows, columns = (np.arange(size) - 0.5 for size in above.shape)
        ax.contour(left + columns * pixel, top + rows * pixel, above, [0.5], colors=LINE_COLOUR, linewidths=0.9)
    if i < len(column.iou) and math.isfinite(column.iou[i]):
        box = {"facecolor": "black", "alpha": 0.6, "pad": 1, "edgecolor": "none"}
        ax.text(left + 0.05, top + 0.05, f"IoU {100 * column.iou[i]:.0f}", va="top", color="white", fontsize=6, bbox=box)


def _wrapped(texts: Sequence[str], width: int, lines: int) -> str:
    return "\n".join("\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder="…")) for text in texts)


def _row_label(item: Sequence[str], worst: list[str]) -> str:
    name, defect = map(one_line, item)
    why = f"{'highest score' if defect == GOOD else 'lowest IoU'} of {', '.join(map(one_line, worst))}"
    return _wrapped([defect, name, f"worst case: {why}" if worst else "example"], 28, 5)


def _column_label(column: Column) -> str:
    if not column.maps:
        return _wrapped([one_line(column.variant)], 18, 2)
    line = f"line at {column.threshold:.3g}" if math.isfinite(column.threshold) else "no threshold"
    return _wrapped([one_line(column.variant), f"colours {column.low:.2g}..{column.high:.3g}", line], 18, 2)


def _page(rows: dict[int, list[str]], columns: list[Column], items: Sequence, previews: Mapping, title: str) -> Figure:
    step = PANEL + GAP
    width = max(6.0, LABEL + (2 + len(columns)) * step)
    caption = textwrap.wrap(
        f"{title}. Rows: the first {EXAMPLES} images of each defect type and a normal one; then each method's worst cases, the "
        "defective image with its lowest IoU and the normal image with its highest score. Colours: one scale per method, "
        "0..1 for probabilities, else up to the largest value on the test set. Line: score ≥ oracle threshold (the best on "
        "the test set); IoU in percent at that threshold.",
        int(width * 17),
    )
    height = HEADER + len(rows) * step + 0.14 * len(caption) + 0.15
    figure = Figure(figsize=(width, height))
    ax = figure.add_axes((0, 0, 1, 1))
    lefts = [LABEL + k * step for k in range(2 + len(columns))]
    for left, text in zip(lefts, ["image", "mask", *map(_column_label, columns)], strict=True):
        ax.text(left + PANEL / 2, HEADER - 0.07, text, ha="center", va="bottom", fontsize=7)
    for k, (i, worst) in enumerate(rows.items()):
        top = HEADER + k * step
        ax.text(0.08, top + PANEL / 2, _row_label(items[i], worst), va="center", fontsize=7)
        _place(ax, previews[f"image/{i}"], lefts[0], top)
        _place(ax, previews[f"mask/{i}"], lefts[1], top, cmap="gray", vmin=0, vmax=255)
        for left, column in zip(lefts[2:], columns, strict=True):
            _draw_map(ax, column, i, left, top)
    ax.text(0.08, height - 0.08, "\n".join(caption), va="bottom", fontsize=7)
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    return figure


def write_gallery(results: Results, category: str, folder: Path, names: FileNames) -> list[Path]:
    """Write the pages of a category's gallery for the first seed; none where no cell or no preview of it exists."""
    seed, cells = results.shown(category)
    record = next((result.record for result in cells.values() if result), None)
    if record is None or not (path := results.run.store.previews(record.content)).is_file():
        return []
    columns = read_columns(results, cells.values(), record.items)
    marks = f"; {MARK} on pretrained weights" if results.pretrained else ""
    title = f"{one_line(category)} of {one_line(record.dataset)}, seed {seed}{marks}"
    paths = []
    with np.load(path, allow_pickle=False) as previews:
        rows = [(i, why) for i, why in choose(record.items, columns).items() if f"image/{i}" in previews]
        pages = math.ceil(len(rows) / ROWS_PER_PAGE)
        for part in np.array_split(np.arange(len(rows)), pages) if pages else []:
            figure = _page(dict(rows[k] for k in part), columns, record.items, previews, title)
            paths.append(folder / f"{names(f'gallery_{slug(category)}')}.png")
            _save(figure, paths[-1])
    return paths


def write_examples(images: np.ndarray, masks: np.ndarray, title: str, path: Path) -> Path:
    """Write pictures with their masks: image above mask, eight in a row.

    Parameters
    ----------
    images : numpy.ndarray
        uint8 (N, H, W, 3).
    masks : numpy.ndarray
        float (N, H, W), 0..1.
    """
    per_row, step = 8, PANEL + GAP
    rows = math.ceil(len(images) / per_row)
    width, top = 2 * GAP + min(len(images), per_row) * step, 0.42
    height = top + 2 * rows * step + rows * GAP
    figure = Figure(figsize=(max(width, 5.0), height))
    ax = figure.add_axes((0, 0, 1, 1))
    lines = textwrap.wrap(f"{one_line(title)}.", int(max(width, 5.0) * 17))
    ax.text(GAP, 0.04, "\n".join(lines), va="top", fontsize=7)
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        x, y = GAP + (i % per_row) * step, top + (i // per_row) * (2 * step + GAP)
        _place(ax, image, x, y)
        _place(ax, mask, x, y + step, cmap="gray", vmin=0, vmax=1)
    ax.set(xlim=(0, max(width, 5.0)), ylim=(height, 0))
    ax.axis("off")
    _save(figure, path)
    return path


def _save(figure: Figure, path: Path) -> None:
    """Write a page as PNG with a palette, a third of the size."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(DPI)
    canvas.draw()
    page = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(256, dither=Image.Dither.NONE)
    write_by(path, lambda file: page.save(file, "PNG", optimize=True))
