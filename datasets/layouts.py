"""What adapters of folders share: files as items, masks paired with their images."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from anoseg_bench.datasets.base import GOOD, Category, Dataset, FilesConfig, Item
from anoseg_bench.datasets.images import list_images
from anoseg_bench.errors import DataError


def name_of(path: Path, folder: Path) -> str:
    """Return the path of a file in a folder without its extension, ``/`` between folders, in the composed form of Unicode."""
    return unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())


def pair_masks(folder: Path, where: Path) -> list[tuple[str, Path, Path]]:
    """Pair the images below a folder with their masks: ``day2/000.png`` with ``day2/000_mask.png`` or ``day2/000.png``.

    Returns
    -------
    list of (str, Path, Path)
        Name (see `name_of`), image and mask.

    Raises
    ------
    DataError
        If an image has no mask or more than one, or a mask has no image.
    """
    images, masks = unique_files(folder), [(name_of(mask, where), mask) for mask in list_images(where)]
    paired: dict[str, Path] = {}
    for full, mask in masks:
        name = full if full in images else full.removesuffix("_mask")
        if name not in images:
            raise DataError(f"The mask '{mask}' has no image '{folder / name}.*'; add the image or remove the mask.")
        if name in paired:
            raise DataError(f"Two masks for one image: '{paired[name]}' and '{mask}'; remove one of them.")
        paired[name] = mask
    if missing := [name for name in images if name not in paired]:
        more = f"; {len(missing) - 1} more below '{folder}' have none" if len(missing) > 1 else ""
        wanted = where / missing[0]
        raise DataError(
            f"The defective test image '{images[missing[0]]}' has no mask; expected '{wanted}_mask.*' or '{wanted}.*'{more}."
        )
    return [(name, image, paired[name]) for name, image in images.items()]


def normal_items(folder: Path, name: str, masks: Path | None = None) -> list[Item]:
    """Return the images below a folder as normal items called ``<name>/<their path>``, with masks that lie in `masks`, if any."""
    of = {name_of(mask, masks).removesuffix("_mask"): mask for mask in list_images(masks)} if masks else {}
    return [Item(f"{name}/{own}", GOOD, path, of.get(own)) for own, path in unique_files(folder).items()]


def unique_files(folder: Path) -> dict[str, Path]:
    """Return the images below a folder by their names, or raise DataError where two share one (``000.png``, ``000.jpg``)."""
    files: dict[str, Path] = {}
    for path in list_images(folder):
        if (other := files.setdefault(name_of(path, folder), path)) != path:
            raise DataError(f"Two images of one name in '{folder}': '{other}' and '{path}'; rename one.")
    return files


def defective_items(folder: Path, masks: Path, name: str, defect: str) -> list[Item]:
    """Return the images below a folder as items of a defect type called ``<name>/<their path>``, with their masks in `masks`."""
    return [Item(f"{name}/{own}", defect, image, mask) for own, image, mask in pair_masks(folder, masks)]


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

    Config = FilesConfig

    def categories(self) -> list[str]:
        """Return the folders of the root that hold ``train``."""
        assert self.root is not None
        return sorted(p.name for p in self.root.iterdir() if (p / "train").is_dir())

    def folder(self, category: str) -> Path:
        """Return the folder of a category."""
        assert self.root is not None
        return self.root / category
