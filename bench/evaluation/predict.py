"""Use of a stored model on images without labels: maps, overlays, and decisions at the deployable thresholds."""

from __future__ import annotations

import csv
import functools
import io
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch
from PIL import Image

from anoseg_bench.datasets.images import PLAIN, Picture, Reading, list_images, open_picture, read_image, to_uint8, walk
from anoseg_bench.errors import BenchError, DataError, UsageError
from anoseg_bench.evaluation.ahead import ahead
from anoseg_bench.evaluation.cell import resize, score_of
from anoseg_bench.evaluation.maps import write_tiff
from anoseg_bench.evaluation.tiles import TileMaps, Tiling
from anoseg_bench.formatting import counted
from anoseg_bench.methods import METHODS
from anoseg_bench.methods.base import Method
from anoseg_bench.registry import nearest
from anoseg_bench.store.cells import MODEL, CellResult, Row, Run, slug
from anoseg_bench.store.files import half_written, put_in_place, staged, write_by, write_file
from anoseg_bench.variants import is_stale

COLUMNS = (
    "image",
    "score",
    "image_threshold",
    "defective",
    "pixel_threshold",
    "anomalous_pixels",
    "anomalous_share",
    "map",
    "overlay",
    "model",
)
TABLE, FOLDERS, STAGED = "predictions.csv", ("maps", "overlays"), "predict"
#: How strongly a map covers its image in an overlay, and the colour of the outline (RGB), as in the galleries.
OPACITY, OUTLINE = 0.45, (0, 229, 255)
WHOLE = Tiling()


def choose_row(run: Run, method: str, category: str, seed: int | None) -> Row:
    """Return the row of a run that a user means, by its name in tables or its method; without a seed, the first.

    Raises
    ------
    UsageError
        If there is none, or several variants fit.
    """
    named = [row for row in run.rows if row.variant == method] or [row for row in run.rows if row.method == method]
    if not named:
        raise UsageError(f"The run '{run.path}' has no method '{method}'. {nearest(method, {row.variant for row in run.rows})}")
    if len({row.variant for row in named}) > 1:
        raise UsageError(f"'{method}' fits several variants: {', '.join(sorted({row.variant for row in named}))}; name one.")
    here = [row for row in named if row.category == category]
    if not here:
        raise UsageError(f"The run '{run.path}' has no category '{category}'. {nearest(category, {row.category for row in named})}")
    fitting = [row for row in here if seed is None or row.seed == seed]
    if not fitting:
        raise UsageError(f"The run '{run.path}' has the seeds {sorted(row.seed for row in here)}, not {seed}.")
    return fitting[0]


def load_method(run: Run, row: Row, device: str) -> tuple[Method, CellResult]:
    """Return the trained method of a row, and its cell.

    Raises
    ------
    UsageError
        If its model was not kept.
    BenchError
        If its code has changed so that the model no longer fits.
    """
    result = row.result
    if result is None:
        raise UsageError(f"'{row.title}' of '{run.path}' has no result: {row.error}.")
    if not (result.folder / MODEL).is_file():
        raise UsageError(
            f"'{run.path}' has no model of '{row.title}'; run its command again with --keep-models (and `pack` it with --models): "
            f"{run.info.command} --keep-models"
        )
    trained = result.record.identity.trained or {}
    if (origin := trained.get("origin")) and row.method not in METHODS:
        raise UsageError(f"'{row.method}' comes from a file or module ({origin}); name it with --plugin file.py:Class.")
    cls = METHODS[row.method].load()
    try:
        method = cls(cls.Config(**result.record.config), seed=row.seed, device=device)
        method.load(result.folder / MODEL)
    except (ValueError, KeyError, RuntimeError) as error:
        changed = ", whose code has changed since" if is_stale(row.method, result.record.source) else ""
        reason = " ".join(str(error).split())[:200]
        raise BenchError(f"The model in '{result.folder}' does not fit '{row.method}'{changed} ({reason}).") from error
    return method, result


