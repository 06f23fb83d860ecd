"""The paper's questions: variants, and what their tables say of fabricated cells; previews and costs."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anoseg_bench.evaluation.cost import images_per_second, model_mib, multiply_adds, peak_memory
from anoseg_bench.experiments import ABLATION, ALL, EXPERIMENTS, PAPER
from anoseg_bench.methods.base import Method, MethodConfig, Prediction
from anoseg_bench.report.compose import write_report
from anoseg_bench.report.experiments import experiment_report, joined
from anoseg_bench.report.results import Results
from anoseg_bench.store.cells import Run
from anoseg_bench.store.records import RunRecord
from anoseg_bench.variants import parse_methods
from tests.helpers import add

TINY = [f"--set=anoseg.{s}" for s in ("image_size=64", "images_seen=4", "width=4", "batch_size=2")]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    info = RunRecord(profile="quick", dataset="synthetic", holdout=0.1, seeds=[0], commit="abc", synthetic=True)
    return Run(tmp_path / "results" / "run", info)


@pytest.fixture
def in_order(run: Run):
    """Return a function that fabricates a run of an experiment: its name, the values of its variants, changes of records."""

    def fabricate(experiment: str, cells: dict[str, float], **changes) -> Results:
        run.info.experiment = experiment
        for variant, value in cells.items():
            add(run, variant, "bottle", value, **changes)
        return Results(Run.load(save(run)))

    def save(current: Run) -> Path:
        current.save()
        return current.path

    return fabricate


def test_each_step_adds_what_it_says_and_the_last_is_the_method_as_it_is():
    variants = parse_methods(EXPERIMENTS["ablation"].methods, "quick", {})
    assert len(variants) == len(ABLATION)
    dumps = [variant.config.model_dump() for variant in variants]
    assert {name for name, value in dumps[0].items() if value is True} == {"detector", "detector_map"}
    for (before, after), (_, switches) in zip(itertools.pairwise(dumps), ABLATION[1:], strict=True):
        assert {name for name in after if after[name] != before[name]} == {switch.partition("=")[0] for switch in switches}
    assert variants[-1].config == parse_methods("anoseg", "quick", {})[0].config
    assert {name for name, value in dumps[-1].items() if value is False} == {"detector_in_score"}


def test_the_papers_parts_are_the_last_step_without_ours():
    paste, paper, all_parts = parse_methods(EXPERIMENTS["parts"].methods, "quick", {})
    on = {name for name, value in paper.config.model_dump().items() if value is True}
    assert on == {"hard_augmentation", "adversarial", "reconstruction", "coord", "detector", "detector_map"}
    assert (paper.config.anomaly_weight, paper.config.smoothing, paper.config.foreground_weight) == (1, 0, 1)
    assert ["(ours)" in name for name, _ in ABLATION] == [False] * (PAPER + 1) + [True] * (ALL - PAPER)
    assert paste.config == parse_methods(EXPERIMENTS["ablation"].methods, "quick", {})[0].config
    assert all_parts.config == parse_methods("anoseg", "quick", {})[0].config


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_an_answer(name, in_order):
    experiment = EXPERIMENTS[name]
    labels = [variant.label for variant in parse_methods(experiment.methods, "quick", {}, levels=experiment.levels)]
    results = in_order(name, dict.fromkeys(labels, 0.5))
    said = experiment_report(results)
    assert said and said.table.name == f"experiment_{name}" and said.figure
    files = {path.name for path in write_report(results)}
    assert {f"experiment_{name}.{kind}" for kind in ("tex", "md", "csv", "pdf", "png")} <= files
    page = (results.run.path / "report.html").read_text(encoding="utf-8")
    assert page.count('<h2 id="experiment">') == page.count('href="#experiment"') == page.count('src="data:image/png;base64,') == 1
    assert said.table.title.replace("&", "&amp;") in page


def test_gains_are_against_the_row_above(in_order):
    table = experiment_report(in_order("ablation", {"paste only": 0.5, "+ more": 0.75})).table
    gain = table.header.index("gain, pixel AUROC")
    assert [line.cells[gain].text for line in table.lines] == ["–", "+25.0"]


def test_defects_where_position_decides_stand_apart(in_order):
    defects = {name: {"images": 2, "pixel_auroc": 0.9, "image_auroc": 0.8} for name in ("bent", "misplaced")}
    both = {"with coordinates": 0.9, "without coordinates": 0.8}
    table = experiment_report(in_order("coordinates", both, defects=defects, positional=["misplaced"])).table
    assert [(line.group, line.cells[0].text) for line in table.lines] == [
        ("Position decides", "bottle: misplaced"),
        ("Position does not decide", "bottle: bent"),
    ]


def test_scores_are_joined_in_deviations_of_normal_images():
    one = (np.array([3.0, 5.0]), np.array([1.0, 3.0, 5.0]))  # normal: 3 +- 2
    two = (np.array([100.0, 400.0]), np.array([100.0, 200.0, 300.0]))  # normal: 200 +- 100
    both = joined([one, two])
    assert both is not None
    assert both[0].tolist() == [-1.0, 3.0] and both[1].tolist() == [-2.0, 0.0, 2.0]
    assert joined([one, None]) is None and joined([one, (np.array([1.0]), np.array([1.0]))]) is None
    constant = joined([(np.array([1.0, 2.0]), np.ones(3)), one])
    assert constant is not None and np.isfinite(constant[0]).all()


def test_experiments_run_end_to_end_and_share_their_cells(bench, widget):
    small = [
        *TINY,
        "--set=ae_recon.steps=2",
        "--set=ae_recon.image_size=64",
        "--set=gradcam.steps=2",
        "--set=gradcam.image_size=64",
        "--set=gradcam.backbone=test_resnet",
    ]
    data = ["--dataset", "mvtec_layout", "--data-root", widget, "--profile", "demo"]
    assert bench(*data, *small, "--experiment", "detection", "--holdout", "0.4") == 0, bench.err
    table = bench.folder / "results" / "data-demo-detection" / "tables" / "experiment_detection.md"
    rows = [line.split("|")[1:-1] for line in table.read_text().splitlines() if line.startswith("|")][2:]
    values = {row[0].strip(): row[-1].strip(" *") for row in rows}
    assert {"detector with the map", "detector without the map", "gradcam joined to the map"} <= set(values)
    assert all(0 <= float(v) <= 100 for name, v in values.items() if v), values
    assert "Detection: image AUROC" in bench.out
    assert bench(*data, *TINY, "--experiment", "coordinates", "--holdout", "0.4") == 0, bench.err
    assert "with coordinates seed 0: stored already" in bench.out
    assert bench("report", "results/data-demo-coordinates") == 0 and "Coordinates: data" in bench.out


def test_wrong_experiments(bench, widget):
    assert bench("--experiment", "ablatoin") == 2
    assert "Unknown experiment 'ablatoin'. Did you mean: ablation?" in bench.err
    assert bench("--experiment", "ablation", "--methods", "random") == 2


def test_preview(bench, widget):
    data = ["--dataset", "mvtec_layout", "--data-root", widget]
    assert bench("preview", "anoseg", *data, *TINY, "--number", "5", "--out", "p") == 0, bench.err
    assert Image.open(bench.folder / "p" / "widget.png").width > 400
    assert Image.open(bench.folder / "p" / "widget_foreground.png").width > 400
    assert "fingerprint: plain" in bench.out and "recipe: areas 0.0" in bench.out
    assert bench("preview", "gradcam", *data, "--profile", "demo", "--number", "2") == 0, bench.err
    assert bench("preview", "ae_recon", *data, "--out", "none") == 1 and "learns from no synthetic anomalies" in bench.err
    assert not (bench.folder / "none").exists()
    assert "learns from no synthetic anomalies" in bench.err
    assert bench("preview", "ae_*", *data) == 2 and "Expected one method" in bench.err
    assert bench("preview", "anoseg", *data, "--number", "0") == 2 and "--number" in bench.err


class OneConvolution(Method):
    """A method whose cost is known."""

    def _fit(self, images, progress):
        self.net = torch.nn.Conv2d(3, 2, 3, padding=1)

    def _predict(self, images):
        return Prediction(self.net(images.float()).mean(1))

    def state(self):
        return self.net.state_dict()

    def load_state(self, state):
        self.net.load_state_dict(state)


def test_costs():
    method = OneConvolution(MethodConfig(image_size=64))
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    method.fit(images)
    assert method.parameters() == 2 * 3 * 9 + 2
    assert multiply_adds(method) == 64 * 64 * 2 * 3 * 9
    assert model_mib(method) == (2 * 3 * 9 + 2) * 4 / 2**20
    assert OneConvolution(MethodConfig(image_size=64)).parameters() == 0


def test_speed_is_that_of_batches_of_a_size():
    sizes = []

    class Slow(OneConvolution):
        def _predict(self, images):
            sizes.append(len(images))
            time.sleep(0.02 + 0.01 * len(images))
            return Prediction(torch.zeros(len(images), 8, 8))

    method = Slow(MethodConfig(image_size=64))
    images = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    method.fit(images)
    assert images_per_second(method, images, 1) < 1 / 0.03 and images_per_second(method, images, 16) < 16 / 0.18
    assert set(sizes) == {1, 16}


def test_peak_memory_of_a_block():
    with peak_memory("cpu") as small:
        pass
    with peak_memory("cpu") as large:
        np.ones(2**24).sum()  # 128 MiB
    if math.isnan(small.mib):
        pytest.skip("this system does not tell the peak memory of a time")
    assert 100 < large.mib - small.mib < 200


def test_cells_keep_costs_and_scores(bench, widget):
    assert bench.run(widget, "--out", "r", "--holdout", "0.4", *TINY, methods="anoseg") == 0, bench.err
    folder = next((bench.folder / ".cells").glob("anoseg-*"))
    timing = json.loads((folder / "cell.json").read_text())["timing"]
    assert timing["parameters"] > 1000 and timing["multiply_adds"] > 1e6
    assert timing["images_per_s_1"] > 0 and timing["images_per_s_16"] > 0 and timing["model_mib"] > 0
    with np.load(folder / "arrays.npz") as arrays:
        assert {"score/map_max", "score/map_top", "score/detector", "held_out_score", "held_out_score/map_max"} <= set(arrays)
        assert (arrays["score/map_top"] <= arrays["score/map_max"]).all() and len(arrays["held_out_score"]) == 2
    cost = (bench.folder / "r" / "tables" / "cost.md").read_text()
    assert "multiply-adds per image" in cost and "anoseg" in cost
