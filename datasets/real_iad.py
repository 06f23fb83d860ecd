"""Real-IAD: images below ``<root>/realiad_1024/<category>``, listed by ``<root>/realiad_jsons/<category>.json``."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import GOOD, Category, Dataset, FilesConfig, Item, Origin
from anoseg_bench.datasets.layouts import complete
from anoseg_bench.errors import DataError


class RealIADConfig(FilesConfig):
    """Which images, in which split."""

    images: str = Field("realiad_1024", description="folder of the images: realiad_1024, realiad_512, realiad_256 or realiad_raw")
    splits: str = Field("realiad_jsons", description="folder of the splits: realiad_jsons (five views), realiad_jsons_sv (one)")


class Sample(BaseModel):
    """An image of a split file."""

    anomaly_class: str
    image_path: str
    mask_path: str | None = None


class Meta(BaseModel):
    """What all images of a split file share: the folder of their paths, and the name of what is normal."""

    prefix: str
    normal_class: str


class Split(BaseModel):
    """A split file."""

    meta: Meta
    train: list[Sample]
    test: list[Sample]


@DATASETS.register("real_iad")
class RealIAD(Dataset):
    """Real-IAD (Wang et al. 2024), unpacked: 30 categories, each object seen from five sides."""

    origin = Origin(
        "Real-IAD, Wang et al. 2024",
        "for research, on application",
        "image AUROC and AUPRO@0.3 of single images",
    )
    Config = RealIADConfig
    label = "real_iad"
    layout = (
        "realiad_jsons/<category>.json and realiad_1024/<category> (other folders: --set real_iad.images=..., real_iad.splits=...)"
    )

    def categories(self) -> list[str]:
        """Return the categories that have a split file and a folder of images."""
        assert self.root is not None
        return sorted(path.stem for path in self._folder().glob("*.json") if (self.root / self.config.images / path.stem).is_dir())

    def load(self, category: str) -> Category:
        """List the items of a category; a test image without a mask is normal, whatever its object is, as in the authors' code."""
        assert self.root is not None
        path = self._folder() / f"{category}.json"
        try:
            split = Split.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(
                f"Expected a split file with meta, train and test at '{path}', but it cannot be read "
                f"({str(error).splitlines()[0]}); copy it again."
            ) from error
        images = self.root / self.config.images / split.meta.prefix

        def item(sample: Sample, where: str) -> Item:
            seen = where == "train" or sample.mask_path
            defect = sample.anomaly_class if seen and sample.anomaly_class != split.meta.normal_class else GOOD
            mask = images / sample.mask_path if defect != GOOD and sample.mask_path else None
            name = Path(sample.image_path).with_suffix("").as_posix()
            return Item(f"{where}/{name}", defect, images / sample.image_path, mask)

        train, test = [item(sample, "train") for sample in split.train], [item(sample, "test") for sample in split.test]
        return complete(Category(category, train, test, folder=images), self.layout)

    def _folder(self) -> Path:
        """Return the folder of the split files, which the archive of all of them has within another."""
        assert self.root is not None
        inside = self.root / "realiad_jsons" / self.config.splits
        return inside if inside.is_dir() else self.root / self.config.splits
