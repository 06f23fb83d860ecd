"""The CutPaste classifier: its augmentations, weights from a file, maps that keep their scale."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from anoseg_bench.errors import MethodError
from anoseg_bench.methods.gradcam import GradCAMConfig
from anoseg_bench.methods.gradcam.cutpaste import cutpaste, cutpaste_scar
from anoseg_bench.methods.gradcam.method import CutPasteGradCAM, log_odds
from anoseg_bench.testing import normal_images


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(
    ("paste", "low", "high"), [(cutpaste, 0.01, 0.16), (cutpaste_scar, 2 * 10 / 256**2 / 4, 16 * 25 / 256**2 * 1.5)]
)
def test_area_of_what_is_pasted(paste, low, high):
    shares = []
    for _ in range(40):
        image = torch.rand(3, 128, 128)
        copy = image.clone()
        shares.append((paste(image) != image).any(0).float().mean().item())
        assert torch.equal(image, copy)
    assert low <= min(shares) and max(shares) <= high


def config(**more):
    return GradCAMConfig(image_size=64, batch_size=2, steps=1, **more)


def test_weights_from_a_file_are_the_start(tmp_path):
    torch.manual_seed(5)
    donor = timm.create_model("resnet18", num_classes=7)
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    method = CutPasteGradCAM(config(weights=tmp_path / "w.safetensors"))
    method._build(trained=False)
    assert torch.equal(method.net.conv1.weight, donor.conv1.weight)
    assert method.net.fc.weight.shape[0] == 3


def test_weights_that_do_not_fit(tmp_path):
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(MethodError, match="does not fit"):
        CutPasteGradCAM(config(weights=tmp_path / "other.safetensors")).fit(normal_images(2))


@pytest.mark.parametrize(
    ("more", "message"), [({"backbone": "no_such_net"}, "timm has no model"), ({"layer": "layer9"}, "no layer 'layer9'")]
)
def test_unknown_backbone_or_layer(more, message):
    with pytest.raises(MethodError, match=message):
        CutPasteGradCAM(config(**more)).fit(normal_images(2))


def test_log_odds():
    logits = torch.randn(5, 3)
    p = 1 - torch.softmax(logits, -1)[:, 0]
    torch.testing.assert_close(log_odds(logits), torch.log(p / (1 - p)))


def test_maps_are_gradcam_on_one_scale():
    """The map is ReLU(sum of mean gradient x activation), written out with autograd, not scaled per image."""
    method = CutPasteGradCAM(config(layer="layer3"))
    method.fit(normal_images(4))
    images = normal_images(3, seed=9)
    maps = method.predict(images).maps
    stages = {}
    handle = method.layer.register_forward_hook(lambda module, inputs, output: stages.setdefault("a", output))
    score = log_odds(method.net(method._normalise(images[:2].float() / 255))).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, stages["a"])
    expected = torch.relu((gradient.mean((2, 3), keepdim=True) * stages["a"]).sum(1))
    torch.testing.assert_close(maps[:2], expected.detach(), rtol=1e-4, atol=1e-6)
