"""Inspection of a category before anything is trained: every file is read once, problems are found, content is hashed."""

from __future__ import annotations

import fnmatch
import functools
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from anoseg_bench.console import Console
from anoseg_bench.datasets.base import Category, Dataset, FilesConfig, Item, wrong_size
from anoseg_bench.datasets.images import EXTENSIONS, PLAIN, Reading, value_range, walk
from anoseg_bench.errors import DataError, UsageError, describe
from anoseg_bench.evaluation.facts import SourceFacts, digest, facts_of
from anoseg_bench.evaluation.imagestats import ImageFacts
from anoseg_bench.formatting import counted, some
from anoseg_bench.plugins import cause
from anoseg_bench.store.records import DataFinding

#: Texts that data sets bring along, beside the folders of a category: nobody takes them for images.
_COMPANIONS = ("readme*", "license*", "licence*", "dataset.md", "*.txt", "*.pdf", "*.json", "*.csv", "*.yaml")
#: Of what kind a remark is, what it says, and what is to be done.
Remark = tuple[str, str, str]
_DEPTH = "choose black and white by the setting value_range"


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
    notes : list of DataFinding
        What a reader of the results should know of how the images are read.
    facts : dict of str to ImageFacts
        What is known of each image, by the name of its item; empty for generated images that were not looked at.
    pictures : dict of str to str
        The first item of each picture, by its hash.
    invert : str
        In words, how masks are inverted that mark what is normal.
    """

    category: Category
    content: str
    excluded: dict[str, str]
    notes: list[DataFinding] = field(default_factory=list)
    facts: dict[str, ImageFacts] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)
    invert: str = ""


def inspect(
    dataset: Dataset,
    name: str,
    cache: Path,
    exclude: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
    anew: bool = False,
    generated: bool = False,
) -> Inspection:
    """List a category, leave out what `exclude` names, and read every file.

    Parameters
    ----------
    cache : Path
        Folder for what is known of files, so that they are read again only when they changed; see `facts_of`.
    exclude : sequence of str
        See `leave_out`.
    anew : bool
        Whether all files are read again.
    generated : bool
        Whether generated images are looked at, too.

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
    if version is not None and not generated:
        return Inspection(category, digest([version, name, *_names(category)]), excluded)
    config = dataset.config if isinstance(dataset.config, FilesConfig) else FilesConfig(**{})
    category = _read_by(category, Reading(page=config.page, invert_masks=config.invert_masks))
    where = [dataset.label, str(dataset.root and dataset.root.resolve()), name]
    problems: list[str] = []
    images, masks = facts_of(category, cache / f"{digest(where)}.json", anew, progress, problems)
    problems += filter(None, (_problem(item, images, masks, dataset, name) for item in category.items))
    if problems:
        more = f" ({len(problems) - 1} more such problem{'s' * (len(problems) > 2)} in '{name}'.)"
        raise DataError(problems[0] + more * (len(problems) > 1))
    _check_labels(category, images, masks)
    reading, about = _with_range(category, config.value_range, images)
    if reading.low is not None:
        category = _read_by(category, reading)
        images, _ = facts_of(category, cache / f"{digest([*where, repr(reading)])}.json", anew, progress, problems)
    notes = [
        DataFinding(kind=kind, wrong=False, category=name, text=text, advice=advice)
        for kind, text, advice in (*about, *_about_masks(masks), *_left_out(whole))
    ]
    contents = [digest(facts[item.name].content for facts in (images, masks) if item.name in facts) for item in category.items]
    how = [] if reading == PLAIN else [repr(reading)]
    content = digest([version, name, *_names(category)] if version else [name, *_names(category), *contents, *how])
    facts = {
        item.name: known.model_copy(update={"mask": None if item.is_good else masks[item.name].mask})
        for item in category.items
        if (known := images[item.name].image)
    }
    pictures = {images[item.name].picture: item.name for item in reversed(category.items)}
    return Inspection(category, content, excluded, notes, facts, pictures, _invert(dataset))


