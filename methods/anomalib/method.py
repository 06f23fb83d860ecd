"""Any of anomalib's image models as a method: trained by its own engine, on our images, under our protocol.

The model's constructor arguments are the configuration; its class is made when it is asked for, see `__getattr__`.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import anomalib.models.image
import timm
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from anomalib.models.components import AnomalibModule
from lightning.pytorch.callbacks import Callback
from pydantic import Field, create_model
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Normalize

from anoseg_bench.errors import MethodError
from anoseg_bench.methods import base
from anoseg_bench.methods.backbones import OptionalWeights, describe_weights
from anoseg_bench.methods.backbones import create_model as create_backbone

#: Constructor arguments that are the harness's business.
OURS = ("pre_processor", "post_processor", "evaluator", "visualizer", "input_size", "batch_size")
#: Arguments that name a timm model, the first that a constructor has.
BACKBONES = ("backbone", "teacher_backbone", "encoder_name")


class AnomalibConfig(base.TrainedConfig):
    """What all models of anomalib share; those that train by steps do so for `steps`, or `epochs`."""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {"demo": {"steps": 30}, "quick": {"steps": 300}}

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {name: value for name, value in self if name not in (*AnomalibConfig.model_fields, "weights")}

    def backbone_name(self) -> str | None:
        """Return the timm model that the method rests on, where it has one."""
        return next((str(value) for name in BACKBONES if (value := getattr(self, name, None)) is not None), None)

    def deviations(self) -> str | None:
        """Return what the training lacks."""
        return "noise instead of texture images (published: DTD)" if getattr(self, "dtd_dir", "") is None else None

    def pretrained(self) -> str | None:
        """Return which weights are used, for the tables' footnotes."""
        backbone, weights = self.backbone_name(), getattr(self, "weights", None)
        return describe_weights(backbone, Path(weights)) if backbone and weights is not None else None


def to_batch(images: list[torch.Tensor]) -> ImageBatch:
    """Return normal images, uint8 (3, S, S), as a batch of anomalib's: in 0..1, all labelled normal."""
    batch = torch.stack(images).float() / 255
    n, _, height, width = batch.shape
    labels, masks = torch.zeros(n, dtype=torch.bool), torch.zeros(n, height, width, dtype=torch.bool)
    return ImageBatch(image=batch, gt_label=labels, gt_mask=masks)


