"""Inspection of a category before anything is trained: every file is read once, problems are found, content is hashed."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import DataError, UsageError
from bench.store import to_json, write_atomically

if TYPE_CHECKING:
    from datasets.base import Category, Dataset, Item


@dataclass(frozen=True)
class Inspected:
    """A category whose files are known to be sound, and the hash of its content."""

    category: Category
    content: str


def inspect(
    dataset: Dataset,
    name: str,
    cache: Path,
    exclude: list[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspected:
    """List a category, leave out what `exclude` names, and read every file.

    Parameters
    ----------
    cache : Path
        Folder for hashes by size and time of change, so that the files are read again only when they changed.
    exclude : list of str
        Patterns (fnmatch) of ``<item>`` or ``<category>/<item>``.

    Raises
    ------
    DataError
        For the first problem found; the message counts the others.
    """
    category = _without(dataset.load(name), exclude)
    version = dataset.content()
    if version is not None:
        return Inspected(category, _digest([version, name, *(item.name for item in category.items)]))
    known_file = cache / f"{_digest([dataset.label, str(dataset.root and dataset.root.resolve()), name])}.json"
    known = _read(known_file)
    lines: list[str] = []
    problems: list[str] = []
    fresh: dict[str, str] = {}
    for done, item in enumerate(category.items, 1):
        stats = [f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in item.files if path.exists()]
        stamp = "|".join([item.name, *stats])
        fresh[stamp] = (known.get(stamp) if stats else None) or _check(item, problems)
        lines.append(f"{item.name}:{item.defect}:{fresh[stamp]}")
        progress(done, len(category.items))
    if problems:
        more = f" ({len(problems) - 1} more such problem{'s' * (len(problems) > 2)} in '{name}'.)" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)
    if fresh != known:
        write_atomically(known_file, to_json(fresh))
    return Inspected(category, _digest([name, *lines]))


def _without(category: Category, exclude: list[str]) -> Category:
    def excluded(item: Item) -> bool:
        names = (item.name, f"{category.name}/{item.name}")
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude for name in names)

    def keep(items: list[Item]) -> list[Item]:
        return [item for item in items if not excluded(item)]

    kept = replace(category, train=keep(category.train), test=keep(category.test), validation=keep(category.validation))
    if not kept.train or not kept.test:
        raise UsageError(f"--exclude leaves no training or no test images of '{category.name}'; exclude less.")
    return kept


def _check(item: Item, problems: list[str]) -> str:
    """Read an item whole; return the hash of its files, or of its arrays where it is not all read from files."""
    try:
        image = item.load_image()
        mask = item.load_mask(image.shape[:2])
    except DataError as error:
        problems.append(str(error))
        return ""
    whole = isinstance(item.image, Path) and isinstance(item.mask, Path | None)
    parts = [path.read_bytes() for path in item.files] if whole else [image.tobytes(), mask.tobytes()]
    return _digest([hashlib.sha256(part).hexdigest() for part in parts])


def _read(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
