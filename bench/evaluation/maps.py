"""Maps at the size of their images: brought there one at a time, kept as files, and read from files of other tools."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from anoseg_bench.datasets.base import Item
from anoseg_bench.datasets.images import EXTENSIONS as IMAGE_EXTENSIONS
from anoseg_bench.errors import DataError
from anoseg_bench.store.cells import shortened, to_json
from anoseg_bench.store.files import write_atomically, write_by

EXTENSIONS = (".tiff", ".tif", ".npy", ".npz", ".png")
SCORES, ABOUT = "scores.csv", "maps.json"
#: Bytes that a file's name may have.
LONGEST_NAME = 255


def to_original(map_: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a map, float32 (h, w), at the size of its image, (H, W): bilinear, align_corners=False."""
    import torch
    import torch.nn.functional as F

    if map_.shape == shape:
        return map_
    return F.interpolate(torch.from_numpy(map_)[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0].numpy()


@dataclass(frozen=True)
class Stream:
    """Arrays that are made one at a time, each time they are iterated: a set need not fit into memory."""

    make: Callable[[int], np.ndarray]
    number: int

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.make, range(self.number))


@dataclass(frozen=True)
class Predicted:
    """What a method says of some images.

    Attributes
    ----------
    items : sequence of Item
        The images.
    shapes : sequence of tuple of int
        Their sizes (H, W).
    maps : Stream
        float32, at these sizes.
    scores : numpy.ndarray or None
        float32, one per image; None for the maximum of each map.
    other_scores : dict of str to numpy.ndarray
        More image scores by name, for comparison.
    """

    items: Sequence[Item]
    shapes: Sequence[tuple[int, int]]
    maps: Stream
    scores: np.ndarray | None
    other_scores: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def masks(self) -> Stream:
        """The masks of the images, read one at a time."""
        return Stream(lambda i: self.items[i].load_mask(self.shapes[i]), len(self.items))


def map_name(item: str) -> str:
    """Return an item's name as that of its map, without extension; of one too long for a file the start and its hash."""
    *folders, last = item.split("/")
    return "/".join([*folders, shortened(last, LONGEST_NAME - len(".tiff"))])


def write_tiff(path: Path, map_: np.ndarray) -> None:
    """Write a map as float32 TIFF."""
    values = map_.astype(np.float32, copy=False)
    write_by(path, lambda file: tifffile.imwrite(file, values, compression="zlib", predictor=True))


