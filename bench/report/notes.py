"""The footnotes of tables: how the numbers came about, and why some are missing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from anoseg_bench.conditions import in_words
from anoseg_bench.formatting import one_line
from anoseg_bench.methods import METHODS
from anoseg_bench.metrics import VERSION, metric
from anoseg_bench.report.frame import MARK
from anoseg_bench.report.results import Results
from anoseg_bench.store.cells import Row

FAILURES_SHOWN = 8
ON_VALUE_AXIS = {"iou_mean", "iou_width", "iou_0.5"}


def _where(cells: Iterable[Row], among: Sequence[Row]) -> str:
    """Return cells as text, ``a, b on bottle, cable (seed 1)``: less than all of a variant's cells `among` only."""
    places: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for row in cells:
        places[row.variant].add((row.category, row.seed))
    variants = defaultdict(list)
    for variant, hit in places.items():
        every: dict[str, list[int]] = defaultdict(list)
        for row in among:
            every[row.category] += [row.seed] * (row.variant == variant)
        where = []
        for category, seeds in every.items():
            some = [seed for seed in seeds if (category, seed) in hit]
            where += [one_line(category) + (f" (seed {', '.join(map(str, some))})" if some != seeds else "")] * bool(some)
        variants["" if len(hit) == sum(map(len, every.values())) else " on " + ", ".join(where)].append(one_line(variant))
    return "; ".join(", ".join(names) + where for where, names in variants.items())


def _by_reason(cells: Iterable[tuple[str, Row]], among: Sequence[Row]) -> list[str]:
    """Return ``where: reason`` of cells with their reasons, each reason once."""
    cells_of = defaultdict(list)
    for reason, row in cells:
        cells_of[reason].append(row)
    return [f"{_where(rows, among)}: {reason}" for reason, rows in cells_of.items()]


def protocol(results: Results) -> str:
    """Return how the numbers are made."""
    holdout = results.run.info.holdout
    share = f"{100 * holdout:.3g} % of the normal training images, or validation images where there are" if holdout else "none"
    share = share if holdout is not None else "the images outside the test set for which there are maps"
    return (
        "Protocol: pixels are pooled within a category, then categories are averaged without weights; maps are brought to the size "
        "of their images, masks are as they are; a pixel is positive where score ≥ threshold; oracle thresholds are the best on "
        "the test set, an upper bound; held out for deployable "
        f"thresholds: {share}."
    )


def setup(results: Results) -> str:
    """Return dataset, profile, image sizes, seeds and commits."""
    info = results.run.info
    sizes: dict[str, list[str]] = defaultdict(list)
    commits: dict[str, None] = {}
    for row, result in results.done:
        if result.record.maps is None:
            size = str(result.record.config.get("image_size", "unknown"))
            sizes[size] += [] if one_line(row.variant) in sizes[size] else [one_line(row.variant)]
        commits[result.record.provenance.revision] = None
    shown = [size if len(sizes) == 1 else f"{size} ({', '.join(names)})" for size, names in sizes.items()]
    parts = [
        f"dataset {one_line(info.dataset)}"
        + (" (the embedded synthetic images, not a public benchmark)" if info.synthetic else ""),
        *(
            [f"profile {info.profile}" + ("" if info.profile == "full" else " (only full is meant for publication)")]
            if info.profile
            else []
        ),
        *([f"left out: {', '.join(map(one_line, info.excluded))}"] if info.excluded else []),
        *(["image size " + ", ".join(shown)] if shown else []),
        f"{'seed' if len(results.seeds) == 1 else 'seeds'} {', '.join(map(str, results.seeds))}",
        f"commit {', '.join(commits) or info.commit or 'unknown'}",
    ]
    return f"Setup: {'; '.join(parts)}."


def unlike_papers(results: Results) -> str:
    """Return how the methods differ from the published ones that they follow, where that is known."""
    methods = dict.fromkeys(row.method for row in results.run.rows if row.method in METHODS.names())
    held_out = f"{100 * share:.3g} % of the training images held out" if (share := results.run.info.holdout) else ""
    said = [f"{one_line(method)}: {entry.published[1]}" for method in methods if (entry := METHODS[method]).published]
    return "; ".join([*said, *([f"all: {held_out}"] if said and held_out else [])])


def deviations(results: Results) -> list[str]:
    """Return where the training is shorter than published."""
    cells = [(one_line(r.record.deviations), row) for row, r in results.done if r.record.deviations]
    entries = _by_reason(cells, [row for row, _ in results.done])
    return [f"Training differs from the published: {'; '.join(entries)}."] if entries else []


