"""The command line: what it does, and one clear line for everything that can be wrong with its input."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

# what it does
from tests.helpers import cells, make_category, rows, save, usage_error


@pytest.mark.figures
def test_run_writes_tables_plots_and_maps(bench, widget):
    make_category(widget, "gadget", size=(33, 57))
    assert bench.run(widget, "--out", "r", "--seeds", "0,1", methods="pixel_stats,random") == 0, bench.err
    run = bench.folder / "r"
    table = rows(run)
    assert list(table[0]) == ["method", "variant", "dataset", "category", "seed", "metric", "value"]
    auroc = {(r["variant"], r["category"], r["seed"]): float(r["value"]) for r in table if r["metric"] == "pixel_auroc"}
    assert len(auroc) == 8
    assert all(value > 0.95 for key, value in auroc.items() if key[0] == "pixel_stats")
    assert all(0.3 < value < 0.7 for key, value in auroc.items() if key[0] == "random")
    for name in ("tables/pixel_auroc.tex", "tables/summary.md", "tables/all.tex", "plots/iou_mean.pdf", "plots/iou_mean.png"):
        assert (run / name).stat().st_size > 200, name
    assert len([*(run / "maps").glob("gallery_*.png")]) == 2
    assert "pixel_stats" in bench.out and str(Path("r") / "tables") in bench.out and "--profile full" in bench.out


def test_second_run_takes_what_is_stored(bench, widget):
    assert bench.run(widget, "--out", "r") == 0
    assert bench.run(widget, "--out", "other", methods="pixel_stats,random") == 0
    assert [c["status"] for c in cells(bench.folder / "other")] == ["cached", "done"]
    assert bench.run(widget, "--out", "other", "--seeds", "1") == 0
    assert [c["status"] for c in cells(bench.folder / "other")] == ["done"]


def test_changed_data_is_not_taken_for_the_stored(bench, widget):
    assert bench.run(widget, "--out", "r") == 0
    save(widget / "widget" / "train" / "good" / "000.png", np.full((40, 48, 3), 77, np.uint8))
    assert bench.run(widget, "--out", "r") == 0
    assert [c["status"] for c in cells(bench.folder / "r")] == ["done"]


@pytest.mark.figures
def test_report_needs_neither_data_nor_training(bench, widget):
    assert bench.run(widget, "--out", "r") == 0
    before = (bench.folder / "r" / "results.csv").read_text()
    for folder in ("tables", "plots", "maps"):
        shutil.rmtree(bench.folder / "r" / folder)
    shutil.rmtree(widget)
    assert bench("report", "r") == 0
    assert (bench.folder / "r" / "results.csv").read_text() == before
    assert (bench.folder / "r" / "tables" / "summary.tex").exists() and [*(bench.folder / "r" / "maps").glob("*.png")]


def test_default_dataset_is_the_embedded_one_and_says_so(bench):
    assert bench("--methods", "random", "--category", "circuit", "--profile", "demo", "-q") == 0
    assert "embedded synthetic set" in bench.out
    assert (bench.folder / "results" / "synthetic-demo" / "results.csv").exists()


def test_list(bench, widget):
    assert bench("list", "--dataset", "mvtec_layout", "--data-root", widget) == 0
    for word in ("anoseg", "ae_l2", "mvtec_ad", "widget", "spot", "quick", "anoseg_bench.methods"):
        assert word in bench.out


def test_settings_config_and_variants(bench, widget, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("ae_l2: {latent: 7, steps: 2}\n")
    methods = "ae_recon,ae_recon[latent=5,label=small]"
    assert bench.run(widget, "--out", "r", "--config", config, "--set", "ae_recon.steps=1", methods=methods) == 0, bench.err
    by_variant = {c["variant"]: c for c in cells(bench.folder / "r")}
    configs = {}
    for variant, cell in by_variant.items():
        folder = bench.folder / ".cells" / f"ae_recon-{cell['key']}"
        configs[variant] = json.loads((folder / "cell.json").read_text())["config"]
    assert (configs["ae_recon"]["latent"], configs["ae_recon"]["steps"]) == (7, 1)
    assert (configs["small"]["latent"], configs["small"]["steps"]) == (5, 1)
    assert "small" in (bench.folder / "r" / "tables" / "summary.md").read_text()


def test_epochs_end_the_budget_of_a_profile():
    from anoseg_bench.methods import METHODS

    config = METHODS["ae_recon"].load_config()
    assert config.of_profile("demo", {}).total_steps(10) == config.of_profile("demo", {}).steps
    assert config.of_profile("demo", {"epochs": 3}).total_steps(10) == 3 * 2


def test_save_maps(bench, widget):
    assert bench.run(widget, "--out", "r") == 0
    assert bench.run(widget, "--out", "r", "--save-maps") == 0
    assert cells(bench.folder / "r")[0]["status"] == "done"
    files = sorted((bench.folder / ".cells").glob("pixel_stats-*/maps/test/spot/*.tiff"))
    assert len(files) == 2
    array = np.asarray(Image.open(files[0]))
    assert array.dtype == np.float32 and array.shape == (40, 48)
    assert bench.run(widget, "--out", "r", "--save-maps") == 0
    assert cells(bench.folder / "r")[0]["status"] == "cached"


def test_holdout_zero_gives_dashes_for_deployable_numbers(bench, widget):
    assert bench.run(widget, "--out", "r", "--holdout", "0") == 0
    values = {r["metric"]: r["value"] for r in rows(bench.folder / "r")}
    assert values["iou_deployable"] == "" and float(values["iou_max"]) > 0.5


def test_validation_images_are_held_out_instead_of_training_images(bench, widget):
    for i in range(3):
        save(widget / "widget" / "validation" / "good" / f"{i}.png", np.full((40, 48, 3), 100, np.uint8))
    assert bench.run(widget, "--out", "r") == 0
    record = json.loads(next((bench.folder / ".cells").glob("pixel_stats-*/cell.json")).read_text())
    assert record["images"] == {"train": 6, "held_out": 3, "test_good": 2, "test_defective": 2, "contaminated": 0}


def test_environment_gives_the_root(bench, widget, monkeypatch):
    monkeypatch.setenv("BENCH_DATA_ROOT", str(widget))
    assert bench("--dataset", "mvtec_layout", "--methods", "random", "--profile", "demo", "--out", "r") == 0


# wrong usage: exit 2 before anything runs


def test_missing_root(bench):
    assert "--data-root" in usage_error(bench, "--dataset", "mvtec_ad", "--methods", "random")
    assert "'no/where'" in usage_error(bench, "--dataset", "mvtec_ad", "--data-root", "no/where")


def test_root_without_categories(bench, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "found none" in usage_error(bench, tmp_path / "empty")
    folder = ("--dataset", "folder", "--data-root", tmp_path / "empty", "--methods", "random")
    assert "normal/" in usage_error(bench, *folder)


def test_root_of_one_category(bench, widget):
    assert "give the folder above it" in usage_error(bench, widget / "widget")


def test_the_parsers_errors_are_one_line_too(bench):
    assert "Did you mean: report" in usage_error(bench, "reprot", "r")
    assert "--method anoseg" in usage_error(bench, "--method", "anoseg")  # no option by its beginning
    assert "invalid int value" in usage_error(bench, "--methods", "random", "--workers", "x")
    assert "names its own" in usage_error(bench, "--methods", "random", "--experiment", "ablation")


def test_unknown_names_answer_with_the_nearest(bench, widget):
    assert "Did you mean: widget" in usage_error(bench, widget, "--category", "wigdet")
    assert "Did you mean: gradcam" in usage_error(bench, widget, methods="grad_cam")
    assert "Did you mean: mvtec_ad" in usage_error(bench, "--dataset", "mvtec_da", "--data-root", ".")
    assert "Did you mean: full" in usage_error(bench, widget, "--profile", "ful")
    assert "Did you mean: images_seen" in usage_error(bench, widget, "--set", "anoseg.image_seen=3", methods="anoseg")
    assert "Did you mean: coord" in usage_error(bench, widget, methods="anoseg[cord=false]")
    assert "Unknown method 'nope'" in usage_error(bench, widget, "--set", "nope.x=3")
    assert "Unknown device 'gpu'" in usage_error(bench, widget, "--device", "gpu")


def test_unknown_key_of_the_dataset(bench, widget):
    assert "Unknown key 'mvtec_layout.x'" in usage_error(bench, widget, "--set", "mvtec_layout.x=3")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("anoseg.images_seen=many", "valid integer"),
        ("anoseg.images_seen=0", "greater than or equal to 1"),
        ("anoseg.image_size=100", "multiple of 32"),
    ],
)
def test_wrong_value(bench, widget, setting, expected):
    message = usage_error(bench, widget, "--set", setting, methods="anoseg")
    assert expected in message and setting.split("=")[0] in message


@pytest.mark.parametrize("text", ["anoseg", "anoseg=3", "=", "anoseg.=3"])
def test_malformed_setting(bench, widget, text):
    assert "method.key=value" in usage_error(bench, widget, "--set", text)


def test_malformed_config(bench, widget, tmp_path):
    assert "cannot be read" in usage_error(bench, widget, "--config", tmp_path / "absent.yaml")
    for content in ("- a\n- b\n", "a: [1", "anoseg: 3\n"):
        (tmp_path / "c.yaml").write_text(content)
        assert "c.yaml" in usage_error(bench, widget, "--config", tmp_path / "c.yaml")


def test_malformed_methods_seeds_holdout(bench, widget):
    assert "two variants" in usage_error(bench, widget, methods="random[label=a],pixel_stats[label=a]").lower()
    assert "at least one method" in usage_error(bench, widget, methods=",")
    assert "key=value" in usage_error(bench, widget, methods="random[oops]")
    assert "--seeds" in usage_error(bench, widget, "--seeds", "1,x")
    assert "--holdout" in usage_error(bench, widget, "--holdout", "1.5")


def test_output_path(bench, widget, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "is a file" in usage_error(bench, widget, "--out", tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    assert "other files" in usage_error(bench, widget, "--out", tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"
    assert "written" in usage_error(bench, widget, "--out", "/proc/none/here")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda(bench, widget):
    assert "cuda" in usage_error(bench, widget, "--device", "cuda")


def test_report_of_no_run(bench, tmp_path):
    assert "run.json" in usage_error(bench, "report", tmp_path)
    (tmp_path / "run.json").write_text("{")
    assert "manifest" in usage_error(bench, "report", tmp_path)


# bad data: its category fails before any training, the others run, exit 1


def data_error(bench, root: Path, *more) -> str:
    """Run on the root plus a sound category; return the line of the bad one."""
    make_category(root, "sound")
    assert bench.run(root, "--out", "r", *more) == 1
    state = {c["category"]: c for c in cells(bench.folder / "r")}
    assert state["sound"]["status"] == "done" and state["widget"]["status"] == "failed"
    assert len([*(bench.folder / ".cells").glob("*/cell.json")]) == 1
    line = state["widget"]["error"]
    assert "\n" not in line and line in bench.err.splitlines()[-1] and "1 of 2 cells failed" in bench.err
    return line


def test_no_training_images(bench, widget):
    shutil.rmtree(widget / "widget" / "train" / "good")
    assert "train/good', but found none" in data_error(bench, widget)


def test_no_test_images(bench, widget):
    shutil.rmtree(widget / "widget" / "test")
    shutil.rmtree(widget / "widget" / "ground_truth")
    assert "test images" in data_error(bench, widget)


def test_defective_image_without_mask(bench, widget):
    for name in ("000", "001"):
        (widget / "widget" / "ground_truth" / "spot" / f"{name}_mask.png").unlink()
    line = data_error(bench, widget)
    assert "000.png' has no mask" in line and "000_mask" in line and "1 more below" in line


def test_mask_of_another_size(bench, widget):
    save(widget / "widget" / "ground_truth" / "spot" / "001_mask.png", np.full((20, 24), 255, np.uint8))
    line = data_error(bench, widget)
    assert "48x40" in line and "24x20" in line and "001_mask.png" in line


def test_black_mask_and_how_to_leave_it_out(bench, widget):
    for i in range(2):
        save(widget / "widget" / "ground_truth" / "spot" / f"00{i}_mask.png", np.zeros((40, 48), np.uint8))
    line = data_error(bench, widget)
    assert "all black" in line and "--exclude 'widget/test/spot/000'" in line and "1 more such problem" in line
    exclude = ("--exclude", "widget/test/spot/000", "--exclude", "w*/test/spot/001")
    assert bench.run(widget, "--out", "r", *exclude) == 0
    record = json.loads((bench.folder / "r" / "run.json").read_text())
    assert record["info"]["excluded"] == ["widget/test/spot/000", "widget/test/spot/001"]
    assert "widget/test/spot/001" in (bench.folder / "r" / "tables" / "summary.tex").read_text().replace("\\allowbreak{}", "")
    sound = next(c for c in record["cells"] if c["category"] == "sound")
    assert sound["status"] == "cached"


def test_excluding_everything(bench, widget):
    assert "exclude less" in usage_error(bench, widget, "--exclude", "*")
    assert "matches no image" in usage_error(bench, widget, "--exclude", "test/spot/000")


@pytest.mark.parametrize("where", ["train/good/003.png", "test/spot/001.png", "ground_truth/spot/000_mask.png"])
def test_truncated_or_unreadable_image(bench, widget, where):
    file = widget / "widget" / where
    file.write_bytes(file.read_bytes()[:60])
    assert where in data_error(bench, widget)


def test_mask_without_image(bench, widget):
    save(widget / "widget" / "ground_truth" / "spot" / "009_mask.png", np.full((40, 48), 255, np.uint8))
    assert "009_mask.png' has no image" in data_error(bench, widget)


def test_mask_folder_without_images(bench, widget):
    save(widget / "widget" / "ground_truth" / "hole" / "000_mask.png", np.full((40, 48), 255, np.uint8))
    assert "hole" in data_error(bench, widget)


BAD_METHOD = """
import torch
from anoseg_bench.methods.base import Method, Prediction

