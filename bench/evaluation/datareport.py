"""What is known of the images of a dataset, and what a reader of numbers should know of it: from facts of single images alone."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from anoseg_bench.console import Console
from anoseg_bench.datasets.base import Category, Item, Origin
from anoseg_bench.errors import UsageError
from anoseg_bench.evaluation.duplicates import copies
from anoseg_bench.evaluation.holdout import hold_out
from anoseg_bench.evaluation.imagestats import SIZES, ImageFacts
from anoseg_bench.evaluation.inspection import Inspection, excluded_of
from anoseg_bench.evaluation.shortcuts import kind_of, separations, shortcut_findings
from anoseg_bench.formatting import counted, some
from anoseg_bench.metrics.thresholds import needed_scores
from anoseg_bench.store.records import CategoryData, DataFinding, DataNote, DataReport, MaskSummary, RunRecord

#: The kind of the finding that says why nothing is known of a category.
UNREADABLE = "unreadable"
#: The kinds of findings that a user is told at once, beside those that make numbers wrong.
TOLD = ("depth", "lossy masks", "left out", "several categories", "large mask", "repeated")
#: The file beside the data that says what they are.
NOTE = "DATASET.md"
#: Characters of it that are kept.
NOTE_LENGTH = 4000
#: A region of so few pixels is a slip of the pen rather than a defect.
SPECK = 4
#: Fewer good test images say little about false alarms.
FEW_GOOD = 20
#: Names of images that a finding gives.
NAMED_IMAGES = 12
#: The levels of false alarms of which it is told whether the held-out images allow them.
LEVELS = (0.05, 0.01)


def note_data(
    info: RunRecord,
    inspected: Mapping[str, Inspection | str],
    holdout: float | None,
    seed: int,
    note: DataNote | None,
    out: Console,
) -> None:
    """Note in the head of a run which images were left out and what is known of the others, and tell what must be known at once."""
    info.excluded = excluded_of(inspected)
    info.data = data_report(inspected, holdout, seed, note)
    for finding in info.data.findings:
        if (finding.wrong and finding.kind != UNREADABLE) or finding.kind in TOLD:  # why one is unreadable has been told
            out.error(f"note: {finding.category}{': ' * bool(finding.category)}{finding.text} To do: {finding.advice}.")


def data_report(
    inspected: Mapping[str, Inspection | str], holdout: float | None, seed: int, note: DataNote | None = None
) -> DataReport:
    """Return what is known of the categories that were inspected, and what was found, first what makes numbers wrong.

    Of the categories that could not be read, it is found why. With a holdout of None it is not known what is held out.
    """
    categories, findings = [], []
    places: dict[str, list[str]] = defaultdict(list)
    for name, inspection in inspected.items():
        if isinstance(inspection, str):
            findings.append(
                DataFinding(
                    kind=UNREADABLE,
                    wrong=True,
                    category=name,
                    text=f"it cannot be read, so no method runs on it: {inspection}",
                    advice="mend that, or leave images out by --exclude; more may come to light then",
                )
            )
            continue
        data, found = category_data(inspection.category, inspection.facts, holdout, seed, inspection.invert)
        categories.append(data)
        findings += [*inspection.notes, *found]
        for picture, item in inspection.pictures.items():
            places[picture].append(f"{name}/{item}")
    pairs = [f"'{names[0]}' = '{names[1]}'" for names in places.values() if len(names) > 1]
    if pairs:
        findings.append(
            DataFinding(
                kind="several categories",
                wrong=False,
                category="",
                text=f"{counted(len(pairs), 'picture')} in two categories: {some(pairs)}.",
                advice="look which category they belong to",
            )
        )
    return DataReport(categories=categories, findings=sorted(findings, key=lambda finding: not finding.wrong), note=note)


def category_data(
    category: Category, facts: Mapping[str, ImageFacts], holdout: float | None, seed: int, invert: str = ""
) -> tuple[CategoryData, list[DataFinding]]:
    """Return what is known of a category, and what was found.

    Parameters
    ----------
    facts : mapping of str to ImageFacts
        By the name of the item; empty for generated images that were not looked at, of which only the numbers are told.
    holdout, seed
        As for `hold_out`.
    invert : str
        In words, how masks are inverted.
    """
    held_out = len(hold_out(category, holdout or 0.0, seed)[1])
    data = CategoryData(
        name=category.name,
        counts={split: dict(Counter(item.defect for item in items)) for split, items in category.splits.items() if items},
        held_out=held_out,
        decisions="held out are the normal images that maps are given of" if holdout is None else decisions(held_out),
        split=split_origin(category),
    )
    findings = number_findings(data, holdout is not None)
    if not facts:
        return data, findings

    def of(items: Sequence[Item]) -> list[ImageFacts]:
        return [facts[item.name] for item in items]

    items = category.items
    every = of(items)
    good, defective = ([item for item in category.test if item.is_good == is_good] for is_good in (True, False))
    groups = [[items[i] for i in group] for group in copies(every)]
    data = data.model_copy(
        update={
            "sizes": dict(Counter(f"{f.width}x{f.height}" for f in every).most_common()),
            "kinds": dict(Counter(map(kind_of, every)).most_common()),
            "turned": sum(f.file is not None and f.file.orientation > 1 for f in every),
            "masks": mask_summaries(defective, facts),
            "separations": separations(of(category.train), of(good), of(defective)),
            "copies": [[item.name for item in group] for group in groups],
        }
    )
    findings = [
        *copy_findings(category, groups),
        *mask_findings(category.name, defective, facts, invert),
        *shortcut_findings(category.name, data.separations),
        *findings,
        *file_findings(category.name, [(item.name, facts[item.name]) for item in items]),
    ]
    return data, findings


def decisions(held_out: int) -> str:
    """Return which decisions so many held-out normal images allow.

    Examples
    --------
    >>> decisions(21)
    '21 held out: image decisions at 5 % false alarms, not at 1 % (needs 99)'
    >>> decisions(3)
    '3 held out: no image decisions at 5 % false alarms (needs 19)'
    """
    if not held_out:
        return "none held out: no deployable thresholds at all"
    can = [level for level in LEVELS if held_out >= needed_scores(level)]
    missing = next((level for level in LEVELS if level not in can), None)
    if not can:
        return f"{held_out} held out: no image decisions at {100 * LEVELS[0]:.3g} % false alarms (needs {needed_scores(LEVELS[0])})"
    more = f", not at {100 * missing:.3g} % (needs {needed_scores(missing)})" if missing else ""
    return f"{held_out} held out: image decisions at {' and '.join(f'{100 * level:.3g} %' for level in can)} false alarms{more}"


def split_origin(category: Category) -> str:
    """Return where the good test images come from, by their folders."""
    folders = [{item.name.rpartition("/")[0] for item in items if item.is_good} for items in (category.train, category.test)]
    if folders[0] & folders[1]:
        return "good test images: a seeded share of the normal ones"
    return f"good test images: {', '.join(sorted(folders[1])) or 'none'}, as the source has them"


def mask_summaries(defective: Sequence[Item], facts: Mapping[str, ImageFacts]) -> dict[str, MaskSummary]:
    """Return what the masks of each defect type mark."""
    summaries = {}
    for defect in sorted({item.defect for item in defective}):
        masks = [mask for item in defective if item.defect == defect and (mask := facts[item.name].mask)]
        shares, areas = [mask.share for mask in masks], [area for mask in masks for area in mask.areas]
        summaries[defect] = MaskSummary(
            images=len(masks),
            smallest_share=min(shares, default=math.nan),
            median_share=median(shares) if shares else math.nan,
            largest_share=max(shares, default=math.nan),
            regions=len(areas),
            smallest_area=min(areas, default=math.nan),
            median_area=median(areas) if areas else math.nan,
            vanish={size: sum(mask.vanish[size] for mask in masks) for size in SIZES},
        )
    return summaries


# --- findings -----------------------------------------------------------------------------------------------------------


def copy_findings(category: Category, groups: Sequence[Sequence[Item]]) -> list[DataFinding]:
    """Return what copies mean: across splits, under different labels, and else."""
    split = {id(item): name for name, items in category.splits.items() for item in items}
    kinds: dict[str, list[Sequence[Item]]] = {"contradiction": [], "leak": [], "repeated": []}
    for group in groups:
        several = len({split[id(item)] for item in group}) > 1
        contradicts = len({item.is_good for item in group}) > 1
        kinds["contradiction" if contradicts else "leak" if several else "repeated"].append(group)
    words = {
        "contradiction": (
            "the same picture, or the same part in other light, is called good and defective",
            "one of them is labelled wrongly, and every number that has them counts it against the methods",
            "look at them, correct the label, and keep one of each",
        ),
        "leak": (
            "the same picture, or the same part in other light, is in several splits",
            "what is tested on was trained on or set the threshold, so false alarms look rarer than they are",
            "leave the copies out of all splits but one: --exclude",
        ),
        "repeated": (
            "the same picture, or the same part in other light, is several times in one split",
            "it counts as often, and intervals look narrower than they are",
            "keep one of each: --exclude",
        ),
    }
    findings = []
    for kind, found in kinds.items():
        if found:
            what, effect, advice = words[kind]
            pairs = [" = ".join(item.name for item in _apart(group, split)[:2]) for group in found]
            groups_of = f"{counted(len(found), 'group')} of {sum(map(len, found))} images"
            text = f"{what}, {groups_of} ({some(pairs)}): {effect}."
            names = [item.name for group in found for item in group][:NAMED_IMAGES]
            findings.append(
                DataFinding(kind=kind, wrong=kind != "repeated", category=category.name, text=text, advice=advice, images=names)
            )
    return findings


def _apart(group: Sequence[Item], split: Mapping[int, str]) -> list[Item]:
    """Return copies with the first, and the first of another label or split, in front."""
    first = group[0]
    return sorted(group, key=lambda item: (item is not first, item.is_good == first.is_good, split[id(item)] == split[id(first)]))


def mask_findings(category: str, defective: Sequence[Item], facts: Mapping[str, ImageFacts], invert: str) -> list[DataFinding]:
    """Return what is odd about masks: the normal part marked, specks, and what vanishes at the sizes of methods."""
    masks = {item.name: mask for item in defective if (mask := facts[item.name].mask)}
    inverted = [name for name, mask in masks.items() if mask.share > 0.5 and mask.border > 0.5]
    large = [name for name, mask in masks.items() if mask.share > 0.5 and name not in inverted]
    specks = {name: few for name, mask in masks.items() if (few := [area for area in mask.areas if area <= SPECK])}
    lost = {size: sum(mask.vanish[size] for mask in masks.values()) for size in SIZES}
    findings = []

    def add(kind: str, wrong: bool, text: str, advice: str, images: Sequence[str]) -> None:
        findings.append(
            DataFinding(kind=kind, wrong=wrong, category=category, text=text, advice=advice, images=list(images)[:NAMED_IMAGES])
        )

    if inverted:
        add(
            "inverted mask",
            True,
            f"{_count(inverted, 'mask')} more than half of the image and its border, as if black and white were exchanged "
            f"({some(inverted)}): every number of pixels counts the normal part as the defect.",
            f"look at the contact sheet of doctor; {invert}",
            inverted,
        )
    if large:
        add(
            "large mask",
            False,
            f"{_count(large, 'mask')} more than half of the image ({some(large)}): these images decide the numbers of pixels.",
            "look whether the defect is that large",
            large,
        )
    if specks:
        number = sum(map(len, specks.values()))
        regions = sum(len(mask.areas) for mask in masks.values())
        smallest = min(map(min, specks.values()))
        alone = sum(len(few) == len(masks[name].areas) for name, few in specks.items())
        nothing = f"; in {counted(alone, 'image')} nothing else is marked, which all but calls them good" if alone else ""
        add(
            "speck",
            False,
            f"{number} of {regions} defective regions {'have' if number > 1 else 'has'} {SPECK} pixels or fewer, the smallest "
            f"{smallest} ({some(list(specks))}): AUPRO counts each as much as the largest defect{nothing}.",
            "look whether they are slips of the pen, and clean the masks",
            list(specks),
        )
    if any(lost.values()):
        regions = sum(len(mask.areas) for mask in masks.values())
        at = ", ".join(f"{number} at {size} px" for size, number in lost.items() if number)
        add(
            "vanishing",
            False,
            f"defective regions vanish where images are resized ({at}, of {regions}): no pixel is theirs by half there, so a "
            "method of that size is not to be blamed for missing them.",
            "give methods a larger image_size, or cut the images into parts",
            [name for name, mask in masks.items() if any(mask.vanish.values())],
        )
    return findings


def _count(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{'s mark' if len(names) > 1 else ' marks'}"


def number_findings(data: CategoryData, held_out_known: bool) -> list[DataFinding]:
    """Return which numbers there are too few images for."""
    test = data.counts.get("test", {})
    good = test.get("good", 0)
    findings = []
    if held_out_known and data.held_out < needed_scores(LEVELS[0]):
        findings.append(
            DataFinding(
                kind="few held out",
                wrong=False,
                category=data.name,
                text=f"{data.decisions}.",
                advice="add training images or validation images, or raise --holdout",
            )
        )
    if good < FEW_GOOD:
        most = "nothing is known"
        if good:
            most = f"no alarm on {good} leaves up to {100 * (1 - 0.025 ** (1 / good)):.0f} % possible (95 % interval)"
        findings.append(
            DataFinding(
                kind="few good test images",
                wrong=False,
                category=data.name,
                text=f"there are {good} good test images: of the false-alarm rate, {most}.",
                advice="add good test images",
            )
        )
    return findings


def file_findings(category: str, images: Sequence[tuple[str, ImageFacts]]) -> list[DataFinding]:
    """Return what is odd about files: pictures that a tag turns."""
    turned = [name for name, facts in images if facts.file and facts.file.orientation > 1]
    if not turned:
        return []
    return [
        DataFinding(
            kind="turned",
            wrong=False,
            category=category,
            text=f"{len(turned)} of {len(images)} images are turned by their orientation tag ({some(turned)}): tools that pass "
            "over the tag see others, and masks made with them lie askew.",
            advice="look at the contact sheet whether masks fit; store the images upright",
            images=turned[:NAMED_IMAGES],
        )
    ]


# --- what is said of the data -------------------------------------------------------------------------------------------


def read_note(path: Path | None, root: Path | None, origin: Origin | None = None) -> DataNote | None:
    """Return what is said of the data: in the file given, or in `NOTE` beside them, and by their adapter; None where nothing is.

    Raises
    ------
    UsageError
        If the file given cannot be read.
    """
    file = path or (root / NOTE if root else None)
    known = {} if origin is None else {name: getattr(origin, name) for name in ("licence", "citation", "comparable")}
    if file is None or (path is None and not file.is_file()):
        return DataNote(**known) if known else None
    try:
        text = file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise UsageError(f"Expected a text about the data in '{file}', but it cannot be read ({error.strerror}).") from error

    def line(pattern: str) -> str:
        found = re.search(rf"^[\W_]*(?:{pattern})[\W_]*:[\s*_]*(.+?)[\s*_]*$", text, re.IGNORECASE | re.MULTILINE)
        return found.group(1) if found else ""

    licence = line("licen[cs]e")
    said = {"source": str(file), "text": text[:NOTE_LENGTH], "split": line("splits?")} | ({"licence": licence} if licence else {})
    return DataNote(**known | said)
