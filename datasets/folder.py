"""A plain folder of normal, defective and mask images, without a train / test split of its own."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import Category, Dataset, DatasetConfig, Item, split_off
from anoseg_bench.datasets.images import list_images
from anoseg_bench.datasets.layouts import normal_items, pair_masks, unique_names
from anoseg_bench.errors import DataError


class FolderConfig(DatasetConfig):
    """Names of the folders and the split of the normal images."""

    normal: str = Field("normal", description="folder of normal images")
    normal_test: str = Field(
        "normal_test", description="folder of normal images to test on; where it is absent, test_share applies"
    )
    defective: str = Field("defective", description="folder of defective images, or of one folder per defect type")
    mask: str = Field("mask", description="folder of masks, arranged like the defective images")
    test_share: float = Field(0.2, gt=0, lt=1, description="share of the normal images to test on")
    split_seed: int = Field(0, ge=0, description="seed of that choice")


@DATASETS.register("folder")
class Folder(Dataset):
    """A plain folder, or one per category: normal/, defective/, mask/; shown under the name of the root."""

    Config = FolderConfig
    layout = "the folder of normal images (normal/, or --set folder.normal=NAME), or folders, one per category, with one in each"

    def __init__(self, root: Path | None = None, config: DatasetConfig | None = None) -> None:
        super().__init__(root, config)
        self.label = root.resolve().name if root else "folder"

    def categories(self) -> list[str]:
        """Return the root's own name if it holds the normal images itself, else its folders that do."""
        assert self.root is not None
        if (self.root / self.config.normal).is_dir():
            return [self.label]
        return sorted(p.name for p in self.root.iterdir() if (p / self.config.normal).is_dir())

    def load(self, category: str) -> Category:
        """List the items; normal images for the test are those of `normal_test`, or a seeded share of `normal`."""
        assert self.root is not None
        config = self.config
        folder = self.root if (self.root / config.normal).is_dir() else self.root / category
        train = unique_names(normal_items(folder / config.normal, "normal"), folder)
        if not train:
            raise DataError(f"Expected normal training images in '{folder / config.normal}', but found none.")
        good = normal_items(folder / config.normal_test, "normal_test")
        if not good:
            train, good = split_off(train, config.test_share, config.split_seed)
        defective = self._defective(folder)
        if not defective:
            there = ", ".join(sorted(f"{p.name}/" for p in folder.iterdir() if p.is_dir()))
            raise DataError(
                f"Expected defective images in '{folder / config.defective}', but found none; there are {there}: name theirs by "
                "--set folder.defective=NAME."
            )
        return Category(category, train, unique_names([*good, *defective], folder))

    def _defective(self, folder: Path) -> list[Item]:
        top, masks = folder / self.config.defective, folder / self.config.mask
        kinds = ["", *sorted(p.name for p in top.glob("*") if p.is_dir())]
        orphans = sorted(p for p in masks.glob("*") if p.is_dir() and p.name not in kinds)
        for orphan in orphans:
            if files := list_images(orphan):
                raise DataError(f"The mask '{files[0]}' has no image: there is no '{top / orphan.name}'.")
        return [
            Item("/".join(filter(None, ("defective", kind, image.stem))), kind or "defective", image, mask)
            for kind in kinds
            for image, mask in pair_masks(list_images(top / kind), list_images(masks / kind), masks / kind)
        ]
