"""Maps of the private test images of MVTec AD 2 in the layout and format that its evaluation server takes.

The server wants ``anomaly_images/<category>/<test_private, test_private_mixed>/<image>.tiff``, float16, one channel, and for the
numbers at a threshold ``anomaly_images_thresholded/.../<image>.png``, 0 and 255. Its ``check_and_prepare_data_for_upload.py``
checks and packs them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from anoseg_bench.datasets.images import list_images
from anoseg_bench.errors import DataError, UsageError
from anoseg_bench.evaluation.predict import choose_row, load_method, predict_images, reading_of, tiling_of
from anoseg_bench.store.cells import Run
from anoseg_bench.store.files import write_by

#: What the server evaluates: of each category, the images of these folders.
CATEGORIES = ("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts")
PRIVATE = ("test_private", "test_private_mixed")
CONTINUOUS, THRESHOLDED = "anomaly_images", "anomaly_images_thresholded"
#: The largest value of a category's maps is brought between half of this and this: float16 ends at 65,504.
LARGEST = 2.0**15


def to_float16(map_: np.ndarray, peak: float) -> np.ndarray:
    """Return a map as float16, times the power of two that brings `peak`, the largest of its category, into the type's range.

    That keeps the order of values that differ by a part in 2,000, and the order is all that the server's numbers without a
    threshold depend on.
    """
    scale = LARGEST * 2.0 ** -(math.floor(math.log2(peak)) + 1) if peak > 0 else 1.0
    return (map_.astype(np.float64) * scale).astype(np.float16)


def write_submission(run: Run, method: str, seed: int | None, root: Path, out: Path, device: str) -> list[str]:
    """Write the maps of a method of a run, made with ``--keep-models``, for all categories of it.

    Parameters
    ----------
    root : Path
        The folder of MVTec AD 2.
    out : Path
        Takes the two folders.

    Returns
    -------
    list of str
        What a user should know of what is missing.

    Raises
    ------
    UsageError
        If the run is not of this dataset, has no such method, or its models were not kept.
    DataError
        If a category has no private images, or one of them cannot be read.
    """
    categories = [name for name in CATEGORIES if name in {row.category for row in run.rows}]
    if not categories:
        raise UsageError(f"Expected a run on mvtec_ad_2, but '{run.path}' has no category of it ({', '.join(CATEGORIES)}).")
    notes = []
    if missing := [name for name in CATEGORIES if name not in categories]:
        notes.append(f"the server takes all {len(CATEGORIES)} categories, but the run has no {', '.join(missing)}")
    models = {name: load_method(run, choose_row(run, method, name, seed), device) for name in categories}
    thresholds = {name: cell.value("threshold_deployable") for name, (_, cell) in models.items()}
    decided = all(map(math.isfinite, thresholds.values()))
    if not decided:
        notes.append(f"no {THRESHOLDED}: not every category has a deployable threshold")
    for category, (model, cell) in models.items():
        found = [list_images(root / category / folder) for folder in PRIVATE]
        if not all(found):
            raise DataError(f"Expected images in {' and '.join(PRIVATE)} of '{root / category}', but found none; unpack all of it.")
        files = [path for images in found for path in images]
        predicted, problems = predict_images(model, files, reading_of(cell), tiling_of(cell))
        if problems:
            raise DataError(problems[0])
        peak = max(max(-one.low, one.high) for one in predicted)
        for one in predicted:
            map_, name = one.read(), one.path.relative_to(root)
            half = to_float16(map_, peak)
            write_by(out / CONTINUOUS / name.with_suffix(".tiff"), lambda file, half=half: tifffile.imwrite(file, half))  # type: ignore[misc]
            if decided:
                marked = (map_ >= thresholds[category]).astype(np.uint8) * 255
                picture = Image.fromarray(marked)
                write_by(out / THRESHOLDED / name.with_suffix(".png"), lambda file, p=picture: p.save(file, "PNG"))  # type: ignore[misc]
    return notes
