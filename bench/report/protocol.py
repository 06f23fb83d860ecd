"""What a run compared, and how to make it again: all that a reader needs before the numbers."""

from __future__ import annotations

from anoseg_bench import __version__
from anoseg_bench.formatting import counted, one_line
from anoseg_bench.report import notes
from anoseg_bench.report.render import DASH
from anoseg_bench.report.results import Results

CITE = f"AnoSeg bench {__version__}, a benchmark harness for anomaly segmentation"
#: Of the primary method, where it took part.
CITE_ANOSEG = 'Song et al., "AnoSeg: Anomaly Segmentation Network Using Self-Supervised Learning", arXiv 2110.03396, 2021'


def protocol_lines(results: Results) -> list[tuple[str, str]]:
    """Return the protocol as headings with what stands behind them."""
    info = results.run.info
    note = info.data.note if info.data else None
    methods = {row.method for row in results.run.rows}
    lines = [("Dataset", f"{one_line(info.dataset)}{f' ({one_line(note.citation)})' if note and note.citation else ''}")]
    untold = "not told (DATASET.md beside the data, or --data-note FILE)"
    lines.append(("Licence", one_line(note.licence) if note and note.licence else untold))
    lines.append(("Beside published numbers", _comparable(results)))
    lines.append(("Split", _split(results)))
    lines += [(f"Images of {one_line(c)}", _counts(results, c)) for c in results.categories]
    lines.append(("How", notes.setup(results).removeprefix("Setup: ")))
    lines.append(("Numbers", notes.protocol(results).removeprefix("Protocol: ")))
    lines.append(("Again", one_line(info.command)))
    if not info.pictures:
        lines.append(("Pictures", "none: the run was packed without them"))
    citations = [CITE, CITE_ANOSEG if "anoseg" in methods else "", one_line(note.citation) if note and not info.synthetic else ""]
    lines.append(("To cite", "; ".join(filter(None, citations))))
    return lines


def _comparable(results: Results) -> str:
    """Return which published numbers the run may stand beside, or why none."""
    info = results.run.info
    note = info.data.note if info.data else None
    if not note or not note.comparable:
        return "not known: the split is this dataset's own"
    reasons = []
    if info.synthetic:
        return one_line(note.comparable)
    if info.profile and info.profile != "full":
        reasons.append(f"profile {info.profile} trains for a look only")
    if info.excluded:
        reasons.append(f"{counted(len(info.excluded), 'image was', 'images were')} left out")
    if any(cell.record.images.held_out for _, cell in results.done):
        reasons.append("part of the normal training images is held out, which published methods train on")
    return one_line(note.comparable) + (f" (but here: {'; '.join(reasons)})" if reasons else "")


def _split(results: Results) -> str:
    """Return where the test images come from, the categories that say the same together."""
    data = results.run.info.data
    of: dict[str, list[str]] = {}
    for category in data.categories if data else []:
        of.setdefault(one_line(category.split), []).append(one_line(category.name))
    if not of:
        return DASH
    return next(iter(of)) if len(of) == 1 else "; ".join(f"{', '.join(names)}: {split}" for split, names in of.items())


def _counts(results: Results, category: str) -> str:
    """Return how many images a category had in each part, as the first cell of it counted."""
    counts = next((cell.record.images for row, cell in results.done if row.category == category), None)
    if counts is None:
        return DASH
    train = "" if counts.train is None else f"{counts.train} to train, "
    return (
        f"{train}{counts.held_out} held out for thresholds, {counts.test_good} good and {counts.test_defective} defective to test"
    )
