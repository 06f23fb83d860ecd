"""KolektorSDD2: ``<root>/{train, test}/NNNNN.png``, each with ``NNNNN_GT.png``, which is black where nothing is defective."""

from __future__ import annotations

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import GOOD, Category, Dataset, FilesConfig, Item, Origin
from anoseg_bench.datasets.images import list_images, read_mask
from anoseg_bench.datasets.layouts import complete
from anoseg_bench.errors import DataError


@DATASETS.register("kolektor_sdd2", aliases=("ksdd2",))
class KolektorSDD2(Dataset):
    """KolektorSDD2 (Bozic et al. 2021), unpacked: one category; the defective images of its training part are left out."""

    origin = Origin(
        "KolektorSDD2, Bozic et al. 2021",
        "CC BY-NC-SA 4.0",
        "one-class methods only; image AP",
    )
    Config = FilesConfig
    label = "kolektor_sdd2"
    layout = "train/ and test/ with NNNNN.png and NNNNN_GT.png"

    def categories(self) -> list[str]:
        """Return the one category, if its folders are there."""
        assert self.root is not None
        return [self.label] if (self.root / "train").is_dir() and (self.root / "test").is_dir() else []

    def load(self, category: str) -> Category:
        """List the items; the masks are read, as nothing else tells which images are defective."""
        train = [item for item in self._items("train") if item.is_good]
        return complete(Category(category, train, self._items("test"), folder=self.root), self.layout)

    def _items(self, split: str) -> list[Item]:
        """Return the items of a split: files whose names are numbers, so without stray copies as ``10301 (copy).png``."""
        assert self.root is not None
        items = []
        for image in list_images(self.root / split):
            if not image.stem.isdecimal():
                continue
            mask = image.with_name(f"{image.stem}_GT{image.suffix}")
            if not mask.is_file():
                raise DataError(f"Expected the mask '{mask}' of '{image}', but there is none; copy the dataset again.")
            defective = read_mask(mask).any()
            name = f"{split}/{image.stem}"
            items.append(Item(name, "defect" if defective else GOOD, image, mask))
        return items
