"""What a run says, in a few sentences made from the numbers of its tables."""

from __future__ import annotations

import math

import numpy as np

from anoseg_bench.formatting import duration, one_line
from anoseg_bench.metrics import metric
from anoseg_bench.report.data import data_sentences
from anoseg_bench.report.frame import timing_of
from anoseg_bench.report.results import Number, Results
from anoseg_bench.report.tables import percent

#: What a method may lead in, in this order; the first also says which method the other sentences are about.
LEAD = ("pixel_auroc", "iou_max", "image_auroc", "iou_deployable")


def findings(results: Results) -> list[str]:
    """Return the sentences: who leads on what, by how much and how sure; where it loses; its threshold; its cost."""
    everything = list(range(len(results.categories)))
    leads = {name: _leader(results, name, everything) for name in LEAD}
    leader = next((lead for lead in leads.values() if lead is not None), None)
    if leader is None:
        done = sum(row.result is not None for row in results.run.rows)
        none = f"No comparison: {done} of {len(results.run.rows)} cells have a result, and none of the methods is complete."
        return [none, *data_sentences(results.run.info.data)]
    sentences = [_led(results, name, best, everything) for name, best in leads.items() if best is not None]
    sentences += [*_losses(results, leader), _deployed(results, leader, everything), _cost(results, leader)]
    sentences += data_sentences(results.run.info.data)
    if results.run.info.synthetic:
        sentences.append("All images were drawn by this project; this says nothing about real ones.")
    if len(results.seeds) == 1:
        sentences.append("One seed: how much results vary between trainings is not known.")
    return [sentence for sentence in sentences if sentence]


def _means(numbers: list[Number]) -> list[float]:
    return [number.mean if number.complete else math.nan for number in numbers]


def _leader(results: Results, name: str, members: list[int]) -> int | None:
    """Return the variant with the highest mean, None where none is complete."""
    means = _means(results.numbers(name, members))
    return int(np.nanargmax(means)) if np.isfinite(means).any() else None


def _led(results: Results, name: str, best: int, members: list[int]) -> str:
    numbers = results.numbers(name, members)
    means = _means(numbers)
    half = f" ± {percent(numbers[best].half)}" if math.isfinite(numbers[best].half) else ""
    head = f"{metric(name).title}: {results.titles[best]} leads with {percent(means[best])}{half}"
    others = [v for v in range(len(means)) if v != best and math.isfinite(means[v])]
    if not others:
        return f"{metric(name).title}: {results.titles[best]} has {percent(means[best])}{half}."
    second = max(others, key=lambda v: means[v])
    ties = [results.titles[v] for v in others if numbers[v].tie or percent(means[v]) == percent(means[best])]
    if ties:
        return f"{head}, but cannot be told from {', '.join(ties)}."
    samples = results.intervals.of(name, members)
    gap = f"{head}, {100 * (means[best] - means[second]):.1f} points ahead of {results.titles[second]}"
    if samples is None or math.isnan((interval := samples.difference(best, second)).low):
        return f"{gap}."
    return f"{gap} (95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f})."


def _losses(results: Results, leader: int) -> list[str]:
    """Return where the leader is measurably behind another method: categories, and defect types."""
    name, title = results.titles[leader], metric("pixel_auroc").title
    behind, weakest = [], []
    for c, category in enumerate(results.categories):
        titles = {"": one_line(category)} | {d: f"{one_line(d)} of {one_line(category)}" for d in results.defects(category)}
        for defect, words in titles.items():
            means = _means(results.numbers("pixel_auroc", [c], defect))
            samples = results.intervals.of("pixel_auroc", [c], defect)
            if math.isnan(means[leader]):
                continue
            if defect:
                weakest.append((means[leader], words))
            best = int(np.nanargmax(means))
            if best != leader and samples is not None and samples.difference(best, leader).low > 0:
                behind.append((means[best] - means[leader], words, best, means))
    behind.sort(key=lambda item: -item[0])
    names = results.titles
    shown = [f"{words} ({percent(m[leader])} against {percent(m[best])} of {names[best]})" for _, words, best, m in behind]
    more = f", and {len(shown) - 4} more" if len(shown) > 4 else ""
    lost = f"{name} is behind in {title} on {', '.join(shown[:4])}{more}." if shown else ""
    weak = f"Its weakest defect type is {min(weakest)[1]} ({title} {percent(min(weakest)[0])})." if len(weakest) > 1 else ""
    none = f"No category and no defect type where another method is measurably better than {name} in {title}."
    return [lost or none, weak]


def _deployed(results: Results, leader: int, members: list[int]) -> str:
    """Return what the deployable threshold of images would do, over the categories that have one."""
    name = results.titles[leader]
    recall, alarms = results.values("image_recall_deployable")[leader], results.values("image_fpr_deployable")[leader]
    some = [c for c in members if np.isfinite(recall[c]).all() and np.isfinite(alarms[c]).all()]
    if not some:
        mine = [result.record.reasons for row, result in results.done if row.variant == results.variants[leader]]
        reasons = (reason.get("image_threshold_deployable") for reason in mine)
        reason = next(filter(None, reasons), "unknown")
        return f"{name} has no deployable image threshold: {reason} (raise --holdout; for scored maps, give --normal-maps)."
    rate, false = (results.numbers(n, some)[leader] for n in ("image_recall_deployable", "image_fpr_deployable"))
    few = f" (on {len(some)} of {len(members)} categories; the others have too few held-out images)"
    where = "" if len(some) == len(members) else few
    alarm = f"raise {1000 * false.mean:.0f} ± {1000 * false.half:.0f} false alarms per 1,000 good parts"
    if false.mean == 0:  # the bootstrap knows no other outcome than what it has seen
        good = sum(results.tested(results.categories[c])[1] for c in some)
        alarm = (
            f"raise no false alarm on {good} good test images, which leaves up to {1000 * (1 - 0.05 ** (1 / good)):.0f} "
            "per 1,000 good parts possible (95 %, if the categories are alike)"
        )
    detected = f"{percent(rate.mean)} ± {percent(rate.half)} % of the defective images"
    if len(some) > 1:
        of = sorted((float(recall[c].mean()), one_line(results.categories[c])) for c in some)
        ends = " to ".join(f"{percent(share)} ({category})" for share, category in (of[0], of[-1]))
        detected += f" (mean over categories, from {ends})"
    return f"At its deployable image threshold, {name} would find {detected} and {alarm}{where}."


def _cost(results: Results, leader: int) -> str:
    of = [result for row, result in results.done if row.variant == results.variants[leader]]
    each = {n: [timing_of(result, n) for result in of] for n in ("train_s", "images_per_s_16")}
    if not all(np.isfinite(times).any() for times in each.values()):
        return ""
    times = {n: np.nanmean(known) for n, known in each.items()}
    where = of[0].record.provenance.machine
    speed = f"{times['images_per_s_16']:.0f} images per second"
    return f"It trains in {duration(float(times['train_s']))} per category and predicts {speed} ({where})."
