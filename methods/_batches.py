"""Training batches that are drawn: made ahead by processes beside a GPU, and one at a time beside a network on the CPU.

A thread that makes them ahead would take a core from those that train, which wait for each other: a quarter more time in all.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import closing
from typing import Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

Arrays = tuple[torch.Tensor, ...]

#: Processes that make batches, at most, and the batches that each of them is ahead.
MAKERS, AHEAD = 15, 3


def makers_for(device: str) -> int:
    """Return how many processes make batches: none beside a network on the CPU, else as many as there are threads to spare."""
    return min(MAKERS, max(1, torch.get_num_threads() - 1)) if device.startswith("cuda") and sys.platform == "linux" else 0


class Source(Protocol):
    """Makes training images of normals."""

    def __len__(self) -> int:
        """Return how many normals there are."""

    def batch(self, rng: np.random.Generator, index: np.ndarray) -> tuple[np.ndarray, ...]:
        """Make a training batch of the normals of some numbers, (N,)."""


class Batches(Dataset[Arrays]):
    """All batches of a training, each by its number.

    Every batch has a random generator of its own, seeded by (seed, number): the batches are the same whoever makes them.

    Parameters
    ----------
    source : Source
        Makes them.
    size : int
        Images in a batch.
    number : int
        How many batches there are.
    """

    def __init__(self, source: Source, seed: int, size: int, number: int) -> None:
        self.source, self.seed = source, seed
        rng, count = np.random.default_rng(seed), len(source)
        passes = -(-number * size // count)
        order = np.concatenate([rng.permutation(count) for _ in range(passes)])  # each pass in a new order
        self.index = order[: number * size].reshape(number, size)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> Arrays:
        """Return what the source makes of the normals whose turn it is."""
        made = self.source.batch(np.random.default_rng((self.seed, number)), self.index[number])
        return tuple(torch.from_numpy(array) for array in made)

    def on(self, device: str) -> Generator[Arrays, None, None]:
        """Yield the batches in order, as tensors on a device."""
        makers = makers_for(device)
        ahead = self._by_processes(makers) if makers else self._in_turn()
        with closing(ahead):
            for arrays in ahead:
                yield tuple(array.to(device, non_blocking=True) for array in arrays)

    def _by_processes(self, makers: int) -> Generator[Arrays, None, None]:
        loader = DataLoader(
            self,
            batch_size=None,
            num_workers=makers,
            prefetch_factor=AHEAD,
            pin_memory=torch.cuda.is_available(),
            multiprocessing_context="fork",  # the normals are shared, and a user's script is not imported again
        )
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # a fork has none of the threads that OpenCV would wait for
        try:
            made = iter(loader)
        finally:
            cv2.setNumThreads(threads)
        yield from made

    def _in_turn(self) -> Generator[Arrays, None, None]:
        for number in range(len(self)):
            yield self[number]
