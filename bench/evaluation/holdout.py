"""Which normal images are held out for thresholds. Imports nothing heavy."""

from __future__ import annotations

from anoseg_bench.datasets.base import Category, Item, split_off


def hold_out(category: Category, share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Return (training items, held-out normal items).

    The category's validation images are held out where it has some; else a seeded `share` of the training images, at
    least one, and at least one is left to train on. With a share of 0 nothing is held out.
    """
    if share == 0:
        return category.train, []
    if category.validation:
        return category.train, category.validation
    return split_off(category.train, share, seed)