class Bad(Method):
    def _fit(self, images, progress): progress(1, 1, 0.0)
    def state(self): return {}
    def load_state(self, state): pass

class NotFinite(Bad):
    def _predict(self, images): return Prediction(torch.full((len(images), 8, 8), torch.nan))

class Shape(Bad):
    def _predict(self, images): return Prediction(torch.zeros(len(images) + 1, 8, 8))

class Double(Bad):
    def _predict(self, images): return Prediction(torch.zeros(len(images), 8, 8, dtype=torch.float64))

class Range(Bad):
    probability = True
    def _predict(self, images): return Prediction(torch.full((len(images), 8, 8), 2.0))

class Raises(Bad):
    def _predict(self, images): raise RuntimeError("something\\nbroke")
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NotFinite", "Expected finite maps of NotFinite"),
        ("Shape", "of shape (N, h, w) with N = 4, but got (5, 8, 8)"),
        ("Double", "float32 tensor, but got torch.float64"),
        ("Range", "in 0..1"),
        ("Raises", "RuntimeError: something broke"),
    ],
)
def test_a_method_that_breaks_its_contract_costs_its_own_cells_only(bench, widget, tmp_path, name, expected):
    (tmp_path / "bad.py").write_text(BAD_METHOD)
    spec = f"{tmp_path / 'bad.py'}:{name}"
    assert bench.run(widget, "--out", "r", "--holdout", "0", methods=f"{spec},pixel_stats") == 1
    failed, done = cells(bench.folder / "r")
    assert failed["status"] == "failed" and done["status"] == "done"
    assert expected in failed["error"] and "\n" not in failed["error"]
    log = next((bench.folder / "r" / "logs").glob(f"*{failed['key'][:8]}.log"))
    assert "Traceback" in log.read_text() and f"r/logs/{log.name}" in bench.err and "Traceback" not in bench.err
    assert "(0/1)" in bench.out or "–" in bench.out


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_disk_full_while_a_cell_is_written(bench, widget, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("anoseg_bench.evaluation.cell.np.savez_compressed", full)
        assert bench.run(widget, "--out", "r", "--workers", "0") == 1
    assert "disk is full" in cells(bench.folder / "r")[0]["error"]
    assert not [p for p in (bench.folder / ".cells").iterdir() if p.name.startswith((".tmp", "pixel_stats"))]
    assert bench.run(widget, "--out", "r") == 0


@pytest.mark.figures
def test_disk_full_while_the_report_is_written(bench, widget, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", full)
        assert bench.run(widget, "--out", "r") == 1
    assert bench.err.startswith("error: the disk is full") and bench.err.count("\n") == 1
    assert bench("report", "r") == 0


# no error


@pytest.mark.parametrize(("absent", "metric"), [("spot", "pixel_auroc"), ("good", "image_auroc")])
def test_a_test_set_without_defects_or_without_normals(bench, widget, absent, metric):
    shutil.rmtree(widget / "widget" / "test" / absent)
    shutil.rmtree(widget / "widget" / "ground_truth" / absent, ignore_errors=True)
    assert bench.run(widget, "--out", "r") == 0, bench.err
    values = {r["metric"]: r["value"] for r in rows(bench.folder / "r")}
    assert values[metric] == ""
    assert "–" in bench.out
    summary = (bench.folder / "r" / "tables" / "summary.md").read_text()
    assert ("no defective" if absent == "spot" else "no normal") in summary


# found by review


def test_an_interrupted_run_is_reported_as_incomplete(bench, widget, monkeypatch):
    make_category(widget, "gadget")

    def interrupt(cell, *rest):
        if cell.category == "widget":
            raise KeyboardInterrupt
        return run_cell(cell, *rest)

    from anoseg_bench.evaluation.cell import run_cell

    with monkeypatch.context() as patch:
        patch.setattr("anoseg_bench.evaluation.cell.run_cell", interrupt)
        assert bench.run(widget, "--out", "r", "--workers", "0") == 130
    assert "run the same command again" in bench.err
    assert bench("report", "r") == 1
    assert "(1/2)" in bench.out and "0 of 2 cells failed, 1 did not finish" in bench.err
    assert "(1/2)" in (bench.folder / "r" / "tables" / "pixel_auroc.md").read_text()
    assert bench("report", "r", "--allow-partial") == 1
    assert "100.0 (1/2)" in bench.out or "(1/2)" in bench.out
    assert bench.run(widget, "--out", "r") == 0
    assert [c["status"] for c in cells(bench.folder / "r")] == ["cached", "done"]


@pytest.mark.figures
def test_report_from_within_the_run_and_of_a_moved_one(bench, widget, monkeypatch):
    assert bench.run(widget, "--out", "r") == 0
    with monkeypatch.context() as patch:
        patch.chdir(bench.folder / "r")
        assert bench("report", ".") == 0
    (bench.folder / "elsewhere").mkdir()
    shutil.copytree(bench.folder / "r", bench.folder / "elsewhere" / "r")
    assert bench("report", "elsewhere/r") == 2 and "none is there" in bench.err
    assert (bench.folder / "elsewhere" / "r" / "plots" / "iou_mean.png").exists()


@pytest.mark.parametrize("damage", ["cut short", "foreign", "another's", "no record", "arrays cut short"])
def test_a_damaged_cell_is_named_set_aside_and_run_again(bench, widget, damage):
    assert bench.run(widget, "--out", "r", methods="pixel_stats,random") == 0
    record = next((bench.folder / ".cells").glob("random-*/cell.json"))
    before, arrays = record.read_text(), record.parent / "arrays.npz"
    if damage == "cut short":
        record.write_text(before[:100])
    elif damage == "foreign":
        record.write_text('["mine"]')
    elif damage == "another's":
        record.write_text(next((bench.folder / ".cells").glob("pixel_stats-*/cell.json")).read_text())
    elif damage == "no record":
        record.unlink()
    else:
        arrays.write_bytes(arrays.read_bytes()[:-1])
    assert bench("report", "r") == 1 and str(record.parent) in bench.err
    assert bench.run(widget, "--out", "r", methods="random,pixel_stats") == 0
    assert [c["status"] for c in cells(bench.folder / "r")] == ["done", "cached"]
    assert "cannot be read" in bench.err and "set aside" in bench.err
    assert [*(bench.folder / ".cells" / "set-aside").glob("random-*")]
    assert json.loads(record.read_text())["values"] == json.loads(before)["values"]


def test_splits_of_one_folder_are_told_apart(bench, tmp_path):
    root = make_category(tmp_path / "plain", "p", train=5)
    for source, target in (("train/good", "normal"), ("test/spot", "defective"), ("ground_truth/spot", "mask")):
        (root / source).rename(root / target)
    for seed in range(4):
        options = ("--set", "folder.test_share=0.4", "--set", f"folder.split_seed={seed}")
        assert (
            bench(
                "--dataset", "folder", "--data-root", root, "--methods", "pixel_stats", "--profile", "demo", "--out", "r", *options
            )
            == 0
        )
    splits = {json.dumps(json.loads(f.read_text())["items"]) for f in (bench.folder / ".cells").glob("*/cell.json")}
    assert len(splits) == len([*(bench.folder / ".cells").glob("*/cell.json")]) > 1


def test_weights_are_told_apart_by_content(bench, tmp_path):
    from anoseg_bench.plan import Cell
    from anoseg_bench.variants import parse_methods

    keys = []
    for content in ("a", "b"):
        (tmp_path / "w.safetensors").write_text(content)
        variant = parse_methods("gradcam", "demo", {"gradcam": {"weights": str(tmp_path / "w.safetensors")}})[0]
        keys.append(Cell(variant, "d", "c", 0, 0.1, "cpu", "x").key)
    assert keys[0] != keys[1]
    assert "expected a file" in usage_error(bench, "--methods", "gradcam[weights=absent]")


def test_more_wrong_usage(bench, widget, tmp_path):
    assert "--dataset" in usage_error(bench, "--data-root", widget, "--methods", "random")
    assert "got nothing" in usage_error(bench, widget, "--category", "")
    assert "should not be true or false" in usage_error(bench, widget, "--set", "anoseg.images_seen=true", methods="anoseg")
    assert "finite" in usage_error(bench, widget, "--set", "anoseg.learning_rate=.inf", methods="anoseg")
    assert "Unknown key 'gradcam.typo'" in usage_error(bench, widget, "--set", "gradcam.typo=1")
    assert "--seeds" in usage_error(bench, widget, "--seeds", "99999999999999999999")
    for methods in ("anoseg[", "anoseg]", "random[a=1"):
        assert "method[key=value,...]" in usage_error(bench, widget, methods=methods)
    (tmp_path / "bad.py").write_text("import no_such_module\n")
    assert "no_such_module" in usage_error(bench, widget, methods=f"{tmp_path / 'bad.py'}:X")
    (tmp_path / "syntax.py").write_text("def (")
    assert "SyntaxError" in usage_error(bench, widget, methods=f"{tmp_path / 'syntax.py'}:X")
    assert "a subclass of anoseg_bench.methods.base.Method" in usage_error(bench, widget, methods="json:JSONDecoder")


def test_verbose_shows_the_traceback_and_keeps_the_exit_code(bench, widget):
    assert bench.run(widget, "-v", methods="nope") == 2
    assert "Traceback" in bench.err and bench.err.splitlines()[-1].startswith("error: Unknown method")


def test_defective_images_beside_folders_of_them(bench, tmp_path):
    root = make_category(tmp_path / "plain", "p", train=5)
    (root / "train" / "good").rename(root / "normal")
    for kind, top in (("test", "defective"), ("ground_truth", "mask")):
        (root / top / "scratch").mkdir(parents=True)
        first, second = sorted((root / kind / "spot").iterdir())
        first.rename(root / top / first.name)
        second.rename(root / top / "scratch" / second.name)
    from anoseg_bench.datasets.folder import Folder

    assert [i.defect for i in Folder(root).load("p").test if not i.is_good] == ["defective", "scratch"]


def test_quiet(bench, widget):
    assert bench.run(widget, "--out", "r", "-q") == 0
    assert "[1/1]" not in bench.out and "Pixel" in bench.out and "Written to" in bench.out
    assert bench.run(widget, "--out", "s") == 0
    assert "widget pixel_stats seed 0: stored already" in bench.out
