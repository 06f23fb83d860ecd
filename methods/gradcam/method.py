"""GradCAM of a CutPaste classifier: a network told apart normal images, pasted patches and pasted scars."""

from __future__ import annotations

import numpy as np
import timm
import torch
import torch.nn.functional as F
from pytorch_grad_cam import GradCAM
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from anoseg_bench.errors import MethodError
from anoseg_bench.methods import base
from anoseg_bench.methods._layers import batches
from anoseg_bench.methods.gradcam import GradCAMConfig
from anoseg_bench.methods.gradcam.cutpaste import cutpaste, cutpaste_scar


class UnscaledGradCAM(GradCAM):
    """GradCAM whose maps keep their scale and resolution.

    The library scales each map to 0..1, which would make the maps of normal images as hot as those of defective ones.
    """

    def compute_cam_per_layer(self, input_tensor, targets, eigen_smooth):
        """Return the positive part of the weighted activations, (N, h, w)."""
        activations = self.activations_and_grads.activations[0].cpu().numpy()
        gradients = self.activations_and_grads.gradients[0].cpu().numpy()
        return np.maximum(self.get_cam_image(input_tensor, self.target_layers[0], targets, activations, gradients), 0)

    def aggregate_multi_layers(self, cam_per_target_layer):
        """Return the only layer's maps."""
        return cam_per_target_layer


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """Return log(p / (1 - p)) for the probability p that an image is not normal, over the last axis of 3 logits."""
    return torch.logsumexp(logits[..., 1:], -1) - logits[..., 0]


class CutPasteGradCAM(base.Method):
    """CutPaste's 3-way classifier (Li et al. 2021); map: GradCAM of the log-odds of "not normal"; score: its probability."""

    Config = GradCAMConfig

    def _build(self, trained: bool) -> None:
        config = self.config
        try:
            self.net = timm.create_model(config.backbone, pretrained=config.pretrained and not trained, num_classes=3)
        except RuntimeError as error:
            raise MethodError(f"timm cannot make the backbone '{config.backbone}': {error}; see timm.list_models().") from error
        if config.weights is not None and not trained:
            self._load_weights()
        self.net.to(torch.device(self.device)).to(memory_format=torch.channels_last)
        modules = dict(self.net.named_modules())
        if config.layer not in modules:
            raise MethodError(f"'{config.backbone}' has no layer '{config.layer}'; set gradcam.layer to one of its modules.")
        self.layer = modules[config.layer]

    def _load_weights(self) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.config.weights
        try:
            weights = load_file(path)
        except (OSError, SafetensorError) as error:
            raise MethodError(f"Expected a safetensors file in gradcam.weights, but '{path}' cannot be read ({error}).") from error
        own = self.net.state_dict()
        fitting = {k: v for k, v in weights.items() if k in own and v.shape == own[k].shape}
        missing = [k for k in own if k not in fitting and not k.startswith(("fc.", "head.", "classifier."))]
        if missing:
            raise MethodError(f"'{path}' does not fit '{self.config.backbone}': it lacks {missing[0]} and {len(missing) - 1} more.")
        self.net.load_state_dict(fitting, strict=False)

    def _normalise(self, images: torch.Tensor) -> torch.Tensor:
        mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)

    def _fit(self, images: torch.Tensor, progress: base.Progress) -> None:
        config = self.config
        self._build(trained=False)
        self.net.train()
        steps = config.total_steps(len(images))
        optimiser = torch.optim.SGD(self.net.parameters(), config.learning_rate, momentum=0.9, weight_decay=3e-5)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for step, batch in enumerate(batches(images, config.batch_size, steps, "cpu"), 1):
            normals = [*(batch.float() / 255)]
            views = torch.stack(normals + [cutpaste(x) for x in normals] + [cutpaste_scar(x) for x in normals])
            labels = torch.arange(3, device=self.device).repeat_interleave(len(normals))
            loss = F.cross_entropy(self.net(self._normalise(views.to(self.device))), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            progress(step, steps, loss.item())
        self.net.eval()

    def _predict(self, images: torch.Tensor) -> base.Prediction:
        x = self._normalise(images.float() / 255)
        with UnscaledGradCAM(self.net, [self.layer]) as cam:
            maps = cam(x, targets=[log_odds] * len(x))
            scores = torch.sigmoid(log_odds(cam.outputs.detach()))
        return base.Prediction(torch.from_numpy(maps).float(), scores)

    def _examples(self, images: torch.Tensor, number: int) -> base.Examples:
        views, masks = [], []
        for i in range(number):
            image = images[torch.randint(len(images), ())].float() / 255
            views.append((cutpaste, cutpaste_scar)[i % 2](image))
            masks.append((views[-1] != image).any(0).float())
        return base.Examples((torch.stack(views) * 255).round().byte(), torch.stack(masks))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights."""
        return self.net.state_dict()

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the weights."""
        self._build(trained=True)
        self.net.load_state_dict(state)
        self.net.eval()
