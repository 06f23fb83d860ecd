"""The checks that every method passes, ours or a contributor's: call each of `CHECKS` with a `Case`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch

from anoseg_bench.errors import MethodError
from anoseg_bench.methods import METHODS
from anoseg_bench.methods.base import Method

SIZE = 64


def normal_images(n: int, seed: int = 0) -> torch.Tensor:
    """Return soft stripes with a little noise, uint8 (n, 3, 64, 64)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(0, 12, SIZE)
    stripes = (110 + 25 * torch.sin(x)).view(1, 1, 1, SIZE).expand(n, 3, SIZE, SIZE)
    return (stripes + 6 * torch.randn(n, 3, SIZE, SIZE, generator=generator)).clamp(0, 255).byte()


def budget(config_class: type, steps: int, batch: int) -> dict[str, int]:
    """Return the settings by which a method trains for so many batches, where it trains."""
    settings = {"steps": steps, "images_seen": steps * batch}
    return {name: value for name, value in settings.items() if name in config_class.model_fields}


@dataclass
class Case:
    """One method with a configuration that trains in a second or two; `learns` is False for a method that does not."""

    name: str
    learns: bool = True

    def make(self, seed: int = 3) -> Method:
        """Return a new instance."""
        config_class = METHODS[self.name].load_config()
        overrides = {"image_size": SIZE, "batch_size": 4}
        overrides |= budget(config_class, 12, 4)
        return METHODS[self.name].load()(config_class.of_profile("demo", overrides), seed=seed, device="cpu")

    @cached_property
    def fitted(self) -> Method:
        """An instance fitted on ten normal images."""
        method = self.make()
        method.fit(normal_images(10))
        return method


def check_shape_and_range(case: Case) -> None:
    """Maps are finite float32 (N, h, w); probabilities lie in 0..1; scores are finite float32 (N,)."""
    prediction = case.fitted.predict(normal_images(6, seed=1))
    assert prediction.maps.dtype == torch.float32 and prediction.maps.ndim == 3 and len(prediction.maps) == 6
    assert torch.isfinite(prediction.maps).all()
    if case.fitted.probability:
        assert 0 <= prediction.maps.min() and prediction.maps.max() <= 1
    if prediction.scores is not None:
        assert prediction.scores.dtype == torch.float32 and prediction.scores.shape == (6,)
        assert torch.isfinite(prediction.scores).all()


def check_deterministic(case: Case) -> None:
    """The same seed gives the same maps, whatever the global random state is; another seed may not."""
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    other = case.make()
    other.fit(normal_images(10))
    images = normal_images(3, seed=1)
    assert torch.equal(other.predict(images).maps, case.fitted.predict(images).maps)


def check_random_state_untouched(case: Case) -> None:
    """Neither fit nor predict changes the random state of the process."""
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    method = case.make()
    method.fit(normal_images(5))
    method.predict(normal_images(2))
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert before == after


def check_batches(case: Case) -> None:
    """The maps do not depend on how images are batched: a short last batch, one image alone."""
    images = normal_images(5, seed=2)  # batches of 4 and 1
    whole = case.fitted.predict(images)
    for i in range(len(images)):
        alone = case.fitted.predict(images[i : i + 1])
        torch.testing.assert_close(alone.maps[0], whole.maps[i], rtol=1e-3, atol=1e-5)


def check_few_training_images(case: Case) -> None:
    """One, two or five training images (a last batch of one) are enough to fit and predict."""
    for n in (1, 2, 5):
        method = case.make()
        method.fit(normal_images(n))
        assert torch.isfinite(method.predict(normal_images(1, seed=4)).maps).all()


def check_state(case: Case, folder: Path) -> None:
    """State saved and loaded into a new instance gives the same maps and scores."""
    case.fitted.save(folder / "state.safetensors")
    other = case.make(seed=8)
    other.load(folder / "state.safetensors")
    images = normal_images(3, seed=5)
    expected, got = case.fitted.predict(images), other.predict(images)
    assert torch.equal(got.maps, expected.maps)
    assert (got.scores is None) == (expected.scores is None)
    if expected.scores is not None:
        assert torch.equal(got.scores, expected.scores)


def check_input_unchanged(case: Case) -> None:
    """Neither fit nor predict writes to the images that it is given."""
    images = normal_images(5)
    copy = images.clone()
    case.make().fit(images)
    case.fitted.predict(images)
    assert torch.equal(images, copy)


def check_bad_input(case: Case) -> None:
    """Images of another type or size are refused with what was expected and what was found."""
    for images in (normal_images(2).float(), normal_images(2)[..., :32], normal_images(2)[:, :1], normal_images(2)[:0]):
        with pytest.raises(MethodError, match=r"Expected images as uint8 .*, but got"):
            case.fitted.predict(images)


def check_progress(case: Case) -> None:
    """What training reports of its progress, if it does, leads up to the end."""
    seen: list[tuple[int, int]] = []
    case.make().fit(normal_images(5), lambda step, steps, loss: seen.append((step, steps)))
    assert all(0 < step <= steps for step, steps in seen)
    assert not seen or seen[-1][0] == seen[-1][1]


def check_higher_is_more_anomalous(case: Case) -> None:
    """After a short training, a block of foreign bright noise is hotter than the same pixels of a normal image."""
    if not case.learns:
        return
    method = case.make()
    method.config = method.config.model_copy(update=budget(type(method.config), 150, 8) | {"batch_size": 8})
    method.fit(normal_images(16))
    clean = normal_images(4, seed=7)
    marred = clean.clone()
    block = (slice(None), slice(None), slice(20, 40), slice(20, 40))
    generator = torch.Generator().manual_seed(0)
    marred[block] = torch.randint(180, 256, marred[block].shape, dtype=torch.uint8, generator=generator)
    both = method.predict(torch.cat([clean, marred])).maps
    maps = torch.nn.functional.interpolate(both[:, None], size=(SIZE, SIZE), mode="bilinear")[:, 0, 20:40, 20:40].mean((1, 2))
    assert maps[4:].mean() > maps[:4].mean()


CHECKS = [
    check_higher_is_more_anomalous,
    check_shape_and_range,
    check_deterministic,
    check_random_state_untouched,
    check_batches,
    check_few_training_images,
    check_input_unchanged,
    check_bad_input,
    check_progress,
]
