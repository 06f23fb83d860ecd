"""What a cell stores of itself, typed: written and read as ``cell.json`` through these classes alone."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from anoseg_bench.formatting import counted, one_line
from anoseg_bench.metrics import VERSION as METRICS_VERSION
from anoseg_bench.shifts import SHIFTS
from anoseg_bench.shifts import VERSION as SHIFTS_VERSION

#: The form that records are written in; older ones down to `OLDEST` are read, and cells of others run again.
SCHEMA, OLDEST = 2, 1


def _nan_for_none(value: Any) -> Any:
    return math.nan if value is None else value


#: A number that may be undefined: NaN here, null in JSON.
Number = Annotated[float, BeforeValidator(_nan_for_none)]


class Record(BaseModel):
    """Part of what a cell stores; what a newer version adds to a part is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Timing(Record):
    """What a cell cost: seconds on the clock and of the processor, images per second one at a time and 16 at once, MiB."""

    train_s: Number = math.nan
    train_cpu_s: Number = math.nan
    predict_s: Number = math.nan
    predict_cpu_s: Number = math.nan
    images_per_s_1: Number = math.nan
    images_per_s_16: Number = math.nan
    parameters: Number = math.nan
    multiply_adds: Number = math.nan
    model_mib: Number = math.nan
    train_peak_mib: Number = math.nan
    predict_peak_mib: Number = math.nan


class Provenance(Record):
    """What is needed to make a result again, beside its configuration; `concurrency` cells ran on the machine at once."""

    commit: str | None = None
    dirty: bool = False
    versions: dict[str, str] = {}
    platform: str = "unknown"
    device: str = "cpu"
    device_name: str = "an unknown device"
    threads: int | None = None
    concurrency: int = 1

    @property
    def revision(self) -> str:
        """The commit in words: ``"abc with uncommitted changes"``, ``"unknown"``."""
        return f"{self.commit or 'unknown'}{' with uncommitted changes' if self.dirty else ''}"

    @property
    def machine(self) -> str:
        """In words what the cell ran on: device, threads, cells at once."""
        threads = "? threads" if self.threads is None else counted(self.threads, "thread")
        several = f", {self.concurrency} cells at once" if self.concurrency != 1 else ""
        return f"{one_line(self.device_name)}, {threads}{several}"


class ImageCounts(Record):
    """Numbers of images of each part; `contaminated`: how many of those taken for normal, to train or held out, are defective."""

    train: int | None = None
    contaminated: int = 0
    held_out: int = 0
    test_good: int = 0
    test_defective: int = 0


class Regions(Record):
    """Number of defective regions, and their smallest, median and largest size in pixels."""

    number: int = 0
    smallest: Number = math.nan
    median: Number = math.nan
    largest: Number = math.nan


class ShiftKind(Record):
    """A kind of shift; see `anoseg_bench.shifts.Shift`."""

    name: str
    unit: str
    strengths: list[float]

    def in_words(self, *strengths: int) -> str:
        """Return some strengths, from 1, in their unit: ``"quality 85, 60"``."""
        return self.unit.replace("{}", ", ".join(f"{self.strengths[strength - 1]:g}" for strength in strengths))


class Shifts(Record):
    """Under which shifts the image scores of test images are known."""

    version: int
    kinds: list[ShiftKind]

    @classmethod
    def stated(cls) -> Shifts:
        """Return what `anoseg_bench.shifts` states."""
        return cls(version=SHIFTS_VERSION, kinds=[ShiftKind(**asdict(shift)) for shift in SHIFTS])


class ScoredMaps(Record):
    """Where maps of another tool come from."""

    folder: str = ""
    normals: int = 0
    image_scores: str = ""
    about: dict[str, Any] = {}
    command: str = ""


class Identity(Record):
    """What a result depends on: what was trained, or which maps were scored, and the version of the metrics."""

    trained: dict[str, Any] | None = None
    scored: dict[str, Any] | None = None
    metrics: int = 0


class Made(Record):
    """How the maps of a cell came about.

    Attributes
    ----------
    config : dict
        The complete configuration of the method; empty for maps of another tool.
    conditions : dict
        What the harness did otherwise for the variant.
    deviations : str or None
        How the training deviates from the published schedule.
    pretrained : str or None
        Which weights, trained on other images, the method rests on.
    content : str
        Hash of the category's images and masks, and of the names of those tested where some are left out.
    source : str or None
        Hash of the method's code.
    findings : dict
        See `Method.findings`.
    evaluated : Provenance or None
        Of a later evaluation by other metrics.
    """

    identity: Identity = Identity()
    method: str
    config: dict[str, Any] = {}
    conditions: dict[str, Any] = {}
    deviations: str | None = None
    pretrained: str | None = None
    dataset: str
    seed: int
    content: str = ""
    source: str | None = None
    timing: Timing | None = None
    training_curve: list[tuple[int, Number]] = []
    findings: dict[str, Any] = {}
    provenance: Provenance = Provenance()
    evaluated: Provenance | None = None
    images: ImageCounts = ImageCounts()
    maps: ScoredMaps | None = None


