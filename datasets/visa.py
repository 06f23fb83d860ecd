"""VisA by its split file ``split_csv/1cls.csv``, or in the layout of MVTec AD, into which its ``prepare_data.py`` copies it."""

from __future__ import annotations

import csv
from pathlib import Path

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import GOOD, Category, DatasetConfig, Item, Origin
from anoseg_bench.datasets.layouts import complete
from anoseg_bench.datasets.mvtec import MVTecLayout
from anoseg_bench.errors import DataError

SPLIT = Path("split_csv", "1cls.csv")
COLUMNS = ("object", "split", "label", "image", "mask")


@DATASETS.register("visa")
class VisA(MVTecLayout):
    """VisA (Zou et al. 2022), unpacked, or copied by its prepare_data.py: 12 categories, the one-class split."""

    origin = Origin(
        "VisA, Zou et al. 2022",
        "CC BY 4.0",
        "the one-class split: AUROC, pixel AP, mean over the 12",
    )
    layout = f"the folders of the categories with {SPLIT.as_posix()} beside them, or the folder 1cls that prepare_data.py writes"

    def __init__(self, root: Path | None = None, config: DatasetConfig | None = None) -> None:
        super().__init__(root, config)
        self.label = "visa"

    def categories(self) -> list[str]:
        """Return the objects of the split file whose folders are there; without that file, those of the layout of MVTec AD."""
        assert self.root is not None
        if not (self.root / SPLIT).is_file():
            return super().categories()
        return sorted(name for name in {row["object"] for row in self._rows()} if (self.root / name).is_dir())

    def load(self, category: str) -> Category:
        """List the items of a category; all defects are of the one type ``anomaly`` (of ``bad``, in the copied layout)."""
        assert self.root is not None
        if not (self.root / SPLIT).is_file():
            return super().load(category)
        items: dict[str, list[Item]] = {"train": [], "test": []}
        for row in self._rows():
            if row["object"] == category and row["split"] in items:
                items[row["split"]].append(self._item(row))
        return complete(Category(category, items["train"], items["test"], folder=self.root / category), self.layout)

    def _item(self, row: dict[str, str]) -> Item:
        assert self.root is not None
        defect = GOOD if row["label"] == "normal" else row["label"]
        mask = None if defect == GOOD else self.root / row["mask"]
        return Item(f"{row['split']}/{defect}/{Path(row['image']).stem}", defect, self.root / row["image"], mask)

    def _rows(self) -> list[dict[str, str]]:
        assert self.root is not None
        path = self.root / SPLIT
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if not set(COLUMNS) <= set(table.fieldnames or ()):
                raise DataError(
                    f"Expected the columns {', '.join(COLUMNS)} in '{path}', but got {', '.join(table.fieldnames or ())}."
                )
            return list(table)