def find_images(given: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return image files, and what else lies in given folders, which stand for the images in them and below.

    Raises
    ------
    UsageError
        If one is not there, or a folder has no image.
    """
    files: list[Path] = []
    others: list[Path] = []
    for path in given:
        inside = list_images(path) if path.is_dir() else [path]
        others += sorted(set(walk(path)) - set(inside)) if path.is_dir() else []
        if not inside or not path.exists():
            raise UsageError(f"Expected an image or a folder of images at '{path}', but there is none.")
        files += inside
    return list(dict.fromkeys(files)), others


#: An image whose largest value is a smaller share of its type's is nearly black, or has fewer bits than its type.
DARK = 1 / 8


@dataclass(frozen=True)
class PredictedImage:
    """What a model says of one image: its score, and its map by `read`, float32 at the image's size, in `low` to `high`.

    `doubt` is what may be wrong with how the image was read, "" for nothing.
    """

    path: Path
    score: float
    low: float
    high: float
    read: Callable[[], np.ndarray]
    doubt: str = ""


def reading_of(result: CellResult) -> Reading:
    """Return how images must be read to be what the method of a cell was trained on."""
    low, high = result.record.value_range or (None, None)
    return Reading(low, high, result.record.page)


def tiling_of(result: CellResult) -> Tiling:
    """Return how images must be cut to be what the method of a cell was trained on."""
    return Tiling.of(result.record.conditions)


def predict_images(
    method: Method, files: list[Path], reading: Reading = PLAIN, tiling: Tiling = WHOLE
) -> tuple[list[PredictedImage], list[str]]:
    """Return what a method says of image files, one at a time, the next read meanwhile, and why some could not be read."""
    predicted, problems, maps = [], [], TileMaps(tiling)
    for path, image in ahead((path, _read(path, reading, tiling, method.config.input_size)) for path in files):
        if isinstance(image, DataError):
            problems.append(str(image))
            continue
        tiles, shape, doubt = image
        prediction = method.predict(tiles)
        read = functools.partial(maps.whole, len(maps))
        maps.add(prediction.maps.numpy(), shape)
        low, high = (float(end) for end in prediction.maps.aminmax())
        predicted.append(PredictedImage(path, float(score_of(prediction).max()), low, high, read, doubt))
    return predicted, problems


def _read(path: Path, reading: Reading, tiling: Tiling, side: int) -> tuple[torch.Tensor, tuple[int, int], str] | DataError:
    """Return the tiles of an image, resized, its size, and what is doubtful in how it was read, or why it cannot be read."""
    try:
        picture = open_picture(path, reading.page)
        image = to_uint8(picture, path, reading)
    except DataError as error:
        return error
    tiles = torch.stack([resize(tile, side) for tile in tiling.crops(image)])
    return tiles, (image.shape[0], image.shape[1]), _doubt(picture, reading)


def _doubt(picture: Picture, reading: Reading) -> str:
    """Return what is doubtful where more than 8 bits are read by the range of their type, as no training image had so many."""
    if reading.high is not None or not picture.is_wide or picture.full is None:
        return ""
    largest = float(picture.values.max())
    if largest > DARK * picture.full:
        return ""
    return f"holds values up to {largest:g} of {picture.full:g}, so the model sees it nearly black; bring it to 8 bits first"


def overlay(image: np.ndarray, map_: np.ndarray, low: float, high: float, threshold: float) -> np.ndarray:
    """Return an image (H, W, 3) under its map, with the outline of what reaches the threshold, uint8 (H, W, 3)."""
    scaled = np.clip((map_ - low) / max(high - low, 1e-12), 0, 1)
    colours = matplotlib.colormaps["magma"](scaled)[..., :3] * 255
    cover = (OPACITY + 0.4 * scaled)[..., None] * (scaled > 0.02)[..., None]
    mixed = np.ascontiguousarray((image + cover * (colours - image)).round().astype(np.uint8))
    if math.isfinite(threshold):
        marked = (map_ >= threshold).astype(np.uint8)
        outlines, _ = cv2.findContours(marked, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(mixed, outlines, -1, OUTLINE, max(1, round(max(image.shape[:2]) / 400)))
    return mixed


@dataclass(frozen=True)
class Earlier:
    """What earlier commands wrote into a folder of predictions, by their tables.

    Attributes
    ----------
    files : frozenset of Path
        The maps and overlays, from the folder.
    summary : str
        In words, of how many images and by which models; "" where there is none.
    """

    files: frozenset[Path]
    summary: str


def earlier_predictions(out: Path) -> Earlier:
    """Return what earlier commands, some of which may have been killed at work, wrote into a folder.

    Raises
    ------
    UsageError
        If the folder is a file, or its ``predictions.csv`` is not of this program.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"Expected a folder for the predictions, but '{out}' is a file; give another --out.")
    rows = _rows(out / TABLE)
    killed = [row for left in half_written(out, STAGED) for row in _rows(left / TABLE)]
    files = [Path(row[kind]) for row in (*rows, *killed) for kind in ("map", "overlay") if row.get(kind)]
    own = frozenset(file for file in files if len(file.parts) == 2 and file.parts[0] in FOLDERS and file.name != "..")
    models = dict.fromkeys(row.get("model") or "an unknown model" for row in rows)
    summary = f"the predictions of {counted(len(rows), 'image')} by {', '.join(models)}" if rows else ""
    return Earlier(own, summary or ("what a command that was stopped had written" if own else ""))