def write_maps(folder: Path, parts: Sequence[Predicted], about: dict[str, Any]) -> None:
    """Keep maps as float32 TIFF ``<item name>.tiff``, the scores in ``scores.csv``, and what they are in ``maps.json``."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", "score"])
    for predicted in parts:
        for i, (item, map_) in enumerate(zip(predicted.items, predicted.maps, strict=True)):
            write_tiff(folder / f"{map_name(item.name)}.tiff", map_)
            score = map_.max() if predicted.scores is None else predicted.scores[i]
            table.writerow([item.name, repr(float(score))])
    write_atomically(folder / SCORES, text.getvalue())
    write_atomically(folder / ABOUT, to_json(about))


def read_map(path: Path) -> np.ndarray:
    """Read a map from a TIFF, PNG, npy or npz file.

    Returns
    -------
    numpy.ndarray
        float32, (H, W). Unsigned whole numbers of 8 and 16 bit are divided by the largest of their type.

    Raises
    ------
    DataError
        If the file cannot be read, or holds something else than one map of such numbers.
    """
    try:
        values = _read(path)
    except (OSError, ValueError, SyntaxError, EOFError, zipfile.BadZipFile, RuntimeError, tifffile.TiffFileError) as error:
        raise DataError(f"Expected a map in '{path}', but it cannot be read ({' '.join(str(error).split())}).") from error
    squeezed = values
    while squeezed.ndim > 2 and 1 in (squeezed.shape[0], squeezed.shape[-1]):
        squeezed = squeezed[0] if squeezed.shape[0] == 1 else squeezed[..., 0]
    if squeezed.ndim != 2 or squeezed.size == 0:
        raise DataError(f"Expected a map (H, W) in '{path}', but got an array {values.shape}; a coloured picture is no map.")
    if squeezed.dtype.kind == "u" and squeezed.dtype.itemsize <= 2:
        return squeezed.astype(np.float32) / np.float32(np.iinfo(squeezed.dtype).max)
    if not np.issubdtype(squeezed.dtype, np.floating):
        raise DataError(f"Expected floats or unsigned numbers of 8 or 16 bit in '{path}', but got {squeezed.dtype}.")
    with np.errstate(over="ignore"):
        result = squeezed.astype(np.float32)
    if not np.isfinite(result).all():
        row, column = np.argwhere(~np.isfinite(result))[0]
        raise DataError(f"Expected finite numbers in '{path}', but row {row}, column {column} has {squeezed[row, column]}.")
    return result


def _read(path: Path) -> np.ndarray:
    kind = path.suffix.lower()
    if kind in (".tif", ".tiff"):
        return tifffile.imread(path)
    if kind == ".png":
        with Image.open(path) as image:
            if image.mode != "L" and not image.mode.startswith("I"):
                raise ValueError(f"a coloured picture is no map, its mode is {image.mode}")
            array = np.asarray(image)
            return array.astype(np.uint16) if image.mode == "I" and array.min() >= 0 and array.max() < 65536 else array
    loaded = np.load(path, allow_pickle=False)
    if kind == ".npy":
        return loaded
    with loaded:
        if len(loaded.files) != 1:
            raise ValueError(f"expected one array, but it holds {', '.join(loaded.files) or 'none'}")
        return loaded[loaded.files[0]]


class NameMatcher:
    """Finds what belongs to an item: what its name ``test/crack/003`` ends (``x/test/crack/003``), or is the end of (``003``).

    Parameters
    ----------
    names : sequence of str
        Names of files, without extension, ``/`` between folders.
    what : str
        For messages: ``"map"``.
    """

    def __init__(self, names: Sequence[str], what: str) -> None:
        self._what = what
        self._whole = {tuple(name.split("/")): name for name in names}
        self._ends: dict[tuple[str, ...], list[str]] = {}
        for parts, name in self._whole.items():
            for n in range(len(parts)):
                self._ends.setdefault(parts[n:], []).append(name)
        self._taken: dict[str, str] = {}

    @property
    def taken(self) -> set[str]:
        """What belongs to an item."""
        return set(self._taken)

    def find(self, item: str, whole: bool = False) -> str | None:
        """Return what belongs to an item, None where nothing does; with `whole` by the full name only.

        Raises
        ------
        DataError
            If several fit, or what fits belongs to another item already.
        """
        parts = tuple(item.split("/"))
        fitting = list(self._ends.get(parts, []))
        if not whole:
            fitting += [self._whole[parts[n:]] for n in range(1, len(parts)) if parts[n:] in self._whole]
        if len(fitting) > 1:
            raise DataError(f"Expected one {self._what} for '{item}', but '{fitting[0]}' and '{fitting[1]}' both fit; remove one.")
        if not fitting:
            return None
        other = self._taken.setdefault(fitting[0], item)
        if other != item:
            raise DataError(
                f"The {self._what} '{fitting[0]}' fits both '{other}' and '{item}'; put it into a folder "
                f"'{'/'.join(parts[:-1])}' below the category's, as '{item}'."
            )
        return fitting[0]


def without_extension(name: str) -> str:
    """Return a name without the extensions of maps and images: ``003.jpg.npy`` and ``003`` are the same."""
    stem = PurePosixPath(name)
    while stem.suffix.lower() in (*EXTENSIONS, *IMAGE_EXTENSIONS):
        stem = stem.with_suffix("")
    return stem.as_posix()


def list_maps(folder: Path) -> dict[str, Path]:
    """Return the map files under a folder by their path without extension.

    Raises
    ------
    DataError
        If two files differ in their extension only.
    """
    files: dict[str, Path] = {}
    for root, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for path in sorted(Path(root) / name for name in names):
            if path.suffix.lower() not in EXTENSIONS or path.name.startswith("."):
                continue
            name = without_extension(path.relative_to(folder).as_posix())
            if name in files:
                raise DataError(f"Expected one map per name, but there are '{files[name]}' and '{path}'; remove one.")
            files[name] = path
    return files


def read_scores(path: Path) -> dict[str, float]:
    """Read image scores from a CSV file with the columns ``name`` and ``score``.

    Raises
    ------
    DataError
        If it has other columns, a score is no finite number, or a name comes twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if not {"name", "score"} <= set(table.fieldnames or ()):
                raise DataError(f"Expected the columns name and score in '{path}', but got {', '.join(table.fieldnames or ())}.")
            rows = [(without_extension(str(row["name"])), str(row["score"])) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Expected image scores in '{path}', but it cannot be read ({error}).") from error
    scores: dict[str, float] = {}
    for name, text in rows:
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not np.isfinite(value) or name in scores:
            raise DataError(f"Expected one finite score per name in '{path}', but '{name}' has '{text}'.")
        scores[name] = value
    return scores


def read_about(folder: Path) -> dict[str, Any]:
    """Return what `write_maps` noted of the maps in a folder, {} where there is no note."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"Expected JSON in '{folder / ABOUT}', but it cannot be read ({error}); delete it.") from error
    if not isinstance(about, dict) or not isinstance(about.get("probability", False), bool):
        raise DataError(f"Expected what --save-maps writes in '{folder / ABOUT}', but it has another form; delete it.")
    return about
