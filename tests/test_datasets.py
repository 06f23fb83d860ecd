"""The MVTec layout and the plain folder: pairing of masks, names, groups, splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anoseg_bench.datasets.folder import Folder, FolderConfig
from anoseg_bench.datasets.mvtec import MVTecAD, MVTecLayout
from anoseg_bench.errors import DataError
from tests.helpers import make_category, save

MASK = np.zeros((40, 48), np.uint8)
MASK[3:9, 3:9] = 1


def masks_of(root: Path) -> list[str]:
    return [Path(str(item.mask)).name for item in MVTecLayout(root).load("widget").test if not item.is_good]


@pytest.mark.parametrize("name", ["000_mask.png", "000.png", "000.bmp", "000_mask.tif"])
def test_masks_are_paired_by_stem(widget, name):
    folder = widget / "widget" / "ground_truth" / "spot"
    (folder / "000_mask.png").unlink()
    save(folder / name, MASK)
    assert masks_of(widget) == [name, "001_mask.png"]
    item = MVTecLayout(widget).load("widget").test[-2]
    assert np.array_equal(item.load_mask((40, 48)), MASK > 0)


def test_an_image_whose_own_stem_ends_in_mask(widget):
    folder = widget / "widget"
    save(folder / "test" / "spot" / "gas_mask.png", np.full((40, 48, 3), 90, np.uint8))
    save(folder / "ground_truth" / "spot" / "gas_mask_mask.png", MASK)
    assert masks_of(widget)[-1] == "gas_mask_mask.png"


def test_other_formats_and_foreign_files(widget):
    folder = widget / "widget"
    save(folder / "test" / "good" / "photo.JPG", np.full((20, 30, 3), 90, np.uint8))
    save(folder / "train" / "good" / "scan.bmp", np.full((20, 30), 90, np.uint8))
    (folder / "train" / "good" / "Thumbs.db").write_text("x")
    (folder / "train" / "good" / "._000.png").write_text("x")
    category = MVTecLayout(widget).load("widget")
    assert "test/good/photo" in [i.name for i in category.test] and len(category.train) == 7


def test_ambiguous_files_are_errors(widget):
    folder = widget / "widget"
    save(folder / "ground_truth" / "spot" / "000.png", MASK)
    with pytest.raises(DataError, match="Two masks"):
        MVTecLayout(widget).load("widget")
    (folder / "ground_truth" / "spot" / "000.png").unlink()
    save(folder / "train" / "good" / "000.bmp", np.full((40, 48, 3), 9, np.uint8))
    with pytest.raises(DataError, match=r"Two images of one name.*000\.bmp"):
        MVTecLayout(widget).load("widget")


def test_groups_and_labels(tmp_path):
    for name in ("grid", "bottle", "widget"):
        make_category(tmp_path / "my data", name)
    data = MVTecAD(tmp_path / "my data")
    assert [data.load(n).group for n in data.categories()] == ["objects", "textures", None]
    assert data.label == "mvtec_ad" and MVTecLayout(tmp_path / "my data").label == "my data"


def test_mask_of_another_size(widget):
    save(widget / "widget" / "ground_truth" / "spot" / "000_mask.png", MASK[:-1])
    item = next(i for i in MVTecLayout(widget).load("widget").test if i.name == "test/spot/000")
    with pytest.raises(DataError, match=r"48x40, but got 48x39.*000_mask\.png"):
        item.load_mask((40, 48))


def plain(root: Path) -> Path:
    """Turn a category of the MVTec layout into a plain folder."""
    folder = make_category(root, "p", train=10)
    for source, target in (("train/good", "normal"), ("test/spot", "defective"), ("ground_truth/spot", "mask")):
        (folder / source).rename(folder / target)
    return folder


def test_folder_splits_the_normal_images(tmp_path):
    root = plain(tmp_path)
    assert Folder(root).categories() == ["p"] == Folder(tmp_path).categories()
    category = Folder(root, FolderConfig(test_share=0.3)).load("p")
    good = {i.name for i in category.test if i.is_good}
    assert len(good) == 3 and len(category.train) == 7 and not good & {i.name for i in category.train}
    other = Folder(root, FolderConfig(test_share=0.3, split_seed=1)).load("p")
    assert {i.name for i in other.test if i.is_good} != good


def test_folder_with_normal_images_for_the_test(tmp_path):
    root = plain(tmp_path)
    save(root / "normal_test" / "a.png", np.full((40, 48, 3), 90, np.uint8))
    category = Folder(root).load("p")
    assert len(category.train) == 10 and [i.name for i in category.test if i.is_good] == ["normal_test/a"]


def test_folder_without_defective_images_names_what_is_there(tmp_path):
    root = plain(tmp_path)
    (root / "defective").rename(root / "defects")
    (root / "mask").rename(root / "masks")
    with pytest.raises(DataError, match=r"there are defects/, .*masks/, normal/, .*--set folder\.defective=NAME"):
        Folder(root).load("p")
    assert len(Folder(root, FolderConfig(defective="defects", mask="masks")).load("p").test) == 4


def test_folder_errors(tmp_path):
    root = plain(tmp_path)
    save(root / "mask" / "hole" / "000.png", MASK)
    with pytest.raises(DataError, match="has no image"):
        Folder(root).load("p")
    for file in (root / "normal").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="found none"):
        Folder(root).load("p")
