"""Training by gradient steps: precision, optimiser, what is reported."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

#: Losses of a training that are reported: reading one makes a GPU wait.
REPORTED = 200


def mixed_precision(device: str) -> torch.autocast:
    """Return the context in which convolutions compute in bfloat16, where the device does so by itself.

    On CPUs with AVX512-BF16 a step of a U-Net then takes about two thirds of the time of float32; others would emulate it. AnoSeg
    learned less by it (docs/anoseg.md).
    """
    kind = torch.device(device).type
    if kind == "cuda":
        able = torch.cuda.is_bf16_supported(False)
    else:
        able = kind == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(kind, torch.bfloat16, enabled=able)


class Descent:
    """A network in training: AdamW with a one-cycle schedule (Smith and Topin 2018), a moving average of the weights (all ours)."""

    def __init__(self, net: nn.Module, steps: int, rate: float, device: str, averages: bool = True) -> None:
        self.net, self.averages = net, averages
        capturable = device.startswith("cuda")
        start = torch.tensor(rate, device=device) if capturable else rate
        self.optimiser = torch.optim.AdamW(net.parameters(), start, weight_decay=1e-4, capturable=capturable, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, rate, total_steps=max(20, steps), pct_start=0.1, cycle_momentum=False
        )
        self.weights = [value for value in net.state_dict().values() if value.is_floating_point()]
        self.average = [value.clone() for value in self.weights]
        self.update_average = get_ema_multi_avg_fn(min(0.99, 1 - 10 / (steps + 10)))

    def step(self, loss: torch.Tensor) -> None:
        """Change the weights by a loss; the schedule is the caller's."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        if self.averages:
            with torch.no_grad():
                self.update_average(self.average, self.weights, None)

    @torch.no_grad()
    def finish(self) -> None:
        """Leave the network with its averaged weights."""
        if self.averages:
            torch._foreach_copy_(self.weights, self.average)
        self.net.eval()


def is_reported(step: int, steps: int) -> bool:
    """Return whether the loss of a step, from 1, is read and reported."""
    return step % max(1, steps // REPORTED) == 0 or step == steps
