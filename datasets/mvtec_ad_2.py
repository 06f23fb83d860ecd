"""MVTec AD 2: ``<root>/<category>/{train, validation, test_public}``, and private test images, whose masks only its server has."""

from __future__ import annotations

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import Category, Origin
from anoseg_bench.datasets.layouts import CategoryFolders, complete, defective_items, normal_items


@DATASETS.register("mvtec_ad_2")
class MVTecAD2(CategoryFolders):
    """MVTec AD 2 (Heckler-Kram et al. 2025), unpacked: 8 categories, the public test; `submit` writes maps of the private one."""

    origin = Origin(
        "MVTec AD 2, Heckler-Kram et al. 2025",
        "CC BY-NC-SA 4.0",
        "AUPRO@0.05 on the public test only where a paper says that it is of it",
    )
    label = "mvtec_ad_2"
    layout = (
        "folders, one per category, each with train/good, validation/good, test_public/good, test_public/bad and "
        "test_public/ground_truth/bad"
    )

    def load(self, category: str) -> Category:
        """List the items of ``<root>/<category>``; all defects are of the one type ``bad``."""
        folder = self.folder(category)
        test = folder / "test_public"
        tested = normal_items(test / "good", "test_public/good")
        tested += defective_items(test / "bad", test / "ground_truth" / "bad", "test_public/bad", "bad")
        train = normal_items(folder / "train" / "good", "train/good")
        validation = normal_items(folder / "validation" / "good", "validation/good")
        return complete(Category(category, train, tested, validation, folder=folder), self.layout)
