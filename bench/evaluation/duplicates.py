"""Copies among the images of a category: the same pixels, and the same picture encoded again or resized.

Pictures of one product are alike, so what is hashed and compared is how each differs from the mean of all. Candidates are
neighbours in the order of their hashes, read from several bits on: the cost grows as N log N. Candidates are copies if they differ
from each other by no more than codecs do, and by far less than an image usually does from the most alike of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import imagehash
import numpy as np
from PIL import Image

from anoseg_bench.evaluation.imagestats import ImageFacts

#: Every how many bits an order begins, how many neighbours are compared in each, and how many of 64 bits may differ.
STEP, NEIGHBOURS, BITS = 4, 12, 16
#: Two pictures are copies if, brightness and contrast apart, they differ by at most so many grey levels (root mean square of the
#: thumbnail, what JPEG and resizing do to it), and ...
LEVELS = 2.5
#: ... the square of their distance is at most this share of the median over all of that to the nearest of `REFERENCES` others.
#: Tried on 14 categories. Of copies at JPEG quality 50, half the size or 1.5 times: 1.7 levels and less, a share of 0.07 and less
#: (of photographs 0.02); of the most alike photographs of different parts: 2.1 and more, with 0.09 and more.
NEARER, REFERENCES = 0.06, 64
#: Pictures of which a mean says something.
ENOUGH = 8


def copies(facts: Sequence[ImageFacts]) -> list[list[int]]:
    """Return the groups of images that are copies of each other, by number, each with two at least, in the order of their first."""
    from scipy.sparse import coo_array  # takes half a second, which a command whose cells are stored need not spend at its start
    from scipy.sparse.csgraph import connected_components

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
    distances = np.array([((flat[i] - flat[j]) ** 2).sum() for i, j in pairs])
    levels = np.sqrt(distances / flat.shape[1]) * pictures.std(axis=(1, 2))[pairs].min(axis=1)
    return pairs[(distances <= NEARER * usual_distance(flat)) & (levels <= LEVELS)]


def usual_distance(vectors: np.ndarray) -> float:
    """Return the median over all vectors, (N, D), of the squared distance to the nearest of some others, spread over all.

    A quarter of all at most are the others, so that it is no distance of copies even where most have some.
    """
    number = min(REFERENCES, max(ENOUGH, len(vectors) // 4))
    chosen = np.unique(np.linspace(0, len(vectors) - 1, number).astype(int))
    lengths = (vectors**2).sum(axis=1)
    squares = lengths[:, None] + lengths[chosen] - 2 * vectors @ vectors[chosen].T
    squares[chosen, np.arange(len(chosen))] = np.inf
    return float(np.median(squares.min(axis=1)))


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
    >>> [3, 700] in candidates(bits).tolist()
    True
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
