"""Methods that break the contract, each in one way; `tests.test_testing` says which check names it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from anoseg_bench.methods.base import Method, Prediction, TrainedConfig


class Right(Method):
    """Distance of a pixel's brightness to the average of the normal images; the others differ from it in one point."""

    def _fit(self, images, progress):
        self.mean = images.float().mean().to(self.device)
        progress(1, 1, 0.0)

    def _predict(self, images):
        return Prediction((images.float().mean(1) - self.mean).abs())

    def state(self):
        return {"mean": self.mean}

    def load_state(self, state):
        self.mean = state["mean"].to(self.device)


class Abstract(Method):
    """Has no `_predict` and no state."""

    def _fit(self, images, progress): ...


class WrongShape(Right):
    """Maps have a channel."""

    def _predict(self, images):
        return Prediction(super()._predict(images).maps[:, None])


class WrongType(Right):
    """Maps are float64."""

    def _predict(self, images):
        return Prediction(super()._predict(images).maps.double())


class NotFinite(Right):
    """Maps hold NaN where the training had one image, like a variance."""

    def _fit(self, images, progress):
        super()._fit(images, progress)
        self.mean = self.mean if len(images) > 1 else self.mean * float("nan")


class Unseeded(Right):
    """Training depends on something that the seed does not govern."""

    def _fit(self, images, progress):
        super()._fit(images, progress)
        self.mean = self.mean + int.from_bytes(os.urandom(2), "little") / 1000


class Drifting(Right):
    """Each prediction changes what was learned."""

    def _predict(self, images):
        self.mean = self.mean + 1
        return super()._predict(images)


class BatchNormed(Right):
    """Maps are scaled over the batch."""

    def _predict(self, images):
        maps = super()._predict(images).maps
        return Prediction(maps / maps.max())


class InPlace(Right):
    """Training writes to its images."""

    def _fit(self, images, progress):
        images[:, :, :4] = 0
        super()._fit(images, progress)


class Overcounting(Right):
    """Progress goes beyond the total."""

    def _fit(self, images, progress):
        super()._fit(images, progress)
        progress(2, 1, 0.0)


class Forgetful(Right):
    """State is taken over by nothing."""

    def load_state(self, state):
        self.mean = torch.zeros(())


class Pickling(Right):
    """State holds a number that is no tensor."""

    def state(self):
        return {"mean": float(self.mean)}


class Littering(Right):
    """Training leaves a file in the working folder."""

    def _fit(self, images, progress):
        super()._fit(images, progress)
        Path("checkpoint.bin").write_bytes(b"weights")


class Moving(Right):
    """Training changes the working folder."""

    def _fit(self, images, progress):
        super()._fit(images, progress)
        os.chdir("/")


class Chatty(Right):
    """Training prints."""

    def _fit(self, images, progress):
        super()._fit(images, progress)
        print("epoch 1")


class Quitting(Right):
    """Training exits."""

    def _fit(self, images, progress):
        sys.exit("no GPU")


class Inverted(Right):
    """Lower values are more anomalous."""

    def _predict(self, images):
        return Prediction(255 - super()._predict(images).maps)


class GradientsOff(Right):
    """Turns gradients off for the whole process."""

    def _fit(self, images, progress):
        super()._fit(images, progress)
        torch.set_grad_enabled(False)


class BatchScores(Right):
    """Scores depend on the other images of the batch."""

    def _predict(self, images):
        maps = super()._predict(images).maps
        scores = maps.flatten(1).mean(1)
        return Prediction(maps, scores / scores.max())


class StepsConfig(TrainedConfig):
    """Configuration of Mute."""


class Mute(Right):
    """Has steps and reports none."""

    Config = StepsConfig

    def _fit(self, images, progress):
        super()._fit(images, lambda *_: None)
