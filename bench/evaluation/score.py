"""Scoring of maps that any tool saved, by the same suite as the methods of a run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anoseg_bench.datasets.base import Category, Item
from anoseg_bench.errors import DataError, UsageError
from anoseg_bench.evaluation.inspection import Inspection
from anoseg_bench.evaluation.maps import (
    EXTENSIONS,
    SCORES,
    Area,
    NameMatcher,
    Predicted,
    Stream,
    has_aspect,
    list_maps,
    map_name,
    narrow,
    read_about,
    read_map,
    read_map_and_kind,
    read_scores,
)
from anoseg_bench.formatting import counted
from anoseg_bench.metrics import VERSION as METRICS_VERSION
from anoseg_bench.store.cells import Store

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
    area : Area or None
        Which part of its image a map covers; None expects maps of their images' aspect ratio.
    """

    maps: Path
    categories: list[str]
    normal_maps: Path | None = None
    scores: Path | None = None
    probability: bool | None = None
    area: Area | None = None

    def check(self, asked: list[str]) -> None:
        """Check that everything is there, and that it is plain which category the maps belong to.

        Raises
        ------
        UsageError
            If it is not.
        """
        for folder in filter(None, (self.maps, self.normal_maps)):
            if not folder.is_dir():
                raise UsageError(f"Expected a folder of maps, but there is none at '{folder}'.")
            if len(asked) > 1 and not self._divided(folder):
                raise UsageError(
                    f"Expected a folder for each category in '{folder}', as {len(asked)} are asked for, but there is none; name "
                    "the category of these maps with --category."
                )
            if folder.resolve().name in set(self.categories) - set(asked):
                raise UsageError(f"Expected maps of {', '.join(asked)}, but '{folder}' bears the name of another category.")
        if self.scores and not self.scores.is_file():
            raise UsageError(f"Expected a CSV file of image scores, but there is none at '{self.scores}'.")

    def _divided(self, folder: Path) -> bool:
        return any((folder / category).is_dir() for category in self.categories)

    def of_category(self, folder: Path, category: str) -> Path:
        """Return the folder of a category, or the folder itself where it is not divided by categories."""
        return folder / category if self._divided(folder) else folder

    def about(self, category: str) -> dict[str, Any]:
        """Return what a run noted of the maps of a category, {} where there is no note."""
        return read_about(self.of_category(self.maps, category))

    def scores_of(self, category: str) -> tuple[Path | None, dict[str, float]]:
        """Return the file of image scores, None where there is none, and its scores of a category."""
        beside = [self.of_category(self.maps, category) / SCORES, self.maps / SCORES]
        path = self.scores or next((file for file in beside if file.is_file()), None)
        if path is None:
            return None, {}
        table = read_scores(path)
        if any(name.split("/")[0] in self.categories for name in table):
            table = {name: score for name, score in table.items() if name.split("/")[0] == category}
        return path, table


@dataclass(frozen=True)
class Scored:
    """A scored cell: its key in the store, and what a user should know of it."""

    key: str
    summary: str
    remarks: list[str]


def score_category(source: Source, inspection: Inspection, dataset: str, seed: int, store: Store, command: str) -> Scored:
    """Evaluate the maps of a category and write the cell, under the method `SCORED`.

    Raises
    ------
    DataError
        If a test image has no map, a file is not what was expected, or the maps are of something else.
    """
    from anoseg_bench.evaluation.cell import write_cell
    from anoseg_bench.store.provenance import provenance
    from anoseg_bench.store.records import Identity, Made, ScoredMaps

    category = inspection.category
    about = source.about(category.name)
    for what, asked in (("dataset", dataset), ("category", category.name), ("seed", seed)):
        if about.get(what, asked) != asked:
            raise DataError(f"Expected maps of the {what} '{asked}', but their maps.json says '{about[what]}'.")
    tested, given, remarks = _find(source, category)
    unseen = [item for item in (*category.train, *category.validation) if item.name in given]
    probability = bool(about.get("probability")) if source.probability is None else source.probability
    table, scores = source.scores_of(category.name)
    kinds: dict[str, Path] = {}
    test = _predicted(category.test, tested, source.area, kinds)
    held_out = _predicted(unseen, given, source.area, kinds)
    remarks += _about_scales(kinds)
    if source.area and source.area.share is not None:
        remarks.append(
            f"maps cover the centre of their images ({source.area.share:g}), what lies outside counts as the lowest value"
        )
    if table:
        held_out, test = _with_scores(held_out, scores), _with_scores(test, scores)
        if test.scores is None:
            raise DataError(f"Expected a score for each test image of '{category.name}' in '{table}', but some have none.")
        if held_out.scores is None:
            held_out = Predicted(held_out.items, held_out.shapes, held_out.maps, np.empty(0))
            remarks.append(f"'{table}' has no scores of the normal images outside the test set: no deployable threshold of images")
    digests, unseen_digests = _digests(tested), _digests(given)
    _refuse_test_maps(digests, unseen_digests, given)
    given_maps = {
        "maps": digests,
        "normals": unseen_digests,
        "scores": scores,
        "probability": probability,
        "dataset": dataset,
        "category": category.name,
        "content": inspection.content,
        "seed": seed,
    }
    if source.area:
        given_maps["area"] = source.area.share
    identity = {"scored": given_maps, "metrics": METRICS_VERSION}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]
    image_scores = f"image scores of {table}" if table else "the largest value of each map as image score"
    made = Made(
        identity=Identity(scored=given_maps, metrics=METRICS_VERSION),
        method=SCORED,
        maps=ScoredMaps(folder=str(source.maps), normals=len(unseen), image_scores=image_scores, about=about, command=command),
        dataset=dataset,
        seed=seed,
        content=inspection.content,
        provenance=provenance("cpu"),
    )
    write_cell(store, key, category, made, test, held_out, probability)
    threshold = (
        f"{len(unseen)} maps of normal images for thresholds" if unseen else "no maps of normal images: no deployable threshold"
    )
    return Scored(key, f"{len(test.items)} maps scored, {image_scores}, {threshold}", remarks)


