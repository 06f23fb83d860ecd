"""The images of a run or a dataset as tables: counts, masks, shortcuts; and what was found about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from anoseg_bench.formatting import counted, one_line
from anoseg_bench.report.render import DASH, Line, Table, TableCell
from anoseg_bench.store.records import TELLING, DataFinding, DataReport, Separation

#: The groups of images of a separation.
GROUPS = ("good test / train", "defective / good test")
#: Sizes and kinds of images that are named.
NAMED = 3
INTERVALS = (
    "AUROC of one number of the whole image, with its interval: 95 % for all numbers of a category together (Bonferroni over those "
    "that vary; the union of the intervals of Newcombe 2006 and of DeLong et al. 1988, as if images were independent). 0.5: it "
    f"tells nothing; 0 or 1: it tells all. Bold: it is {TELLING:g} or more from 0.5, and its interval does not hold 0.5. "
    "Good test / train: how often a good test image has more of it than a training image; defective / good test: the same of a "
    "defective and a good test image."
)


def data_tables(report: DataReport | None) -> list[Table]:
    """Return the tables of a report about images, those that have lines; none where nothing is known of them."""
    tables = [counts_table(report), masks_table(report), shortcuts_table(report)] if report else []
    return [table for table in tables if table.lines]


def written_tables(report: DataReport | None) -> list[Table]:
    """Return the tables as a run writes them, with what was found below the first."""
    tables = data_tables(report)
    found = [f"{finding_line(finding)} To do: {one_line(finding.advice)}." for finding in report.findings] if report else []
    return [replace(table, notes=[*found, *table.notes]) if i == 0 else table for i, table in enumerate(tables)]


def counts_table(report: DataReport) -> Table:
    """Return numbers, sizes and kinds of images: a line for each category."""
    lines = []
    for data in report.categories:
        test = data.counts.get("test", {})
        defects = {name: number for name, number in test.items() if name != "good"}
        texts = [
            one_line(data.name),
            str(sum(data.counts.get("train", {}).values())),
            str(sum(data.counts.get("validation", {}).values())) if "validation" in data.counts else DASH,
            str(test.get("good", 0)),
            str(sum(defects.values())),
            ", ".join(f"{one_line(name)} {number}" for name, number in defects.items()) or DASH,
            _several(data.sizes),
            _several(data.kinds),
        ]
        lines.append(Line([TableCell(text) for text in texts]))
    notes = [f"{one_line(data.name)}: {one_line(data.decisions)}; {one_line(data.split)}." for data in report.categories]
    turned = [f"{one_line(data.name)} {data.turned}" for data in report.categories if data.turned]
    notes += [f"Turned by their orientation tag: {', '.join(turned)}."] if turned else []
    header = ["category", "train", "validation", "test good", "test defective", "defect types", "sizes", "kinds"]
    return Table("data", "The images", header, lines, [*notes, *said_of_data(report)])


def _several(counts: Mapping[str, int]) -> str:
    """Return values with their counts, the first few: ``"900x900"``, ``"256x256 (10), 300x200 (2), and 4 more"``."""
    if len(counts) < 2:
        return one_line(next(iter(counts), DASH))
    shown = [f"{one_line(name)} ({number})" for name, number in [*counts.items()][:NAMED]]
    return ", ".join(shown) + (f", and {len(counts) - NAMED} more" if len(counts) > NAMED else "")


def masks_table(report: DataReport) -> Table:
    """Return what masks mark: a line for each defect type."""
    sizes = sorted({size for data in report.categories for masks in data.masks.values() for size in masks.vanish})
    lines = []
    for data in report.categories:
        for defect, masks in data.masks.items():
            shares = [f"{100 * share:.3g}" for share in (masks.smallest_share, masks.median_share, masks.largest_share)]
            texts = [
                one_line(data.name),
                one_line(defect),
                str(masks.images),
                f"{shares[1]} ({shares[0]} to {shares[2]})",
                str(masks.regions),
                f"{masks.median_area:.0f}",
                f"{masks.smallest_area:.0f}",
                *(str(masks.vanish.get(size, 0)) for size in sizes),
            ]
            lines.append(Line([TableCell(text) for text in texts]))
    header = [
        "category",
        "defect type",
        "images",
        "marked (%)",
        "regions",
        "median (px)",
        "smallest (px)",
        *(f"vanish at {s} px" for s in sizes),
    ]
    own = [
        "Marked: share of the image, median and range over the defective images. Regions: 8-connected, with their areas. A region "
        "vanishes where the image is resized to a square of that side and no pixel there is defective by half."
    ]
    return Table("masks", "The masks", header, lines, own)


def shortcuts_table(report: DataReport) -> Table:
    """Return how well statistics of whole images tell groups of images apart: a line for each statistic."""
    lines = []
    for data in report.categories:
        shown: dict[str, dict[str, Separation]] = {}
        for s in data.separations:
            shown.setdefault(s.statistic, {})[s.groups] = s
        for statistic, of in shown.items():
            cells = [_separation(of.get(groups)) for groups in GROUPS]
            lines.append(Line([TableCell(one_line(data.name)), TableCell(statistic), *cells]))
    title = "What whole images tell without a look at the defects"
    return Table("shortcuts", title, ["category", "statistic", *GROUPS], lines, [INTERVALS])


def _separation(shown: Separation | None) -> TableCell:
    if shown is None:
        return TableCell(DASH)
    return TableCell(f"{shown.auroc:.2f} ({shown.low:.2f} to {shown.high:.2f})", shown.is_named)


def finding_line(finding: DataFinding) -> str:
    """Return a finding as a sentence that names its category."""
    return f"{one_line(finding.category)}: {one_line(finding.text)}"


def data_sentences(report: DataReport | None) -> list[str]:
    """Return what was found that makes numbers wrong, and how much else."""
    if report is None:
        return []
    wrong = [f"Data, {finding_line(finding)}" for finding in report.findings if finding.wrong]
    others = len(report.findings) - len(wrong)
    more = [f"{counted(others, 'more finding')} about the data to read the numbers by: see tables/data.md."] if others else []
    return [*wrong, *more]


def said_of_data(report: DataReport) -> list[str]:
    """Return licence and split as whoever gave the data says, or that nothing is said."""
    note = report.note
    if note is None:
        return ["Licence and origin of the data: not told (DATASET.md beside them, or --data-note FILE)."]
    lines = [f"Source: {one_line(note.citation)}."] if note.citation else []
    lines += [f"Licence: {one_line(note.licence)}."] if note.licence else []
    lines += [f"Comparable with published numbers: {one_line(note.comparable)}."] if note.comparable else []
    lines += [f"Split, as '{one_line(note.source)}' says: {one_line(note.split)}."] if note.split else []
    said = note.text and not (note.licence or note.split)
    return [*lines, *([f"Said of the data in '{one_line(note.source)}': {one_line(note.text)}"] if said else [])]