def inspect_all(
    dataset: Dataset,
    categories: Sequence[str],
    cache: Path,
    exclude: Sequence[str],
    out: Console,
    anew: bool = False,
    generated: bool = False,
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
            inspected[category] = inspect(dataset, category, cache, exclude, progress, anew, generated)
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


def _problem(
    item: Item, images: Mapping[str, SourceFacts], masks: Mapping[str, SourceFacts], dataset: Dataset, category: str
) -> str | None:
    """Return what is wrong with the mask of an item, None if nothing is."""
    if item.name not in images or item.name not in masks:
        return None
    image, mask = images[item.name], masks[item.name]
    if mask.shape != image.shape:
        return wrong_size(item, image.shape, mask.shape)
    as_typed = f"{category}/{item.name}".replace("'", "'\\''")
    leave_out = f"or leave the image out: --exclude '{as_typed}'"
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


def _with_range(
    category: Category, asked: str | tuple[float, float], images: Mapping[str, SourceFacts]
) -> tuple[Reading, list[Remark]]:
    """Return how images are read, with the range of those of more than 8 bits, and what is said of it."""
    reading = category.train[0].reading
    wide = [item.name for item in category.items if images[item.name].low is not None]
    if not wide:
        return reading, []
    if len(kinds := {images[item.name].floats: item.name for item in category.items}) > 1:
        raise DataError(
            f"Expected images of one kind of numbers, but '{kinds[True]}' holds floats and '{kinds[False]}' whole numbers, which "
            "have no common black and white; save all alike."
        )
    about = f"{len(wide)} of {len(category.items)} images have more than 8 bits"
    if asked == "type":
        if images[wide[0]].floats:
            raise DataError(
                f"Expected whole numbers for value_range=type, but '{wide[0]}' holds floats; give train, or two numbers."
            )
        return reading, [("depth", f"{about}: black and white are the ends of their type.", _DEPTH)]
    if isinstance(asked, tuple):
        low, high = asked
        if not low < high:
            raise UsageError(f"Expected two rising numbers in value_range, but got {low:g}, {high:g}.")
        return replace(reading, low=low, high=high), [("depth", f"{about}: {low:g} is black, {high:g} is white, as asked.", _DEPTH)]
    of_training = (images[item.name] for item in category.train)
    extents = [(one.low, one.high) for one in of_training if one.low is not None and one.high is not None]
    if not extents:
        raise DataError(
            f"Expected training images of more than 8 bits, as '{wide[0]}' has them, to tell what is black and white; give "
            "value_range=type, or two numbers, in the dataset's settings."
        )
    low, high = value_range(extents)
    values = f"whose values are {min(e[0] for e in extents):g} to {max(e[1] for e in extents):g}"
    beyond = [one for one in images.values() if one.low is not None and one.high is not None and (one.low < low or one.high > high)]
    clipped = f"; {counted(len(beyond), 'other image goes', 'other images go')} beyond that and are clipped" if beyond else ""
    note = f"{about}: {low:g} is black, {high:g} is white, from the training images, {values}{clipped}."
    return replace(reading, low=low, high=high), [("depth", note, _DEPTH)]


def _about_masks(masks: Mapping[str, SourceFacts]) -> list[Remark]:
    blurred = {name: mask.blurred for name, mask in masks.items() if mask.blurred}
    if not blurred:
        return []
    low, high = min(blurred.values()), max(blurred.values())
    level = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    saved = counted(len(blurred), "mask was", "masks were")
    text = f"{saved} saved with loss ({some(list(blurred))}): a pixel counts as marked above {level}; fainter marks are lost."
    return [("lossy masks", text, "save masks as PNG")]


def _invert(dataset: Dataset) -> str:
    how = f"--set {dataset.registered}.invert_masks=true" if isinstance(dataset.config, FilesConfig) else "invert them"
    return f"if the masks mark what is normal, {how}"


def _left_out(category: Category) -> list[Remark]:
    """Return one remark on the files of a category that are no items: how many of which kind, and some names."""
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
    parts = [f"{len(names)} ({kind}): {some(names)}" for kind, names in kinds.items()]
    text = f"{counted(sum(map(len, kinds.values())), 'file')} left out: {'; '.join(parts)}."
    return [("left out", text, "move what is missed to where the layout has it, or save it as PNG")]


def _check_labels(category: Category, images: Mapping[str, SourceFacts], masks: Mapping[str, SourceFacts]) -> None:
    """Check that no picture is there twice with different labels.

    Raises
    ------
    DataError
        If a defective test image is trained on, or one picture has contradicting labels: these numbers would be wrong.
    """
    first: dict[str, Item] = {}
    wrong: list[str] = []
    for item in category.items:
        other = first.setdefault(images[item.name].picture, item)
        marks = [masks[one.name].picture if not one.is_good and one.name in masks else "" for one in (other, item)]
        if marks[0] != marks[1]:
            wrong.append(f"'{other.name}' = '{item.name}'")
    if wrong:
        raise DataError(
            f"Expected one label for each picture, but {counted(len(wrong), 'pair')} of files of '{category.name}' hold the same "
            f"picture with different ones ({some(wrong)}): a defect would be trained on as normal, or counted against itself; "
            "remove one of them, or leave it out by --exclude."
        )


def _names(category: Category) -> list[str]:
    """Return each item as ``<split>:<name>:<defect type>``: what is trained on in one split may be tested on in another."""
    return [f"{split}:{item.name}:{item.defect}" for split, items in category.splits.items() for item in items]


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
    reduced = category.with_items(lambda items: [item for item in items if f"{category.name}/{item.name}" not in excluded])
    if not reduced.train or not reduced.test:
        raise UsageError(f"--exclude leaves no training or no test images of '{category.name}'; exclude less.")
    return reduced
