"""What a run says, in a few sentences made from the numbers of its tables: what fails first."""

from __future__ import annotations

import math

import numpy as np

from anoseg_bench.formatting import duration, one_line, percent, some
from anoseg_bench.metrics import metric
from anoseg_bench.report.data import data_sentences
from anoseg_bench.report.frame import timing_of
from anoseg_bench.report.results import Number, Results
from anoseg_bench.report.shift import shift_sentences
from anoseg_bench.report.tables import with_interval
from anoseg_bench.report.verdict import DECISIONS, Outcome, outcomes, share_text

#: What a method may lead in, in this order; the first also says which method the other sentences are about.
LEAD = ("pixel_auroc", "iou_max", "image_auroc", "iou_deployable")
#: Failures and losses that are named, at most.
NAMED = 4


def findings(results: Results) -> list[str]:
    """Return the sentences: which thresholds fail; who leads on what, by how much and how sure; where it loses; its cost."""
    everything = list(range(len(results.categories)))
    leads = {name: _leader(results, name, everything) for name in LEAD}
    leader = next((lead for lead in leads.values() if lead is not None), None)
    if leader is None:
        done = sum(row.result is not None for row in results.run.rows)
        none = f"No comparison: {done} of {len(results.run.rows)} cells have a result, and none of the methods is complete."
        return [none, *data_sentences(results.run.info.data)]
    sentences = [*_failures(results, leader, everything), *_leads(results, leads, everything)]
    sentences += [*_losses(results, leader), _deployed(results, leader, everything), _cost(results, leader)]
    sentences += shift_sentences(results)
    sentences += data_sentences(results.run.info.data)
    if results.run.info.synthetic:
        sentences.append("All images were drawn by this project; this says nothing about real ones.")
    if len(results.seeds) == 1:
        sentences.append("One seed: how much results vary between trainings is not known.")
    return [sentence for sentence in sentences if sentence]


def _quoted(results: Results, variant: int) -> str:
    return f"'{results.titles[variant]}'"


def _means(numbers: list[Number]) -> list[float]:
    return [number.mean if number.complete else math.nan for number in numbers]


def _leader(results: Results, name: str, members: list[int]) -> int | None:
    """Return the variant with the highest mean, None where none is complete."""
    means = _means(results.numbers(name, members))
    return int(np.nanargmax(means)) if np.isfinite(means).any() else None


def _failures(results: Results, leader: int, members: list[int]) -> list[str]:
    """Return a sentence for each deployable threshold of the leader that is not fit for use, the first of them."""
    failed: list[tuple[str, Outcome]] = []
    for decision in DECISIONS:
        for c in members:
            mine = [o for o in outcomes(results, c, decision) if o.variant == leader and o.faults]
            failed += [(one_line(results.categories[c]), outcome) for outcome in mine]
    sentences = [
        f"Not fit for use: the {outcome.decision.of} threshold of {_quoted(results, leader)} on {category}: "
        f"{' and '.join(outcome.faults)} (found: {share_text(outcome.found)})."
        for category, outcome in failed[:NAMED]
    ]
    left = [category for category, _ in failed[NAMED:]]
    return [*sentences, *([f"{len(left)} more of its thresholds fail: on {some(list(dict.fromkeys(left)), 6)}."] if left else [])]


def _leads(results: Results, leads: dict[str, int | None], members: list[int]) -> list[str]:
    """Return who leads; metrics in which nobody can be told from the best in one sentence."""
    sentences, undecided = [], []
    for name, best in leads.items():
        if best is None:
            continue
        numbers = results.numbers(name, members)
        means = _means(numbers)
        others = [v for v in range(len(means)) if v != best and math.isfinite(means[v])]
        ties = [v for v in others if numbers[v].tie or percent(means[v]) == percent(means[best])]
        if others and len(ties) == len(others):
            undecided.append(metric(name).title)
        else:
            sentences.append(_led(results, name, best, others, ties, numbers, members))
    if undecided:
        sentences.append(f"No method can be told from the best in {', '.join(undecided)}.")
    return sentences


def _led(
    results: Results, name: str, best: int, others: list[int], ties: list[int], numbers: list[Number], members: list[int]
) -> str:
    title, own = metric(name).title, with_interval(numbers[best])
    if not others:
        return f"{title}: {_quoted(results, best)} has {own}."
    if ties:
        tied = some([_quoted(results, v) for v in ties], NAMED)
        return f"{title}: the highest is that of {_quoted(results, best)}, {own}, which cannot be told from {tied}."
    second = max(others, key=lambda v: numbers[v].mean)
    gap = percent(numbers[best].mean - numbers[second].mean)
    text = f"{title}: {_quoted(results, best)} leads with {own}, {gap} points ahead of {_quoted(results, second)}"
    samples = results.intervals.of(name, members)
    if samples is None or math.isnan((interval := samples.difference(best, second)).low):
        return f"{text}."
    return f"{text} (difference {percent(interval.low)}–{percent(interval.high)})."


