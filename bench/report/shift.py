"""What becomes of the deployed decision when light, focus or camera change: rates at the threshold of the images as they were.

Of each test image there are its score as it is and its scores under each shift at each strength. A *break* is the first strength
at which detection falls or false alarms rise: the interval of the paired difference, on the same images, lies beyond zero.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.lines import Line2D
from PIL import Image, ImageDraw, ImageFont

from anoseg_bench.datasets.base import GOOD
from anoseg_bench.formatting import one_line
from anoseg_bench.metrics import confidence
from anoseg_bench.metrics.separation import separation
from anoseg_bench.report.frame import opened
from anoseg_bench.report.intervals import Interval, Sample, percentiles
from anoseg_bench.report.plots import COLOURS, MARKERS, TWO_COLUMNS, legend, title_of
from anoseg_bench.report.render import DASH, Line, Table, TableCell
from anoseg_bench.report.results import Number, Results, summarise
from anoseg_bench.report.tables import cells, dataset_of, percent, table_notes
from anoseg_bench.store.cells import CellResult
from anoseg_bench.store.records import ShiftKind, Shifts

DETECTION, ALARMS, AUROC = "detection rate", "false alarms", "image AUROC"
#: Methods named in a sentence, at most.
NAMED = 6
#: Of a contact sheet: longest side of a picture, width of what is said of one, space between two, height of a line of text, px.
SIDE, LABEL, GAP, TEXT = 150, 150, 6, 15
GROUND, INK, QUIET = "#16191d", "#e6e9ed", "#a3adb8"


@dataclass(frozen=True)
class _Scores:
    """Of one cell: its scores under a shift, (N, 1 + strengths), the first as it is; which images are defective; its threshold."""

    scores: np.ndarray
    defective: np.ndarray
    threshold: float

    def reached(self, what: str) -> np.ndarray:
        """Return which of the defective images, or of the good ones, reach the threshold: bool, (n, 1 + strengths)."""
        return self.scores[self.defective if what == DETECTION else ~self.defective] >= self.threshold


@dataclass(frozen=True)
class Break:
    """The first strength at which a method's decision breaks, and what then happens; None: at none of those tried."""

    strength: int | None
    misses: bool = False
    alarms: bool = False

    def __str__(self) -> str:
        what = "both" if self.misses and self.alarms else "misses" if self.misses else "alarms"
        return "none" if self.strength is None else f"{self.strength}: {what}"


def _read(cell: CellResult, kinds: Sequence[ShiftKind]) -> list[_Scores | None]:
    """Return the scores of a cell under some shifts; None where it has none under this one."""
    there = cell.record.shifts.kinds if cell.record.shifts else []
    defective = np.array([defect != GOOD for _, defect in cell.record.items])
    threshold = cell.value("image_threshold_deployable")
    with opened(cell) as arrays:

        def scores(kind: ShiftKind) -> np.ndarray | None:
            name = f"shift/{kind.name}"
            if kind not in there or name not in arrays or arrays[name].shape != (len(defective), len(kind.strengths)):
                return None
            return np.column_stack([arrays["score"], arrays[name]]).astype(np.float64)

        read = [scores(kind) for kind in kinds]
    return [None if one is None else _Scores(one, defective, threshold) for one in read]


def _numbers_of(read: _Scores | None, what: str) -> np.ndarray | float:
    """Return a number of one cell at each strength, NaN where it is undefined."""
    if read is None or (what != AUROC and not math.isfinite(read.threshold)):
        return math.nan
    if what != AUROC:
        reached = read.reached(what)
        return reached.mean(axis=0) if len(reached) else math.nan
    if read.defective.all() or not read.defective.any():
        return math.nan
    return np.array([separation(scores[read.defective], scores[~read.defective])[0] for scores in read.scores.T])


@functools.cache
def _rate(hits: int, number: int, draws: int) -> np.ndarray:
    """Return quantiles of both confidence distributions of a rate, ascending: (2, B)."""
    ends = confidence.of_rate(np.full(draws, hits), np.full(draws, number), np.linspace(0, 1, draws))
    return np.stack([ends.low, ends.high])


def _changed(before: np.ndarray, after: np.ndarray, draws: int) -> np.ndarray:
    """Return quantiles of the difference of two rates of the same images, by those whose decision changed: (2, B).

    Of m that changed, c for up, the difference is m/n (2 c/m - 1), and c/m has Clopper and Pearson's interval: it holds 1/2, and
    the difference 0, where McNemar's exact test finds no difference.
    """
    up, m, n = int((after & ~before).sum()), int((after != before).sum()), len(before)
    return (2 * _rate(up, m, draws) - 1) * m / n if m else np.zeros((2, draws))


