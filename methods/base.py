"""The method contract: a method fits on normal images and predicts one anomaly map per image.

This module imports torch only inside functions, so that configurations can be read and cells planned without it.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from anoseg_bench.errors import MethodError

if TYPE_CHECKING:
    import torch

#: The value of a setting that the training images decide.
Auto = Literal["auto"]

#: Called by a training as ``progress(step, steps, loss)``, the loss None where there is none; what it shows is up to the harness.
Progress = Callable[[int, int, float | None], None]


def no_progress(step: int, steps: int, loss: float | None) -> None:
    """Show nothing."""


class MethodConfig(BaseModel):
    """Configuration of a method; subclasses add fields, unknown keys are errors.

    The defaults of the fields are the profile ``full``; `profiles` holds what the shorter ones change.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    profiles: ClassVar[dict[str, dict[str, Any]]] = {}
    #: Raise it when a change of the code changes results: stored cells of older versions are then not used.
    version: ClassVar[int] = 1

    image_size: int = Field(256, ge=32, le=2048, multiple_of=32, description="side of the square that images are resized to, px")
    batch_size: int = Field(16, ge=1, description="images per training step and per prediction")

    @property
    def input_size(self) -> int:
        """Side of the square images that the method is given, px: more than `image_size` where it looks closer itself."""
        return self.image_size

    @classmethod
    def of_profile(cls, profile: str, overrides: dict[str, Any]) -> MethodConfig:
        """Return the configuration of a profile with a user's overrides."""
        preset = {"demo": {"image_size": 64}, "quick": {"image_size": 128}}.get(profile, {}) | cls.profiles.get(profile, {})
        return cls(**(preset | overrides))

    def deviations(self) -> str | None:
        """Return how the training deviates from the published schedule, for the tables' footnotes."""
        return None

    def pretrained(self) -> str | None:
        """Return which weights, trained on other images, the method rests on, for the tables' footnotes; None for none."""
        return None


