"""Published numbers: facts with their sources, in ``published.csv`` beside this module."""

from __future__ import annotations

import csv
import fnmatch
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from anoseg_bench.errors import UsageError
from anoseg_bench.metrics import tabled
from anoseg_bench.registry import nearest

FILE = Path(__file__).with_name("published.csv")
#: The dataset that the file is about, by its label here, and the metrics whose definition is ours by another name.
DATASET = "mvtec_ad"
SAME = {"pixel_f1_max": "f1_max"}
#: Published methods that are shown where no others are asked for.
USUAL = ("CutPaste 3-way (paper)", "DRAEM", "NSA logistic", "PaDiM WR50 (paper)", "patchcore Wide ResNet-50")


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes
    ----------
    percent : float
        As printed.
    source : str
        Where it is printed.
    """

    method: str
    metric: str
    category: str
    percent: float
    source: str


@cache
def published_numbers() -> tuple[Published, ...]:
    """Return all published numbers of metrics that this suite has too."""
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = [
            Published(r["method"], SAME.get(r["metric"], r["metric"]), r["category"], float(r["percent"]), r["source"])
            for r in csv.DictReader(file)
        ]
    return tuple(row for row in rows if row.metric in tabled())


def choose_published(text: str | None) -> list[str]:
    """Return the published methods that ``--published`` names: names and wildcards, separated by commas, or ``none``.

    Without the option, None, they are `USUAL`.

    Raises
    ------
    UsageError
        If a name fits none.
    """
    if text is None:
        return list(USUAL)
    if text.strip() == "none":
        return []
    known = list(dict.fromkeys(row.method for row in published_numbers()))
    chosen: list[str] = []
    for pattern in (part.strip() for part in text.split(",")):
        hits = [name for name in known if fnmatch.fnmatchcase(name.lower(), pattern.lower())] if pattern else []
        if pattern and not hits:
            raise UsageError(f"No published method is called '{pattern}'. {nearest(pattern, known)}")
        chosen += [name for name in hits if name not in chosen]
    return chosen
