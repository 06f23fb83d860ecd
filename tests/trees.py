"""Small trees of files in the layouts of published datasets, one function each, by the adapter's name in `TREES`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.helpers import make_category, save

SIZE = (24, 32)


class Painter:
    """Makes images that differ, and masks that do not."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def image(self, path: Path, bright: bool = False) -> Path:
        """Write an image of noise on grey, with a bright square where it is defective."""
        picture = self.rng.integers(90, 110, (*SIZE, 3)).astype(np.uint8)
        if bright:
            picture[5:15, 8:18] = 230
        return save(path, picture)

    def mask(self, path: Path, value: int = 255, rows: slice = slice(5, 15), columns: slice = slice(8, 18)) -> Path:
        """Write a grey mask with a rectangle of a value."""
        mask = np.zeros(SIZE, np.uint8)
        mask[rows, columns] = value
        return save(path, mask)


def visa(root: Path) -> Path:
    """As unpacked: the images of two categories, their split file, and a third category in it that is not there."""
    paint, rows = Painter(), ["object,split,label,image,mask"]
    for category in ("candle", "pcb1"):
        data = f"{category}/Data"
        for i in range(6):
            image = f"{data}/Images/Normal/{i:04d}.JPG"
            paint.image(root / image)
            rows.append(f"{category},{'train' if i < 4 else 'test'},normal,{image},")
        for i in range(2):
            image, mask = f"{data}/Images/Anomaly/{i:03d}.JPG", f"{data}/Masks/Anomaly/{i:03d}.png"
            paint.image(root / image, bright=True)
            paint.mask(root / mask, value=1 + i)  # the number of a kind of defect, nearly black
            rows.append(f"{category},test,anomaly,{image},{mask}")
    rows.append("cashew,train,normal,cashew/Data/Images/Normal/000.JPG,")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(rows) + "\n")
    return root


def btad(root: Path) -> Path:
    """Images and masks of other formats in each product."""
    paint = Painter()
    for category, image, mask in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        folder = root / category
        for i in range(4):
            paint.image(folder / "train" / "ok" / f"{i:04d}.{image}")
        for i in range(2):
            paint.image(folder / "test" / "ok" / f"{i:04d}.{image}")
            paint.image(folder / "test" / "ko" / f"{i:04d}.{image}", bright=True)
            paint.mask(folder / "ground_truth" / "ko" / f"{i:04d}.{mask}")
    return root


def mpdd(root: Path) -> Path:
    """As MVTec AD."""
    make_category(root, "bracket_black")
    make_category(root, "metal_plate")
    return root


def kolektor_sdd2(root: Path) -> Path:
    """Images beside masks; the training part holds a defective one, and the two stray copies that the archive has."""
    paint = Painter()
    for split, first, numbers, defective in (("train", 10000, 6, {3}), ("test", 20000, 4, {0, 2})):
        for i in range(numbers):
            path = root / split / f"{first + i}.png"
            paint.image(path, bright=i in defective)
            paint.mask(path.with_name(f"{path.stem}_GT.png"), value=255 * (i in defective))
    for suffix in ("", "_GT"):
        source = root / "train" / f"10003{suffix}.png"
        source.with_name(f"10003{suffix} (copy).png").write_bytes(source.read_bytes())
    return root


def mvtec_loco(root: Path) -> Path:
    """One category; a logical anomaly of two masks that overlap, and structural ones of one."""
    paint, folder = Painter(), root / "pushpins"
    for i in range(5):
        paint.image(folder / "train" / "good" / f"{i:03d}.png")
    for i in range(2):
        paint.image(folder / "validation" / "good" / f"{i:03d}.png")
        paint.image(folder / "test" / "good" / f"{i:03d}.png")
        for defect in ("logical_anomalies", "structural_anomalies"):
            paint.image(folder / "test" / defect / f"{i:03d}.png", bright=True)
            paint.mask(folder / "ground_truth" / defect / f"{i:03d}" / "000.png", 255 if "struct" in defect else 254)
    paint.mask(folder / "ground_truth" / "logical_anomalies" / "000" / "001.png", 253, slice(10, 20))
    defects = [
        {"defect_name": "missing", "pixel_value": 254, "saturation_threshold": 40, "relative_saturation": False},
        {"defect_name": "additional", "pixel_value": 253, "saturation_threshold": 6000, "relative_saturation": False},
        {"defect_name": "broken", "pixel_value": 255, "saturation_threshold": 1.0, "relative_saturation": True},
    ]
    (folder / "defects_config.json").write_text(json.dumps(defects))
    return root


def mvtec_ad_2(root: Path) -> Path:
    """Two categories with public and private test images."""
    paint = Painter()
    for category in ("can", "vial"):
        folder = root / category
        for i in range(5):
            paint.image(folder / "train" / "good" / f"{i:03d}_regular.png")
        for i in range(2):
            paint.image(folder / "validation" / "good" / f"{i:03d}_regular.png")
            paint.image(folder / "test_public" / "good" / f"{i:03d}_regular.png")
            paint.image(folder / "test_public" / "bad" / f"{i:03d}_overexposed.png", bright=True)
            paint.mask(folder / "test_public" / "ground_truth" / "bad" / f"{i:03d}_overexposed_mask.png")
            paint.image(folder / "test_private" / f"{i:03d}_regular.png", bright=i == 1)
            paint.image(folder / "test_private_mixed" / f"{i:03d}_mixed.png", bright=i == 1)
    return root


def real_iad(root: Path) -> Path:
    """One category; a defect that one view of its object does not show."""
    paint, folder = Painter(), root / "realiad_1024" / "audiojack"
    split: dict[str, list[dict]] = {"train": [], "test": []}

    def add(where: str, kind: str, path: str, shown: bool) -> None:
        mask = path.replace(".jpg", ".png") if shown else None
        split[where].append({"category": "audiojack", "anomaly_class": kind, "image_path": path, "mask_path": mask})
        paint.image(folder / path, bright=shown)
        if mask:
            paint.mask(folder / mask)

    for i in range(4):
        add("train", "OK", f"OK/S{i:04d}/audiojack_{i:04d}_OK_C1_20230921.jpg", shown=False)
    for i in range(4, 6):
        add("test", "OK", f"OK/S{i:04d}/audiojack_{i:04d}_OK_C1_20230921.jpg", shown=False)
    for view in (1, 2):
        add("test", "HS", f"NG/HS/S0006/audiojack_0006_NG_HS_C{view}_20230921.jpg", shown=view == 1)
    meta = {"prefix": "audiojack/", "normal_class": "OK", "pre_transform": None}
    (root / "realiad_jsons").mkdir()
    (root / "realiad_jsons" / "audiojack.json").write_text(json.dumps({"meta": meta} | split))
    return root


TREES = {tree.__name__: tree for tree in (visa, btad, mpdd, kolektor_sdd2, mvtec_loco, mvtec_ad_2, real_iad)}
