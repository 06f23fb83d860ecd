"""BTAD: ``<root>/<01, 02, 03>/{train/ok, test/ok, test/ko, ground_truth/ko}``, in bmp and png."""

from __future__ import annotations

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import Category, Origin
from anoseg_bench.datasets.layouts import CategoryFolders, complete, defective_items, normal_items


@DATASETS.register("btad")
class BTAD(CategoryFolders):
    """BTAD, the beanTech anomaly detection data (Mishra et al. 2021), unpacked: 3 products."""

    origin = Origin(
        "BTAD, Mishra et al. 2021",
        "none found in the data; others quote CC BY-NC-SA 4.0",
        "AUROC of each product, mean over the 3",
    )
    label = "btad"
    layout = "the folders 01, 02, 03, each with train/ok, test/ok, test/ko and ground_truth/ko"

    def load(self, category: str) -> Category:
        """List the items of ``<root>/<category>``; all defects are of the one type ``ko``."""
        folder = self.folder(category)
        train = normal_items(folder / "train" / "ok", "train/ok")
        test = normal_items(folder / "test" / "ok", "test/ok")
        test += defective_items(folder / "test" / "ko", folder / "ground_truth" / "ko", "test/ko", "ko")
        return complete(Category(category, train, test, folder=folder), self.layout)
