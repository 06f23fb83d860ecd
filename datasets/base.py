"""The dataset contract: an adapter gives categories; a category gives items; an item loads its image and mask."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from anoseg_bench.datasets.images import PLAIN, Reading, open_picture, read_image, read_mask
from anoseg_bench.errors import DataError

GOOD = "good"


class DatasetConfig(BaseModel):
    """Options of an adapter; subclasses add fields, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FilesConfig(DatasetConfig):
    """Options of an adapter of files: how they are read."""

    value_range: Literal["train", "type"] | tuple[float, float] = Field(
        "train",
        description="black and white of images of more than 8 bits: of the training images, of the type, or [low, high]",
    )
    page: int | None = Field(None, ge=0, description="which picture of an image file with several, from 0 (default: an error)")
    invert_masks: bool = Field(False, description="masks mark what is normal")


@dataclass(frozen=True)
class Item:
    """One image and its ground truth.

    Attributes
    ----------
    name : str
        Unique within the category, stable between machines: ``"test/scratch/003"``.
    defect : str
        The defect type; ``"good"`` for a normal image.
    image, mask
        A file, or a function that returns the array. `mask` is None for a normal image, of which the whole is normal.
    reading : Reading
        How files are read.
    regions : callable or None
        Where the source says how much of a defect is enough: a function that returns the defective regions, bool (H, W), which
        may overlap and together are the mask, each with the number of its pixels that suffice.
    """

    name: str
    defect: str
    image: Path | Callable[[], np.ndarray]
    mask: Path | Callable[[], np.ndarray] | None = None
    reading: Reading = PLAIN
    regions: Callable[[], list[tuple[np.ndarray, int]]] | None = None

    @property
    def is_good(self) -> bool:
        """Whether the image is normal."""
        return self.defect == GOOD

    @property
    def files(self) -> list[Path]:
        """The files that the item is read from (none for generated items)."""
        return [source for source in (self.image, self.mask) if isinstance(source, Path)]

    def load_image(self) -> np.ndarray:
        """Return the image as uint8 RGB, shape (H, W, 3), as a viewer shows it; see `read_image`.

        Raises
        ------
        DataError
            If the file cannot be read.
        """
        return read_image(self.image, self.reading) if isinstance(self.image, Path) else self.image()

    def load_mask(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the mask as bool, shape (H, W) at its original size; all False for a normal image.

        Parameters
        ----------
        shape : tuple of int
            (H, W) of the image.

        Raises
        ------
        DataError
            If the mask cannot be read or has another size than its image.
        """
        if self.mask is None:
            return np.zeros(shape, bool)
        mask = read_mask(self.mask, self.reading) if isinstance(self.mask, Path) else self.mask()
        if mask.shape != shape:
            raise DataError(wrong_size(self, shape, mask.shape))
        return mask


def wrong_size(item: Item, shape: tuple[int, int], mask: tuple[int, ...]) -> str:
    """Return what is to be said where the mask of an item has another size (H, W) than its image."""
    tag = open_picture(item.image, item.reading.page).orientation if isinstance(item.image, Path) and mask == shape[::-1] else 1
    turned = f", turned as its EXIF orientation tag ({tag}) says" if tag > 1 else ""
    do = "turn the mask as the image is shown" if turned else "export it again at the image's size"
    where = item.mask if isinstance(item.mask, Path) else item.name
    return (
        f"Expected a mask of the size of its image, {shape[1]}x{shape[0]}{turned}, but got {'x'.join(map(str, mask[::-1]))} in "
        f"'{where}'; masks are never resized, so {do}."
    )


@dataclass(frozen=True)
class Category:
    """The images of one category.

    Attributes
    ----------
    train : list of Item
        Normal images to learn from.
    test : list of Item
        Normal and defective images, used for evaluation only.
    validation : list of Item
        Normal images of their own for thresholds, where the source has such a folder.
    group : {"textures", "objects"} or None
        For the tables' groups, where it is known.
    positional : frozenset of str
        The defect types that are a normal part in a wrong place: only its position tells.
    folder : Path or None
        Where its files lie, so that what is left out of them can be told.
    also_read : frozenset of Path
        Files that functions of its items read, or that its list came from.
    """

    name: str
    train: list[Item]
    test: list[Item]
    validation: list[Item] = field(default_factory=list)
    group: Literal["textures", "objects"] | None = None
    positional: frozenset[str] = frozenset()
    folder: Path | None = None
    also_read: frozenset[Path] = frozenset()

    def with_items(self, change: Callable[[list[Item]], list[Item]]) -> Category:
        """Return the category with each of its splits changed."""
        return replace(self, train=change(self.train), test=change(self.test), validation=change(self.validation))

    @property
    def splits(self) -> dict[str, list[Item]]:
        """The items by split: ``train``, ``validation``, ``test``."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def items(self) -> list[Item]:
        """All items: train, validation, test."""
        return [*self.train, *self.validation, *self.test]


def split_off(items: list[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Return (the rest, a seeded `share` of the items): at least one in each, or all in the rest where there is one only."""
    if len(items) < 2:
        return items, []
    number = min(max(1, round(share * len(items))), len(items) - 1)
    chosen = set(np.random.default_rng(seed).permutation(len(items))[:number].tolist())
    rest = [item for i, item in enumerate(items) if i not in chosen]
    return rest, [items[i] for i in sorted(chosen)]


@dataclass(frozen=True)
class Origin:
    """Where published images come from.

    Attributes
    ----------
    citation : str
        Name, authors, year.
    licence : str
        As their page states it.
    comparable : str
        Which published numbers a run on all of their categories may stand beside.
    """

    citation: str
    licence: str
    comparable: str


class Dataset(abc.ABC):
    """An adapter: finds the categories under a root and lists their items. Constructors read and download nothing.

    Parameters
    ----------
    root : Path or None
        The folder of the data; None for generated datasets.
    config : DatasetConfig
        The adapter's options.
    """

    Config: ClassVar[type[DatasetConfig]] = DatasetConfig
    needs_root: ClassVar[bool] = True
    #: The name in tables and results.
    label: str
    #: Its name in settings, noted when it is opened by that name.
    registered: str = "DATASET"
    #: What the root should hold, for messages.
    layout: ClassVar[str] = "folders, one per category"
    #: Where its images come from, where that is known.
    origin: ClassVar[Origin | None] = None

    def __init__(self, root: Path | None = None, config: DatasetConfig | None = None) -> None:
        self.root = root
        self.config: Any = config if config is not None else self.Config()

    @abc.abstractmethod
    def categories(self) -> list[str]:
        """Return the names of the categories, sorted."""

    @abc.abstractmethod
    def load(self, category: str) -> Category:
        """List the items of a category; reads no image.

        Raises
        ------
        DataError
            If the layout is not what the adapter expects.
        """

    def content(self) -> str | None:
        """Return what identifies the content of generated items (a version); None where files are hashed."""
        return None