class ShiftNumbers:
    """The numbers of a run under shifts.

    Attributes
    ----------
    kinds : list of ShiftKind
        The shifts of the first cell that has scores under some, or those of now; what was stored under others counts as missing.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        stated = (result.record.shifts for _, result in results.done if result.record.shifts)
        self.kinds = next(stated, Shifts.stated()).kinds
        self._scores: dict[Path, list[_Scores | None]] = {}

    def _of(self, cell: CellResult) -> list[_Scores | None]:
        """Return the scores of a cell under each shift."""
        if cell.folder not in self._scores:
            self._scores[cell.folder] = _read(cell, self.kinds)
        return self._scores[cell.folder]

    @property
    def missing(self) -> list[str]:
        """The variants of which a cell has no scores under these shifts."""
        return list(dict.fromkeys(row.variant for row, result in self.results.done if None in self._of(result)))

    @cached_property
    def _values(self) -> dict[str, list[np.ndarray]]:
        """By what they are, of each kind: (V, C, S, 1 + strengths)."""

        def cube(what: str, k: int) -> np.ndarray:
            length = 1 + len(self.kinds[k].strengths)
            return self.results.cube(lambda cell: _numbers_of(self._of(cell)[k], what), length)

        return {what: [cube(what, k) for k in range(len(self.kinds))] for what in (DETECTION, ALARMS, AUROC)}

    @cached_property
    def _draws(self) -> list[list[dict]]:
        """Of each category and variant, by what, kind and strength: (2, B), draws for both ends of the number and of its change."""
        return [self.results.intervals.average(c, self._draws_of) for c in range(len(self.results.categories))]

    def _draws_of(self, cell: CellResult, sample: Sample) -> dict:
        drawn: dict = {}
        number = len(sample.quantiles)
        order = np.rint(sample.quantiles * (number - 1)).astype(int)
        for k, read in enumerate(self._of(cell)):
            if read is None:
                continue
            for s in range(read.scores.shape[1]):
                if 0 < read.defective.sum() < len(read.defective):
                    of = confidence.of_auroc(read.scores[read.defective, s], read.scores[~read.defective, s], sample.quantiles)
                    drawn[AUROC, k, s] = np.stack([of.low, of.high])
                for what in (DETECTION, ALARMS) if math.isfinite(read.threshold) else ():
                    reached = read.reached(what)
                    drawn[what, k, s] = _rate(int(reached[:, s].sum()), len(reached), number)[:, order]
                    drawn["change", what, k, s] = _changed(reached[:, 0], reached[:, s], number)[:, order]
        return drawn

    def _interval(self, variant: int, members: Sequence[int], key: tuple) -> Interval:
        drawn = [self._draws[c][variant].get(key) for c in members]
        if any(one is None for one in drawn):
            return Interval(math.nan, math.nan)
        return percentiles(*np.mean([one for one in drawn if one is not None], axis=0))

    def number(self, what: str, variant: int, kind: int, strength: int, members: Sequence[int]) -> Number:
        """Return a number of a variant, the mean over some categories and all seeds, with its interval; strength 0: as it is."""
        number = summarise(self._values[what][kind][variant, list(members), :, strength])
        interval = self._interval(variant, members, (what, kind, strength))
        return replace(number, low=interval.low, high=interval.high) if number.complete else number

    def first_break(self, variant: int, kind: int, members: Sequence[int]) -> Break | None:
        """Return where a variant's decision breaks, by the means over some categories; None where it is not known."""
        if not all(self.number(what, variant, kind, 0, members).complete for what in (DETECTION, ALARMS)):
            return None
        for strength in range(1, 1 + len(self.kinds[kind].strengths)):
            fewer, more = (self._interval(variant, members, ("change", what, kind, strength)) for what in (DETECTION, ALARMS))
            if fewer.high < 0 or more.low > 0:
                return Break(strength, fewer.high < 0, more.low > 0)
        return Break(None)


@functools.lru_cache(maxsize=1)  # tables, figure and sentences are of the same
def shift_numbers(results: Results) -> ShiftNumbers:
    """Return the numbers of a run under shifts."""
    return ShiftNumbers(results)


def _members(results: Results) -> dict[str, list[int]]:
    """Return the categories, and all of them together where there are several, by name."""
    several = {results.over_all: list(range(len(results.categories)))} if len(results.categories) != 1 else {}
    return {one_line(name): [c] for c, name in enumerate(results.categories)} | several


