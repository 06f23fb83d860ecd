"""Maps at the size of their images: brought there one at a time, kept as files, and read from files of other tools."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
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
from anoseg_bench.datasets.images import walk
from anoseg_bench.errors import DataError
from anoseg_bench.store.cells import shortened, to_json
from anoseg_bench.store.files import write_atomically, write_by

EXTENSIONS = (".tiff", ".tif", ".npy", ".npz", ".png")
SCORES, ABOUT = "scores.csv", "maps.json"
#: As many extensions as a name may have too many: ``003.jpg.png`` has two.
_EXTENSIONS_AT_MOST = 3
#: Bytes that a file's name may have.
LONGEST_NAME = 255


def to_original(map_: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a map (h, w) of floats at the size of its image, (H, W): bilinear, align_corners=False.

    What is even stays even: computed in float64 and rounded to the map's type once, equal neighbours give their own value.
    """
    import torch
    import torch.nn.functional as F

    if map_.shape == shape:
        return map_
    wide = torch.from_numpy(np.asarray(map_, np.float64))[None, None]
    resized = F.interpolate(wide, size=shape, mode="bilinear", align_corners=False)[0, 0].numpy()
    return resized.clip(map_.min(), map_.max()).astype(map_.dtype, copy=False)


@dataclass(frozen=True)
class Area:
    """The part of its image that a map covers: `share` of the sides of the largest centred one of the map's aspect ratio.

    Attributes
    ----------
    share : float or None
        In (0, 1]; None for the whole image, its aspect ratio given up.
    """

    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> Area:
        """Return the area of ``whole``, ``centre`` or ``centre:SHARE``; ValueError if it is none of these."""
        kind, _, share = text.partition(":")
        area = cls(float(share or 1)) if kind == "centre" else cls()
        if kind not in ("whole", "centre") or (kind == "whole" and share) or not (area.share is None or 0 < area.share <= 1):
            raise ValueError("expected whole, centre or centre:SHARE with a share above 0, at most 1")
        return area

    def place(self, map_: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Return a map at the size (H, W) of its image; what it does not cover has its lowest value."""
        if self.share is None:
            return to_original(map_, shape)
        scale = self.share * min(shape[0] / map_.shape[0], shape[1] / map_.shape[1])
        height, width = (max(1, round(side * scale)) for side in map_.shape)
        top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
        whole = np.full(shape, map_.min())
        whole[top : top + height, left : left + width] = to_original(map_, (height, width))
        return whole


def has_aspect(map_: tuple[int, int], shape: tuple[int, int]) -> bool:
    """Return whether a map (h, w) has the aspect ratio of its image (H, W), but for less than a pixel of rounding."""
    (h, w), (height, width) = map_, shape
    return abs(h - w * height / width) < 1 or abs(w - h * width / height) < 1


@dataclass(frozen=True)
class Stream:
    """Arrays (or lists of them) that are made one at a time, each time they are iterated: a set need not fit into memory."""

    make: Callable[[int], Any]
    number: int

    def __iter__(self) -> Iterator[Any]:
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
        float32 or float64, at these sizes.
    scores : numpy.ndarray or None
        float32 or float64, one per image; None for the maximum of each map.
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

    @property
    def regions(self) -> Stream | None:
        """The defective regions of each image with how much of each is enough, read one image at a time; None where none has."""
        sources = [item.regions for item in self.items]
        return Stream(lambda i: [] if (read := sources[i]) is None else read(), len(sources)) if any(sources) else None


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


def narrow(values: np.ndarray) -> np.ndarray:
    """Return numbers as float32 where that changes none of them, else as float64."""
    with np.errstate(over="ignore"):
        narrowed = values.astype(np.float32)
    return narrowed if np.array_equal(narrowed, values, equal_nan=True) else values.astype(np.float64)


def read_map(path: Path) -> np.ndarray:
    """Read a map from a TIFF, PNG, npy or npz file.

    Returns
    -------
    numpy.ndarray
        float32, or float64 where the file has numbers that float32 has not; (H, W). Unsigned whole numbers of 8 and 16 bit are
        divided by the largest of their type.

    Raises
    ------
    DataError
        If the file cannot be read, or holds something else than one map of such numbers.
    """
    return read_map_and_kind(path)[0]


def read_map_and_kind(path: Path) -> tuple[np.ndarray, str]:
    """Return what `read_map` does, and what the file holds: ``"floats"``, ``"8 bit"`` or ``"16 bit"``."""
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
        scaled = squeezed.astype(np.float32) / np.float32(np.iinfo(squeezed.dtype).max)
        return scaled, f"{8 * squeezed.dtype.itemsize} bit"
    if not np.issubdtype(squeezed.dtype, np.floating):
        raise DataError(f"Expected floats or unsigned numbers of 8 or 16 bit in '{path}', but got {squeezed.dtype}.")
    result = narrow(squeezed)
    if not np.isfinite(result).all():
        row, column = np.argwhere(~np.isfinite(result))[0]
        raise DataError(f"Expected finite numbers in '{path}', but row {row}, column {column} has {squeezed[row, column]}.")
    return result, "floats"


def _read(path: Path) -> np.ndarray:
    kind = path.suffix.lower()
    if kind in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as stored:
            first = stored.pages.first
            if getattr(first.photometric, "name", "") == "MINISWHITE" or first.tags.valueof("Orientation", 1) != 1:
                raise ValueError("its tags turn or invert it; save it upright, with larger values more anomalous")
            return stored.asarray()
    if kind == ".png":
        with Image.open(path) as image:
            if image.getexif().get(0x0112, 1) != 1:
                raise ValueError("its orientation tag turns it; save it upright")
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

    Names are compared in Unicode's composed form; what comes nearest goes first: the same name, then one with extensions more
    (``003.jpg`` for ``003``), then one with less.

    Parameters
    ----------
    names : sequence of str
        Names of files, without the extension of maps, ``/`` between folders.
    what : str
        For messages: ``"map"``.
    """

    def __init__(self, names: Sequence[str], what: str) -> None:
        self._what = what
        self._levels: list[tuple[dict[tuple[str, ...], list[str]], dict[tuple[str, ...], list[str]]]] = []
        for level in range(_EXTENSIONS_AT_MOST + 1):
            whole: dict[tuple[str, ...], list[str]] = {}
            ends: dict[tuple[str, ...], list[str]] = {}
            for name in names:
                forms = _forms(name)
                if level < len(forms):
                    parts = tuple(forms[level].split("/"))
                    whole.setdefault(parts, []).append(name)
                    for n in range(len(parts)):
                        ends.setdefault(parts[n:], []).append(name)
            self._levels.append((whole, ends))
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
        fitting = next(filter(None, (self._fitting(form, level, whole) for form in _forms(item) for level in self._levels)), [])
        if len(fitting) > 1:
            raise DataError(f"Expected one {self._what} for '{item}', but '{fitting[0]}' and '{fitting[1]}' both fit; remove one.")
        if not fitting:
            return None
        other = self._taken.setdefault(fitting[0], item)
        if other != item:
            raise DataError(
                f"The {self._what} '{fitting[0]}' fits both '{other}' and '{item}'; put it into a folder "
                f"'{item.rpartition('/')[0]}' below the category's, as '{item}'."
            )
        return fitting[0]

    def _fitting(self, item: str, level: tuple[dict, dict], whole: bool) -> list[str]:
        parts = tuple(item.split("/"))
        names, ends = level
        shorter = [] if whole else [name for n in range(1, len(parts)) for name in names.get(parts[n:], [])]
        return [*ends.get(parts, []), *shorter]


def _forms(name: str) -> list[str]:
    """Return a name in Unicode's composed form, with all its extensions, then with one less of those of maps and images, ..."""
    forms = [PurePosixPath(unicodedata.normalize("NFC", name))]
    while forms[-1].suffix.lower() in (*EXTENSIONS, *IMAGE_EXTENSIONS) and len(forms) <= _EXTENSIONS_AT_MOST:
        forms.append(forms[-1].with_suffix(""))
    return [form.as_posix() for form in forms]


def list_maps(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Return the map files under a folder by their path without the extension of maps, and what else is there.

    Raises
    ------
    DataError
        If two files differ in their extension only.
    """
    files: dict[str, Path] = {}
    others: list[Path] = []
    for path in walk(folder):
        if path.suffix.lower() not in EXTENSIONS or path.name.startswith("."):
            others += [path] if path.name not in (SCORES, ABOUT) else []
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if (other := files.setdefault(name, path)) != path:
            raise DataError(f"Expected one map per name, but there are '{other}' and '{path}'; remove one.")
    return files, others


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
            rows = [(unicodedata.normalize("NFC", str(row["name"])), str(row["score"])) for row in table]
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
