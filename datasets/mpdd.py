"""MPDD, in the layout of MVTec AD."""

from __future__ import annotations

from pathlib import Path

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import DatasetConfig, Origin
from anoseg_bench.datasets.mvtec import MVTecLayout


@DATASETS.register("mpdd")
class MPDD(MVTecLayout):
    """MPDD, metal parts in changing poses (Jezek et al. 2021), unpacked: 6 categories."""

    origin = Origin(
        "MPDD, Jezek et al. 2021",
        "none stated in its repository",
        "pixel and image AUROC, AUPRO@0.3, mean over the 6",
    )

    def __init__(self, root: Path | None = None, config: DatasetConfig | None = None) -> None:
        super().__init__(root, config)
        self.label = "mpdd"