def break_table(numbers: ShiftNumbers) -> Table:
    """Return at which strength each method's decision breaks: methods by shifts, for each category and over all."""
    results, kinds = numbers.results, range(len(numbers.kinds))
    lines = []
    for name, members in _members(results).items():
        for v, title in enumerate(results.titles):
            breaks = [numbers.first_break(v, k, members) for k in kinds]
            known = [one for one in breaks if one]
            broken = f"{sum(one.strength is not None for one in known)} of {len(known)}" if known else DASH
            before = [numbers.number(what, v, 0, 0, members) for what in (DETECTION, ALARMS)]
            texts = [broken, *(DASH if one is None else str(one) for one in breaks)]
            row = [TableCell(title), *(cells([number], results.allow_partial)[0] for number in before), *map(TableCell, texts)]
            lines.append(Line(row, name if len(results.categories) > 1 else ""))
    own = [
        "The first strength at which the decision at the deployable image threshold, which stays as it was, breaks: misses, the "
        "detection rate falls; alarms, false alarms rise. Told by the 95 % interval of the paired difference to the same images as "
        "they are, which lies beyond zero. Of a category it rests on the images whose decision changes, as McNemar's exact test, "
        "so at least six must; over categories and seeds on the mean. Not corrected for the number of comparisons. None: at no "
        "strength, which with few images says little; a method that finds nothing, or rejects all, has nothing to break.",
        *_said(numbers),
    ]
    header = ["method", "found (%)", "false alarms (%)", "breaks", *(kind.name for kind in numbers.kinds)]
    title = f"When light, focus or camera change: where the deployed decision breaks on {dataset_of(results)}"
    return Table("experiment_shift", title, header, lines, table_notes(results, lines, own, ["image_threshold_deployable"]))


def _said(numbers: ShiftNumbers) -> list[str]:
    """Return what the strengths are, and what has no scores under them."""
    shown = (f"{kind.name}, {kind.in_words(*range(1, 1 + len(kind.strengths)))}" for kind in numbers.kinds)
    missing = ", ".join(map(one_line, numbers.missing))
    return [
        f"Strengths 1, 2, ...: {'; '.join(shown)}. Images are changed at their original size, then resized as the method asks.",
        *([f"No scores under these shifts of {missing}: run the experiment again, which adds them."] if missing else []),
    ]


def strength_table(numbers: ShiftNumbers, what: str, name: str) -> Table:
    """Return a number at each strength of each shift: methods by strengths, means over all categories."""
    results, everything = numbers.results, list(range(len(numbers.results.categories)))
    most = max(len(kind.strengths) for kind in numbers.kinds)
    lines = []
    for k, kind in enumerate(numbers.kinds):
        group = f"{kind.name}: {kind.in_words(*range(1, 1 + len(kind.strengths)))}"
        for v, title in enumerate(results.titles):
            row = [numbers.number(what, v, k, s, everything) for s in range(1 + len(kind.strengths))]
            shown = [cells([number], results.allow_partial)[0] for number in row]
            lines.append(Line([TableCell(title), *shown, *[TableCell("")] * (1 + most - len(shown))], group))
    threshold = "the deployable image threshold, which stays as it was; intervals (Clopper and Pearson) take it as given."
    about = {
        DETECTION: f"Detection rate: defective images that reach {threshold}",
        ALARMS: f"False alarms: normal images that reach {threshold}",
        AUROC: "Image AUROC: of the scores under the shift, whatever the threshold.",
    }
    own = [about[what], *_said(numbers)]
    header = ["method", "as it is", *map(str, range(1, 1 + most))]
    title = f"When light, focus or camera change: {what} (%) on {dataset_of(results)}"
    undefined = [] if what == AUROC else ["image_threshold_deployable"]
    return Table(name, title, header, lines, table_notes(results, lines, own, undefined))


def strength_tables(numbers: ShiftNumbers) -> list[Table]:
    """Return the tables by strength: detection rate, false alarms, image AUROC."""
    names = {DETECTION: "experiment_shift_detection", ALARMS: "experiment_shift_alarms", AUROC: "experiment_shift_auroc"}
    return [strength_table(numbers, what, name) for what, name in names.items()]


