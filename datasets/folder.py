"""A plain folder of normal, defective and mask images, without a train / test split of its own."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import Category, Dataset, DatasetConfig, FilesConfig, Item, split_off
from anoseg_bench.datasets.layouts import normal_items, pair_masks
from anoseg_bench.errors import DataError


class FolderConfig(FilesConfig):
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
        train = normal_items(folder / config.normal, "normal")
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
        return Category(category, train, [*good, *defective], folder=folder)

    def _defective(self, folder: Path) -> list[Item]:
        paired = pair_masks(folder / self.config.defective, folder / self.config.mask)
        kind_of = {name: name.partition("/")[0] if "/" in name else "defective" for name, _, _ in paired}
        return [Item(f"defective/{name}", kind_of[name], image, mask) for name, image, mask in paired]
