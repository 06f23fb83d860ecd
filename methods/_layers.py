"""What several methods share: batches, smoothing."""

from __future__ import annotations

from collections.abc import Iterator

import torch


def batches(images: torch.Tensor, size: int, number: int, device: str) -> Iterator[torch.Tensor]:
    """Yield `number` batches of up to `size` images, each pass over the images in a new random order.

    A pass is cut into batches of nearly equal size, so that none is much smaller than the others.

    Parameters
    ----------
    images : torch.Tensor
        (N, ...), on any device.
    """
    done = 0
    while done < number:
        order = torch.randperm(len(images))
        for index in order.tensor_split(-(-len(images) // size)):
            if done == number:
                return
            yield images[index].to(device)
            done += 1
