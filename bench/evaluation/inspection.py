"""Inspection of a category before anything is trained: every file is read once, problems are found, content is hashed."""

from __future__ import annotations

import fnmatch
import functools
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from anoseg_bench.console import Console
from anoseg_bench.datasets.base import Category, Dataset, FilesConfig, Item, wrong_size
from anoseg_bench.datasets.images import EXTENSIONS, PLAIN, Reading, value_range, walk
from anoseg_bench.errors import DataError, UsageError, describe
from anoseg_bench.evaluation.facts import FileFacts, digest, facts_of
from anoseg_bench.formatting import counted
from anoseg_bench.plugins import cause
from anoseg_bench.store.records import RunRecord

#: Texts that data sets bring along, beside the folders of a category: nobody takes them for images.
_COMPANIONS = ("readme*", "license*", "licence*", "dataset.md", "*.txt", "*.pdf")
#: Names in one note, before it counts the rest.
_NAMED = 3


@dataclass(frozen=True)
class Inspection:
    """A category whose files are known to be sound.

    Attributes
    ----------
    category : Category
        Its items, with how they are read.
    content : str
        Hash of all that they hold.
    excluded : dict of str to str
        What was left out, by which pattern.
    notes : list of str
        What a reader of the results should know of the images.
    pictures : dict of str to list of Item
        The items of each picture, by its hash; empty for generated data.
    """

    category: Category
    content: str
    excluded: dict[str, str]
    notes: list[str] = field(default_factory=list)
    pictures: dict[str, list[Item]] = field(default_factory=dict)


def inspect(
    dataset: Dataset,
    name: str,
    cache: Path,
    exclude: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
    anew: bool = False,
) -> Inspection:
    """List a category, leave out what `exclude` names, and read every file.

    Parameters
    ----------
    cache : Path
        Folder for what is known of files, so that they are read again only when they changed; see `facts_of`.
    exclude : sequence of str
        Patterns (fnmatch) of ``<category>/<item>``, or such names.
    anew : bool
        Whether all files are read again.

    Raises
    ------
    DataError
        For the first problem found; the message counts the others.
    """
    whole = dataset.load(name)
    names = [f"{name}/{item.name}" for item in whole.items]
    excluded = {n: p for p in exclude for n in names if n == p or fnmatch.fnmatchcase(n, p)}
    category = _without(whole, excluded)
    version = dataset.content()
    if version is not None:
        return Inspection(category, digest([version, name, *_names(category)]), excluded)
    config = dataset.config if isinstance(dataset.config, FilesConfig) else FilesConfig(**{})
    category = _read_by(category, Reading(page=config.page, invert_masks=config.invert_masks))
    known = cache / f"{digest([dataset.label, str(dataset.root and dataset.root.resolve()), name])}.json"
    problems: list[str] = []
    images, masks = facts_of(category, known, anew, progress, problems)
    problems += filter(None, (_problem(item, images, masks, dataset, name) for item in category.items))
    if problems:
        more = f" ({len(problems) - 1} more such problem{'s' * (len(problems) > 2)} in '{name}'.)"
        raise DataError(problems[0] + more * (len(problems) > 1))
    reading, about = _with_range(category, config.value_range, images)
    category = _read_by(category, reading)
    notes = [*about, *_about_masks(masks, dataset), *_left_out(whole), *_twice(category, images, masks)]
    pictures: dict[str, list[Item]] = defaultdict(list)
    for item in category.items:
        pictures[images[item.name].picture].append(item)
    contents = [digest(facts[item.name].content for facts in (images, masks) if item.name in facts) for item in category.items]
    how = [] if reading == PLAIN else [repr(reading)]
    return Inspection(category, digest([name, *_names(category), *contents, *how]), excluded, notes, dict(pictures))


