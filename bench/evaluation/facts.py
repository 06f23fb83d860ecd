"""What is known of the files of a category, kept so that a file is read again only when it has changed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from anoseg_bench.datasets.base import Category, Item
from anoseg_bench.datasets.images import marked, open_picture, to_uint8
from anoseg_bench.errors import DataError
from anoseg_bench.evaluation.imagestats import VERSION, ImageFacts, MaskFacts, file_facts, mask_facts, pixel_facts
from anoseg_bench.store.cells import to_json
from anoseg_bench.store.files import write_atomically

#: The form of what is kept; another one is read again.
_FORM = 2
#: Seconds within which a change of a file may leave its times as they were: what was as young when it was read is read again.
_COARSE = 2.0


class SourceFacts(BaseModel):
    """What is known of an image or a mask.

    Attributes
    ----------
    content : str
        Hash of the file, with how it is read where that is not by its colours alone; of the array where a function makes it, with
        those of its regions and how much of each is enough.
    picture : str
        Hash of what is seen, whatever the file is made of.
    height, width : int
    low, high : float or None
        Smallest and largest value, where an image has more than 8 bits.
    floats : bool
        Whether these are floats, which have no range of their own.
    share : float
        Share of the pixels that a mask marks.
    blurred : float
        The value from which a mask of a lossy format marks; 0 for others.
    image : ImageFacts or None
        Statistics of an image, where it is known what is black and white in it.
    mask : MaskFacts or None
        What a mask marks.
    """

    model_config = ConfigDict(frozen=True)

    content: str
    picture: str
    height: int
    width: int
    low: float | None = None
    high: float | None = None
    floats: bool = False
    share: float = 0.0
    blurred: float = 0.0
    image: ImageFacts | None = None
    mask: MaskFacts | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.height, self.width


def facts_of(
    category: Category, file: Path, anew: bool, progress: Callable[[int, int], None], problems: list[str]
) -> tuple[dict[str, SourceFacts], dict[str, SourceFacts]]:
    """Return what is known of each item's image and of each item's mask, by the item's name.

    Parameters
    ----------
    file : Path
        What is kept, by device, inode, size and times of change: of content and of status, which no program can set.
    anew : bool
        Whether all is read again.
    problems : list of str
        Takes why files cannot be read; nothing is known of these.
    """
    known = {} if anew else _read(file)
    kept: dict[str, SourceFacts] = {}
    images: dict[str, SourceFacts] = {}
    masks: dict[str, SourceFacts] = {}
    total = len(category.items)
    for done, item in enumerate(category.items, 1):
        for source, facts, look in ((item.image, images, _look_at_image), (item.mask, masks, _look_at_mask)):
            if source is None:
                continue
            stamp = (
                f"{look.__name__} {VERSION} {item.reading} {_stamp(source)}" if isinstance(source, Path) and _stamp(source) else ""
            )
            try:
                found = facts[item.name] = known.get(stamp) or look(item)
            except DataError as error:
                problems.append(str(error))
                continue
            if stamp:
                kept[stamp] = found
        progress(done, total)
    if kept != known and not problems:
        write_atomically(file, to_json({stamp: one.model_dump(mode="json", exclude_defaults=True) for stamp, one in kept.items()}))
    return images, masks


def _stamp(path: Path) -> str:
    """Return what tells a change of a file without reading it; empty where nothing does.

    A system that is not POSIX has no time that programs cannot set; and a file that was changed a moment ago may be changed
    again within the same tick of its clock.
    """
    try:
        status = path.stat()
    except OSError:
        return ""
    if os.name != "posix" or time.time() - max(status.st_ctime, status.st_mtime) < _COARSE:
        return ""
    return f"{path} {status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _look_at_image(item: Item) -> SourceFacts:
    if not isinstance(item.image, Path):
        image = item.load_image()
        made, (height, width) = _array_hash(image), image.shape[:2]
        return SourceFacts(content=made, picture=made, height=height, width=width, image=ImageFacts(**pixel_facts(image)))
    picture = open_picture(item.image, item.reading.page)
    values = picture.values if picture.alpha is None else np.dstack([picture.values, picture.alpha])
    low, high = (float(picture.values.min()), float(picture.values.max())) if picture.is_wide else (None, None)
    height, width = picture.values.shape[:2]
    shown = picture.full is not None or item.reading.low is not None
    return SourceFacts(
        image=ImageFacts(**pixel_facts(to_uint8(picture, item.image, item.reading)), file=file_facts(item.image, picture))
        if shown
        else None,
        content=_file_hash(item.image, picture.alpha is not None),
        picture=_array_hash(_grey_where_it_is(values)),
        height=height,
        width=width,
        low=low,
        high=high,
        floats=picture.full is None,
    )


def _look_at_mask(item: Item) -> SourceFacts:
    blurred = 0.0
    if isinstance(item.mask, Path):
        picture = open_picture(item.mask, every_page=True)
        mask, blurred = marked(picture)
        content = _file_hash(item.mask, picture.alpha is not None or blurred > 0)
        mask = ~mask if item.reading.invert_masks else mask
    else:
        assert item.mask is not None
        mask = item.mask()
        regions = item.regions() if item.regions else []
        content = " ".join([_array_hash(mask), *(f"{_array_hash(region)} {enough}" for region, enough in regions)])
    height, width = mask.shape
    share = float(mask.mean())
    seen = _array_hash(mask)
    marks = mask_facts(mask) if share else None
    return SourceFacts(content=content, picture=seen, height=height, width=width, share=share, blurred=blurred, mask=marks)


def _grey_where_it_is(values: np.ndarray) -> np.ndarray:
    """Return one channel of a colour picture whose three are the same: a grey picture saved in colours is the same one."""
    grey = values.ndim == 3 and values.shape[2] == 3 and (values[..., :1] == values).all()
    return np.ascontiguousarray(values[..., 0]) if grey else values


def _file_hash(path: Path, special: bool) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{digest} {_FORM}" if special else digest


def _array_hash(array: np.ndarray) -> str:
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.shape} {array.dtype}".encode() + array.tobytes()).hexdigest()


def _read(path: Path) -> dict[str, SourceFacts]:
    try:
        return TypeAdapter(dict[str, SourceFacts]).validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}


def digest(lines: Iterable[str]) -> str:
    """Return the short hash of some lines."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
