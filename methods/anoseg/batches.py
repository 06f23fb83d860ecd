"""Training batches of AnoSeg, made ahead by background threads: OpenCV does its work outside Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
import torch

from methods.anoseg import AnoSegConfig
from methods.anoseg.anomalies import ANOMALOUS, UNDECIDED, training_batch

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def workers_for(device: str) -> int:
    """Return how many threads make batches: one beside a network on the CPU, more to keep up with a GPU."""
    return 1 if device == "cpu" else max(1, min(8, (os.cpu_count() or 2) - 1))


class Batches:
    """Iterates over training batches; use it as a context, at whose end its threads are gone.

    Every batch has a random generator of its own, seeded by (seed, number of the batch): the batches are the same
    whatever the number of threads.

    Parameters
    ----------
    images : torch.Tensor
        uint8 (N, 3, S, S), normal, on the CPU.
    number : int
        How many batches there are.
    """

    def __init__(self, images: torch.Tensor, config: AnoSegConfig, seed: int, number: int, device: str) -> None:
        self._images = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
        self._grey = bool((images.amax(1).int() - images.amin(1).int()).max() <= 8)
        self._config, self._seed, self._device = config, seed, device
        self._orders = self._passes(number)
        workers = workers_for(device)
        self._pool = ThreadPoolExecutor(workers, "anomalies")
        self._ahead: deque[Future[Arrays]] = deque()
        for _ in range(2 * workers):
            self._submit()

    def _passes(self, number: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, indices) of the batches: each pass over the images in a new order, cut into nearly equal parts."""
        rng, done, count = np.random.default_rng(self._seed), 0, len(self._images)
        while True:
            for index in np.array_split(rng.permutation(count), -(-count // self._config.batch_size)):
                if done == number:
                    return
                yield done, index
                done += 1

    def _submit(self) -> None:
        for step, index in self._orders:
            rng = np.random.default_rng((self._seed, step))
            self._ahead.append(self._pool.submit(training_batch, rng, self._images, index, self._config, self._grey))
            return

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """Return (images, clean, masks, decided) on the device, float32.

        images, clean : (N, 3, S, S) in [-1, 1]; masks, decided : (N, 1, S, S), 0 or 1.
        """
        if not self._ahead:
            raise StopIteration
        arrays = self._ahead.popleft().result()
        self._submit()
        images, clean, labels = (torch.from_numpy(array).to(self._device, non_blocking=True) for array in arrays)
        images, clean = (x.permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (images, clean))
        labels = labels[:, None]
        return images, clean, (labels == ANOMALOUS).float(), (labels != UNDECIDED).float()