def shift_figure(numbers: ShiftNumbers) -> Figure:
    """Return detection rate and false alarms over the strength, one panel for each shift, means over categories."""
    results, everything = numbers.results, list(range(len(numbers.results.categories)))
    columns = min(5, len(numbers.kinds))
    rows = -(-len(numbers.kinds) // columns)
    figure = Figure(figsize=(TWO_COLUMNS, 0.6 + 1.55 * rows), layout="constrained")
    where = "mean over categories" if len(everything) > 1 else one_line(results.categories[0])
    figure.suptitle(title_of(results, f"The deployed decision when light, focus or camera change (0: as it is), {where}"))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel in panels.flat[len(numbers.kinds) :]:
        panel.set_visible(False)
    for k, (kind, ax) in enumerate(zip(numbers.kinds, panels.flat, strict=False)):
        for v in range(len(results.variants)):
            for what, line in {DETECTION: "-", ALARMS: "--"}.items():
                shown = [numbers.number(what, v, k, s, everything) for s in range(1 + len(kind.strengths))]
                values = [100 * n.mean if n.complete or (results.allow_partial and n.n) else math.nan for n in shown]
                ax.plot(values, linestyle=line, **_style(v, hollow=what == ALARMS))
        ax.set_title(kind.name, pad=3)
        ax.grid(color="0.9")
        ax.set_axisbelow(True)
        ax.set_ylim(-4, 104)
        ax.set_xticks(range(1 + max(len(kind.strengths) for kind in numbers.kinds)))
    for ax in panels[:, 0]:
        ax.set_ylabel("percent of images")
    for ax in panels[-1]:
        ax.set_xlabel("strength")
    handles = [Line2D([], [], **_style(v)) for v in range(len(results.variants))]
    handles += [Line2D([], [], color="0.3", linestyle=line, linewidth=1) for line in ("-", "--")]
    legend(figure, handles, [*results.titles, "defective images found", "false alarms (hollow)"])
    return figure


def _style(variant: int, hollow: bool = False) -> dict:
    colour = COLOURS[variant % len(COLOURS)]
    face = "white" if hollow else colour
    return {
        "color": colour,
        "marker": MARKERS[variant % len(MARKERS)],
        "markersize": 3,
        "markerfacecolor": face,
        "linewidth": 0.9,
        "markeredgewidth": 0.7,
    }


def shift_sheets(numbers: ShiftNumbers) -> dict[str, Image.Image]:
    """Return of each category one image under all shifts and strengths, by name of the category."""
    sheets = {}
    for row, result in numbers.results.done:
        path, stated = numbers.results.run.store.shifted_previews(result.record), result.record.shifts
        if row.category not in sheets and stated and stated.kinds == numbers.kinds and path.is_file():
            with np.load(path, allow_pickle=False) as previews:
                sheets[row.category] = _sheet(one_line(row.category), numbers.kinds, previews.__getitem__)
    return sheets


def _sheet(category: str, kinds: Sequence[ShiftKind], picture: Callable[[str], np.ndarray]) -> Image.Image:
    columns = 1 + max(len(kind.strengths) for kind in kinds)
    first = Image.fromarray(picture("0"))
    first.thumbnail((SIDE, SIDE))
    width, height = first.size
    step = height + TEXT + GAP
    sheet = Image.new("RGB", (GAP + columns * (max(width, LABEL) + GAP), 3 * TEXT + len(kinds) * step), GROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.truetype(findfont("DejaVu Sans"), 10)
    title = f"{category}: one image under each shift, by strength; changed at its own size, shown reduced"
    draw.text((GAP, GAP), title, INK, font=font)
    for row, kind in enumerate(kinds):
        for strength in range(1 + len(kind.strengths)):
            left, top = GAP + strength * (max(width, LABEL) + GAP), 2 * TEXT + row * step
            label = f"{strength}: {kind.in_words(strength)}" if strength else f"{kind.name}, 0: as it is"
            draw.text((left, top), label, QUIET if strength else INK, font=font)
            shifted = Image.fromarray(picture(f"{kind.name}/{strength}" if strength else "0"))
            sheet.paste(shifted.resize((width, height), Image.Resampling.BOX), (left, top + TEXT))
    return sheet


def shift_sentences(results: Results) -> list[str]:
    """Return what can be told of breaks, in a sentence; [] where the run is not about shifts or nothing is known."""
    if results.run.info.experiment != "shift":
        return []
    numbers, everything = shift_numbers(results), list(range(len(results.categories)))
    told: list[str] = []
    for v, title in enumerate(results.titles):
        breaks = {k: numbers.first_break(v, k, everything) for k in range(len(numbers.kinds))}
        known = {k: one for k, one in breaks.items() if one}
        if not known:
            continue
        found, alarms = (percent(numbers.number(what, v, 0, 0, everything).mean) for what in (DETECTION, ALARMS))
        broken = {k: one.strength for k, one in known.items() if one.strength is not None}
        text = f"that of '{title}' ({found} % found, {alarms} % false alarms) under {len(broken) or 'none'} of {len(known)} shifts"
        if broken:
            k = min(broken, key=lambda k: broken[k])
            what = DETECTION if known[k].misses else ALARMS
            after = percent(numbers.number(what, v, k, broken[k], everything).mean)
            text += f", first {numbers.kinds[k].name} at strength {broken[k]} ({what} {after} %)"
        told.append(text)
    more = [f"and {len(told) - NAMED} more"] if len(told) > NAMED else []
    return [f"When light, focus or camera change, the deployed decision breaks: {'; '.join(told[:NAMED] + more)}."] if told else []
