"""The contract: every registered method and dataset keeps it, and each check names the method that breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from anoseg_bench import check_method
from anoseg_bench.datasets import DATASETS
from anoseg_bench.errors import UsageError
from anoseg_bench.methods import METHODS
from anoseg_bench.testing import DATASET_CHECKS, METHOD_CHECKS, MethodCase, check_dataset
from tests import wrong_methods
from tests.helpers import ROOT, make_category
from tests.trees import TREES

#: What learns nothing from these images: noise; and, as they are nearly equal, who pastes patches of others (see test_nsa.py).
LEARN_NOTHING = {"random", "nsa"}
#: A network of a tenth of the cost keeps the same contract.
SMALL = {"gradcam": {"backbone": "test_resnet"}}
CASES = {name: MethodCase(METHODS[name].load(), SMALL.get(name, {}), name not in LEARN_NOTHING) for name in METHODS.names()}
WRONG = {
    "WrongShape": ("shape and range", "of shape (N, h, w) with N = 4, but got (4, 1, 64, 64)"),
    "WrongType": ("shape and range", "as a float32 tensor, but got torch.float64"),
    "NotFinite": ("few training images", "Expected 1 training images to be enough"),
    "Unseeded": ("deterministic training", "same seed to give the same maps"),
    "Drifting": ("deterministic prediction", "a second prediction differs by up to"),
    "BatchNormed": ("batches", "the map of an image alone to be that in a batch"),
    "InPlace": ("input unchanged", "fit to leave its images alone"),
    "Overcounting": ("progress", "(2, 1) was reported"),
    "Forgetful": ("state reloads", "a reloaded method to give the same maps"),
    "Pickling": ("state of tensors", "'mean' is of type float"),
    "Littering": ("leaves no files", "checkpoint.bin"),
    "Moving": ("leaves no files", "it is '/' after fit and predict"),
    "Chatty": ("silent", "it printed 'epoch 1'"),
    "Quitting": ("shape and range", "it called sys.exit('no GPU')"),
    "GradientsOff": ("gradients", "they are off"),
    "BatchScores": ("batches", "the score of an image alone to be that in a batch"),
    "Mute": ("progress", "it was not"),
    "Inverted": ("higher is more anomalous", "a block of noise has"),
}


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_methods(name, check):
    check(CASES[name])


@pytest.mark.parametrize("name", WRONG)
def test_each_fault_is_named_by_its_check(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = {result.name: result for result in check_method(getattr(wrong_methods, name))}
    assert Path.cwd() == tmp_path and not list(tmp_path.iterdir())
    check, message = WRONG[name]
    assert len(results) == len(METHOD_CHECKS) and not results[check].passed
    assert message in results[check].problem


def test_a_right_method_passes_all():
    assert [result for result in check_method(wrong_methods.Right) if not result.passed] == []


def test_what_is_missing_is_named_when_planning(bench, widget):
    spec = f"{ROOT / 'tests' / 'wrong_methods.py'}:Abstract"
    assert bench.run(widget, "--dry-run", methods=spec) == 2
    assert "lacks _predict, load_state, state" in bench.err and bench.err.count("\n") == 1
    assert bench("check", spec) == 2 and "lacks _predict" in bench.err


def test_settings_are_checked_once_and_may_name_files_of_this_folder(bench):
    with pytest.raises(UsageError, match=r"Unknown key 'Right\.speed'"):
        check_method(wrong_methods.Right, {"speed": 2})
    with pytest.raises(UsageError, match=r"expected a file or a folder, but there is none at 'w\.safetensors'"):
        check_method("gradcam", {"weights": "w.safetensors"})


def test_the_command_lists_every_check(bench, tmp_path):
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "brightness.py").write_text(readme.split("```python\n")[1].split("```")[0])
    assert bench("check", f"{tmp_path / 'brightness.py'}:Brightness") == 0, bench.out
    assert bench.out.count("pass  ") == len(METHOD_CHECKS) and f"{len(METHOD_CHECKS)} of {len(METHOD_CHECKS)}" in bench.out
    assert bench("check", f"{ROOT / 'tests' / 'wrong_methods.py'}:Inverted") == 1
    assert "FAIL  higher is more anomalous: Expected higher values" in bench.out


@pytest.fixture(scope="session")
def roots(tmp_path_factory) -> dict[str, Path]:
    """One root per adapter that needs files."""
    mvtec = tmp_path_factory.mktemp("mvtec")
    make_category(mvtec, "widget")
    make_category(mvtec, "gadget", size=(33, 57))
    folder = tmp_path_factory.mktemp("folder")
    category = make_category(mvtec.parent / "plain", "parts", train=8)
    for source, target in (("train/good", "normal"), ("test/spot", "defective"), ("ground_truth/spot", "mask")):
        (folder / "parts").mkdir(exist_ok=True)
        (category / source).rename(folder / "parts" / target)
    trees = {name: tree(tmp_path_factory.mktemp(name)) for name, tree in TREES.items()}
    return {"mvtec_layout": mvtec, "mvtec_ad": mvtec, "folder": folder} | trees


@pytest.mark.parametrize("check", DATASET_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", DATASETS.names())
def test_datasets(name, check, roots):
    cls = DATASETS[name].load()
    if cls.needs_root:
        assert name in roots, f"add data for the adapter '{name}' to the fixture roots"

    def make():
        dataset = cls(roots.get(name))
        if name == "synthetic":  # what is drawn follows from one rule of seeds; to draw all ten takes a minute
            dataset.categories = lambda: ["fabric", "gasket", "screw"]
        return dataset

    check(make)


def test_a_wrong_dataset_is_named(roots):
    widget = roots["mvtec_ad"] / "widget"
    extra = widget / "test" / "good" / "leak.png"
    extra.write_bytes((widget / "train" / "good" / "000.png").read_bytes())
    try:
        results = {result.name: result for result in check_dataset("mvtec_layout", roots["mvtec_layout"])}
    finally:
        extra.unlink()
    assert not results["apart"].passed and "test/good/leak" in results["apart"].problem
    assert results["items"].passed
