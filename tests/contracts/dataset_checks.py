"""The checks that every dataset adapter passes: call each of `CHECKS` with a function that makes a new adapter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from anoseg_bench.datasets.base import Dataset

Make = Callable[[], Dataset]


def check_categories(make: Make) -> None:
    """Categories are names, sorted, at least one; the dataset has a label for tables."""
    dataset = make()
    names = dataset.categories()
    assert names and names == sorted(names) and all(isinstance(n, str) and n for n in names)
    assert dataset.label


def check_items(make: Make) -> None:
    """Names are unique and stable; training and validation images are normal; masks come with defects."""
    for name in make().categories():
        category = make().load(name)
        assert category.name == name and category.train and category.test
        assert [i.name for i in category.items] == [i.name for i in make().load(name).items]
        assert len({i.name for i in category.items}) == len(category.items)
        assert all(i.is_good and i.mask is None for i in [*category.train, *category.validation])
        assert all((i.mask is None) == i.is_good for i in category.test)
        assert category.group in ("textures", "objects", None)


def check_arrays(make: Make) -> None:
    """Images are uint8 RGB (H, W, 3); masks are bool (H, W) of the same size; loading twice gives the same."""
    for name in make().categories():
        category = make().load(name)
        for item in [category.train[0], category.test[0], category.test[-1]]:
            image = item.load_image()
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
            mask = item.load_mask(image.shape[:2])
            assert mask.dtype == bool and mask.shape == image.shape[:2]
            assert mask.any() != item.is_good
            assert np.array_equal(image, item.load_image())


def check_apart(make: Make) -> None:
    """No image is in training as well as in the test."""
    for name in make().categories():
        category = make().load(name)
        train = {item.load_image().tobytes() for item in category.train}
        assert not any(item.load_image().tobytes() in train for item in category.test)


CHECKS = [check_categories, check_items, check_arrays, check_apart]
