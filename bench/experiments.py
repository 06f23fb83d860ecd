"""The paper's questions as experiments: each a named set of variants over the same plan and store. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anoseg_bench.errors import UsageError
from anoseg_bench.registry import nearest


@dataclass(frozen=True)
class Experiment:
    """A question and the variants that answer it.

    Attributes
    ----------
    summary : str
        The question.
    methods : str
        The variants as typed after ``--methods``; `anoseg_bench.report.experiments` has its table and figure.
    levels : mapping of str to mapping
        Settings that each variant is crossed with, by their titles.
    any_methods : bool
        Whether a user may name other ones.
    shifts : bool
        Whether test images are also predicted under the shifts of `anoseg_bench.shifts`.
    """

    summary: str
    methods: str
    levels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    any_methods: bool = False
    shifts: bool = False


#: What the rules of AnoSeg's recipe give way to where they are off: the same for every category.
RULES = ("pose", "foreground", "foreground_weight=1", "largest_area=0.33", "turns=false", "visible=10", "exposure=0.1")
#: What is added to AnoSeg step by step, from pasted rectangles alone: a name and the switches that go on, or what takes their place
#: below that step.
ABLATION: Sequence[tuple[str, tuple[str, ...]]] = (
    ("paste only", ()),
    ("+ hard augmentation", ("hard_augmentation",)),
    ("+ adversarial, masked reconstruction", ("adversarial", "reconstruction")),
    ("+ coordinates", ("coord",)),
    ("+ varied shapes (ours)", ("varied_shapes",)),
    ("+ foreign patches (ours)", ("foreign_patches",)),
    ("+ fill, retouch (ours)", ("synthetic_fill",)),
    ("+ deformation (ours)", ("deformation",)),
    ("+ blending (ours)", ("blending",)),
    ("+ visible change (ours)", ("visible_change",)),
    ("+ placement (ours)", ("placement",)),
    ("+ mixture with the paper's (ours)", ("mixture",)),
    ("+ normal augmentation (ours)", ("normal_augmentation", "motion")),
    ("+ contrast, light (ours)", ("contrast", "same_light")),
    ("+ restoration (ours)", ("restoration",)),
    ("+ comparison (ours)", ("comparison",)),
    ("+ weight averaging (ours)", ("weight_averaging",)),
    ("+ fine lines (ours)", ("fine_lines",)),
    ("+ anomaly weight, smoothing (ours)", ("anomaly_weight=1", "smoothing=0")),
    ("+ rules from the training images (ours)", RULES),
)


#: The steps with all that is known of the paper and nothing of ours, and with all of both.
PAPER, ALL = 3, len(ABLATION) - 1


def at_step(step: int, label: str) -> str:
    """Return AnoSeg at a step of `ABLATION`, as a variant: all switches above it are off."""
    off = [switch if "=" in switch else f"{switch}=false" for _, switches in ABLATION[step + 1 :] for switch in switches]
    return f"anoseg[{''.join(f'{switch},' for switch in off)}label={label.replace(',', ' and')}]"


#: Methods for what is asked of each alike.
PEERS = "anoseg,anoseg_pretrained,patchcore,padim"
#: The largest share of contaminated images: as many are taken out of the test at every level, so that all have the same test.
MOST_NOISE = 0.1

EXPERIMENTS = {
    "ablation": Experiment(
        "how much does each part contribute?", ",".join(at_step(step, name) for step, (name, _) in enumerate(ABLATION))
    ),
    "parts": Experiment(
        "what do the paper's parts give alone, and all of ours with them?",
        ",".join([at_step(0, "paste only"), at_step(PAPER, "the paper's parts"), at_step(ALL, "all with ours")]),
    ),
    "coordinates": Experiment(
        "how much do coordinates help where position decides?",
        "anoseg[label=with coordinates],anoseg[coord=false,label=without coordinates]",
    ),
    "detection": Experiment(
        "does the map improve the detection of defective images?",
        "anoseg,anoseg[detector_map=false,label=anoseg without the map],ae_recon,gradcam",
    ),
    "pretraining": Experiment("from scratch or pretrained?", "anoseg,anoseg_pretrained,patchcore,padim"),
    "robustness": Experiment("over which thresholds does the IoU stay high?", "anoseg,ae_recon,ae_ssim,gradcam,pixel_stats,random"),
    "few": Experiment(
        "how many training images does it take?",
        PEERS,
        {f"{100 * share:.0f} %": {"train_share": share} for share in (0.05, 0.1, 0.25, 0.5, 1.0)},
        any_methods=True,
    ),
    "noisy": Experiment(
        "what do unnoticed defective training images do?",
        PEERS,
        {f"{100 * share:.0f} % noise": {"noise": share, "set_aside": MOST_NOISE} for share in (0.0, 0.02, 0.05, MOST_NOISE)},
        any_methods=True,
    ),
    "resolution": Experiment(
        "which image size is worth its cost?",
        PEERS,
        {f"{size} px": {"image_size": size} for size in (64, 128, 256, 512)},
        any_methods=True,
    ),
    "shift": Experiment(
        "what becomes of the deployed decision when light, focus or camera change?",
        "anoseg,anoseg_pretrained,patchcore,padim,ae_ssim",
        any_methods=True,
        shifts=True,
    ),
}


def find_experiment(name: str) -> Experiment:
    """Return the experiment that a user names.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in EXPERIMENTS:
        raise UsageError(f"Unknown experiment '{name}'. {nearest(name, EXPERIMENTS)}")
    return EXPERIMENTS[name]