def pretrained(results: Results) -> list[str]:
    """Return which variants rest on weights trained on other images, and on which."""
    cells = [(one_line(r.record.pretrained), row) for row, r in results.done if r.record.pretrained]
    entries = _by_reason(cells, [row for row, _ in results.done])
    return [f"{MARK} rests on weights trained on other images: {'; '.join(entries)}."] if entries else []


def conditions(results: Results) -> list[str]:
    """Return what the harness did otherwise for some variants, and whether not all tiles were learned from."""
    done = [(row, result.record) for row, result in results.done]
    entries = _by_reason([(in_words(r.conditions), row) for row, r in done if r.conditions], [row for row, _ in done])
    drawn = [r.findings["tiles"] for _, r in done if "tiles" in r.findings]
    some = [tiles for tiles in drawn if tiles["drawn"] < tiles["of"]]
    bound = [f"{span([t['drawn'] for t in some])} of {span([t['of'] for t in some])} tiles learned from"] if some else []
    return [f"Conditions: {'; '.join([*entries, *bound])}."] if entries else []


def span(numbers: Sequence[int]) -> str:
    """Return numbers as text: one, or the least to the largest."""
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def origin(results: Results) -> list[str]:
    """Return whose maps were made elsewhere, and whose numbers are not of this version, or not exact."""
    among = [row for row, _ in results.done]
    given = [
        (f"maps of '{one_line(m.folder)}', {one_line(m.image_scores)}, {m.normals} maps of normal images for thresholds", row)
        for row, result in results.done
        if (m := result.record.maps)
    ]
    older = [(str(r.record.identity.metrics), row) for row, r in results.done if not r.record.is_evaluated]
    bounded = [("", row) for row, r in results.done if r.record.mode == "bounded"]
    head = "Scored from saved maps, not trained here (whether their normal images were trained on cannot be checked)"
    sentences = {
        head: _by_reason(given, among),
        f"Evaluated by another version of the metrics than {VERSION}": _by_reason(older, among),
        "Scores counted in bins (numbers within 1e-4)": [_where([row for _, row in bounded], among)] if bounded else [],
    }
    return [f"{sentence}: {'; '.join(entries)}." for sentence, entries in sentences.items() if entries]


def scaled(results: Results) -> list[str]:
    """Return whose threshold axis is scaled."""
    names = ", ".join(map(one_line, results.scaled))
    return [f"Threshold axis min-max scaled on the test set, as in the literature: {names}."] if names else []


def failures(results: Results) -> list[str]:
    """Return the failed cells with their errors."""
    rows = results.run.rows
    entries = _by_reason([(one_line(row.error)[:200] or "no reason given", row) for row in rows if row.result is None], rows)
    more = [f"and {len(entries) - FAILURES_SHOWN} more errors, see run.json"] if len(entries) > FAILURES_SHOWN else []
    return [f"Failed: {'; '.join(entries[:FAILURES_SHOWN] + more)}."] if entries else []


def undefined(results: Results, names: Sequence[str]) -> list[str]:
    """Return why numbers of finished cells are undefined."""
    cells = []
    for row, result in results.done:
        for name in names:
            if math.isnan(result.value(name)):
                reason = one_line(result.record.reasons.get(name, "no reason given"))
                title = metric(name).title
                cells.append((f"{title}: {reason}" if len(names) > 1 else reason, row))
    entries = _by_reason(cells, [row for row, _ in results.done])
    return [f"Undefined (–): {'; '.join(entries)}."] if entries else []


def reading(results: Results, texts: Iterable[str]) -> list[str]:
    """Return how to read what stands in the cells of a table."""
    texts = list(texts)
    bold = "Values in percent; bold: the best at the shown precision."
    if any("–" in text[1:] for text in texts):
        several = len(results.seeds) > 1
        over = f", and over {len(results.seeds)} seeds" if several else "; one seed, so not over trainings"
        bold += (
            " (low–high): 95 % confidence interval over test images (normal ones and each defect type apart) and, at deployable "
            f"thresholds, over the choice of the held-out images{over}. Rates of images: exact (Clopper-Pearson); image AUROC: "
            f"Newcombe's and DeLong's; all others: {results.intervals.resamples:,} resamples, Student's t on the logit, "
            "further towards the image that is most unlike."
        )
    if any("≈" in text for text in texts):
        bold += " ≈: cannot be told from the best, as the interval of the difference on the same resamples holds zero."
    if any("/" in text for text in texts):
        means = "the mean is over these alone and never bold" if results.allow_partial else "no mean is given"
        bold += f" (n/N): only n of N cells (categories × seeds) have a value, {means}."
    return [bold]
