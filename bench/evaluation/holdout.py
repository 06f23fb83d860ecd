"""Which images are learned from, held out for thresholds and tested. Imports nothing heavy."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from anoseg_bench.conditions import Conditions
from anoseg_bench.datasets.base import Category, Item, split_off
from anoseg_bench.errors import DataError

#: Tell apart the draws of a seed: which defective images go, which training images stay.
CONTAMINATION, SHARE = 1, 2


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


@dataclass(frozen=True)
class Division:
    """The images of a category as a variant gets them.

    Attributes
    ----------
    category : Category
        With the test images that are left.
    train, held_out : list of Item
        What is taken for normal: to learn from, and for thresholds.
    """

    category: Category
    train: list[Item]
    held_out: list[Item]

    @property
    def contaminated(self) -> int:
        """How many of what is taken for normal is defective."""
        return sum(not item.is_good for item in [*self.train, *self.held_out])


def divide(category: Category, conditions: Conditions, holdout: float, seed: int) -> Division:
    """Return the images of a category under a variant's conditions: contaminated first, then held out, then reduced.

    Raises
    ------
    DataError
        If there are too few defective test images for the contamination.
    """
    category = contaminate(category, conditions, seed)
    train, held_out = hold_out(category, holdout, seed)
    return Division(category, some_of(train, conditions.train_share, seed), held_out)


def some_of(items: list[Item], share: float, seed: int) -> list[Item]:
    """Return a seeded share of items, at least one, in their order; a smaller share is a part of a larger one."""
    chosen = np.random.default_rng([seed, SHARE]).permutation(len(items))[: max(1, round(share * len(items)))]
    return [items[i] for i in np.sort(chosen)]


def contaminate(category: Category, conditions: Conditions, seed: int) -> Category:
    """Return the category with defective test images left out, some of them among those taken for normal.

    Of N images taken for normal, k defective ones among N + k are the share k / (N + k). All images that are left out are drawn
    first, the same share of each defect type; the first k of them join the training and validation images in proportion.

    Raises
    ------
    DataError
        If more than half of the defective images would be left out.
    """
    normal = len(category.train) + len(category.validation)
    left_out, joining = (round(share * normal / (1 - share)) for share in (conditions.set_aside, conditions.noise))
    defective = [item for item in category.test if not item.is_good]
    if 2 * left_out > len(defective):
        raise DataError(
            f"Expected at least {2 * left_out} defective test images in '{category.name}', so that {left_out} can be left out "
            f"(set_aside={conditions.set_aside:g} of {normal} normal ones), but it has {len(defective)}; lower set_aside."
        )
    drawn = _in_order(defective, seed)[:left_out]
    names = {item.name for item in drawn}
    validation = [_is_due(i, len(category.validation), normal) for i in range(joining)]
    return replace(
        category,
        train=[*category.train, *(item for item, due in zip(drawn, validation, strict=False) if not due)],
        validation=[*category.validation, *(item for item, due in zip(drawn, validation, strict=False) if due)],
        test=[item for item in category.test if item.name not in names],
    )


def _is_due(number: int, part: int, whole: int) -> bool:
    """Whether the n-th of some things goes to a part of a whole, so that about ``part / whole`` of the first n always do."""
    return math.floor((number + 1) * part / whole) > math.floor(number * part / whole)


def _in_order(defective: list[Item], seed: int) -> list[Item]:
    """Return defective images in a seeded order whose beginnings hold about the same share of each defect type."""
    rng = np.random.default_rng([seed, CONTAMINATION])
    of_type = defaultdict(list)
    for i in rng.permutation(len(defective)):
        of_type[defective[i].defect].append(defective[i])
    keyed = [((rank + 1) / len(items), i, item) for i, items in enumerate(of_type.values()) for rank, item in enumerate(items)]
    return [item for _, _, item in sorted(keyed, key=lambda entry: entry[:2])]
