"""Copies among the images of a category: the same pixels, and the same picture encoded again or resized.

Pictures of one product are alike, so what is hashed and compared is how each differs from the mean of all. Candidates are
neighbours in the order of their hashes, read from several bits on: the cost grows as N log N. A candidate is a copy if both differ
from the mean in the same way, and from each other by far less than from the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from anoseg_bench.evaluation.imagestats import ImageFacts

#: Every how many bits an order begins, how many neighbours are compared in each, and how many of 64 bits may differ.
STEP, NEIGHBOURS, BITS = 4, 12, 16
#: Two pictures are copies if 1 - |a - b|² / (|a|² + |b|²) of their differences to the mean is at least this (tried: of copies at
#: JPEG quality 40 and of 0.5 to 2 times the size 0.996 and more, of pictures of other parts 0.98 and less), ...
ALIKE = 0.985
#: ... and |a - b|² at most this share of the distance to the nearer tenth of `REFERENCES` others.
NEARER, QUANTILE, REFERENCES = 0.1, 0.1, 256
#: Pictures of which a mean says something.
ENOUGH = 8


def copies(facts: Sequence[ImageFacts]) -> list[list[int]]:
    """Return the groups of images that are copies of each other, by number, each with two at least, in the order of their first."""
    alike: dict[tuple, list[int]] = defaultdict(list)
    for number, image in enumerate(facts):
        alike[image.looks].append(number)
    same = list(alike.values())
    pictures = np.stack([facts[group[0]].small for group in same]) if same else np.empty((0, 1, 1))
    pairs = near_copies(pictures)
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(same), len(same)))
    number, labels = connected_components(links, directed=False)
    groups: list[list[int]] = [[] for _ in range(number)]
    for label, group in zip(labels, same, strict=True):
        groups[label] += group
    return sorted(sorted(group) for group in groups if len(group) > 1)


def near_copies(pictures: np.ndarray) -> np.ndarray:
    """Return the pairs of pictures that are copies.

    Parameters
    ----------
    pictures : numpy.ndarray
        uint8, (N, S, S): thumbnails, no two the same.

    Returns
    -------
    numpy.ndarray
        int, (P, 2); none where there are fewer than `ENOUGH` pictures.
    """
    if len(pictures) < ENOUGH:
        return np.empty((0, 2), np.int64)
    vectors = differences(pictures)
    pairs = candidates(np.array([hash_bits(vector) for vector in vectors]))
    flat = vectors.reshape(len(vectors), -1)
    lengths = (flat**2).sum(axis=1)
    distances = np.array([((flat[i] - flat[j]) ** 2).sum() for i, j in pairs])
    together = lengths[pairs].sum(axis=1)
    pairs = pairs[(together > 0) & (distances <= (1 - ALIKE) * together)]
    references = np.unique(np.linspace(0, len(flat) - 1, REFERENCES).astype(int))
    found = []
    for i, j in pairs:
        others = references[(references != i) & (references != j)]
        limit = min(np.quantile(((flat[others] - flat[k]) ** 2).sum(axis=1), QUANTILE, method="higher") for k in (i, j))
        if ((flat[i] - flat[j]) ** 2).sum() <= NEARER * limit:
            found.append((i, j))
    return np.array(found, np.int64).reshape(-1, 2)


def differences(pictures: np.ndarray) -> np.ndarray:
    """Return how pictures, uint8 (N, S, S), differ from their mean, whatever their brightness and contrast: float32 (N, S, S)."""
    values = pictures.astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    values /= np.maximum(values.std(axis=(1, 2), keepdims=True), 1e-3)
    return values - values.mean(axis=0)


def hash_bits(difference: np.ndarray) -> np.ndarray:
    """Return the 64 bits of the perceptual hash of a difference to the mean, bool (64,)."""
    scale = 32 / max(float(difference.std()), 1e-6)
    grey = np.clip(128 + scale * difference, 0, 255).astype(np.uint8)
    return imagehash.phash(Image.fromarray(grey)).hash.ravel()


def candidates(bits: np.ndarray) -> np.ndarray:
    """Return the pairs to compare, int (P, 2), first below second: neighbours in the order of their hashes, bool (N, 64).

    Examples
    --------
    >>> bits = np.random.default_rng(0).random((1000, 64)) < 0.5
    >>> bits[700] = bits[3]
    >>> bits[700, [5, 31, 50]] ^= True
    >>> candidates(bits).tolist()
    [[3, 700]]
    """
    codes = []
    for start in range(0, bits.shape[1], STEP):
        turned = np.packbits(np.roll(bits, -start, axis=1), axis=1)
        order = np.argsort(turned.view(">u8").ravel(), kind="stable")
        for gap in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            codes.append(np.sort(np.stack([order[:-gap], order[gap:]], axis=1), axis=1))
    pairs = np.unique(np.concatenate(codes), axis=0) if codes else np.empty((0, 2), np.int64)
    differing = (bits[pairs[:, 0]] != bits[pairs[:, 1]]).sum(axis=1)
    return pairs[differing <= BITS]
