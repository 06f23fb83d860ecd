"""Shortcuts: statistics of whole images that tell groups of images apart, so that a method need not look for defects.

Two questions are asked of each statistic. Do good test images differ from the training images? Then thresholds do not hold, and a
method that takes the difference for a defect raises false alarms. Do defective test images differ from good ones? Then an image
AUROC may be had without sight of a defect.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from anoseg_bench.evaluation.imagestats import ImageFacts
from anoseg_bench.metrics.separation import separation
from anoseg_bench.store.records import DataFinding, Separation

SHIFT, TELL = "good test / train", "defective / good test"
#: Statistics of whole images: title, what a smaller one means, what a larger one means.
STATISTICS = {
    "brightness": ("brightness", "darker", "brighter"),
    "contrast": ("contrast", "of less contrast", "of more contrast"),
    "sharpness": ("sharpness", "less sharp", "sharper"),
    "saturation": ("saturation", "paler", "more colourful"),
    "warmth": ("red minus blue", "bluer", "redder"),
    "border": ("brightness of the border", "darker at the border", "brighter at the border"),
    "height": ("height", "less tall", "taller"),
    "width": ("width", "narrower", "wider"),
    "bytes": ("file size", "of smaller files", "of larger files"),
    "quality": ("JPEG quality", "of lower JPEG quality", "of higher JPEG quality"),
    "kind": ("file kind", "more often of the usual file kind", "more often of another file kind"),
}
#: No defect changes these.
OF_THE_FILE = {"height", "width", "quality", "kind"}
#: Images of a group, at least.
FEWEST = 5
#: A separation is called wrong where its whole interval is this far from 0.5.
WRONG = 0.2
CONFIDENCE = 0.95


def kind_of(facts: ImageFacts) -> str:
    """Return the kind of an image's file: ``"PNG L 8 bit"``; ``"drawn"`` for generated ones."""
    file = facts.file
    return f"{file.format} {file.mode} {file.bits} bit" if file else "drawn"


def statistics(train: Sequence[ImageFacts], others: Sequence[Sequence[ImageFacts]]) -> list[dict[str, np.ndarray]]:
    """Return the statistics of each group of images, the training images first, each (M,) and NaN where an image has none."""
    usual = Counter(map(kind_of, train)).most_common(1)[0][0] if train else ""

    def of(facts: ImageFacts) -> dict[str, float]:
        file = facts.file
        return {
            **{name: getattr(facts, name) for name in STATISTICS if hasattr(facts, name)},
            "bytes": file.bytes if file else math.nan,
            "quality": file.quality if file and file.quality is not None else math.nan,
            "kind": float(kind_of(facts) != usual),
        }

    tables = [[of(facts) for facts in group] for group in (train, *others)]
    return [{name: np.array([row[name] for row in table], float) for name in STATISTICS} for table in tables]


def separations(train: Sequence[ImageFacts], good: Sequence[ImageFacts], defective: Sequence[ImageFacts]) -> list[Separation]:
    """Return how well each statistic separates good test images from training images, and defective from good test images.

    Statistics that are the same of all images are left out. The intervals hold together: the chance that one of them is wrong is
    5 % at most (Bonferroni).
    """
    of_train, of_good, of_defective = ({n: v[np.isfinite(v)] for n, v in g.items()} for g in statistics(train, [good, defective]))
    tested = []
    for name in STATISTICS:
        values = np.concatenate([of_train[name], of_good[name], of_defective[name]])
        if len(values) and np.ptp(values) > 0:
            pairs = {SHIFT: (of_good[name], of_train[name]), TELL: (of_defective[name], of_good[name])}
            tested += [(name, groups, *pair) for groups, pair in pairs.items() if min(map(len, pair)) >= FEWEST]
    level = 1 - (1 - CONFIDENCE) / max(1, len(tested))
    found = [(name, groups, *separation(first, second, level)) for name, groups, first, second in tested]
    return [Separation(statistic=name, groups=groups, auroc=area, low=low, high=high) for name, groups, area, low, high in found]


def distance(shown: Separation) -> float:
    """Return how far the whole interval of a separation is from 0.5; 0 where it holds 0.5."""
    return max(0.0, shown.low - 0.5, 0.5 - shown.high)


def shortcut_findings(category: str, shown: Sequence[Separation]) -> list[DataFinding]:
    """Return what the separations of a category mean, one finding for each of the two questions at most."""
    far = {groups: [s for s in shown if s.groups == groups and s.is_named] for groups in (SHIFT, TELL)}
    findings = []
    if far[SHIFT]:
        findings.append(
            DataFinding(
                kind="shift",
                wrong=any(distance(s) >= WRONG for s in far[SHIFT]),
                category=category,
                text=f"good test images are {_listed(far[SHIFT])} than the training images: what a method makes of that is in "
                "every false alarm, in what deployable thresholds do, and in the image AUROC.",
                advice="take both under the same conditions, or mix them and split anew at random; until then compare methods by "
                "numbers of pixels, and read image AUROC beside that of image_stats",
            )
        )
    if far[TELL]:
        best = max(max(s.auroc, 1 - s.auroc) for s in far[TELL])
        both = {s.statistic: s for s in far[SHIFT]}
        inherited = [s for s in far[TELL] if s.statistic in both and (both[s.statistic].auroc < 0.5) != (s.auroc < 0.5)]
        why = (
            "as the good ones differ from the training images, too, this is partly how they were taken"
            if inherited
            else "no defect changes that, so they were stored otherwise"
            if any(s.statistic in OF_THE_FILE for s in far[TELL])
            else "either the defects themselves change it, or the images were taken otherwise"
        )
        findings.append(
            DataFinding(
                kind="tell",
                wrong=any(distance(s) >= WRONG and s.statistic in OF_THE_FILE for s in far[TELL]),
                category=category,
                text=f"defective test images are {_listed(far[TELL])} than good ones: an image AUROC up to {best:.2f} needs no "
                f"sight of a defect; {why}.",
                advice="look at the contact sheet whether defects explain it, and read image AUROC beside that of image_stats; "
                "numbers of pixels are hardly touched",
            )
        )
    return findings


def _listed(shown: Sequence[Separation]) -> str:
    """Return what some separations say, the surest first: ``"darker (brightness: AUROC 0.02, interval 0.00 to 0.10)"``."""
    words = []
    for s in sorted(shown, key=distance, reverse=True):
        title, smaller, larger = STATISTICS[s.statistic]
        words.append(f"{smaller if s.auroc < 0.5 else larger} ({title}: AUROC {s.auroc:.2f}, {s.low:.2f} to {s.high:.2f})")
    return ", ".join(words)
