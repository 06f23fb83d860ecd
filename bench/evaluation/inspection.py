"""Inspection of a category before anything is trained: every file is read once, problems are found, content is hashed."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from anoseg_bench.console import Console
from anoseg_bench.errors import DataError, UsageError, describe
from anoseg_bench.plugins import cause
from anoseg_bench.store.cells import to_json
from anoseg_bench.store.files import write_atomically

if TYPE_CHECKING:
    from anoseg_bench.datasets.base import Category, Dataset, Item


@dataclass(frozen=True)
class Inspection:
    """A category whose files are known to be sound, the hash of its content, and what was left out by which pattern."""

    category: Category
    content: str
    excluded: dict[str, str]


def inspect(
    dataset: Dataset,
    name: str,
    cache: Path,
    exclude: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """List a category, leave out what `exclude` names, and read every file.

    Parameters
    ----------
    cache : Path
        Folder for hashes by size and time of change, so that the files are read again only when they changed.
    exclude : sequence of str
        See `leave_out`.

    Raises
    ------
    DataError
        For the first problem found; the message counts the others.
    """
    whole = dataset.load(name)
    for text in (name, *(item.name for item in whole.items)):
        check_writable(text)
    category, excluded = leave_out(whole, exclude)
    version = dataset.content()
    if version is not None:
        return Inspection(category, _digest([version, name, *_names(category)]), excluded)
    known_file = cache / f"{_digest([dataset.label, str(dataset.root and dataset.root.resolve()), name])}.json"
    known = _read(known_file)
    digests: list[str] = []
    problems: list[str] = []
    fresh: dict[str, str] = {}
    for done, item in enumerate(category.items, 1):
        stats = [f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in item.files if path.exists()]
        stamp = "|".join([item.name, *stats])
        fresh[stamp] = (known.get(stamp) if stats else None) or _check(item, name, problems)
        digests.append(fresh[stamp])
        progress(done, len(category.items))
    if problems:
        more = f" ({len(problems) - 1} more such problem{'s' * (len(problems) > 2)} in '{name}'.)" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)
    if fresh != known:
        write_atomically(known_file, to_json(fresh))
    return Inspection(category, _digest([name, *_names(category), *digests]), excluded)


def inspect_all(
    dataset: Dataset, categories: Sequence[str], cache: Path, exclude: Sequence[str], out: Console
) -> dict[str, Inspection | str]:
    """Inspect the categories before anything is trained; a bad one is kept as the line that says why.

    Raises
    ------
    UsageError
        If a pattern of `exclude` matches no image.
    """
    inspected: dict[str, Inspection | str] = {}
    for category in categories:
        progress = functools.partial(out.progress, category, "reading")
        try:
            inspected[category] = inspect(dataset, category, cache, exclude, progress)
        except UsageError:
            raise
        except (DataError, OSError) as error:
            inspected[category] = describe(error)
        except (Exception, SystemExit) as error:  # an adapter, which may be anybody's, costs its category only
            inspected[category] = f"The dataset '{dataset.label}' failed at '{category}': {cause(error)}."
        if isinstance(problem := inspected[category], str):
            out.error(f"{category}: {problem}")
    sound = [result for result in inspected.values() if isinstance(result, Inspection)]
    if len(sound) == len(inspected):
        check_used(exclude, [pattern for result in sound for pattern in result.excluded.values()])
    return inspected


def check_used(patterns: Sequence[str], used: Sequence[str]) -> None:
    """Check that every pattern of what to leave out has left out something.

    Raises
    ------
    UsageError
        If one has not.
    """
    if unused := sorted(set(patterns) - set(used)):
        raise UsageError(
            f"--exclude '{unused[0]}' matches no image; expected <category>/<image>, e.g. bottle/test/crack/003, or a file's path."
        )


def excluded_of(inspected: Mapping[str, Inspection | str]) -> list[str]:
    """Return the names of the images that were left out, sorted."""
    return sorted(name for result in inspected.values() if isinstance(result, Inspection) for name in result.excluded)


def _names(category: Category) -> list[str]:
    """Return each item as ``<split>:<name>:<defect type>``: what is trained on in one split may be tested on in another."""
    splits = {"train": category.train, "validation": category.validation, "test": category.test}
    return [f"{split}:{item.name}:{item.defect}" for split, items in splits.items() for item in items]


def leave_out(category: Category, patterns: Sequence[str]) -> tuple[Category, dict[str, str]]:
    """Return a category without the images that patterns name, and the names of these, each with its pattern.

    Parameters
    ----------
    patterns : sequence of str
        A name ``<category>/<item>``, or the path of an image or mask, just as messages print it; else a pattern (fnmatch) of names.
    """
    excluded: dict[str, str] = {}
    for given in patterns:
        pattern = _composed(given)
        spelt = {f"{category.name}/{item.name}": [f"{category.name}/{item.name}", *map(str, item.files)] for item in category.items}
        exact = [name for name, spellings in spelt.items() if pattern in map(_composed, spellings)]
        matching = exact or [name for name in spelt if fnmatch.fnmatchcase(_composed(name), pattern)]
        excluded |= dict.fromkeys(matching, given)
    return _without(category, excluded), excluded


def check_writable(name: str) -> None:
    """Check that a name can be written into tables and pages.

    Raises
    ------
    DataError
        If it comes from a file whose name is in no encoding that the system knows.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"Expected names of files in UTF-8, but '{ascii(name)[1:-1]}' is in another encoding; rename it."
        ) from error


def _composed(text: str) -> str:
    """Return text with its accents composed, as keyboards type and some systems do not store them."""
    return unicodedata.normalize("NFC", text)


def _without(category: Category, excluded: dict[str, str]) -> Category:
    def keep(items: list[Item]) -> list[Item]:
        return [item for item in items if f"{category.name}/{item.name}" not in excluded]

    reduced = replace(category, train=keep(category.train), test=keep(category.test), validation=keep(category.validation))
    if not reduced.train or not reduced.test:
        raise UsageError(f"--exclude leaves no training or no test images of '{category.name}'; exclude less.")
    return reduced


def _check(item: Item, category: str, problems: list[str]) -> str:
    """Read an item whole; return the hash of its files, or of its arrays where it is not all read from files."""
    try:
        image = item.load_image()
        mask = item.load_mask(image.shape[:2])
    except DataError as error:
        problems.append(str(error))
        return ""
    if not item.is_good and not mask.any():
        as_typed = f"{category}/{item.name}".replace("'", "'\\''")
        problems.append(
            f"Expected a mask that marks the defect '{item.defect}', but '{item.mask}' is all black; correct it, or leave the "
            f"image out: --exclude '{as_typed}'."
        )
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