def _find(source: Source, category: Category) -> tuple[dict[str, Path], dict[str, Path], list[str]]:
    """Return the map files of the test images, those of normal images outside the test set, and what is to be said of others."""
    folder = source.of_category(source.maps, category.name)
    files, others = list_maps(folder)
    names = NameMatcher(list(files), "map")
    tested = _pair(category.test, names, files)
    missing = [item.name for item in category.test if item.name not in tested]
    if missing:
        there = f"{len(files)} map files are there, e.g. '{next(iter(files))}'" if files else f"no {', '.join(EXTENSIONS)} is there"
        raise DataError(
            f"Expected a map for each of the {len(category.test)} test images of '{category.name}' under '{folder}', but "
            f"{len(missing)} have none, e.g. '{missing[0]}'; {there}. Name the files like the images."
        )
    normals = [*category.train, *category.validation]
    if source.normal_maps is None:
        given = _pair(normals, names, files, whole=True)
    else:
        normal_files, left = list_maps(source.of_category(source.normal_maps, category.name))
        others += left
        given = _pair(normals, NameMatcher(list(normal_files), "map"), normal_files)
        if not given:
            raise DataError(
                f"Expected maps of normal images outside the test set in '{source.normal_maps}', named like them (e.g. "
                f"'{normals[0].name}'), but none of its {len(normal_files)} map files fits."
            )
    unused = sorted(set(files) - names.taken)
    remarks = [f"{counted(len(unused), 'map fits', 'maps fit')} no image, e.g. '{unused[0]}'"] if unused else []
    remarks += [f"{counted(len(others), 'file is', 'files are')} no map, e.g. '{others[0]}'"] if others else []
    return tested, given, remarks


def _pair(items: list[Item], names: NameMatcher, files: dict[str, Path], whole: bool = False) -> dict[str, Path]:
    """Return the map file of each item that has one, by the item's name."""
    hits = {item.name: names.find(item.name, whole) or names.find(map_name(item.name), whole) for item in items}
    return {item: files[hit] for item, hit in hits.items() if hit is not None}


def _about_scales(kinds: dict[str, Path]) -> list[str]:
    """Return a note where maps are of 8 and of 16 bit; DataError where some are floats: one threshold cannot be for both."""
    if len(kinds) < 2:
        return []
    named = " and ".join(f"'{path}' ({kind})" for kind, path in kinds.items())
    if "floats" in kinds:
        raise DataError(f"Expected maps on one scale, but there are {named}; save all as floats.")
    return [f"maps are of 8 and of 16 bit, each divided by its type's largest number: {named}"]


def _predicted(items: list[Item], files: dict[str, Path], area: Area | None, kinds: dict[str, Path]) -> Predicted:
    """Return maps at the sizes of their images; the score of an image is the largest value of the map as it was saved.

    `kinds` takes a file for each kind of numbers that the files hold.
    """
    shapes: list[tuple[int, int]] = []
    peaks: list[float] = []
    for item in items:
        height, width = item.load_image().shape[:2]
        map_, kind = read_map_and_kind(files[item.name])
        kinds.setdefault(kind, files[item.name])
        if height != width and map_.shape == (width, height):
            raise DataError(
                f"Expected a map of {height} rows and {width} columns, but '{files[item.name]}' has them the other way round; "
                "transpose it."
            )
        if area is None and not has_aspect((map_.shape[0], map_.shape[1]), (height, width)):
            raise DataError(
                f"Expected a map of the aspect ratio of its image, {width}x{height}, but '{files[item.name]}' is "
                f"{map_.shape[1]}x{map_.shape[0]}; say what it covers: --map-area whole, where the image was squeezed, "
                "or centre, or centre:SHARE, where it was cropped."
            )
        shapes.append((height, width))
        peaks.append(float(map_.max()))
    stream = Stream(lambda i: (area or Area()).place(read_map(files[items[i].name]), shapes[i]), len(items))
    return Predicted(items, shapes, stream, narrow(np.array(peaks)))


def _with_scores(predicted: Predicted, table: dict[str, float]) -> Predicted:
    """Return it with the image scores of a table, None where an image has none."""
    names = NameMatcher(list(table), "score")
    hits = [names.find(item.name) for item in predicted.items]
    own = None if None in hits else narrow(np.array([table[str(hit)] for hit in hits]))
    return Predicted(predicted.items, predicted.shapes, predicted.maps, own)


def _digests(files: dict[str, Path]) -> dict[str, str]:
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def _refuse_test_maps(tested: dict[str, str], unseen: dict[str, str], files: dict[str, Path]) -> None:
    """Raise DataError if a map of an image outside the test set is that of a test image: constant ones may be alike."""
    known = {digest: name for name, digest in tested.items()}
    for name, digest in unseen.items():
        if digest in known and np.ptp(read_map(files[name])) > 0:
            raise DataError(
                f"Expected maps of normal images outside the test set, but '{files[name]}', taken for '{name}', is the map of the "
                f"test image '{known[digest]}'; thresholds must not come from test images."
            )
