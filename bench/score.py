"""Scoring of maps that any tool saved, by the same suite as the methods of a run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.content import Inspected
from bench.errors import DataError, UsageError
from bench.maps import SCORES, Names, Predicted, Stream, list_maps, read_about, read_map, read_scores, to_original
from bench.metrics import VERSION as METRICS_VERSION
from bench.store import Store
from datasets.base import Item

#: The method of a scored cell, in the manifest and in results.csv.
SCORED = "scored"


@dataclass(frozen=True)
class Source:
    """Where maps come from.

    Attributes
    ----------
    maps : Path
        A folder of maps, or one with a folder for each category.
    categories : list of str
        All categories of the dataset.
    normal_maps : Path or None
        The same for normal images outside the test set; None looks for them under `maps`, by their full names.
    scores : Path or None
        CSV with the columns ``name`` and ``score``; None takes ``scores.csv`` beside the maps where it is there.
    probability : bool or None
        Whether the maps are probabilities; None takes what ``maps.json`` says, else False.
    """

    maps: Path
    categories: list[str]
    normal_maps: Path | None = None
    scores: Path | None = None
    probability: bool | None = None


def score_category(source: Source, found: Inspected, dataset: str, seed: int, store: Store, command: str) -> tuple[str, list[str]]:
    """Evaluate the maps of a category and write the cell.

    Returns
    -------
    key : str
        The cell's key in the store, under the method `SCORED`.
    unused : list of str
        Map files that fit no image.

    Raises
    ------
    DataError
        If a test image has no map, or a file is not what was expected.
    """
    from bench.cell import write_cell
    from bench.provenance import provenance

    category = found.category
    folder = _of_category(source.maps, category.name, source.categories)
    files = list_maps(folder)
    names = Names([item.name for item in category.items], list(files), "map")
    tested = _pair(category.test, names, files, False)
    missing = [item.name for item in category.test if item.name not in tested]
    if missing:
        raise DataError(
            f"Expected a map for each of the {len(category.test)} test images of '{category.name}', but {len(missing)} have "
            f"none under '{folder}', e.g. '{missing[0]}'; name the files like the images."
        )
    normals = [*category.train, *category.validation]
    if source.normal_maps is None:
        given = _pair(normals, names, files, True)
        unused = sorted(set(files) - names.taken)
    else:
        others = list_maps(_of_category(source.normal_maps, category.name, source.categories))
        extra = Names([item.name for item in normals], list(others), "map")
        given = _pair(normals, extra, others, False)
        unused = sorted((set(files) - names.taken) | (set(others) - extra.taken))
    about = read_about(folder)
    probability = bool(about.get("probability")) if source.probability is None else source.probability
    table = source.scores or (folder / SCORES if (folder / SCORES).is_file() else None)
    scores = read_scores(table) if table else None
    test = _predicted(category.test, tested, _scores(scores, category.test, category.items, table, needed=True))
    unseen = [item for item in normals if item.name in given]
    held_out = _predicted(unseen, given, _scores(scores, unseen, category.items, table, needed=False))
    identity = {
        "scored": {
            "maps": _digest({**tested, **given}),
            "scores": scores,
            "probability": probability,
            "dataset": dataset,
            "category": category.name,
            "content": found.content,
            "seed": seed,
        },
        "metrics": METRICS_VERSION,
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]
    record: dict[str, Any] = {
        "identity": identity,
        "method": SCORED,
        "maps": {"folder": str(source.maps.resolve()), "normals": len(unseen), "about": about, "command": command},
        "dataset": dataset,
        "seed": seed,
        "content": found.content,
        "provenance": provenance("cpu"),
    }
    write_cell(store, key, category, record, test, held_out, probability)
    return key, unused


def check_layout(folder: Path, categories: list[str], asked: list[str]) -> None:
    """Raise UsageError if a folder has no folders of categories, and several categories are asked for."""
    if len(asked) > 1 and not any((folder / category).is_dir() for category in categories):
        raise UsageError(
            f"Expected a folder for each category in '{folder}', as {len(asked)} are asked for, but there is none; name the "
            "category of these maps with --category."
        )


def _of_category(folder: Path, category: str, categories: list[str]) -> Path:
    """Return the folder of a category, or the folder itself where it is not divided by categories."""
    own = folder / category
    return own if any((folder / c).is_dir() for c in categories) else folder


def _pair(items: list[Item], names: Names, files: dict[str, Path], whole: bool) -> dict[str, Path]:
    """Return the map file of each item that has one, by the item's name."""
    hits = {item.name: names.find(item.name, whole) for item in items}
    return {item: files[hit] for item, hit in hits.items() if hit is not None}


def _predicted(items: list[Item], files: dict[str, Path], scores: np.ndarray | None) -> Predicted:
    shapes = [(image.shape[0], image.shape[1]) for image in (item.load_image() for item in items)]
    return Predicted(items, shapes, Stream(lambda i: to_original(read_map(files[items[i].name]), shapes[i]), len(items)), scores)


def _scores(
    table: dict[str, float] | None, items: list[Item], known: list[Item], where: Path | None, needed: bool
) -> np.ndarray | None:
    """Return the scores of items as float32, None where none are given."""
    if table is None:
        return None
    names = Names([item.name for item in known], list(table), "score")
    hits = [names.find(item.name) for item in items]
    missing = [item.name for item, hit in zip(items, hits, strict=True) if hit is None]
    if missing and needed:
        raise DataError(f"Expected a score for each test image in '{where}', but '{missing[0]}' has none.")
    if missing:  # of held-out images: the maxima of their maps would be another kind of score
        return np.empty(0, np.float32)
    return np.array([table[str(hit)] for hit in hits], np.float32)


def _digest(files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
