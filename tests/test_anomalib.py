"""The bridge to anomalib: names, configuration, a run, and the same numbers as by anomalib's own pipeline."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
import yaml

from anoseg_bench.methods import METHODS
from anoseg_bench.methods import anomalib as bridge
from tests.helpers import checkout_python, make_category, save

LITE = {"backbone": "tf_efficientnet_lite0", "layers": ["blocks.1", "blocks.2"]}
installed = pytest.mark.skipif(
    importlib.util.find_spec("anomalib") is None, reason="anomalib is not installed: pip install '.[anomalib]'"
)


def test_without_anomalib_one_line_says_what_to_do(monkeypatch, bench):
    monkeypatch.setattr(bridge.importlib.util, "find_spec", lambda name: None)
    assert bench("--methods", "anomalib:absent", "--dry-run") == 2
    assert bench.err.count("\n") == 1 and "pip install 'anoseg-bench[anomalib]'" in bench.err


@installed
def test_names(bench):
    assert {"stfpm", "reverse_distillation", "supersimplenet"} <= set(bridge.names())
    assert METHODS.match("anomalib:re*distillation") == ["anomalib:reverse_distillation"]
    reasons = {
        "stfmp": "Did you mean: stfpm",
        "winclip": "cannot run here: it needs text prompts",
        "zz*": "No method of anomalib matches",
    }
    for name, reason in reasons.items():
        assert bench("--methods", f"anomalib:{name}", "--dry-run") == 2
        assert reason in bench.err and "Traceback" not in bench.err


@installed
def test_weights_that_would_be_downloaded_are_said(bench):
    assert bench("--methods", "anomalib:stfpm", "--category", "gasket", "--dry-run") == 2
    assert "No pretrained weights of 'resnet18' are here" in bench.err


@installed
def test_a_run(bench, tmp_path):
    make_category(tmp_path / "data", size=(64, 64))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"anomalib:stfpm": LITE | {"steps": 3}}), encoding="utf-8")
    data = ("--dataset", "mvtec_layout", "--data-root", tmp_path / "data")
    run = ("--methods", "anomalib:stfpm,anomalib:draem[steps=1]", "--config", tmp_path / "c.yaml", *data, "--profile", "demo")
    assert bench(*run, "--keep-models", "--out", tmp_path / "run", "--workers", 1) == 0, bench.err
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.rglob("cell.json")]
    stfpm, draem = sorted(cells, key=lambda cell: cell["method"] == "anomalib:draem")
    assert stfpm["config"]["layers"] == LITE["layers"] and stfpm["identity"]["trained"]["origin"].startswith("anomalib 2.")
    assert "tf_efficientnet_lite0" in stfpm["pretrained"] and draem["pretrained"] is None and "DTD" in draem["deviations"]
    image = next((tmp_path / "data" / "widget" / "test" / "spot").iterdir())
    predict = ("predict", "--run", tmp_path / "run", "--method", "anomalib:stfpm", "--category", "widget", image)
    code = "import sys; from anoseg_bench.cli import main; sys.exit(main(sys.argv[1:]))"
    done = checkout_python(code, *predict, "--out", tmp_path / "p", cwd=tmp_path)  # where nothing has named the bridge yet
    assert done.returncode == 0, done.stderr


@installed
@pytest.mark.parametrize("name", ["Patchcore", "Padim"])
def test_numbers_are_those_of_anomalibs_own_pipeline(name, tmp_path):
    from anomalib.data import Folder, PredictDataset
    from anomalib.engine import Engine

    from anoseg_bench.methods.anomalib import method as module

    rng = np.random.default_rng(0)
    images = (np.linspace(60, 180, 64)[:, None, None] + rng.normal(0, 12, (10, 64, 64, 3))).clip(0, 255).astype(np.uint8)
    for i, image in enumerate(images):
        save(tmp_path / ("good" if i < 6 else "new") / f"{i}.png", image)
    cls = getattr(module, name)
    arguments = LITE | ({"n_features": 30} if name == "Padim" else {})
    ours = cls(cls.Config.of_profile("demo", arguments | {"batch_size": 6}), seed=1)
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    ours.fit(batch[:6])
    with module.quiet(), module.backbones_from(LITE["backbone"], ours.config.weights):
        theirs = cls.model_class(**arguments, pre_processor=ours.model.pre_processor, post_processor=False, evaluator=False)
        if name == "Padim":
            theirs.model.idx = ours.model.model.idx
        splits = {"val_split_mode": "none", "test_split_mode": "none"}
        data = Folder("x", root=tmp_path, normal_dir="good", train_batch_size=6, num_workers=0, **splits)
        engine = Engine(default_root_dir=tmp_path / "o", enable_progress_bar=False, limit_val_batches=0)
        engine.fit(theirs, datamodule=data)
        if name == "Patchcore":  # the coreset begins with a patch drawn at random
            theirs.model.memory_bank = ours.model.model.memory_bank
        out = engine.predict(theirs, dataset=PredictDataset(tmp_path / "new"))
    maps = torch.cat([part.anomaly_map for part in out]).reshape(4, 64, 64)
    torch.testing.assert_close(ours.predict(batch[6:]).maps, maps, rtol=1e-3, atol=1e-3)
