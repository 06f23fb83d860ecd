"""GradCAM of a CutPaste classifier: a network told apart normal images, pasted patches and pasted scars."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_grad_cam import GradCAM

from anoseg_bench.errors import MethodError
from anoseg_bench.methods import base
from anoseg_bench.methods._layers import batches
from anoseg_bench.methods.backbones import create_model
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
    no_graph = "its maps need gradients at prediction"

    def _build(self, trained: bool) -> None:
        config = self.config
        self.net, mean, std = create_model(config.backbone, None if trained else config.weights, num_classes=3)
        self.mean, self.std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (mean, std))
        self.net.to(torch.device(self.device)).to(memory_format=torch.channels_last)
        modules = dict(self.net.named_modules())
        if config.layer not in modules:
            raise MethodError(f"'{config.backbone}' has no layer '{config.layer}'; set gradcam.layer to one of its modules.")
        self.layer = modules[config.layer]

    def _normalise(self, images: torch.Tensor) -> torch.Tensor:
        return ((images * 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

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
        """Return the weights, and how the input is normalised."""
        return self.net.state_dict() | {"input_mean": self.mean, "input_std": self.std}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the weights and the normalisation."""
        self._build(trained=True)
        self.mean, self.std = (state[name].to(self.device) for name in ("input_mean", "input_std"))
        self.net.load_state_dict({k: v for k, v in state.items() if not k.startswith("input_")})
        self.net.eval()
