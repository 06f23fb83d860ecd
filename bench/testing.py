"""The contract checks of methods and datasets, for this project's and for anybody's.

    from anoseg_bench import check_method
    for result in check_method("path/to/file.py:MyMethod"):
        print(result)

With pytest, one test for each check:

    @pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
    def test_contract(check, tmp_path):
        check(MethodCase(MyMethod))
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anoseg_bench.conditions import Conditions
from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import Category, Dataset, Item
from anoseg_bench.errors import MethodError
from anoseg_bench.methods import METHODS
from anoseg_bench.methods.base import Method, MethodConfig, Prediction
from anoseg_bench.plugins import cause
from anoseg_bench.validation import make_dataset
from anoseg_bench.variants import validated

if TYPE_CHECKING:
    from pydantic import BaseModel

#: Side of the images that methods are checked on, px.
SIZE = 64


@dataclass(frozen=True)
class CheckResult:
    """What came of one check.

    Attributes
    ----------
    name : str
    about : str
        What the contract asks for.
    problem : str
        What was expected and found; empty where the check was passed.
    """

    name: str
    about: str
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the contract is kept."""
        return not self.problem

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}  {self.name}: {self.problem or self.about}"


class BrokenError(AssertionError):
    """A check was not passed; its message says what was expected and found."""


def expect(condition: bool, expected: str, found: str) -> None:
    """Raise BrokenError unless a condition holds."""
    if not condition:
        raise BrokenError(f"Expected {expected}, but {found}.")


# --- methods ------------------------------------------------------------------------------------------------------------