class CellRecord(Made):
    """All of ``cell.json``.

    Attributes
    ----------
    group : str or None
        ``"textures"``, ``"objects"``, or unknown.
    positional : list of str
        The defect types that only their position tells.
    values : dict of str to float
        The numbers of `metrics.Evaluation`, NaN where undefined, for which `reasons` says why.
    defects : dict
        Numbers by defect type.
    scaled : bool
        Whether the axis of the map's value is scaled on the test set.
    mode : {"exact", "bounded"}
        How the metrics counted.
    items : list of (str, str)
        Names and defect types of the test images.
    value_range : tuple of float or None
        What was black and white in images of more than 8 bits; None for 8 bits, or the ends of the type.
    page : int or None
        Which picture of files with several.
    shifts : Shifts or None
        Under which shifts there are image scores.
    files : dict of str to int
        Sizes of the cell's other files, in bytes.
    """

    category: str
    group: str | None = None
    positional: list[str] = []
    values: dict[str, Number]
    reasons: dict[str, str] = {}
    defects: dict[str, dict[str, Number]] = {}
    scaled: bool = False
    mode: str = "exact"
    items: list[tuple[str, str]] = []
    regions: Regions = Regions()
    value_range: tuple[float, float] | None = None
    page: int | None = None
    shifts: Shifts | None = None
    files: dict[str, int] = {}
    schema_version: int = Field(1, ge=OLDEST, le=SCHEMA)

    @property
    def is_evaluated(self) -> bool:
        """Whether this version of the metrics made the numbers."""
        return self.identity.metrics == METRICS_VERSION

    @property
    def is_shifted(self) -> bool:
        """Whether there are image scores under the shifts of this version."""
        return self.shifts is not None and self.shifts.version == SHIFTS_VERSION


class DataFinding(Record):
    """Something about the images that a reader of the numbers should know.

    Attributes
    ----------
    kind : str
        What it is, in one word for programs: ``"copies"``, ``"inverted mask"``, ``"shift"``, ...
    wrong : bool
        Whether it makes numbers wrong; else they are to be read with care.
    category : str
    text, advice : str
        What was found with what it does to which number, and what to do about it.
    images : list of str
        Those that it is about, some at least.
    """

    kind: str
    wrong: bool
    category: str
    text: str
    advice: str
    images: list[str] = []


#: How far from 0.5 an AUROC of a statistic of whole images matters.
TELLING = 0.15


class Separation(Record):
    """How well one statistic of whole images separates two groups of them.

    Attributes
    ----------
    statistic : str
        ``"brightness"``, ...
    groups : {"good test / train", "defective / good test"}
        Which images, against which.
    auroc : float
        The probability that it is larger in the first group.
    low, high : float
        Interval, 95 % for all statistics and groups of the category together.
    """

    statistic: str
    groups: str
    auroc: Number
    low: Number
    high: Number

    @property
    def is_named(self) -> bool:
        """Whether it matters (`TELLING` from 0.5) and is surely there (the interval does not hold 0.5)."""
        return abs(self.auroc - 0.5) >= TELLING and not self.low <= 0.5 <= self.high


class MaskSummary(Record):
    """The masks of one defect type: shares of the image that they mark, and their regions.

    Attributes
    ----------
    smallest_area, median_area : float
        Of the regions, in pixels.
    vanish : dict of int to int
        By side of the square that images are resized to: how many regions mark no pixel there by half.
    """

    images: int
    smallest_share: Number
    median_share: Number
    largest_share: Number
    regions: int
    smallest_area: Number
    median_area: Number
    vanish: dict[int, int]


class CategoryData(Record):
    """What is known of the images of a category.

    Attributes
    ----------
    counts : dict of str to dict of str to int
        Images by split and defect type.
    sizes, kinds : dict of str to int
        Images by width x height, and by format, mode and bits.
    turned : int
        Images whose orientation tag turns them.
    held_out : int
        Normal images for thresholds.
    decisions : str
        In words, which decisions these allow.
    split : str
        In words, where the good test images come from.
    copies : list of list of str
        Names of the images that are copies of each other.
    """

    name: str
    counts: dict[str, dict[str, int]]
    sizes: dict[str, int] = {}
    kinds: dict[str, int] = {}
    turned: int = 0
    held_out: int = 0
    decisions: str = ""
    split: str = ""
    masks: dict[str, MaskSummary] = {}
    separations: list[Separation] = []
    copies: list[list[str]] = []


class DataNote(Record):
    """What is said of the images.

    By whoever gave them in the file `source`, its text and its lines ``licence:`` and ``split:``; and what their adapter knows of
    published ones, whose licence counts where the file says none.
    """

    source: str = ""
    text: str = ""
    licence: str = ""
    split: str = ""
    citation: str = ""
    comparable: str = ""


class DataReport(Record):
    """The images of a run: what they are, what was found about them, what is said of them."""

    categories: list[CategoryData] = []
    findings: list[DataFinding] = []
    note: DataNote | None = None


class RunRecord(Record, frozen=False):
    """How a run was asked for: the head of its manifest.

    Attributes
    ----------
    command : str
        The command line.
    profile : str or None
        None where nothing was trained: of scored maps.
    synthetic : bool
        Whether the images are those that this project draws.
    holdout : float or None
        Share of the training images held out for thresholds; None for scored maps.
    commit : str or None
        The commit of the checkout that ran, in words.
    excluded : list of str
        Images that were left out.
    pictures : bool
        Whether pictures go with it; False where it was packed without.
    data : DataReport or None
        What is known of the images; None in runs of older versions.
    """

    schema_version: Annotated[int, Field(ge=OLDEST, le=SCHEMA)] = SCHEMA
    command: str = "unknown"
    profile: str | None = "unknown"
    dataset: str = "unknown"
    synthetic: bool = False
    holdout: float | None = None
    seeds: list[int] = []
    device: str = "unknown"
    commit: str | None = None
    experiment: str | None = None
    excluded: list[str] = []
    pictures: bool = True
    data: DataReport | None = None
