"""What a run compared, and how to make it again: all that a reader needs before the numbers."""

from __future__ import annotations

from anoseg_bench import __version__
from anoseg_bench.formatting import counted, one_line
from anoseg_bench.report import notes
from anoseg_bench.report.intervals import LEVEL, RESAMPLES
from anoseg_bench.report.render import DASH
from anoseg_bench.report.results import Results

CITE = f"AnoSeg bench {__version__}, a benchmark harness for anomaly segmentation"
INTERVALS = (
    f"{100 * LEVEL:.0f} %; of rates of images exact (Clopper and Pearson; at deployable thresholds over all those that another "
    "choice of the held-out images would give), of image AUROC by Newcombe and DeLong, of all others "
    f"from {RESAMPLES:,} resamples of the test images within their defect types (Student's t on the logit); not corrected for the "
    "number of comparisons; what they stand for and how often they hold: docs/metrics.md"
)
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
    lines += [("Conditions", note.removeprefix("Conditions: ")) for note in notes.conditions(results)]
    if differs := notes.unlike_papers(results):
        lines.append(("Unlike the papers", differs))
    lines.append(("Numbers", notes.protocol(results).removeprefix("Protocol: ")))
    lines.append(("Intervals", INTERVALS))
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
    if any(cell.record.conditions for _, cell in results.done):
        reasons.append("some variants ran under conditions of their own")
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
    """Return how many images a category had in each part; from the least to the most where cells differ."""
    counts = [cell.record.images for row, cell in results.done if row.category == category]
    if not counts:
        return DASH
    train = [of.train for of in counts if of.train is not None]
    held_out, good, defective = (
        notes.span(of) for of in zip(*((c.held_out, c.test_good, c.test_defective) for c in counts), strict=True)
    )
    learned = f"{notes.span(train)} to train, " if train else ""
    return f"{learned}{held_out} held out for thresholds, {good} good and {defective} defective to test"
