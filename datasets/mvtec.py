"""The layout of MVTec AD: ``<root>/<category>/{train/good, test/<defect>, ground_truth/<defect>}``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import GOOD, Category, Dataset, DatasetConfig, FilesConfig, Item, Origin
from anoseg_bench.datasets.images import list_images
from anoseg_bench.datasets.layouts import normal_items, pair_masks
from anoseg_bench.errors import DataError

TEXTURES = frozenset({"carpet", "grid", "leather", "tile", "wood"})
#: Defect types that are a normal part in a wrong place.
POSITIONAL = {"transistor": frozenset({"misplaced"}), "cable": frozenset({"cable_swap"})}
OBJECTS = frozenset({"bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"})


@DATASETS.register("mvtec_layout", aliases=("mvtec_like",))
class MVTecLayout(Dataset):
    """Any data in the layout of MVTec AD; shown under the name of its root folder."""

    Config = FilesConfig
    layout = "folders, one per category, each with train/ and test/ (of one category, give the folder above it and --category)"

    def __init__(self, root: Path | None = None, config: DatasetConfig | None = None) -> None:
        super().__init__(root, config)
        self.label = root.resolve().name if root else "mvtec_layout"

    def categories(self) -> list[str]:
        """Return the folders of the root that hold ``train`` or ``test``."""
        assert self.root is not None
        return sorted(p.name for p in self.root.iterdir() if (p / "train").is_dir() or (p / "test").is_dir())

    def load(self, category: str) -> Category:
        """List the items of ``<root>/<category>``."""
        assert self.root is not None
        folder = self.root / category
        train = normal_items(folder / "train" / GOOD, "train/good")
        if not train:
            raise DataError(f"Expected normal training images in '{folder / 'train' / GOOD}', but found none.")
        test: list[Item] = []
        defects = sorted(p.name for p in (folder / "test").glob("*") if p.is_dir())
        for defect in defects:
            where = folder / "ground_truth" / defect
            if defect == GOOD:
                test += normal_items(folder / "test" / GOOD, "test/good", where)
                continue
            paired = pair_masks(folder / "test" / defect, where)
            test += [Item(f"test/{defect}/{name}", defect, image, mask) for name, image, mask in paired]
        for orphan in sorted(p for p in (folder / "ground_truth").glob("*") if p.is_dir() and p.name not in defects):
            if masks := list_images(orphan):
                raise DataError(f"The mask '{masks[0]}' has no image: there is no '{folder / 'test' / orphan.name}'.")
        if not test:
            raise DataError(f"Expected test images in '{folder / 'test'}/<defect>', but found none.")
        group: Literal["textures", "objects"] | None = (
            "textures" if category in TEXTURES else "objects" if category in OBJECTS else None
        )
        validation = normal_items(folder / "validation" / GOOD, "validation/good")
        positional = POSITIONAL.get(category, frozenset())
        return Category(category, train, test, validation, group, positional, folder)


@DATASETS.register("mvtec_ad", aliases=("mvtec",))
class MVTecAD(MVTecLayout):
    """MVTec AD (Bergmann et al. 2019), unpacked: 15 categories, or some of them."""

    origin = Origin(
        "MVTec AD, Bergmann et al. 2019, 2021",
        "CC BY-NC-SA 4.0",
        "pixel and image AUROC, AUPRO@0.3, pooled within a category, mean over the 15",
    )

    def __init__(self, root: Path | None = None, config: DatasetConfig | None = None) -> None:
        super().__init__(root, config)
        self.label = "mvtec_ad"
