"""The page of a run: one HTML file that needs no network, made from the stored cells alone.

Masks are drawn by the browser, at whatever threshold its reader chooses: a map travels as a lossless picture whose channels say
at how many of the kept thresholds of each axis a pixel is positive. The numbers beside are made of the counts that the cells keep
at these very thresholds, so they are those of the metric suite.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from anoseg_bench.datasets.base import GOOD
from anoseg_bench.formatting import counted, one_line, without_folders
from anoseg_bench.metrics import RATE_CURVE, THRESHOLDS, VALUE_GRID, metric
from anoseg_bench.metrics.thresholds import ALLOWED_ALARMS
from anoseg_bench.report import notes
from anoseg_bench.report.cache import PAGE
from anoseg_bench.report.compare import test_over_categories
from anoseg_bench.report.data import data_tables, finding_line, said_of_data
from anoseg_bench.report.experiments import ExperimentReport
from anoseg_bench.report.frame import GRIDS, opened, timing_of
from anoseg_bench.report.gallery import Column, choose, read_columns
from anoseg_bench.report.latency import latency_table
from anoseg_bench.report.plots import COLOURS
from anoseg_bench.report.published import beside, mean_text, sources
from anoseg_bench.report.published_values import Published
from anoseg_bench.report.render import Table
from anoseg_bench.report.results import Number, Results
from anoseg_bench.report.static import decisions_table, experiment_section, protocol_list, verdict_cards, without_scripts
from anoseg_bench.report.tables import MAIN, SUMMARY
from anoseg_bench.report.verdict import verdicts_of
from anoseg_bench.report.wins import wins
from anoseg_bench.store.cells import CellResult
from anoseg_bench.store.files import write_file
from anoseg_bench.store.records import DataReport

HERE = Path(__file__).parent
#: Bytes that the pictures of a category may take in the page, and all of its data; what stands there without scripts comes atop.
CATEGORY_BYTES, DATA_BYTES = 1_100_000, 14_200_000
#: Longest side of pictures, px, and the quality of those of images.
SIDE, QUALITY = 144, 82
#: Points of a training curve.
CURVE_POINTS = 60
AXES = {"value": VALUE_GRID, "rate": RATE_CURVE}
DEFECT_METRICS = ("pixel_auroc", "aupro_0.3", "image_auroc", "image_recall_deployable", "recall_deployable")
#: The metrics by which methods are held against each other, beside the main ones.
WINS_TOO = ("image_recall_deployable", "recall_deployable")
#: What happens at a threshold: name (of the evaluation, with ``_oracle`` or ``_deployable`` behind it), heading, meaning.
DECISIONS = [
    {"name": name, "title": title, "about": about}
    for name, title, about in [
        ("image_threshold", "image threshold", "in units of the image score: an image that reaches it is called defective"),
        ("image_recall", "detection rate", "defective images that reach the image threshold"),
        ("image_fpr", "false alarms", "normal images that reach the image threshold"),
        ("image_precision", "precision of images", "of the images that reach it, those that are defective"),
        ("threshold", "pixel threshold", "in units of the map: a pixel that reaches it is marked"),
        ("iou", "IoU", "of the marked pixels with the defective ones"),
        ("recall", "recall of pixels", "defective pixels that are marked"),
        ("precision", "precision of pixels", "of the marked pixels, those that are defective"),
        ("normal_fpr", "marked normal pixels", "pixels of normal images that are marked"),
    ]
]
#: Numbers at a threshold that go beside its mark.
AT_MARK = ("iou", "f1", "precision", "recall", "fpr")


def write_page(
    results: Results,
    sentences: Sequence[str],
    published: Sequence[str] = (),
    folder: Path | None = None,
    experiment: ExperimentReport | None = None,
) -> Path:
    """Write the page of a run into its folder, or into another one, and return its path.

    Parameters
    ----------
    sentences : sequence of str
        What the run says in words.
    published : sequence of str
        Published methods whose numbers stand below the run's.
    experiment : ExperimentReport or None
        What the run's experiment says; its figure lies in ``plots`` of the folder.
    """
    folder = folder or results.run.path
    script = "".join(path.read_text(encoding="utf-8") for path in sorted(HERE.glob("page.*.js")))
    style = (HERE / "page.css").read_text(encoding="utf-8")
    shown = page_data(results, published)
    own = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    info = results.run.info
    where = one_line(results.categories[0]) if len(results.categories) == 1 else f"{len(results.categories)} categories"
    size = f"{counted(len(results.variants), 'method')}, {where}"
    title = f"{one_line(info.dataset)}: {size}"
    page = Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        policy=f"default-src 'none'; img-src data: blob:; script-src 'sha256-{own[0]}'; style-src 'sha256-{own[1]}'",
        title=html.escape(title),
        setup=html.escape(notes.setup(results)),
        sentences="\n".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences),
        style=style,
        script=script,
        experiment_link=' <a href="#experiment">The experiment</a>' if experiment else "",
        experiment=experiment_section(results, experiment, folder / "plots"),
        verdicts=verdict_cards(results),
        asked=decisions_table(results),
        protocol_list=protocol_list(results),
        static=without_scripts(shown),
        data=_json(shown).replace("<", "\\u003c"),
    )
    return write_file(folder / PAGE, page)


def page_data(results: Results, published: Sequence[str] = ()) -> dict[str, Any]:
    """Return all that the page's script shows, ready for JSON."""
    everything = list(range(len(results.categories)))
    several = [("", everything)] if len(everything) != 1 else []
    summary = [name for name in results.metrics if name in SUMMARY]
    beside_them = {name: beside(results, name, published) for name in summary}
    shown: dict[str, Any] = {
        "variants": results.titles,
        "scaled": [variant in results.scaled for variant in results.variants],
        "colours": COLOURS,
        "heat": _colours("magma", 64),
        "diverging": _colours("RdYlBu_r", 65),
        "axes": {name: grid for name, grid in AXES.items()} | {name: GRIDS[name] for name in ("roc", "pro", "precision")},
        "metrics": [{"name": n, "title": metric(n).title, "definition": metric(n).definition} for n in summary],
        "decisions": DECISIONS,
        "asked": ALLOWED_ALARMS,
        "overview": [
            {
                "category": one_line(name) if name else "",
                "numbers": {m: _numbers(results.numbers(m, members)) for m in summary},
                "decisions": {which: _decisions(results, members, which) for which in THRESHOLDS},
                "tested": np.array([results.tested(results.categories[i]) for i in members]).reshape(-1, 2).sum(axis=0),
                "published": _published(beside_them, [results.categories[i] for i in members]),
            }
            for name, members in [*several, *((c, [i]) for i, c in enumerate(results.categories))]
        ],
        "notes": [
            *notes.scaled(results),
            *notes.origin(results),
            *notes.deviations(results),
            *notes.pretrained(results),
            *notes.conditions(results),
            *notes.undefined(results, summary),
            *notes.failures(results),
            *dict.fromkeys(note for columns in beside_them.values() for note in sources(columns)),
        ],
        "images": _of_images(results.run.info.data),
        "defect_metrics": [{"name": n, "title": metric(n).title} for n in DEFECT_METRICS],
        "wins": _wins(results),
        "ranks": _ranks(results),
        "costs": _costs(results),
        "latency": _table(latency_table(results, results.latencies)) if results.latencies else None,
        "categories": [_category(results, c) for c in everything],
        "cells": _provenance(results),
        "good": GOOD,
        "partial": results.allow_partial,
        "seeds": results.seeds,
    }
    left = DATA_BYTES - len(_json(shown).encode())
    for name, category in zip(results.categories, shown["categories"], strict=True):
        category["images"] = _images(results, results.shown(name)[1], min(CATEGORY_BYTES, left // len(everything)))
    return shown


def _of_images(report: DataReport | None) -> dict[str, Any] | None:
    """Return what is known of the images: tables, findings, what is said of them."""
    if report is None:
        return None
    tables = data_tables(report)
    of_counts = tables[0].notes if tables else said_of_data(report)
    findings = [
        {"text": finding_line(finding), "advice": one_line(finding.advice), "wrong": finding.wrong} for finding in report.findings
    ]
    own = {"tables": [_table(table) for table in tables], "findings": findings}
    return own | {"notes": of_counts, "said": report.note.text if report.note else ""}


def _table(table: Table) -> dict[str, Any]:
    rows = [[{"text": cell.text, "bold": cell.bold} for cell in line.cells] for line in table.lines]
    return {"title": table.title, "header": table.header, "rows": rows, "notes": table.notes}


def _json(value: Any) -> str:
    return json.dumps(_clean(value), ensure_ascii=False, separators=(",", ":"))


def _clean(value: Any) -> Any:
    """Return a value as plain JSON: arrays as lists, numbers with what digits they need, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _clean(inside) for key, inside in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_clean(inside) for inside in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return (int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.9g}")) if math.isfinite(value) else None
    return value


def _colours(name: str, number: int) -> list[str]:
    """Return the colours of a scale, from low to high."""
    return [matplotlib.colors.to_hex(colour) for colour in matplotlib.colormaps[name](np.linspace(0, 1, number))]


def _numbers(numbers: Sequence[Number]) -> list[dict[str, Any]]:
    return [{"mean": n.mean, "low": n.low, "high": n.high, "tie": n.tie, "n": n.n, "total": n.total} for n in numbers]


def _decisions(results: Results, members: list[int], which: str) -> dict[str, Any]:
    """Return what happens at a threshold; the threshold itself is one of a category."""
    names = [d["name"] for d in DECISIONS if len(members) == 1 or not d["name"].endswith("threshold")]
    return {name: _numbers(results.numbers(f"{name}_{which}", members)) for name in names}


def _published(beside_them: dict[str, dict[str, dict[str, Published]]], categories: list[str]) -> list[dict[str, Any]]:
    """Return what is published of the metrics on some categories, by method, as text."""
    methods = dict.fromkeys(method for columns in beside_them.values() for method in columns)
    return [
        {
            "name": one_line(method),
            "texts": {metric: mean_text(c[method], categories) for metric, c in beside_them.items() if method in c},
        }
        for method in methods
    ]


def _wins(results: Results) -> list[dict[str, Any]]:
    """Return the comparisons by metric and place; the ends of differences in tenths of a percent, null where undefined."""
    names = [name for name in (*MAIN, *WINS_TOO) if name in results.metrics or name in WINS_TOO]
    return [
        {
            "name": of.metric,
            "title": metric(of.metric).title,
            "by_defect": metric(of.metric).by_defect,
            "outcomes": of.outcomes,
            "differences": np.round(1000 * of.differences).reshape(len(of.places), 2 * of.differences.shape[1]),
        }
        for of in wins(results, names)
    ]


def _ranks(results: Results) -> list[dict[str, Any]]:
    """Return the average ranks over categories of each variant by metric, null for those that lack a category."""
    views = []
    for name in MAIN:
        test = test_over_categories(results.metrics[name].mean(axis=2))
        if len(test.variants) > 1:
            ranks = dict(zip(test.variants, test.ranks, strict=True))
            views.append({"title": metric(name).title, "ranks": [ranks.get(v) for v in range(len(results.variants))]})
    return views


def _costs(results: Results) -> list[dict[str, Any]]:
    """Return measured latencies of single images, then times, speed and memory of each variant: means over its cells."""
    views = []
    runtimes: dict[str, dict[str, float]] = {}
    for latency in results.latencies.of_single_images if results.latencies else ():
        of = runtimes.setdefault(latency.runtime, {})
        of[latency.variant] = min(latency.median_ms, of.get(latency.variant, math.inf))
    for runtime, times in runtimes.items():
        title = f"latency from picture to decision, {runtime} (ms)"
        views.append({"title": title, "values": [times.get(variant) for variant in results.variants]})
    for title, costs in results.costs.items():
        means = [float(np.nanmean(block)) if np.isfinite(block).any() else math.nan for block in costs]
        if np.isfinite(means).any():
            views.append({"title": title, "values": means})
    return views


def _category(results: Results, number: int) -> dict[str, Any]:
    name = results.categories[number]
    view: dict[str, Any] = {"name": one_line(name), "defects": _defects(results, number), "cells": [], "images": [], "curves": {}}
    best = verdicts_of(results, number)[0].best
    view["deploy"] = None if best is None else best.variant
    for curve, block in results.curves.items():
        seeds = [block[v, number] for v in range(len(results.variants))]
        view["curves"][curve] = [np.round(b.mean(axis=0), 4) if np.isfinite(b).all() else None for b in seeds]
    seed, cells = results.shown(name)
    if any(cells.values()):
        items = next(cell.record.items for cell in cells.values() if cell)
        view |= {"seed": seed, "names": [one_line(n) for n, _ in items], "kinds": [one_line(d) for _, d in items]}
        view["cells"] = [_cell(cell, items) if cell else None for cell in cells.values()]
    return view


def _defects(results: Results, number: int) -> list[dict[str, Any]]:
    """Return the numbers of each defect type of a category."""
    return [
        {
            "name": one_line(name),
            "images": images,
            "numbers": {m: _numbers(results.numbers(m, [number], name)) for m in DEFECT_METRICS},
        }
        for name, images in results.defects(results.categories[number]).items()
    ]


def _cell(cell: CellResult, items: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return a cell's counts at the kept thresholds of both axes, its own thresholds, image scores and training curve."""
    record = cell.record
    view: dict[str, Any] = {"axes": {}, "marks": {}, "training": _thinned(record.training_curve), "scores": _scores(cell, items)}
    with opened(cell) as arrays:
        if "positives" not in arrays:
            return view
        normal = arrays["positives"] == 0
        view |= {"positives": arrays["positives"].sum(), "negatives": arrays["negatives"].sum(), "good": normal.sum()}
        ends = arrays["thresholds_value"][[0, -1]] if "thresholds_value" in arrays else np.full(2, math.nan)
        for axis, grid in AXES.items():
            if f"tp_{axis}" not in arrays:
                continue
            tp, fp = (arrays[f"{kind}_{axis}"][:, : len(grid)] for kind in ("tp", "fp"))
            view["axes"][axis] = {
                "t": arrays[f"thresholds_{axis}"][: len(grid)],
                "tp": tp.sum(axis=0, dtype=np.int64),
                "fp": fp.sum(axis=0, dtype=np.int64),
                "alarms": (fp[normal] > 0).sum(axis=0),
            }
    for which in ("oracle", "deployable"):
        threshold = cell.value(f"threshold_{which}")
        if not math.isfinite(threshold):
            continue
        at = {
            "value": (threshold - ends[0]) / (ends[1] - ends[0]) if ends[1] > ends[0] else math.nan,
            "rate": cell.value(f"normal_fpr_{which}"),
        }
        view["marks"][which] = {"t": threshold, "at": at} | {n: cell.value(f"{n}_{which}") for n in AT_MARK}
    return view


def _scores(cell: CellResult, items: Sequence[Sequence[str]]) -> dict[str, Any] | None:
    """Return a cell's image scores; None where it has none of these images.

    Scores and image thresholds are ranks among `levels`, so that which images reach which threshold is exact whatever the digits;
    those of held-out images are the rank of the highest level that they reach, behind their own value.
    """
    with opened(cell) as arrays:
        if "score" not in arrays or len(arrays["score"]) != len(items) or cell.record.items != items:
            return None
        scores = arrays["score"].astype(np.float64)
        held_out = arrays["held_out_score"].astype(np.float64) if "held_out_score" in arrays else np.empty(0)
    own = {which: cell.value(f"image_threshold_{which}") for which in ("deployable", "oracle")}
    own = {which: threshold for which, threshold in own.items() if math.isfinite(threshold)}
    levels = np.unique(np.concatenate([scores, [*own.values()]]))
    return {
        "levels": levels,
        "rank": np.searchsorted(levels, scores),
        "marks": {which: np.searchsorted(levels, threshold) for which, threshold in own.items()},
        "held_out": [[float(f"{s:.5g}"), k - 1] for s, k in zip(held_out, np.searchsorted(levels, held_out, "right"), strict=True)],
    }


def _thinned(curve: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return about `CURVE_POINTS` points of a training curve, each the mean of its neighbours."""
    if not curve:
        return []
    parts = np.array_split(np.array(curve, float), min(len(curve), CURVE_POINTS))
    return [[float(part[:, 0].mean()), float(f"{part[:, 1].mean():.4g}")] for part in parts]


# --- pictures -----------------------------------------------------------------------------------------------------------


def _images(results: Results, cells: Mapping[str, CellResult | None], room: int) -> list[dict[str, Any]]:
    """Return test images with the maps of all variants: examples and worst cases first, then what fits into the room."""
    record = next((cell.record for cell in cells.values() if cell), None)
    if record is None or not (path := results.run.store.previews(record.content)).is_file():
        return []
    items = record.items
    columns = read_columns(results, cells.values(), items)
    thresholds = [_thresholds(cell) for cell in cells.values()]
    order = [*(chosen := choose(items, columns)), *_interleaved(items, chosen)]
    views: list[dict[str, Any]] = []
    with np.load(path, allow_pickle=False) as previews:
        for i in order:
            if f"image/{i}" not in previews:
                continue
            picture = _picture(i, items[i], previews, columns, thresholds)
            room -= len(json.dumps(picture["pictures"]))
            if room < 0 and views:
                break
            views.append(picture)
    return views


def _interleaved(items: Sequence[Sequence[str]], left_out: Mapping[int, Any]) -> list[int]:
    """Return the images that are left, one of each defect type in turn."""
    turns: dict[str, int] = {}
    keyed = []
    for i, (_, defect) in enumerate(items):
        if i not in left_out:
            turns[defect] = turns.get(defect, 0) + 1
            keyed.append((turns[defect], i))
    return [i for _, i in sorted(keyed)]


def _thresholds(cell: CellResult | None) -> dict[str, np.ndarray]:
    """Return a cell's thresholds: those of both axes, ascending, and its own two."""
    if cell is None:
        return {}
    own = np.array([cell.value(f"threshold_{which}") for which in ("oracle", "deployable")], np.float32)
    with opened(cell) as arrays:
        thresholds = {axis: arrays[f"thresholds_{axis}"] for axis in AXES if f"thresholds_{axis}" in arrays}
    if "rate" in thresholds:
        thresholds["rate"] = thresholds["rate"][: len(RATE_CURVE)][::-1]
    return {name: np.nan_to_num(t, nan=np.inf, posinf=np.inf).astype(np.float32) for name, t in thresholds.items()} | {"own": own}


def _picture(
    i: int, item: Sequence[str], previews: Mapping[str, np.ndarray], columns: Sequence[Column], thresholds: Sequence[dict]
) -> dict[str, Any]:
    image = _reduced(previews[f"image/{i}"])
    size = image.size
    maps = [
        _lossless(_reduced_map(column.maps[i], size), of) if i in column.maps else None
        for column, of in zip(columns, thresholds, strict=True)
    ]
    mask = Image.fromarray(previews[f"mask/{i}"]).resize(size, Image.Resampling.BOX).point(lambda v: 255 * (v > 127))
    return {
        "index": i,
        "name": one_line(item[0]),
        "defect": one_line(item[1]),
        "iou": {
            "oracle": [_of_image(c.iou, i) for c in columns],
            "deployable": [_of_image(c.iou_deployable, i) for c in columns],
        },
        "score": [_of_image(c.score, i) for c in columns],
        "pictures": {"image": _uri(image, "JPEG", quality=QUALITY), "mask": _uri(mask, "PNG", optimize=True), "maps": maps},
    }


def _of_image(values: np.ndarray, i: int) -> float:
    return float(values[i]) if i < len(values) else math.nan


def _reduced(array: np.ndarray) -> Image.Image:
    image = Image.fromarray(array)
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return image


def _reduced_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BOX))


def _lossless(values: np.ndarray, thresholds: Mapping[str, np.ndarray]) -> str:
    """Return a map as a picture: how many thresholds of each axis its pixels reach, and which of the cell's own."""
    levels = np.zeros((*values.shape, 3), np.uint8)
    for channel, axis in enumerate(AXES):
        if axis in thresholds:
            levels[..., channel] = np.searchsorted(thresholds[axis], values, side="right")
    oracle, deployable = thresholds["own"]
    levels[..., 2] = 64 * (values >= oracle) + 128 * (values >= deployable)
    return _uri(Image.fromarray(levels), "WEBP", lossless=True, quality=100, method=4)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


# --- where everything comes from ----------------------------------------------------------------------------------------


def _provenance(results: Results) -> list[dict[str, Any]]:
    """Return of every cell how it came about, or why it is missing."""
    lines = []
    for row in results.run.rows:
        entry: dict[str, Any] = {"variant": one_line(row.variant), "category": one_line(row.category), "seed": row.seed}
        if row.result is None:
            lines.append(entry | {"status": row.status, "error": one_line(row.error)})
            continue
        record = row.result.record
        lines.append(
            entry
            | {
                "status": "done",
                "commit": record.provenance.revision,
                "device": one_line(record.provenance.device_name),
                "threads": record.provenance.threads,
                "concurrency": record.provenance.concurrency,
                "train_s": timing_of(row.result, "train_s"),
                "images": record.images.model_dump(),
                "content": record.content,
                "config": json.dumps(without_folders(record.config) | record.conditions, sort_keys=True),
                "versions": ", ".join(f"{name} {version}" for name, version in record.provenance.versions.items()),
                "maps": one_line(record.maps.folder if record.maps else ""),
            }
        )
    return lines