def _losses(results: Results, leader: int) -> list[str]:
    """Return where the leader is measurably behind another method, by each main metric: categories, and defect types."""
    name = _quoted(results, leader)
    sentences, weakest, compared = [], [], []
    for shown in map(metric, LEAD):
        behind: list[tuple[float, str]] = []
        for c, category in enumerate(results.categories):
            titles = {"": one_line(category)}
            if shown.by_defect:
                titles |= {d: f"{one_line(d)} of {one_line(category)}" for d in results.defects(category)}
            for defect, words in titles.items():
                means = _means(results.numbers(shown.name, [c], defect))
                samples = results.intervals.of(shown.name, [c], defect)
                if math.isnan(means[leader]):
                    continue
                if defect and shown.name == LEAD[0]:
                    weakest.append((means[leader], words))
                best = int(np.nanargmax(means))
                if best != leader and samples is not None and samples.difference(best, leader).low > 0:
                    text = f"{words} ({percent(means[leader])} against {percent(means[best])} of {_quoted(results, best)})"
                    behind.append((means[best] - means[leader], text))
        behind.sort(key=lambda item: -item[0])
        compared.append(shown.title)
        if behind:
            sentences.append(f"{name} is behind in {shown.title} on {some([text for _, text in behind], NAMED)}.")
    if not sentences and len(results.variants) > 1:
        sentences = [f"In no category and no defect type is another method measurably better than {name} in {', '.join(compared)}."]
    if len(weakest) > 1:
        lowest, where = min(weakest)
        sentences.append(f"The weakest defect type of {name} is {where} ({metric(LEAD[0]).title} {percent(lowest)}).")
    return sentences


def _deployed(results: Results, leader: int, members: list[int]) -> str:
    """Return what the deployable threshold of images would do, over the categories that have one."""
    name = _quoted(results, leader)
    recall, alarms = results.values("image_recall_deployable")[leader], results.values("image_fpr_deployable")[leader]
    known = [c for c in members if np.isfinite(recall[c]).all() and np.isfinite(alarms[c]).all()]
    if not known:
        mine = [result.record.reasons for row, result in results.done if row.variant == results.variants[leader]]
        reasons = (reason.get("image_threshold_deployable") for reason in mine)
        reason = next(filter(None, reasons), "unknown")
        return f"{name} has no deployable image threshold: {reason} (raise --holdout; for scored maps, give --normal-maps)."
    rate, false = (results.numbers(n, known)[leader] for n in ("image_recall_deployable", "image_fpr_deployable"))
    few = f" (on {len(known)} of {len(members)} categories; the others have too few held-out images)"
    where = "" if len(known) == len(members) else few
    detected = f"{share_text(rate)} of the defective images"
    if len(known) > 1:
        of = sorted((float(recall[c].mean()), one_line(results.categories[c])) for c in known)
        ends = " to ".join(f"{percent(share)} ({category})" for share, category in (of[0], of[-1]))
        detected += f" (mean over categories, from {ends})"
    per_mille = [f"{1000 * share:.0f}" for share in (false.mean, false.low, false.high) if math.isfinite(share)]
    ends = f" ({per_mille[1]}–{per_mille[2]})" if len(per_mille) == 3 else ""
    asked = f"{1000 * DECISIONS[0].asked:.0f}"
    return (
        f"At its deployable image threshold, {name} would find {detected} and raise {per_mille[0]}{ends} false alarms per "
        f"1,000 good parts, where {asked} were asked for{where}."
    )


def _cost(results: Results, leader: int) -> str:
    of = [result for row, result in results.done if row.variant == results.variants[leader]]
    each = {n: [timing_of(result, n) for result in of] for n in ("train_s", "images_per_s_16")}
    if not all(np.isfinite(times).any() for times in each.values()):
        return ""
    times = {n: np.nanmean(known) for n, known in each.items()}
    where = of[0].record.provenance.machine
    speed = f"{times['images_per_s_16']:.0f} images per second"
    return f"{_quoted(results, leader)} trains in {duration(float(times['train_s']))} per category and predicts {speed} ({where})."
