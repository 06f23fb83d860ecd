"""MVTec LOCO AD: the layout of MVTec AD with a validation split, a folder of masks for each image, and saturation thresholds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import Category, Item, Origin
from anoseg_bench.datasets.images import list_images, open_picture
from anoseg_bench.datasets.layouts import CategoryFolders, complete, normal_items
from anoseg_bench.errors import DataError

CONFIG = "defects_config.json"
DEFECTS = ("logical_anomalies", "structural_anomalies")


class Saturation(BaseModel):
    """What the configuration says of the defects that one pixel value marks.

    Attributes
    ----------
    saturation_threshold : int or float
        How much of such a defect is enough: pixels, or a share of its own.
    relative_saturation : bool
        Whether it is a share.
    """

    pixel_value: int
    saturation_threshold: float
    relative_saturation: bool

    def area(self, pixels: int) -> int:
        """Return how many pixels of a defect of so many are enough: rounded down as the published evaluation does, at least one."""
        threshold = self.saturation_threshold
        return max(1, int(threshold * pixels) if self.relative_saturation else min(int(threshold), pixels))


def read_region(path: Path, saturations: dict[int, Saturation]) -> tuple[np.ndarray, int]:
    """Return the region of a mask file, bool (H, W), and how many of its pixels are enough.

    Raises
    ------
    DataError
        If the file cannot be read, or holds something else than black and one value of the configuration.
    """
    values = open_picture(path).values
    values = values if values.ndim == 2 else values.max(axis=2)
    found = [int(value) for value in np.unique(values) if value]
    if len(found) != 1 or found[0] not in saturations:
        known, there = (", ".join(map(str, sorted(some))) for some in (saturations, found))
        raise DataError(
            f"Expected one pixel value beside 0 in '{path}', of those in {CONFIG} ({known}), but got {there or 'none'}; copy "
            "both again."
        )
    region = values > 0
    return region, saturations[found[0]].area(int(region.sum()))


def read_regions(paths: list[Path], saturations: dict[int, Saturation]) -> list[tuple[np.ndarray, int]]:
    """Return the regions of an image, one a mask file; see `read_region`."""
    regions = [read_region(path, saturations) for path in paths]
    if len(sizes := {region.shape for region, _ in regions}) > 1:
        raise DataError(f"Expected masks of one size in '{paths[0].parent}', but got {sorted(sizes)}; copy them again.")
    return regions


def read_union(paths: list[Path], saturations: dict[int, Saturation]) -> np.ndarray:
    """Return the mask of an image, bool (H, W): all its regions."""
    return np.logical_or.reduce([region for region, _ in read_regions(paths, saturations)])


@DATASETS.register("mvtec_loco", aliases=("mvtec_loco_ad",))
class MVTecLOCO(CategoryFolders):
    """MVTec LOCO AD (Bergmann et al. 2022), unpacked: 5 categories with logical and structural anomalies, and sPRO."""

    origin = Origin(
        "MVTec LOCO AD, Bergmann et al. 2022",
        "CC BY-NC-SA 4.0",
        "AU-sPRO@0.05 and image AUROC by defect type, then the mean of both types",
    )
    label = "mvtec_loco"
    layout = (
        f"folders, one per category, each with {CONFIG}, train/good, validation/good, test/good, test/<anomalies> and "
        f"ground_truth/<anomalies>/<image>/*.png, anomalies {' and '.join(DEFECTS)}"
    )

    def load(self, category: str) -> Category:
        """List the items of ``<root>/<category>``."""
        folder = self.folder(category)
        saturations = self._saturations(folder / CONFIG)
        test = normal_items(folder / "test" / "good", "test/good")
        read = {folder / CONFIG}
        for defect in DEFECTS:
            for image in list_images(folder / "test" / defect):
                masks = list_images(folder / "ground_truth" / defect / image.stem)
                if not masks:
                    raise DataError(
                        f"The defective test image '{image}' has no mask; expected one or more files in "
                        f"'{folder / 'ground_truth' / defect / image.stem}'."
                    )
                read |= set(masks)
                mask, regions = partial(read_union, masks, saturations), partial(read_regions, masks, saturations)
                test.append(Item(f"test/{defect}/{image.stem}", defect, image, mask, regions=regions))
        train = normal_items(folder / "train" / "good", "train/good")
        validation = normal_items(folder / "validation" / "good", "validation/good")
        return complete(Category(category, train, test, validation, folder=folder, also_read=frozenset(read)), self.layout)

    def _saturations(self, path: Path) -> dict[int, Saturation]:
        try:
            entries = TypeAdapter(list[Saturation]).validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(
                f"Expected a list of pixel_value, saturation_threshold and relative_saturation in '{path}', but it cannot be read "
                f"({str(error).splitlines()[0]}); copy it again."
            ) from error
        return {entry.pixel_value: entry for entry in entries}
