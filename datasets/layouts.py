"""What adapters of folders share: files as items, masks paired with their images."""

from __future__ import annotations

from pathlib import Path

from anoseg_bench.datasets.base import GOOD, Category, Dataset, Item
from anoseg_bench.datasets.images import list_images
from anoseg_bench.errors import DataError


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


def defective_items(folder: Path, masks: Path, name: str, defect: str) -> list[Item]:
    """Return the images of a folder as items of a defect type called ``<name>/<stem>``, with their masks in another folder."""
    paired = pair_masks(list_images(folder), list_images(masks), masks)
    return [Item(f"{name}/{image.stem}", defect, image, mask) for image, mask in paired]


def complete(category: Category, layout: str) -> Category:
    """Return a category, or raise DataError where it lacks images to train on or to test on, or trains on defective ones."""
    for what, there in (
        ("training images", category.train),
        ("normal test images", [item for item in category.test if item.is_good]),
        ("defective test images", [item for item in category.test if not item.is_good]),
    ):
        if not there:
            raise DataError(f"Expected {what} of '{category.name}' in '{category.folder}', but found none; expected {layout}.")
    for item in (*category.train, *category.validation):
        if not item.is_good:
            raise DataError(
                f"Expected normal images to train on in '{category.name}', but '{item.name}' is of the defect type "
                f"'{item.defect}'; give the one-class split of the dataset."
            )
    return category


class CategoryFolders(Dataset):
    """A published dataset with a folder for each category, each with ``train``; shown under its own name."""

    def categories(self) -> list[str]:
        """Return the folders of the root that hold ``train``."""
        assert self.root is not None
        return sorted(p.name for p in self.root.iterdir() if (p / "train").is_dir())

    def folder(self, category: str) -> Path:
        """Return the folder of a category."""
        assert self.root is not None
        return self.root / category