def _rows(table: Path) -> list[dict[str, str]]:
    """Return the rows of a table of predictions, [] where there is none."""
    try:
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if not set(COLUMNS[:-1]) <= set(reader.fieldnames or ()):
                raise UsageError(f"'{table}' is no table that this program wrote; give another --out.")
            return list(reader)
    except FileNotFoundError:
        return []
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"'{table}' is no table that this program wrote ({error}); give another --out.") from error


def write_predictions(
    predicted: list[PredictedImage], method: Method, result: CellResult, out: Path, model: str, earlier: Earlier
) -> Path:
    """Write ``maps/*.tiff``, ``overlays/*.png`` and ``predictions.csv`` in place of what an earlier command wrote there.

    They are written aside and put in place together; files that are not of this program stay.

    Parameters
    ----------
    model : str
        What predicted, for the table.

    Returns
    -------
    Path
        The table.
    """
    pixel, image_level = result.value("threshold_deployable"), result.value("image_threshold_deployable")
    low, high = 0.0, 1.0
    if not method.probability and predicted:
        low = min(d.low for d in predicted)
        high = max([d.high for d in predicted] + [pixel] * math.isfinite(pixel))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    there = {path.relative_to(out) for folder in FOLDERS for path in (out / folder).glob("*")}
    taken = {path.stem.casefold() for path in there - earlier.files}  # of files that are not ours
    with staged(out, STAGED) as aside:
        for d in predicted:
            stem = slug(d.path.stem)
            numbered = (f"{stem}-{i}" for i in itertools.count(2))
            name = next(n for n in itertools.chain([stem], numbered) if n.casefold() not in taken)
            taken.add(name.casefold())
            map_ = d.read()
            write_tiff(aside / "maps" / f"{name}.tiff", map_)
            shown = Image.fromarray(overlay(read_image(d.path, reading_of(result)).astype(np.float32), map_, low, high, pixel))
            write_by(aside / "overlays" / f"{name}.png", lambda file, shown=shown: shown.save(file, "PNG"))  # type: ignore[misc]
            marked = int((map_ >= pixel).sum()) if math.isfinite(pixel) else None
            defective = "" if not math.isfinite(image_level) else "yes" if d.score >= image_level else "no"
            table.writerow(
                [
                    d.path,
                    repr(d.score),
                    "" if math.isnan(image_level) else repr(image_level),
                    defective,
                    "" if math.isnan(pixel) else repr(pixel),
                    "" if marked is None else marked,
                    "" if marked is None else f"{marked / map_.size:.6f}",
                    f"maps/{name}.tiff",
                    f"overlays/{name}.png",
                    model,
                ]
            )
        write_file(aside / TABLE, text.getvalue())
        put_in_place(aside, out, [*(out / file for file in sorted(earlier.files)), out / TABLE])
    return out / TABLE
