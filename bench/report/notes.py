"""The footnotes of tables: how the numbers came about, and why some are missing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from bench.metrics.suite import METRICS
from bench.report.frame import Results, plain

FAILURES_SHOWN = 8
ON_THRESHOLD_AXIS = {"iou_mean", "iou_0.5"}


def _where(results: Results, cells: Iterable[tuple[str, str]]) -> str:
    """Return (variant, category) pairs as text: ``a, b on bottle``; the categories only where not all are meant."""
    categories = defaultdict(set)
    for variant, category in cells:
        categories[variant].add(category)
    variants = defaultdict(list)
    for variant in (v for v in results.variants if v in categories):
        variants[tuple(c for c in results.categories if c in categories[variant])].append(plain(variant))
    return "; ".join(
        ", ".join(names) + ("" if len(where) == len(results.categories) else " on " + ", ".join(map(plain, where)))
        for where, names in variants.items()
    )


def _by_reason(results: Results, cells: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return ``where: reason`` of (reason, variant, category), each reason once."""
    found = defaultdict(list)
    for reason, variant, category in cells:
        found[reason].append((variant, category))
    return [f"{_where(results, pairs)}: {reason}" for reason, pairs in found.items()]


def protocol(results: Results) -> str:
    """Return how the numbers are made."""
    holdout = results.run.info.get("holdout")
    held_out = f" {100 * holdout:.3g} % of the normal training images are held out for deployable thresholds." if holdout else ""
    return (
        "Protocol: pixels are pooled within a category, then categories are averaged without weights; a pixel is positive "
        f"where score ≥ threshold; oracle thresholds are the best on the test set, an upper bound.{held_out}"
    )


def setup(results: Results) -> str:
    """Return dataset, profile, image sizes, seeds and commits."""
    info = results.run.info
    profile = info.get("profile", "unknown")
    records = [(row.variant, row.result.record) for row in results.done if row.result]
    sizes = [(str(record.get("config", {}).get("image_size", "unknown")), variant, "") for variant, record in records]
    commits = dict.fromkeys(
        f"{p.get('commit')}{' with uncommitted changes' if p.get('dirty') else ''}"
        for p in (record.get("provenance") or {} for _, record in records)
        if p.get("commit")
    )
    by_size = defaultdict(list)
    for size, variant, _ in sizes:
        by_size[size] += [plain(variant)] * (plain(variant) not in by_size[size])
    shown = list(by_size) if len(by_size) == 1 else [f"{size} ({', '.join(names)})" for size, names in by_size.items()]
    parts = [
        f"dataset {plain(info.get('dataset', 'unknown'))}"
        + (" (the embedded synthetic images, not a public benchmark)" if info.get("synthetic") else ""),
        f"profile {profile}" + ("" if profile == "full" else " (only full is meant for publication)"),
        *([f"image size {', '.join(shown)}"] if shown else []),
        f"{'seed' if len(results.seeds) == 1 else 'seeds'} {', '.join(map(str, results.seeds))}",
        f"commit {', '.join(commits) or info.get('commit') or 'unknown'}",
    ]
    return f"Setup: {'; '.join(parts)}."


def deviations(results: Results) -> list[str]:
    """Return where the training is shorter than published."""
    cells = [
        (plain(row.result.record["deviations"]), row.variant, row.category)
        for row in results.done
        if row.result and row.result.record.get("deviations")
    ]
    return [f"Training differs from the published: {'; '.join(_by_reason(results, cells))}."] if cells else []


def scaled(results: Results) -> list[str]:
    """Return whose threshold axis is scaled."""
    names = ", ".join(map(plain, results.scaled))
    return [f"Threshold axis min-max scaled on the test set, as in the literature: {names}."] if names else []


def failures(results: Results) -> list[str]:
    """Return the failed cells with their errors."""
    missing = [(plain(row.error)[:200] or "no reason", row.variant, row.category) for row in results.run.rows if not row.result]
    entries = _by_reason(results, missing)
    more = [f"and {len(entries) - FAILURES_SHOWN} more errors, see run.json"] if len(entries) > FAILURES_SHOWN else []
    return [f"Failed: {'; '.join(entries[:FAILURES_SHOWN] + more)}."] if entries else []


def undefined(results: Results, names: Sequence[str]) -> list[str]:
    """Return why numbers of finished cells are undefined."""
    cells = []
    for row in results.done:
        for name in names:
            if row.result and math.isnan(row.result.value(name)):
                reason = plain(row.result.record.get("reasons", {}).get(name, "no reason given"))
                cells.append((f"{METRICS[name].title}: {reason}" if len(names) > 1 else reason, row.variant, row.category))
    return [f"Undefined (–): {'; '.join(_by_reason(results, cells))}."] if cells else []


def reading(results: Results, texts: Iterable[str]) -> list[str]:
    """Return how to read what stands in the cells of a table."""
    texts = list(texts)
    bold = "Values in percent; bold: the best at the shown precision."
    if any("±" in text for text in texts):
        bold += f" ±: sample standard deviation over {len(results.seeds)} seeds."
    if any("/" in text for text in texts):
        kept = "the mean is over these alone and never bold" if results.allow_partial else "no mean is given"
        bold += f" (n/N): only n of N cells (categories × seeds) have a value, {kept}."
    return [bold]
