"""What AnoSeg's training costs beside the bare steps of its networks.

    python -m tests.benchmark_anoseg [--image-size 128] [--steps 40] [--device cpu]

Bare: forward, backward and optimiser steps of generator and discriminator on ready batches, with the same losses. Both are
timed in turns in one run, and the medians over the turns are compared.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator

import torch

from methods.anoseg import AnoSegConfig
from methods.anoseg.batches import Batch, Batches
from methods.anoseg.losses import adversarial_loss, normal_pair, reconstruction_loss, segmentation_loss
from methods.anoseg.network import Discriminator, Generator, levels_for
from methods.anoseg.training import mixed_precision, train_discriminator, train_generator


def bare(generator: Generator, batches: Iterator[Batch], steps: int, config: AnoSegConfig, device: str) -> None:
    """Train generator and discriminator without making batches, schedule, clipping, averaging and reading the loss."""
    generator.train()
    discriminator = Discriminator().to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(generator.parameters(), config.learning_rate)
    opponent = torch.optim.Adam(discriminator.parameters(), 2e-4)
    for _ in range(steps):
        x, clean, masks, decided = next(batches)
        with mixed_precision(device):
            logits, reconstruction = (part.float() for part in generator(x))
        normal = (1 - masks) * decided
        loss = segmentation_loss(logits, masks, decided) + reconstruction_loss(reconstruction, x, normal)
        loss = loss + reconstruction_loss(reconstruction, clean, 1 - normal)
        pair = normal_pair(reconstruction, torch.sigmoid(logits))
        with mixed_precision(device):
            judged = discriminator(*pair)
        loss = loss + config.adversarial_weight * adversarial_loss(judged.float())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        train_discriminator(discriminator, opponent, normal_pair(x, masks), pair, device)


def seconds(work, device: str) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Time both and print the ratio."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--image-size", type=int, default=128)
    parse.add_argument("--steps", type=int, default=40)
    parse.add_argument("--turns", type=int, default=5)
    parse.add_argument("--device", default="cpu")
    a = parse.parse_args()
    config = AnoSegConfig(image_size=a.image_size)
    coarse = torch.randint(0, 256, (64, 3, a.image_size // 8, a.image_size // 8), dtype=torch.uint8)
    images = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)

    def network() -> Generator:
        return (
            Generator(levels_for(config.image_size), config.width, config.coord, config.comparison)
            .to(torch.device(a.device))
            .to(memory_format=torch.channels_last)
        )

    def whole() -> None:
        with Batches(images, config, 0, a.steps, a.device) as batches:
            for _ in train_generator(network(), batches, a.steps, config, a.device):
                pass

    with Batches(images, config, 0, 4, a.device) as batches:
        ready = list(batches)
    times: dict[str, list[float]] = {"whole training": [], "bare steps": []}
    for _ in range(a.turns):
        times["whole training"].append(seconds(whole, a.device))
        times["bare steps"].append(seconds(lambda: bare(network(), itertools.cycle(ready), a.steps, config, a.device), a.device))
    middle = {name: statistics.median(values) for name, values in times.items()}
    for name, value in middle.items():
        print(f"{name}: {1000 * value / a.steps:.1f} ms per step of {config.batch_size} images of {a.image_size} px")
    print(f"ratio: {middle['whole training'] / middle['bare steps']:.3f}")


if __name__ == "__main__":
    main()
