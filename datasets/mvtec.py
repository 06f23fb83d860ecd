"""The layout of MVTec AD: ``<root>/<category>/{train/good, test/<defect>, ground_truth/<defect>}``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import GOOD, Category, Dataset, DatasetConfig, Item
from anoseg_bench.datasets.images import list_images
from anoseg_bench.errors import DataError

TEXTURES = frozenset({"carpet", "grid", "leather", "tile", "wood"})
#: Defect types that are a normal part in a wrong place.
POSITIONAL = {"transistor": frozenset({"misplaced"}), "cable": frozenset({"cable_swap"})}
OBJECTS = frozenset({"bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"})


def pair_masks(images: list[Path], masks: list[Path], where: Path) -> list[tuple[Path, Path]]:
    """Pair images with masks by stem (``000.png`` with ``000_mask.png`` or ``000.png``).

    Raises
    ------
    DataError
        If an image has no mask or more than one, or a mask has no image.
    """
    by_stem: dict[str, Path] = {}
    stems = {image.stem for image in images}
    for mask in masks:
        stem = mask.stem.removesuffix("_mask") if mask.stem not in stems else mask.stem
        if stem not in stems:
            raise DataError(f"The mask '{mask}' has no image of the stem '{stem}'; add the image or remove the mask.")
        if stem in by_stem:
            raise DataError(f"Two masks for one image: '{by_stem[stem]}' and '{mask}'; remove one of them.")
        by_stem[stem] = mask
    for image in images:
        if image.stem not in by_stem:
            raise DataError(
                f"The defective test image '{image}' has no mask; expected '{where}/{image.stem}_mask.*' or "
                f"'{where}/{image.stem}.*'."
            )
    return [(image, by_stem[image.stem]) for image in images]


def normal_items(folder: Path, name: str) -> list[Item]:
    """Return the images of a folder as normal items called ``<name>/<stem>``."""
    return [Item(f"{name}/{path.stem}", GOOD, path) for path in list_images(folder)]


def unique_names(items: list[Item], where: Path) -> list[Item]:
    """Return the items, or raise DataError where two files share a stem (``000.png`` and ``000.jpg``)."""
    seen: dict[str, Item] = {}
    for item in items:
        if item.name in seen:
            raise DataError(f"Two images of one stem in '{where}': '{seen[item.name].image}' and '{item.image}'; rename one.")
        seen[item.name] = item
    return items


@DATASETS.register("mvtec_layout", aliases=("mvtec_like",))
class MVTecLayout(Dataset):
    """Any data in the layout of MVTec AD; shown under the name of its root folder."""

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
            images = list_images(folder / "test" / defect)
            if defect == GOOD:
                test += normal_items(folder / "test" / GOOD, "test/good")
                continue
            where = folder / "ground_truth" / defect
            test += [
                Item(f"test/{defect}/{image.stem}", defect, image, mask)
                for image, mask in pair_masks(images, list_images(where), where)
            ]
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
        return Category(category, unique_names(train, folder), unique_names(test, folder), validation, group, positional)


@DATASETS.register("mvtec_ad", aliases=("mvtec",))
class MVTecAD(MVTecLayout):
    """MVTec AD (Bergmann et al. 2019), unpacked: 15 categories, or some of them."""

    def __init__(self, root: Path | None = None, config: DatasetConfig | None = None) -> None:
        super().__init__(root, config)
        self.label = "mvtec_ad"