def normal_images(number: int, seed: int = 0, size: int = SIZE) -> torch.Tensor:
    """Return soft stripes with a little noise, uint8 (number, 3, size, size), size a multiple of 64."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(0, 12, SIZE)
    stripes = (110 + 25 * torch.sin(x)).view(1, 1, 1, SIZE).expand(number, 3, SIZE, SIZE)
    images = (stripes + 6 * torch.randn(number, 3, SIZE, SIZE, generator=generator)).clamp(0, 255).byte()
    return images.repeat_interleave(size // SIZE, 2).repeat_interleave(size // SIZE, 3)


def budget(config_class: type[BaseModel], steps: int, batch: int) -> dict[str, int]:
    """Return the settings by which a method trains for so many batches, where it trains."""
    settings = {"steps": steps, "images_seen": steps * batch}
    return {name: value for name, value in settings.items() if name in config_class.model_fields}


@dataclass
class MethodCase:
    """A method with a configuration that trains in a second or two.

    Attributes
    ----------
    method : type
        A subclass of `Method`.
    settings : mapping
        Settings of its configuration, beside those that make it small.
    learns : bool
        Whether it tells anomalies from what is normal; False for a floor like noise.
    """

    method: type[Method]
    settings: Mapping[str, Any] = field(default_factory=dict)
    learns: bool = True

    def make(self, seed: int = 3, steps: int = 12, batch: int = 4) -> Method:
        """Return a new instance."""
        small = {"image_size": SIZE, "batch_size": batch} | budget(self.method.Config, steps, batch)
        return self.method(self.method.Config.of_profile("demo", small | dict(self.settings)), seed=seed, device="cpu")

    def images(self, number: int, seed: int = 0) -> torch.Tensor:
        """Return normal images of the size that the method is given."""
        return normal_images(number, seed, self.make().config.input_size)

    @cached_property
    def fitted(self) -> Method:
        """An instance fitted on ten normal images."""
        method = self.make()
        method.fit(self.images(10))
        return method

    @cached_property
    def observed(self) -> Observation:
        """What a training and a prediction did beside their work."""
        images, before = self.images(5), Path.cwd()
        copy, state = images.clone(), random_states()
        steps: list[tuple[int, int]] = []
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as file:
            saved = os.dup(1)
            os.chdir(folder)
            os.dup2(file.fileno(), 1)  # what libraries write, too
            try:
                with contextlib.redirect_stdout(file):
                    method = self.make()
                    method.fit(images, lambda step, total, loss: steps.append((step, total)))
                    after_fit = torch.equal(images, copy)
                    method.predict(images)
                moved = Path.cwd() if Path.cwd() != Path(folder).resolve() else None
                left = sorted(path.name for path in Path(folder).iterdir())
            finally:
                gradients = torch.is_grad_enabled()
                torch.set_grad_enabled(True)
                os.chdir(before)
                os.dup2(saved, 1)
                os.close(saved)
            file.flush()
            file.seek(0)
            return Observation(
                steps, after_fit, torch.equal(images, copy), state == random_states(), gradients, moved, left, file.read()
            )


@dataclass(frozen=True)
class Observation:
    """What a training and a prediction did beside their work.

    Attributes
    ----------
    steps : list of tuple of int
        (step, steps) of each report of progress.
    kept_by_fit, kept_by_predict : bool
        Whether the images are as they were.
    kept_random_states : bool
        Whether the random states of the process are as they were.
    kept_gradient_mode : bool
        Whether gradients are still on.
    moved : Path or None
        The working folder, where it was changed.
    left : list of str
        Files in the working folder.
    printed : str
        Standard output.
    """

    steps: list[tuple[int, int]]
    kept_by_fit: bool
    kept_by_predict: bool
    kept_random_states: bool
    kept_gradient_mode: bool
    moved: Path | None
    left: list[str]
    printed: str


def random_states() -> tuple:
    """Return the random states of the process."""
    numpy_state: Any = np.random.get_state()
    return random.getstate(), numpy_state[1].tolist(), torch.get_rng_state().tolist()


def check_class(case: MethodCase) -> None:
    """The class is a subclass of `Method`, writes its abstract methods, and its `Config` is a `MethodConfig`."""
    expect(issubclass(case.method, Method), "a subclass of anoseg_bench.Method", f"'{case.method.__name__}' is none")
    missing = sorted(getattr(case.method, "__abstractmethods__", ()))
    expect(not missing, "all abstract methods to be written", f"{', '.join(missing)} are missing")
    expect(issubclass(case.method.Config, MethodConfig), "`Config` to be a subclass of MethodConfig", "it is none")
    taken = sorted(set(case.method.Config.model_fields) & set(Conditions.model_fields))
    expect(not taken, "no key of `Config` that the harness has for all methods", f"{', '.join(taken)} is one")


def check_shape_and_range(case: MethodCase) -> None:
    """Maps are finite float32 (N, h, w); probabilities lie in 0..1; scores are finite float32 (N,)."""
    prediction = case.fitted.predict(case.images(6, seed=1))  # which checks what the method returns
    expect(len(prediction.maps) == 6, "a map for each of 6 images", f"there are {len(prediction.maps)}")


def check_deterministic_training(case: MethodCase) -> None:
    """The same seed gives the same maps and scores, whatever the random state of the process is."""
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    other = case.make()
    other.fit(case.images(10))
    images = case.images(3, seed=1)
    difference = largest_difference(other.predict(images), case.fitted.predict(images))
    expect(difference == 0, "two trainings with the same seed to give the same maps", f"they differ by up to {difference:.3g}")


def check_deterministic_prediction(case: MethodCase) -> None:
    """The same images get the same maps and scores when they are predicted again."""
    images = case.images(3, seed=1)
    difference = largest_difference(case.fitted.predict(images), case.fitted.predict(images))
    expect(difference == 0, "the same maps for the same images", f"a second prediction differs by up to {difference:.3g}")


def largest_difference(one: Prediction, other: Prediction) -> float:
    """Return by how much maps and scores of two predictions differ at most; infinity where one has scores that the other lacks."""
    if (one.scores is None) != (other.scores is None) or set(one.other_scores) != set(other.other_scores):
        return float("inf")
    pairs = [(one.maps, other.maps), *((one.other_scores[name], other.other_scores[name]) for name in one.other_scores)]
    if one.scores is not None and other.scores is not None:
        pairs.append((one.scores, other.scores))
    return max((a - b).abs().max().item() for a, b in pairs)


def check_random_state_untouched(case: MethodCase) -> None:
    """Neither fit nor predict changes the random state of the process."""
    expect(case.observed.kept_random_states, "the random state of the process to be left alone", "it changed")


def check_batches(case: MethodCase) -> None:
    """Maps and scores of an image do not depend on the images beside it: a short last batch, one image alone."""
    images = case.images(5, seed=2)  # batches of 4 and 1
    whole = case.fitted.predict(images)
    for i in range(len(images)):
        alone = case.fitted.predict(images[i : i + 1])
        for what, one, all_ in (("map", alone.maps, whole.maps), ("score", alone.scores, whole.scores)):
            if one is None or all_ is None:
                continue
            difference = (one[0] - all_[i]).abs().max().item()
            same = torch.allclose(one[0], all_[i], rtol=1e-3, atol=1e-5)
            expect(same, f"the {what} of an image alone to be that in a batch", f"image {i} differs by up to {difference:.3g}")


def check_few_training_images(case: MethodCase) -> None:
    """One, two or five training images (a last batch of one) are enough to fit and predict."""
    for number in (1, 2, 5):
        method = case.make()
        try:
            method.fit(case.images(number))
            method.predict(case.images(1, seed=4))
        except (MethodError, ValueError, RuntimeError, IndexError, ArithmeticError) as error:
            raise BrokenError(f"Expected {number} training images to be enough, but {cause(error)}.") from error


def check_input_unchanged(case: MethodCase) -> None:
    """Neither fit nor predict writes to the images that it is given."""
    expect(case.observed.kept_by_fit, "fit to leave its images alone", "it changed them")
    expect(case.observed.kept_by_predict, "predict to leave its images alone", "it changed them")


def check_bad_input(case: MethodCase) -> None:
    """Images of another type or size are refused by a MethodError that says what was expected and found."""
    for images in (case.images(2).float(), case.images(2)[..., :32], case.images(2)[:, :1], case.images(2)[:0]):
        what = f"images {images.dtype} {tuple(images.shape)}"
        try:
            case.fitted.predict(images)
        except MethodError:
            continue
        raise BrokenError(f"Expected {what} to be refused, but they were predicted.")


def check_progress(case: MethodCase) -> None:
    """Training reports its progress, where the configuration has steps; reports count up to the total."""
    seen = case.observed.steps
    trains = bool(budget(case.method.Config, 1, 1))
    expect(bool(seen) or not trains, "progress(step, steps, loss) to be called", "it was not")
    wrong = next((f"({step}, {steps}) was reported" for step, steps in seen if not 0 < step <= steps), "")
    expect(not wrong, "progress(step, steps, loss) with 0 < step <= steps", wrong)
    expect(not seen or seen[-1][0] == seen[-1][1], "the last report to be of the last step", f"it was {seen[-1:]}")


def check_gradients(case: MethodCase) -> None:
    """Gradients are allowed and not required: the maps are the same under `torch.no_grad`, and fit does not turn them off."""
    expect(case.observed.kept_gradient_mode, "gradients to be on after fit and predict, as before", "they are off")
    images = case.images(2, seed=3)
    expected = case.fitted.predict(images)
    with torch.no_grad():
        difference = largest_difference(case.fitted.predict(images), expected)
    expect(difference == 0, "the same maps under torch.no_grad", f"they differ by up to {difference:.3g}")


def check_state_of_tensors(case: MethodCase) -> None:
    """The state is a dictionary of tensors by name, and of nothing else."""
    state: Any = case.fitted.state()
    expect(isinstance(state, dict), "a dictionary from `state`", f"it is of type {type(state).__name__}")
    for name, value in state.items():
        kind = type(value).__name__
        expect(
            isinstance(name, str) and isinstance(value, torch.Tensor), "tensors by name in `state`", f"{name!r} is of type {kind}"
        )


def check_state_reloads(case: MethodCase) -> None:
    """State saved and loaded into a new instance gives the same maps and scores."""
    images = case.images(3, seed=5)
    expected = case.fitted.predict(images)
    with tempfile.TemporaryDirectory() as folder:
        case.fitted.save(Path(folder) / "state.safetensors")
        other = case.make()
        other.load(Path(folder) / "state.safetensors")
        difference = largest_difference(other.predict(images), expected)
    expect(difference == 0, "a reloaded method to give the same maps and scores", f"they differ by up to {difference:.3g}")


def check_leaves_no_files(case: MethodCase) -> None:
    """Neither fit nor predict writes to the working folder or changes it."""
    observed = case.observed
    expect(observed.moved is None, "the working folder to stay the same", f"it is '{observed.moved}' after fit and predict")
    expect(not observed.left, "no files in the working folder", f"there are {', '.join(observed.left[:5])} after fit and predict")


def check_silent(case: MethodCase) -> None:
    """Neither fit nor predict writes to standard output: what a training reports goes through `progress`."""
    first = next(iter(case.observed.printed.strip().splitlines()), "")[:80]
    expect(not case.observed.printed, "no output", f"it printed {first!r}")


def check_higher_is_more_anomalous(case: MethodCase) -> None:
    """After a short training, a block of bright noise scores higher than the same pixels of a normal image."""
    if not case.learns:
        return
    method = case.make(steps=60, batch=8)
    method.fit(case.images(16))
    clean = case.images(4, seed=7)
    marred = clean.clone()
    within = slice(*(place * clean.shape[-1] // SIZE for place in (20, 40)))
    block = (slice(None), slice(None), within, within)
    generator = torch.Generator().manual_seed(0)
    marred[block] = torch.randint(180, 256, marred[block].shape, dtype=torch.uint8, generator=generator)
    both = method.predict(torch.cat([clean, marred])).maps
    maps = torch.nn.functional.interpolate(both[:, None], size=(SIZE, SIZE), mode="bilinear")[:, 0, 20:40, 20:40].mean((1, 2))
    normal, anomalous = maps[:4].mean().item(), maps[4:].mean().item()
    expect(
        anomalous > normal,
        "higher values where the image is anomalous",
        f"a block of noise has {anomalous:.4g} and a normal one {normal:.4g}",
    )


MethodCheck = Callable[[MethodCase], None]
METHOD_CHECKS: Sequence[MethodCheck] = (
    check_class,
    check_shape_and_range,
    check_deterministic_training,
    check_deterministic_prediction,
    check_random_state_untouched,
    check_batches,
    check_few_training_images,
    check_input_unchanged,
    check_bad_input,
    check_progress,
    check_gradients,
    check_state_of_tensors,
    check_state_reloads,
    check_leaves_no_files,
    check_silent,
    check_higher_is_more_anomalous,
)


def check_method(
    method: str | type[Method], settings: Mapping[str, Any] | None = None, *, learns: bool = True
) -> list[CheckResult]:
    """Check a method against the contract.

    Parameters
    ----------
    method : str or type
        A class, a name in the registry, or ``file.py:Class``.
    settings : mapping or None
        Settings of its configuration, e.g. the weights that it needs.
    learns : bool
        Whether it tells anomalies from what is normal.

    Returns
    -------
    list of CheckResult
        One for each of `METHOD_CHECKS`, in that order.

    Raises
    ------
    UsageError
        If `method` cannot be found, or lacks what is abstract, or has no such settings.
    """
    cls = METHODS[METHODS.one(method)].load() if isinstance(method, str) else method
    given = dict(settings or {})
    config = validated(lambda values: cls.Config.of_profile("demo", values), cls.__name__, cls.Config, given)
    case = MethodCase(cls, {key: value for key, value in config if key in given}, learns)
    return [outcome_of(check, case) for check in METHOD_CHECKS]


# --- datasets -----------------------------------------------------------------------------------------------------------

MakeDataset = Callable[[], Dataset]


def _each(make: MakeDataset) -> Iterator[Category]:
    dataset = make()
    for name in dataset.categories():
        yield dataset.load(name)


def check_categories(make: MakeDataset) -> None:
    """Categories are names, sorted, at least one; the dataset has a label for tables."""
    dataset = make()
    names = dataset.categories()
    expect(bool(names), "at least one category", "there is none")
    expect(all(isinstance(name, str) and name for name in names), "categories as names", f"they are {names[:3]}")
    expect(names == sorted(names), "categories in order", f"they are {names[:5]}")
    expect(bool(getattr(dataset, "label", "")), "a `label` for tables", "there is none")


def check_items(make: MakeDataset) -> None:
    """Names are unique and stable; training and validation images are normal; defective images have masks."""
    for category, again in zip(_each(make), _each(make), strict=True):
        where = f"in '{category.name}'"
        expect(bool(category.train and category.test), f"training and test images {where}", "there are none")
        names = [item.name for item in category.items]
        expect(names == [item.name for item in again.items], f"the same items each time {where}", "they differ")
        twice = next((name for name in names if names.count(name) > 1), "")
        expect(not twice, f"unique names {where}", f"'{twice}' comes twice")
        for item in (*category.train, *category.validation):
            expect(item.is_good, f"normal images to train on {where}", f"'{item.name}' is not")
        for item in category.test:
            expect(item.is_good or item.mask is not None, f"a mask of each defective image {where}", f"'{item.name}' has none")
        groups = ("textures", "objects", None)
        expect(category.group in groups, f"a group of {groups} {where}", f"it is {category.group!r}")


def check_arrays(make: MakeDataset) -> None:
    """Images are uint8 RGB (H, W, 3); masks are bool (H, W) of the same size and mark something; loading twice gives the same."""
    for category in _each(make):
        for item in (category.train[0], category.test[0], category.test[-1]):
            _check_arrays_of(item)


def _check_arrays_of(item: Item) -> None:
    image: Any = item.load_image()
    found = f"'{item.name}' is {getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
    is_rgb = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    expect(is_rgb, "images as uint8 (H, W, 3)", found)
    mask = item.load_mask(image.shape[:2])
    found = f"that of '{item.name}' is {mask.dtype} {mask.shape}"
    expect(mask.dtype == bool and mask.shape == image.shape[:2], f"masks as bool {image.shape[:2]}", found)
    expect(bool(mask.any()) != item.is_good, "masks that mark defects and nothing else", f"that of '{item.name}' does not")
    regions = item.regions() if item.regions else [(mask, int(mask.sum()))]
    union = np.logical_or.reduce([region for region, _ in regions])
    expect(np.array_equal(union, mask), "regions that together are the mask", f"those of '{item.name}' are not")
    enough = all(1 <= number <= region.sum() for region, number in regions if region.any())
    expect(enough, "of each region a number of its pixels to be enough", f"of '{item.name}' it is not")
    expect(np.array_equal(image, item.load_image()), "the same image each time", f"'{item.name}' differs")


def check_apart(make: MakeDataset) -> None:
    """No image is in training as well as in the test."""
    for category in _each(make):
        train = {_digest(item) for item in category.train}
        both = next((item for item in category.test if _digest(item) in train), None)
        expect(both is None, f"test images of '{category.name}' that are not trained on", f"'{both and both.name}' is")


def _digest(item: Item) -> str:
    return hashlib.sha256(item.load_image().tobytes()).hexdigest()


DatasetCheck = Callable[[MakeDataset], None]
DATASET_CHECKS: Sequence[DatasetCheck] = (check_categories, check_items, check_arrays, check_apart)


def check_dataset(
    dataset: str | type[Dataset], root: str | Path | None = None, settings: Mapping[str, Any] | None = None
) -> list[CheckResult]:
    """Check a dataset adapter against the contract, on the data under `root`; parameters and results as of `check_method`."""
    cls = DATASETS[DATASETS.one(dataset)].load() if isinstance(dataset, str) else dataset
    root = make_dataset(cls, cls.__name__, root, settings or {}).root  # raises where the folder or a setting is wrong
    return [outcome_of(check, lambda: make_dataset(cls, cls.__name__, root, settings or {})) for check in DATASET_CHECKS]


# --- both ---------------------------------------------------------------------------------------------------------------


def outcome_of(check: Callable[[Any], None], subject: Any) -> CheckResult:
    """Run one check in an empty folder; whatever the code under check raises, an exit among it, is its outcome."""
    about = (check.__doc__ or "").split("\n")[0]
    name = check.__name__.removeprefix("check_").replace("_", " ")
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            check(subject)
        except BrokenError as error:
            return CheckResult(name, about, str(error))
        except (Exception, SystemExit) as error:  # somebody else's code, which may raise anything
            return CheckResult(name, about, f"{cause(error)}.")
        finally:
            os.chdir(before)
    return CheckResult(name, about)


__all__ = [
    "DATASET_CHECKS",
    "METHOD_CHECKS",
    "CheckResult",
    "MethodCase",
    "Prediction",
    "check_dataset",
    "check_method",
    "normal_images",
]