class TrainedConfig(MethodConfig):
    """Configuration of a method that trains by gradient steps, for `steps` updates or, if that is None, `epochs` passes."""

    epochs: int = Field(100, ge=1, description="passes over the training images, if steps is not given")
    min_steps: int = Field(0, ge=0, description="updates, at least: for small training sets")
    steps: int | None = Field(None, ge=1, description="updates; takes the place of epochs and min_steps")

    @classmethod
    def of_profile(cls, profile: str, overrides: dict[str, Any]) -> MethodConfig:
        """Return the configuration of a profile; epochs given by the user end a profile's budget in steps."""
        if "epochs" in overrides:
            overrides = {"steps": None, "min_steps": 0} | overrides
        return super().of_profile(profile, overrides)

    def total_steps(self, images: int) -> int:
        """Return the number of updates for so many training images."""
        return self.steps if self.steps is not None else max(self.min_steps, self.epochs * -(-images // self.batch_size))


@dataclass(frozen=True)
class Prediction:
    """What a method says of a batch.

    Attributes
    ----------
    maps : torch.Tensor
        float32, shape (N, h, w), higher = more anomalous; any h and w.
    scores : torch.Tensor or None
        float32, shape (N,), one per image; None lets the harness take the maximum of each map.
    other_scores : dict of str to torch.Tensor
        More image scores of that kind by name, each also higher = more anomalous: kept for comparison.
    """

    maps: torch.Tensor
    scores: torch.Tensor | None = None
    other_scores: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Examples:
    """Synthetic anomalies that a method learns from.

    Attributes
    ----------
    images : torch.Tensor
        uint8, (N, 3, H, W).
    masks : torch.Tensor
        float32, (N, H, W), 0..1: what is anomalous, as `legend` says.
    normals : torch.Tensor or None
        uint8, (M, 3, H, W), some of the normal images.
    foregrounds : torch.Tensor or None
        bool, (M, H, W), what the method takes for their foreground.
    findings : dict
        What `Method.findings` would say after a training on these images.
    legend : str
        What the values of the masks mean.
    """

    images: torch.Tensor
    masks: torch.Tensor
    normals: torch.Tensor | None = None
    foregrounds: torch.Tensor | None = None
    findings: dict[str, Any] = field(default_factory=dict)
    legend: str = "white anomalous, grey left out of the loss"


class Method(abc.ABC):
    """A method: subclass it, write `_fit` and `_predict`, and register it.

    `fit` and `predict` check what goes in and out and keep the random state of the process untouched: inside
    `_fit` and `_predict` torch's generator is seeded with `seed`, so that plain torch code is deterministic.

    Parameters
    ----------
    config : MethodConfig
        An instance of the class's ``Config``.
    seed : int
        Seed of everything random.
    device : str
        A torch device: ``"cpu"``, ``"cuda"``, ``"mps"``.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    #: Whether the map is a probability in 0..1.
    probability: ClassVar[bool] = False
    #: Why no graph of it can be exported; None where one can.
    no_graph: ClassVar[str | None] = None

    def __init__(self, config: MethodConfig | None = None, seed: int = 0, device: str = "cpu") -> None:
        self.config: Any = config if config is not None else self.Config.of_profile("full", {})
        self.seed = seed
        self.device = device

    @abc.abstractmethod
    def _fit(self, images: torch.Tensor, progress: Progress) -> None:
        """Learn from normal images: uint8, shape (N, 3, H, W), on the CPU; call ``progress(step, steps, loss)``."""

    @abc.abstractmethod
    def _predict(self, images: torch.Tensor) -> Prediction:
        """Return maps for a batch: uint8, shape (N, 3, H, W), on `device`; gradients are on for methods that need them."""

    def _graph(self, images: torch.Tensor) -> Prediction:
        """Return what `_predict` does, in operations that `torch.export` can follow; another way where `_predict` cannot be."""
        return self._predict(images)

    @abc.abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """Return what was learned, as tensors."""

    @abc.abstractmethod
    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what `state` of another instance of the same configuration returned."""

    def fit(self, images: torch.Tensor, progress: Progress = no_progress) -> None:
        """Learn from normal images.

        Parameters
        ----------
        images : torch.Tensor
            uint8, shape (N, 3, H, W), N >= 1, H = W = ``config.input_size``.
        progress : callable
            Called as ``progress(step, steps, loss)``.

        Raises
        ------
        MethodError
            If the images are not as described.
        """
        self._check_images(images)
        with isolated_random_state(self.seed, self.device):
            self._fit(images, progress)

    def predict(self, images: torch.Tensor) -> Prediction:
        """Return float32 maps (and scores) on the CPU for a batch like that of `fit`.

        The images are predicted in batches of ``config.batch_size``.

        Raises
        ------
        MethodError
            If the images are not as described, or the method returns a map of another number, type or shape, or one
            that is not finite.
        """
        import torch

        self._check_images(images)
        parts = []
        for batch in images.split(self.config.batch_size):
            with isolated_random_state(self.seed, self.device), torch.enable_grad():
                part = self._predict(batch.to(self.device))
            self._check_prediction(part, len(batch))
            parts.append(part)
        scores = [part.scores.detach().cpu() for part in parts if part.scores is not None]
        return Prediction(
            torch.cat([part.maps.detach().cpu() for part in parts]),
            torch.cat(scores) if len(scores) == len(parts) else None,
            {name: torch.cat([part.other_scores[name].detach().cpu() for part in parts]) for name in parts[0].other_scores},
        )

    def examples(self, images: torch.Tensor, number: int) -> Examples:
        """Return synthetic anomalies as `fit` would learn them from these images; needs no training.

        Raises
        ------
        MethodError
            If the images are not those of `fit`, or the method learns from none.
        """
        self._check_images(images)
        with isolated_random_state(self.seed, self.device):
            return self._examples(images, number)

    def _examples(self, images: torch.Tensor, number: int) -> Examples:
        raise MethodError(f"{type(self).__name__} learns from no synthetic anomalies, so there are none to show.")

    def findings(self) -> dict[str, Any]:
        """Return what `fit` found out about its training images and decided by that, as plain data: stored with the cell."""
        return {}

    def parameters(self) -> int:
        """Return the number of learnt parameters of the networks among the attributes."""
        import torch

        networks = [value for value in vars(self).values() if isinstance(value, torch.nn.Module)]
        return sum({id(p): p.numel() for network in networks for p in network.parameters()}.values())

    def save(self, path: Path) -> None:
        """Write `state` as safetensors."""
        from safetensors.torch import save_file

        save_file({k: v.detach().cpu().contiguous() for k, v in self.state().items()}, path)

    def load(self, path: Path) -> None:
        """Read what `save` wrote; nothing is unpickled."""
        from safetensors.torch import load_file

        with isolated_random_state(self.seed, self.device):
            self.load_state(load_file(path, device=self.device))

    def _check_images(self, images: torch.Tensor) -> None:
        import torch

        size = self.config.input_size
        if images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0 or tuple(images.shape[1:]) != (3, size, size):
            raise MethodError(
                f"Expected images as uint8 (N, 3, {size}, {size}) with N >= 1, but got {images.dtype} {tuple(images.shape)}."
            )

    def _check_prediction(self, part: Prediction, number: int) -> None:
        import torch

        name = type(self).__name__
        others = ((f"scores '{other}'", values, "(N,)") for other, values in part.other_scores.items())
        for what, values, shape in (("maps", part.maps, "(N, h, w)"), ("scores", part.scores, "(N,)"), *others):
            if values is None and what == "scores":
                continue
            if not isinstance(values, torch.Tensor) or values.dtype != torch.float32:
                got = getattr(values, "dtype", type(values))
                raise MethodError(f"Expected {what} of {name} as a float32 tensor, but got {got}.")
            if values.ndim != (3 if what == "maps" else 1) or len(values) != number or values.numel() == 0:
                raise MethodError(f"Expected {what} of {name} of shape {shape} with N = {number}, but got {tuple(values.shape)}.")
            if not torch.isfinite(values).all():
                raise MethodError(f"Expected finite {what} of {name}, but got NaN or infinity; its training may have diverged.")
        if self.probability and (part.maps.min() < 0 or part.maps.max() > 1):
            raise MethodError(f"Expected maps of {name} in 0..1 as it calls them probabilities, but they leave that range.")


@contextlib.contextmanager
def isolated_random_state(seed: int, device: str) -> Iterator[None]:
    """Seed torch, NumPy and `random` inside the block and give them their former states back after it.

    On CUDA, cuDNN keeps to deterministic kernels meanwhile.
    """
    import random

    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = [torch.device(device).index or torch.cuda.current_device()] if device.startswith("cuda") else []
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with torch.random.fork_rng(devices=devices), cudnn:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