class _Report(Callback):
    """Tells the harness how far a training is."""

    def __init__(self, progress: base.Progress, steps: int) -> None:
        self.progress, self.steps, self.done = progress, steps, 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Report a step."""
        self.done += 1
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self.progress(min(self.done, self.steps), self.steps, float(loss) if loss is not None and trainer.optimizers else None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning and anomalib from printing what they do; errors are raised all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), Path(os.devnull).open("w") as nothing:
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
                yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def backbones_from(backbone: str | None, weights: Path | None, random: bool = False) -> Iterator[None]:
    """Give models that ask timm for pretrained weights those of a file; with `random`, none.

    Raises
    ------
    MethodError
        Within the block, if the weights of another model are asked for, which would be downloaded.
    """
    original = timm.create_model

    def create(model_name: str, pretrained: bool = False, **options: Any) -> Any:
        options.pop("pretrained_cfg", None)
        if not pretrained or random:
            return original(model_name, pretrained=False, **options)
        if model_name != backbone or weights is None:
            raise MethodError(f"this model of anomalib needs pretrained weights of '{model_name}', which would be downloaded")
        return create_backbone(model_name, weights, **options)[0]

    timm.create_model = create  # type: ignore[assignment]
    try:
        yield
    finally:
        timm.create_model = original


class AnomalibMethod(base.Method):
    """A model of anomalib."""

    model_class: ClassVar[type[AnomalibModule]]

    def _build(self, random: bool) -> None:
        config = self.config
        size = (config.image_size, config.image_size)
        backbone, weights = config.backbone_name(), getattr(config, "weights", None)
        random = random or (backbone is not None and weights is None)
        with quiet(), backbones_from(backbone, weights, random), tempfile.TemporaryDirectory() as folder:
            before = self.model_class.configure_pre_processor(size)
            if backbone and weights is not None and before is not None:
                _, mean, std = create_backbone(backbone, weights, features_only=True)
                for step in before.transform.modules():
                    if isinstance(step, Normalize):
                        step.mean, step.std = [v / 255 for v in mean], [v / 255 for v in std]
            arguments = config.arguments() | {"pre_processor": before or False}
            arguments |= dict.fromkeys(("post_processor", "evaluator", "visualizer"), False)
            if "dtd_dir" in arguments and arguments["dtd_dir"] is None:
                arguments["dtd_dir"] = folder
            try:
                self.model = self.model_class(**arguments)
            except MethodError:
                raise
            except Exception as error:  # somebody else's constructor, which may raise anything
                name = self.model_class.__name__
                raise MethodError(f"anomalib's {name} cannot be made: {type(error).__name__}: {error}.") from error

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        config = self.config
        self._build(random=False)
        loader = DataLoader(images, config.batch_size, shuffle=True, collate_fn=to_batch)  # type: ignore[arg-type,var-annotated]
        wanted = config.total_steps(len(images))
        epochs = self.model.trainer_arguments.get("max_epochs", math.ceil(wanted / len(loader)))
        steps = epochs * len(loader) if "max_epochs" in self.model.trainer_arguments else wanted
        with quiet(), tempfile.TemporaryDirectory() as folder:
            engine = Engine(
                callbacks=[_Report(progress, steps)],
                default_root_dir=folder,
                max_epochs=epochs,
                max_steps=steps,
                limit_val_batches=0,
                accelerator="gpu" if self.device.startswith("cuda") else "cpu",
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            engine.fit(model=self.model, train_dataloaders=loader)
        self.model.to(self.device).eval()

    @torch.no_grad()
    def _predict(self, images: torch.Tensor) -> base.Prediction:
        with quiet():
            out = self.model(images.float() / 255)
        if out.anomaly_map is None:
            raise MethodError(f"anomalib's {self.model_class.__name__} gives no maps, only scores of images.")
        maps = out.anomaly_map.float().reshape(len(images), *out.anomaly_map.shape[-2:])
        return base.Prediction(maps, None if out.pred_score is None else out.pred_score.float().flatten())

    def parameters(self) -> int:
        """Return the number of parameters that were learnt."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the model's tensors."""
        return {key: value.clone() for key, value in self.model.state_dict().items()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the model's tensors."""
        self._build(random=True)
        self.model.load_state_dict(state)
        self.model.to(self.device).eval()


@cache
def __getattr__(name: str) -> type[AnomalibMethod]:
    """Make the method of a model: its configuration has the constructor's arguments as fields."""
    model_class = getattr(anomalib.models.image, name, None)
    if not (isinstance(model_class, type) and issubclass(model_class, AnomalibModule)):
        raise AttributeError(f"anomalib has no image model '{name}'")
    fields: dict[str, Any] = {}
    parameters = inspect.signature(model_class).parameters.values()
    for parameter in parameters:
        if parameter.name not in OURS and parameter.default is not inspect.Parameter.empty:
            kind: Any = type(parameter.default)
            kind = kind if kind in (int, float, str, bool) else Any
            fields[parameter.name] = (kind, parameter.default)
    if "dtd_dir" in fields:
        fields["dtd_dir"] = (Path | None, Field(None, description="texture images to make anomalies of; null for noise"))
    if any(name in fields for name in BACKBONES):
        about = "weights of the backbone: a file, auto (an installed package's, or timm's cache), timm (a download), null (random)"
        fields["weights"] = (OptionalWeights, Field("auto", validate_default=True, description=about))
    config = create_model(f"{name}Config", __base__=AnomalibConfig, __module__=__name__, **fields)
    return type(name, (AnomalibMethod,), {"Config": config, "model_class": model_class, "__doc__": f"{name} of anomalib."})