def inspect_all(
    dataset: Dataset, categories: Sequence[str], cache: Path, exclude: Sequence[str], out: Console, anew: bool = False
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
            inspected[category] = inspect(dataset, category, cache, exclude, progress, anew)
        except UsageError:
            raise
        except (DataError, OSError) as error:
            inspected[category] = describe(error)
        except (Exception, SystemExit) as error:  # an adapter, which may be anybody's, costs its category only
            inspected[category] = f"The dataset '{dataset.label}' failed at '{category}': {cause(error)}."
        if isinstance(problem := inspected[category], str):
            out.error(f"{category}: {problem}")
    sound = [result for result in inspected.values() if isinstance(result, Inspection)]
    for note in notes_of(inspected):
        out.error(f"note: {note}")
    unused = set(exclude) - {pattern for result in sound for pattern in result.excluded.values()}
    if unused and len(sound) == len(inspected):
        raise UsageError(
            f"--exclude '{sorted(unused)[0]}' matches no image; expected <category>/<image>, e.g. bottle/test/crack/003."
        )
    return inspected


def note_data(info: RunRecord, inspected: Mapping[str, Inspection | str]) -> None:
    """Note in the head of a run which images were left out, and what a reader of its results should know of the others."""
    sound = [result for result in inspected.values() if isinstance(result, Inspection)]
    info.excluded = sorted(name for result in sound for name in result.excluded)
    info.notes = list(dict.fromkeys([*info.notes, *notes_of(inspected)]))


def notes_of(inspected: Mapping[str, Inspection | str]) -> list[str]:
    """Return what a reader of the results should know of the images: of each category, and of pictures in several."""
    sound = {name: result for name, result in inspected.items() if isinstance(result, Inspection)}
    notes = [f"{name}: {note}" for name, result in sound.items() for note in result.notes]
    places: dict[str, list[str]] = defaultdict(list)
    for name, result in sound.items():
        for picture, items in result.pictures.items():
            places[picture].append(f"{name}/{items[0].name}")
    pairs = [f"'{names[0]}' = '{names[1]}'" for names in places.values() if len(names) > 1]
    return notes + ([f"{counted(len(pairs), 'picture')} in two categories: {_some(pairs)}"] if pairs else [])


def _problem(
    item: Item, images: Mapping[str, FileFacts], masks: Mapping[str, FileFacts], dataset: Dataset, category: str
) -> str | None:
    """Return what is wrong with the mask of an item, None if nothing is."""
    if item.name not in images or item.name not in masks:
        return None
    image, mask = images[item.name], masks[item.name]
    if mask.shape != image.shape:
        return wrong_size(item, image.shape, mask.shape)
    leave_out = f"or leave the image out: --exclude '{category}/{item.name}'"
    where = item.mask if isinstance(item.mask, Path) else f"the mask of {item.name}"
    if item.is_good and mask.share > 0:
        return (
            f"Expected a normal image without marked pixels, but '{where}' marks {100 * mask.share:.3g} % of '{item.name}'; move "
            f"the image to its defect type, {leave_out}."
        )
    if not item.is_good and mask.share == 0:
        return f"Expected a mask that marks the defect '{item.defect}', but '{where}' is all black; correct it, {leave_out}."
    if mask.share == 1:
        return (
            f"Expected a mask that leaves something unmarked, but '{where}' marks every pixel: what is neither black nor "
            f"transparent marks a defect, also a white background; {_invert(dataset)}, correct it, {leave_out}."
        )
    return None


def _read_by(category: Category, reading: Reading) -> Category:
    return category.with_items(lambda items: [replace(item, reading=reading) for item in items])


def _with_range(category: Category, asked: str | tuple[float, float], images: Mapping[str, FileFacts]) -> tuple[Reading, list[str]]:
    """Return how images are read, with the range of those of more than 8 bits, and what is to be said of it."""
    reading = category.train[0].reading
    wide = [item.name for item in category.items if images[item.name].low is not None]
    if not wide:
        return reading, []
    about = f"{len(wide)} of {len(category.items)} images have more than 8 bits"
    if asked == "type":
        return reading, [f"{about}: black and white are the ends of their type"]
    if isinstance(asked, tuple):
        low, high = asked
        if not low < high:
            raise UsageError(f"Expected two rising numbers in value_range, but got {low:g}, {high:g}.")
        return replace(reading, low=low, high=high), [f"{about}: {low:g} is black, {high:g} is white, as value_range says"]
    of_training = (images[item.name] for item in category.train)
    extents = [(one.low, one.high) for one in of_training if one.low is not None and one.high is not None]
    if not extents:
        raise DataError(
            f"Expected training images of more than 8 bits, as '{wide[0]}' has them, to tell what is black and white; give "
            "value_range=type, or two numbers, in the dataset's settings."
        )
    low, high = value_range(extents)
    values = f"whose values are {min(e[0] for e in extents):g} to {max(e[1] for e in extents):g}"
    note = f"{about}: {low:g} is black, {high:g} is white, from the training images, {values} (setting value_range)"
    return replace(reading, low=low, high=high), [note]


def _about_masks(masks: Mapping[str, FileFacts], dataset: Dataset) -> list[str]:
    most = [name for name, mask in masks.items() if mask.share > 0.5]
    blurred = {name: mask.blurred for name, mask in masks.items() if mask.blurred}
    notes = []
    if most:
        marking = counted(len(most), "mask marks", "masks mark")
        notes.append(f"{marking} more than half of the image ({_some(most)}); {_invert(dataset)}")
    if blurred:
        low, high = min(blurred.values()), max(blurred.values())
        level = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        saved = counted(len(blurred), "mask was", "masks were")
        notes.append(
            f"{saved} saved with loss ({_some(list(blurred))}): a pixel counts as marked above {level}; fainter marks are lost"
        )
    return notes


def _invert(dataset: Dataset) -> str:
    how = f"--set {dataset.registered}.invert_masks=true" if isinstance(dataset.config, FilesConfig) else "invert them"
    return f"if the masks mark what is normal, {how}"


def _left_out(category: Category) -> list[str]:
    """Return one note of the files of a category that are no items: how many of which kind, and some names."""
    folder = category.folder
    if folder is None:
        return []
    used = {os.path.normpath(path) for path in (*category.also_read, *(file for item in category.items for file in item.files))}
    kinds: dict[str, list[str]] = defaultdict(list)
    for path in walk(folder):
        companion = path.parent == folder and any(fnmatch.fnmatchcase(path.name.lower(), pattern) for pattern in _COMPANIONS)
        if companion or os.path.normpath(path) in used:
            continue
        image = path.suffix.lower() in EXTENSIONS
        kind = "hidden" if path.name.startswith(".") else "where the layout has no images" if image else f"no {path.suffix} is read"
        kinds[kind].append(path.relative_to(folder).as_posix())
    if not kinds:
        return []
    parts = [f"{len(names)} ({kind}): {_some(names)}" for kind, names in kinds.items()]
    return [f"{counted(sum(map(len, kinds.values())), 'file')} left out: {'; '.join(parts)}"]


def _twice(category: Category, images: Mapping[str, FileFacts], masks: Mapping[str, FileFacts]) -> list[str]:
    """Return notes of pictures that are there twice.

    Raises
    ------
    DataError
        If a defective test image is trained on, or one picture has contradicting labels: these numbers would be wrong.
    """
    first: dict[str, tuple[str, Item]] = {}
    wrong: list[str] = []
    kinds: dict[str, list[str]] = defaultdict(list)
    for split, items in _splits(category).items():
        for item in items:
            where, other = first.setdefault(images[item.name].picture, (split, item))
            if other is item:
                continue
            pair = f"'{other.name}' = '{item.name}'"
            marks = [masks[one.name].picture if not one.is_good and one.name in masks else "" for one in (other, item)]
            if marks[0] != marks[1]:
                wrong.append(pair)
            else:
                kinds[f"twice in {split}" if split == where else f"in {where} and in {split}"].append(pair)
    if wrong:
        raise DataError(
            f"Expected one label for each picture, but {counted(len(wrong), 'pair')} of files of '{category.name}' hold the same "
            f"picture with different ones ({_some(wrong)}): a defect would be trained on as normal, or counted against itself; "
            "remove one of them, or leave it out by --exclude."
        )
    return [f"{counted(len(pairs), 'picture')} {kind}: {_some(pairs)}" for kind, pairs in kinds.items()]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _splits(category: Category) -> dict[str, list[Item]]:
    return {"train": category.train, "validation": category.validation, "test": category.test}


def _names(category: Category) -> list[str]:
    """Return each item as ``<split>:<name>:<defect type>``: what is trained on in one split may be tested on in another."""
    return [f"{split}:{item.name}:{item.defect}" for split, items in _splits(category).items() for item in items]


def _without(category: Category, excluded: dict[str, str]) -> Category:
    reduced = category.with_items(lambda items: [item for item in items if f"{category.name}/{item.name}" not in excluded])
    if not reduced.train or not reduced.test:
        raise UsageError(f"--exclude leaves no training or no test images of '{category.name}'; exclude less.")
    return reduced
