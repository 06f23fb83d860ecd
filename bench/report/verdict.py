"""What to deploy: for each category the method whose deployable threshold decides best, what it promised and what it did.

The thresholds come from held-out normal images alone; what they then do is measured on the test set, and which method does it best
is chosen there, as every comparison does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from anoseg_bench.formatting import one_line, percent
from anoseg_bench.metrics.thresholds import ALLOWED_ALARMS, ALLOWED_FPR
from anoseg_bench.report.intervals import Resamples, percentiles
from anoseg_bench.report.render import DASH, Line, Table, TableCell
from anoseg_bench.report.results import Number, Results
from anoseg_bench.report.tables import dataset_of, table_notes, with_interval


@dataclass(frozen=True)
class Decision:
    """What a deployable threshold decides about.

    Attributes
    ----------
    title : str
        In words: what is decided.
    of : {"image", "pixel"}
        What the threshold is for.
    threshold, found, alarms : str
        The numbers (of the evaluation) of the threshold, of the share of defects that it finds, and of the share of normal ones
        that it takes for defects.
    asked : float
        The largest share of the latter that was asked for.
    defective, normal : str
        Whose shares these are.
    digits : int
        Of the percentages of alarms.
    best_by : str or None
        The number that the best method has the highest of; None for what is found less alarms (Youden's index).
    """

    title: str
    of: str
    threshold: str
    found: str
    alarms: str
    asked: float
    defective: str
    normal: str
    digits: int
    best_by: str | None = None


DECISIONS = (
    Decision(
        "Rejecting parts",
        "image",
        "image_threshold_deployable",
        "image_recall_deployable",
        "image_fpr_deployable",
        ALLOWED_ALARMS,
        "the defective images",
        "the normal images",
        1,
    ),
    Decision(
        "Marking pixels",
        "pixel",
        "threshold_deployable",
        "recall_deployable",
        "normal_fpr_deployable",
        ALLOWED_FPR,
        "the defective pixels",
        "the pixels of normal images",
        2,
        "iou_deployable",
    ),
)
#: A threshold that finds no more than this misses nearly all; one that finds less than this misses more than it finds.
NEARLY_NONE, HALF = 0.1, 0.5
#: How a table says whether a threshold is fit for use.
FITNESS = {"fit for use": "yes", "not fit for use": "no", "not proven": "not proven"}
#: How many times what was asked is far above it.
FAR = 2.0


@dataclass(frozen=True)
class Outcome:
    """What a method's deployable threshold does in a category.

    Attributes
    ----------
    thresholds : tuple of float
        Of each seed, in units of the map or of the image score.
    found, alarms : Number
        Shares, with intervals.
    quality : Number
        What methods are compared by: found less alarms, or the number that the decision names.
    faults : list of str
        Why the threshold is not fit for use.
    doubts : list of str
        Where it has no fault: which of them the intervals allow, so that it is not proven to be fit.
    """

    variant: int
    decision: Decision
    thresholds: tuple[float, ...]
    found: Number
    alarms: Number
    quality: Number
    faults: list[str]
    doubts: list[str]

    @property
    def fitness(self) -> str:
        """``"fit for use"``, ``"not fit for use"``, or ``"not proven"`` to be either, by so few images."""
        return "not fit for use" if self.faults else "not proven" if self.doubts else "fit for use"

    @property
    def missed_asked(self) -> int:
        """Whether the interval of the alarms lies above (1) or below (-1) what was asked; 0 where it holds it."""
        return (self.alarms.low > self.decision.asked) - (self.alarms.high < self.decision.asked)

    @property
    def _is_far(self) -> bool:
        return self.missed_asked > 0 and self.alarms.mean >= FAR * self.decision.asked


@dataclass(frozen=True)
class Verdict:
    """Which method to deploy for one decision in a category.

    Attributes
    ----------
    best, second : Outcome or None
        The best of those that are fit for use, where there are some, else of all; and the next. None: there is none.
    reason : str
        Why there is none.
    apart : bool
        Whether the two can be told apart: the interval of the difference of their qualities, on the same resamples, holds no zero.
    """

    category: str
    decision: Decision
    best: Outcome | None
    second: Outcome | None
    apart: bool
    reason: str = ""

    @property
    def is_fit(self) -> bool:
        """Whether there is a method to deploy: one without a fault."""
        return self.best is not None and not self.best.faults

    @property
    def fitness(self) -> str:
        """Of the best."""
        return "not proven" if self.best is None else self.best.fitness


def outcomes(results: Results, category: int, decision: Decision) -> list[Outcome]:
    """Return what the deployable thresholds of the methods do in a category, of those that have one in all seeds."""
    found, alarms = (results.numbers(name, [category]) for name in (decision.found, decision.alarms))
    thresholds = results.values(decision.threshold)[:, category]
    shown = []
    for v in range(len(results.variants)):
        if not (found[v].complete and alarms[v].complete and np.isfinite(thresholds[v]).all()):
            continue
        gain = Number(found[v].mean - alarms[v].mean, 1, 1)
        quality = results.numbers(decision.best_by, [category])[v] if decision.best_by else gain
        outcome = Outcome(v, decision, tuple(thresholds[v].tolist()), found[v], alarms[v], quality, [], [])
        outcome.faults.extend(_faults(results, category, outcome))
        outcome.doubts.extend([] if outcome.faults else _doubts(outcome))
        shown.append(outcome)
    return shown


def _faults(results: Results, category: int, outcome: Outcome) -> list[str]:
    decision = outcome.decision
    faults = []
    if outcome.found.mean <= NEARLY_NONE:
        faults.append(f"it misses nearly all of {decision.defective}")
    elif outcome.found.mean < HALF and decision.of == "image":
        faults.append(f"it misses more than half of {decision.defective}")
    if outcome._is_far:
        asked, got = (percent(share, decision.digits) for share in (decision.asked, outcome.alarms.mean))
        faults.append(f"it takes {got} % of {decision.normal} for defective, where {asked} % was asked")
    gain = None if faults else _gain(results, category, decision)
    if gain is not None and percentiles(gain.values[outcome.variant]).low <= 0:
        faults.append("it cannot be told from chance")
    return faults


def _doubts(outcome: Outcome) -> list[str]:
    """Return which faults the intervals of a threshold allow."""
    decision = outcome.decision
    if math.isnan(outcome.alarms.high) or math.isnan(outcome.found.low):
        return ["no interval says how sure its shares are"]
    doubts = []
    if outcome.alarms.high > FAR * decision.asked:
        doubts.append(f"up to {percent(outcome.alarms.high, decision.digits)} % of {decision.normal} may be taken for defective")
    if outcome.found.low < HALF and decision.of == "image":
        doubts.append(f"more than half of {decision.defective} may be missed")
    return doubts


def _quality(results: Results, category: int, decision: Decision) -> Resamples | None:
    """Return what methods are compared by."""
    return _gain(results, category, decision) if decision.best_by is None else results.intervals.of(decision.best_by, [category])


def _gain(results: Results, category: int, decision: Decision) -> Resamples | None:
    """Return found less alarms."""
    found, alarms = (results.intervals.of(name, [category]) for name in (decision.found, decision.alarms))
    return None if found is None or alarms is None else found.less(alarms)


def verdict(results: Results, category: int, decision: Decision) -> Verdict:
    """Return which method to deploy for a decision in a category."""
    name = results.categories[category]
    shown = sorted(outcomes(results, category, decision), key=lambda o: (bool(o.faults), -o.quality.mean))
    if not shown:
        cells = [result for row, result in results.done if row.category == name]
        reasons = (cell.record.reasons.get(n) for n in (decision.threshold, decision.found, decision.alarms) for cell in cells)
        why = next(filter(None, reasons), "no method has a result of every seed")
        more = " (raise --holdout; for scored maps, give --normal-maps)" if "held-out" in why else ""
        return Verdict(name, decision, None, None, False, f"{one_line(why)}{more}")
    second = shown[1] if len(shown) > 1 else None
    quality = _quality(results, category, decision) if second else None
    apart = second is not None and quality is not None and not quality.difference(shown[0].variant, second.variant).holds_zero
    return Verdict(name, decision, shown[0], second, apart)


def verdicts_of(results: Results, category: int) -> tuple[Verdict, ...]:
    """Return the verdicts of a category, one for each of `DECISIONS`."""
    return tuple(verdict(results, category, decision) for decision in DECISIONS)


def share_text(number: Number, digits: int = 1) -> str:
    """Return a share with its interval: ``"97.1 % (92.0–99.3)"``."""
    ends = f" ({percent(number.low, digits)}–{percent(number.high, digits)})" if math.isfinite(number.low) else ""
    return f"{percent(number.mean, digits)} %{ends}"


def outcome_text(results: Results, outcome: Outcome, category: str) -> str:
    """Return what a threshold does in a category, in words."""
    decision = outcome.decision
    defective, normal = decision.defective, decision.normal
    if decision.of == "image":
        defective, normal = (
            f"the {number} {what}"
            for number, what in zip(results.tested(category, outcome.variant), ("defective images", "normal images"), strict=True)
        )
    relation = {1: ", above what was asked", -1: ", below what was asked", 0: ""}[outcome.missed_asked]
    at = f" at an IoU of {share_text(outcome.quality)}" if decision.best_by else ""
    return (
        f"finds {share_text(outcome.found)} of {defective}{at} and takes {share_text(outcome.alarms, decision.digits)} of "
        f"{normal} for defective (asked: at most {percent(decision.asked, decision.digits)} %{relation})"
    )


def verdict_text(results: Results, given: Verdict) -> str:
    """Return a verdict as a sentence."""
    if given.best is None:
        return f"No decision: {given.reason}."
    name = results.titles[given.best.variant]
    head = "" if given.is_fit else f"Not fit for use, as {' and '.join(given.best.faults)}; the best of them: "
    at = ", ".join(f"{threshold:.6g}" for threshold in given.best.thresholds)
    at += " (one for each seed)" if len(given.best.thresholds) > 1 else ""
    text = f"{head}'{name}' at the {given.decision.of} threshold {at} {outcome_text(results, given.best, given.category)}."
    if given.best.doubts:
        text += f" So few images do not prove it fit: {' and '.join(given.best.doubts)}."
    if given.second is None:
        return text
    other = results.titles[given.second.variant]
    told = "measurably behind" if given.apart else "cannot be told from it"
    unfit = "" if not given.second.faults or not given.is_fit else ", not fit for use"
    shares = f"found {share_text(given.second.found)}"
    shares += f", IoU {share_text(given.second.quality)}" if given.decision.best_by else ""
    shares += f", false alarms {share_text(given.second.alarms, given.decision.digits)}"
    return f"{text} Next: '{other}' ({shares}; {told}{unfit})."


def decision_table(results: Results, file: str) -> Table:
    """Return what deployable thresholds were asked for and what they do: methods by decisions, of each category."""
    lines = []
    for c, category in enumerate(results.categories):
        by_decision = {d: {o.variant: o for o in outcomes(results, c, d)} for d in DECISIONS}
        for v, title in enumerate(results.titles):
            texts = [title]
            for decision, of in by_decision.items():
                texts += _outcome_cells(of[v], decision) if v in of else [DASH] * 3
            lines.append(Line([TableCell(text) for text in texts], one_line(category)))
    header = ["method"]
    for d in DECISIONS:
        whose = d.normal.removeprefix("the ")
        header += [f"{d.title.lower()}: found", f"of {whose}, asked {percent(d.asked, d.digits)} %, got", "fit for use"]
    own = [
        f"Deployable thresholds, from held-out normal images alone. Found: of {DECISIONS[0].defective}, or of "
        f"{DECISIONS[1].defective}. Got: > asked, < asked: the whole interval lies above or below what was asked. Not fit for use: "
        f"what misses nearly all (finds {percent(NEARLY_NONE, 0)} % or less), rejects less than half of the defective images, "
        f"takes {FAR:g} times what was asked or more (with its whole interval above), or cannot be told from chance. Not proven: "
        f"no fault is seen, but the intervals allow more than {FAR:g} times what was asked, or less than half found."
    ]
    undefined = [name for d in DECISIONS for name in (d.threshold, d.found, d.alarms)]
    title = f"Asked and got on {dataset_of(results)} (%)"
    return Table(file, title, header, lines, table_notes(results, lines, own, undefined))


def _outcome_cells(outcome: Outcome, decision: Decision) -> list[str]:
    mark = {1: " > asked", -1: " < asked", 0: ""}[outcome.missed_asked]
    got = with_interval(outcome.alarms, lambda share: percent(share, decision.digits))
    return [with_interval(outcome.found), got + mark, FITNESS[outcome.fitness]]
