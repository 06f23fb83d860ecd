"""Exported models: the graph against the harness, the files, the examples that use them, latency, and what is refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from anoseg_bench.cli import main
from anoseg_bench.datasets.images import read_image
from anoseg_bench.evaluation.cell import resize
from anoseg_bench.evaluation.predict import choose_row, load_method
from anoseg_bench.export import formats, write
from anoseg_bench.export.check import reference
from anoseg_bench.export.graph import Resize
from anoseg_bench.methods import METHODS
from anoseg_bench.store.pack import open_run
from anoseg_bench.testing import normal_images
from tests.helpers import ROOT, anywhere, make_category, nails, save

for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[export]'")

SMALL = {"image_size": 64, "batch_size": 4}
#: The methods that can be exported, with settings that train in a moment.
EXPORTED = {
    "anoseg": SMALL | {"images_seen": 8, "width": 4, "detector_in_score": True},
    "anoseg_pretrained": SMALL | {"images_seen": 8},
    "patchcore": SMALL | {"coreset": 0.2},
    "padim": SMALL | {"dimensions": 20},
    "ae_ssim": SMALL | {"steps": 2},
    "ae_recon": SMALL | {"steps": 2},
    "nsa": SMALL | {"images_seen": 8, "width": 4},
    "pixel_stats": SMALL,
    "image_stats": SMALL,
}


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize("shape", [(33, 31), (1, 1), (3, 500), (96, 96), (200, 97), (203, 40), (97, 95), (640, 480), (1999, 70)])
@pytest.mark.filterwarnings("ignore:Pred is a Python constant")
def test_the_graph_resizes_as_pillow_does(size, shape):
    """Bit by bit, in either order of the axes; noise of two values has the most ties."""
    rng = np.random.default_rng(size)
    images = np.stack([rng.integers(0, 256, (*shape, 3)), 255 * rng.integers(0, 2, (*shape, 3))]).astype(np.uint8)
    resized = Resize(size)(torch.from_numpy(images))
    assert torch.equal(resized, torch.stack([resize(image, size) for image in images]))


class Core(torch.nn.Module):
    """What a method gives to the graph."""

    def __init__(self, method):
        super().__init__()
        self.networks = torch.nn.ModuleList(value for value in vars(method).values() if isinstance(value, torch.nn.Module))
        self.predict = method._graph

    def forward(self, images):
        prediction = self.predict(images)
        return prediction.maps, prediction.maps.amax((1, 2)) if prediction.scores is None else prediction.scores


def noise(number, size):
    return torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8)


def turned_parts(number, size):
    return nails(*anywhere(number, seed=number), size=size)[0]


@pytest.mark.parametrize(
    ("name", "pictures"), [*((name, noise) for name in EXPORTED), ("anoseg", turned_parts), ("anoseg_pretrained", turned_parts)]
)
def test_every_method_gives_the_graph_what_it_predicts(name, pictures):
    """For any number of images, that of the example and the method's own batch size among them."""
    cls = METHODS[name].load()
    method = cls(cls.Config(**EXPORTED[name]))
    side = method.config.input_size
    method.fit(turned_parts(12, side) if pictures is turned_parts else normal_images(6, 64, side))
    assert method.findings().get("cut", {"turned": False})["turned"] == (pictures is turned_parts)
    with torch.no_grad():
        program = torch.export.export(
            Core(method),
            (torch.zeros(2, 3, side, side, dtype=torch.uint8),),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            strict=False,
        ).module()
        for number in (1, 2, 6):
            images = pictures(number, side)
            said, (maps, scores) = method.predict(images), program(images)
            size = said.maps.max().item()
            torch.testing.assert_close(maps, said.maps, rtol=1e-4, atol=1e-5 * size)
            torch.testing.assert_close(
                scores, said.maps.amax((1, 2)) if said.scores is None else said.scores, rtol=1e-4, atol=1e-5 * size
            )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, a run ``r`` whose models were kept, and in ``onnx`` its exported model."""
    folder = tmp_path_factory.mktemp("export")
    make_category(folder / "data", train=40, good=3, bad=3)
    save(folder / "data" / "widget" / "test" / "spot" / "tall.png", np.full((150, 40, 3), 140, np.uint8))
    save(folder / "data" / "widget" / "ground_truth" / "spot" / "tall_mask.png", np.eye(150, 40, dtype=np.uint8) * 255)
    data = ["--dataset", "mvtec_layout", "--data-root", str(folder / "data")]
    asked = [*data, "--methods", "pixel_stats,random", "--profile", "demo", "--holdout", "0.5", "--workers", "0", "-q"]
    assert main([*asked, "--keep-models", "--out", str(folder / "r")]) == 0
    assert main([*asked, "--out", str(folder / "without"), "--category", "widget", "--seeds", "1"]) == 0
    assert main(["export", "-q", *model(folder), "--out", str(folder / "onnx")]) == 0
    return folder


def model(place, method="pixel_stats", run="r"):
    return ["--run", str(place / run), "--category", "widget", *(["--method", method] if method else [])]


def images_of(place):
    return sorted((place / "data" / "widget" / "test").rglob("*.png"))


def test_the_file_says_what_the_harness_says(place):
    about = write.open_model(place / "onnx")
    row = choose_row(open_run(place / "r"), "pixel_stats", "widget", None)
    method, result = load_method(open_run(place / "r"), row, "cpu")
    run = formats.FORMATS["onnx"].open(place / "onnx" / "model.onnx", list(about["outputs"]), 1)
    rng = np.random.default_rng(0)
    for shape in ((1, 40, 48), (5, 64, 64), (17, 200, 30), (2, 90, 300)):
        images = rng.integers(60, 200, (*shape, 3)).astype(np.uint8)
        found, (maps, scores) = run(images), reference(method, list(images))
        assert {name: str(a.dtype) for name, a in found.items()} == {name: o["dtype"] for name, o in about["outputs"].items()}
        assert np.abs(found["map"] - np.stack(maps)).max() < 1e-5
        assert np.array_equal(found["defective"], scores >= result.value("image_threshold_deployable"))
        assert np.array_equal(found["mask"], found["map"] >= np.float32(result.value("threshold_deployable")))
    even = run(np.full((1, 301, 203, 3), 90, np.uint8))["map"]
    assert even.min() >= reference(method, [np.full((301, 203, 3), 90, np.uint8)])[0][0].min() - 1e-6


def test_the_file_is_described(place):
    about, card = write.open_model(place / "onnx"), (place / "onnx" / "MODEL_CARD.md").read_text()
    row = choose_row(open_run(place / "r"), "pixel_stats", "widget", None)
    assert about["cell"] == row.key and about["format"] == "onnx" and about["input"]["shape"] == ["N", "H", "W", 3]
    assert about["check"]["images"] == about["check"]["decisions"] == len(images_of(place)) == 7
    assert about["check"]["largest_map_difference"] < 1e-5 and about["check"]["pixels_decided_otherwise"] == 0
    for output, value in (("defective", "image_threshold_deployable"), ("mask", "threshold_deployable")):
        assert about["thresholds"][output]["value"] == row.result.value(value)
        assert about["thresholds"][output]["in_words"] in card
        assert about["thresholds"][output]["fitness"] in ("fit for use", "not fit for use", "not proven")
        assert all(doubt in card for doubt in about["thresholds"][output]["not_proven_because"])
    recall = about["thresholds"]["defective"]["found"]
    assert recall["share"] == pytest.approx(row.result.value("image_recall_deployable")) and recall["low"] < recall["high"]
    assert about["measured"]["pixel_auroc"]["value"] == pytest.approx(row.result.value("pixel_auroc"))
    assert {"onnxruntime", "torch"} <= about["exported"]["versions"].keys() and about["pretrained"] is None
    assert b"/export/graph.py" not in (place / "onnx" / "model.onnx").read_bytes()  # nor other paths of this machine


@pytest.mark.parametrize("kind", ["openvino", "torch-export"])
def test_other_formats(place, kind, bench, monkeypatch):
    """Beside the images of the run those that are given; OpenVINO's is made of the ONNX file, which is there already."""
    monkeypatch.setattr(formats, "_write_onnx", lambda deployed, folder: shutil.copy(place / "onnx" / "model.onnx", folder))
    assert (
        bench("export", *model(place), "--format", kind, "--images", place / "data" / "widget" / "test" / "spot", "--out", "o") == 0
    )
    about = write.open_model(bench.folder / "o")
    assert about["check"]["images"] == 4 and "4 decisions are the same" in bench.out
    assert sorted(path.name for path in (bench.folder / "o").iterdir()) == sorted([*about["files"], "model.json", "MODEL_CARD.md"])
    run = formats.FORMATS[kind].open(bench.folder / "o" / formats.FORMATS[kind].files[0], list(about["outputs"]), 1)
    one = np.random.default_rng(0).integers(0, 256, (1, 50, 70, 3)).astype(np.uint8)
    known = formats.FORMATS["onnx"].open(place / "onnx" / "model.onnx", list(about["outputs"]), 1)(one)
    assert all(np.allclose(a, known[name], atol=1e-5) for name, a in run(one).items())


@pytest.fixture
def quick(place, monkeypatch):
    """Exports in no time: of the file that is there already."""
    copy = replace(formats.FORMATS["onnx"], write=lambda deployed, folder: shutil.copy(place / "onnx" / "model.onnx", folder))
    monkeypatch.setitem(formats.FORMATS, "onnx", copy)
    return copy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found | {"map": found["map"] + 0.01}, "differs from the harness's by 0.01"),
        (lambda found: found | {"map": found["map"] * np.nan}, "differs from the harness's by nan"),
        (lambda found: found | {"defective": ~found["defective"]}, "decides otherwise than the harness on 'test/"),
    ],
)
def test_what_differs_from_the_harness_is_not_written(place, quick, bench, monkeypatch, change, said):
    def open_changed(*given):
        run = quick.open(*given)
        return lambda images: change(run(images))

    monkeypatch.setitem(formats.FORMATS, "onnx", replace(quick, open=open_changed))
    assert bench("export", *model(place), "--out", "o") == 1
    assert said in bench.err and bench.err.count("\n") == 1 and not (bench.folder / "o").exists()


def test_an_earlier_export_gives_way_and_other_files_do_not(place, quick, bench):
    assert bench("export", *model(place), "--out", "o") == 0
    (bench.folder / "o" / "model.pt2").write_text("of another format")
    (bench.folder / "o" / "model.json").write_text("{}")
    assert bench("export", *model(place), "--out", "o") == 0 and "note: a model that cannot be read was in 'o' before" in bench.err
    assert bench("export", *model(place), "--out", "o") == 0
    assert "note: widget pixel_stats seed 0 as onnx was in 'o' before and gave way" in bench.err
    assert sorted(path.name for path in (bench.folder / "o").iterdir()) == ["MODEL_CARD.md", "model.json", "model.onnx"]
    (bench.folder / "o" / "notes.txt").write_text("mine")
    assert bench("export", *model(place), "--out", "o") == 2 and "holds 'notes.txt'" in bench.err


def test_without_thresholds_there_are_no_decisions(place, bench, monkeypatch):
    """Nothing is decided by a threshold that is undefined."""
    data = ["--dataset", "mvtec_layout", "--data-root", place / "data", "--workers", "0"]
    assert bench(*data, "--methods", "pixel_stats", "--profile", "demo", "--holdout", "0", "--keep-models", "--out", "bare") == 0
    row = choose_row(open_run(bench.folder / "bare"), "pixel_stats", "widget", None)
    method, _ = load_method(open_run(bench.folder / "bare"), row, "cpu")

    def plain(path, outputs, threads):
        assert outputs == ["map", "score"]
        return lambda images: dict(zip(outputs, map(np.stack, reference(method, list(images))), strict=True))

    fake = replace(formats.FORMATS["onnx"], open=plain, write=lambda deployed, folder: (folder / "model.onnx").write_text("x"))
    monkeypatch.setitem(formats.FORMATS, "onnx", fake)
    assert bench("export", *model(bench.folder, run="bare"), "--out", "o") == 0, bench.err
    assert "no output 'defective'" in bench.err and "no decision to compare" in bench.out
    assert "No `mask`" in (bench.folder / "o" / "MODEL_CARD.md").read_text()


def test_what_works_on_tiles_is_not_exported(place, bench):
    data = ["--dataset", "mvtec_layout", "--data-root", place / "data", "--workers", "0", "--tile", "32"]
    assert bench(*data, "--methods", "pixel_stats", "--profile", "demo", "--keep-models", "--out", "t") == 0, bench.err
    for command in (["export", "--out", "o"], ["latency", "--out", "l"]):
        given = ["--run", "t", "--method", "pixel_stats", "--category", "widget"]
        assert bench(*command, *given) == 2 and "works on tiles of 32 px" in bench.err and bench.err.count("\n") == 1
    assert not (bench.folder / "o").exists() and not (bench.folder / "l").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--run": "nowhere"}, "Expected a run in 'nowhere'"),
        ({"--method": "pixel_stat"}, "has no method 'pixel_stat'. Did you mean"),
        ({"--category": "gadget"}, "has no category 'gadget'"),
        ({"--seed": "7"}, "has the seeds [0], not 7"),
        ({"--format": "onix"}, "Unknown format 'onix'. Did you mean"),
        ({"--method": "random"}, "'random' cannot be exported: its maps are noise"),
        ({"--run": "without", "--seed": "1"}, "has no model of"),
        ({"--data-root": "nowhere"}, "so give --data-root or --images: Expected the folder of 'mvtec_layout' at 'nowhere'"),
        ({"--data-root": "changed"}, "are not those of"),
        ({"--images": "nowhere"}, "Expected an image or a folder of images at 'nowhere'"),
        ({"--out": "file"}, "'file' is a file; give another --out"),
    ],
)
def test_wrong_exports_are_refused(place, bench, changes, said):
    (bench.folder / "file").write_text("")
    make_category(bench.folder / "changed", train=3)
    given = {"--run": "r", "--method": "pixel_stats", "--category": "widget", "--out": "o"} | changes
    given["--run"] = place / given["--run"]
    if said.startswith("Expected a run"):
        given["--run"] = "nowhere"
    assert bench("export", *(part for pair in given.items() for part in pair)) == 2
    assert said in bench.err and bench.err.startswith("error: ") and bench.err.count("\n") == 1
    assert not (bench.folder / "o").exists()


def test_missing_packages_are_named(place, bench, monkeypatch):
    there = formats.importlib.util.find_spec
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else there(name))
    assert bench("export", *model(place), "--out", "o") == 2
    assert bench.err == "error: The format 'onnx' needs onnxscript: pip install 'anoseg-bench[export]'\n"


BLOCKED = """
import sys
from importlib.abc import MetaPathFinder
class Blocked(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("torch", "anoseg_bench", "cv2", "scipy"):
            raise ImportError(f"{name} is not wanted")
sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def example(name, *arguments):
    """Start an example of docs/ in a process that has nothing of the program."""
    command = [sys.executable, "-c", BLOCKED, str(ROOT / "docs" / name), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_example_decides_as_the_harness(place, bench):
    files = images_of(place)
    output, error = example("use_exported.py", place / "onnx", *files).communicate(timeout=60)
    assert bench("predict", *model(place), *files, "--out", "p") == 0
    table = (bench.folder / "p" / "predictions.csv").read_text().splitlines()[1:]
    known = {line.split(",")[0]: "defective" if line.split(",")[3] == "yes" else "normal" for line in table}
    said = dict(line.split(": ") for line in output.splitlines())
    assert not error and {file: text.split(",")[0] for file, text in said.items()} == known and len(known) == 7


def test_the_example_names_what_it_cannot_judge(place, tmp_path):
    (broken := tmp_path / "broken.png").write_bytes(b"no picture")
    good = images_of(place)[0]
    run = example("use_exported.py", place / "onnx", broken, good)
    output, error = run.communicate(timeout=60)
    assert run.returncode == 1 and f"{broken}: not judged" in error and output.startswith(f"{good}: ")
    for arguments in ((), (tmp_path, good)):
        run = example("use_exported.py", *arguments)
        assert run.communicate(timeout=60)[1].startswith("usage: ") and run.returncode == 1


def test_the_example_reads_images_as_the_harness(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from use_exported import read_image as read

    rng = np.random.default_rng(0)
    colour, alpha = rng.integers(0, 256, (7, 9, 3)).astype(np.uint8), rng.integers(0, 256, (7, 9, 4)).astype(np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(colour).save(tmp_path / "turned.png", exif=turned)
    Image.fromarray(alpha).save(tmp_path / "clear.png")
    Image.fromarray(colour[..., 0]).save(tmp_path / "grey.bmp")
    Image.fromarray(colour).quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "print.jpg")
    Image.fromarray(colour[..., 0] > 99).save(tmp_path / "bits.png")
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(read(path), read_image(path), err_msg=path.name)
    save(tmp_path / "deep.png", colour[..., 0].astype(np.uint16))
    with pytest.raises(ValueError, match="more than 8 bits"):
        read(tmp_path / "deep.png")


def test_a_folder_is_watched(place, tmp_path):
    """What is whole is judged, what is broken named and counted; it ends when nothing comes, or at Ctrl-C."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    for file in images_of(place)[:2]:
        shutil.copy(file, folder / f"{file.parent.name}-{file.name}")
    (folder / "cut.png").write_bytes(images_of(place)[0].read_bytes()[:200])
    (folder / "notes.txt").write_text("no image")
    watch = example("watch_folder.py", place / "onnx", folder, "--every", "0.05", "--idle-seconds", "1")
    output, error = watch.communicate(timeout=60)
    assert watch.returncode == 1 and "2 images judged, 1 broken" in output and "cut.png: not judged" in error
    lines = (folder / "inspected.csv").read_text().splitlines()
    assert lines[0] == "time,image,score,decision,marked_pixels,milliseconds" and len(lines) == 3
    assert all(line.split(",")[3] in ("defective", "normal") for line in lines[1:])
    assert sorted(path.name for path in folder.iterdir()) == ["broken", "done", "inspected.csv", "notes.txt"]
    watch = example("watch_folder.py", place / "onnx", folder, "--every", "0.05")
    shutil.copy(images_of(place)[0], folder / lines[1].split(",")[1])  # a name that was there before
    while not (folder / "done").joinpath(lines[1].split(",")[1].replace(".png", "-2.png")).exists():
        assert watch.poll() is None
    watch.send_signal(signal.SIGINT)
    output, error = watch.communicate(timeout=60)
    assert watch.returncode == 0 and not error and "1 images judged, 0 broken" in output
    assert len((folder / "inspected.csv").read_text().splitlines()) == 4


def test_latency_is_measured(place, bench):
    asked = ["--exported", place / "onnx", "--threads", "1", "--batch", "1,2", "--seconds", "0", "--out", "l"]
    assert bench("latency", *model(place), *asked) == 0, bench.err
    found = json.loads((bench.folder / "l" / "latency.json").read_text())
    shown = [(latency["runtime"], latency["threads"], latency["batch"]) for latency in found["latencies"]]
    assert shown == [("torch", 1, 1), ("onnx", 1, 1), ("torch", 1, 2), ("onnx", 1, 2)]
    for latency in found["latencies"]:
        assert 0 < latency["median_ms"] <= latency["p95_ms"] <= latency["p99_ms"] and latency["calls"] >= 100
    torch_peak, onnx_peak = (found["latencies"][i]["peak_mib"] for i in (0, 1))
    assert 10 < onnx_peak < torch_peak  # a process of its own, without torch
    assert found["machine"]["processor"] and found["machine"]["versions"]["onnxruntime"]
    names = [f"latency.{kind}" for kind in ("csv", "json", "md", "pdf", "png", "tex")]
    assert sorted(path.name for path in (bench.folder / "l").iterdir()) == names
    assert bench("pack", place / "r", "--models", "--out", "r.zip") == 0
    whole = ["--run", "r.zip", *model(place)[2:]]
    assert bench("latency", *whole, "--threads", "1", "--batch", "1", "--seconds", "0") == 0, bench.err
    assert bench("report", "r.zip") == 0 and (bench.folder / "r-latency" / "latency.csv").is_file(), bench.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--exported", "nowhere"], "Expected an exported model in 'nowhere'"),
        (["--exported", "broken"], "model.onnx has been changed, or is not whole"),
        (["--exported", "other"], "is of widget pixel_stats seed 0, which is none of the models of"),
        (["--threads", "0"], "Expected whole numbers from 1 or all in --threads"),
        (["--batch", "one"], "Expected whole numbers from 1 in --batch"),
        (["--method", "random", "--run", "without", "--seed", "1"], "has no model of random"),
        (["--out", "file"], "'file' is a file"),
        (["--seconds", "-1"], "Expected --seconds from 0"),
    ],
)
def test_wrong_latencies_are_refused(place, bench, more, said):
    (bench.folder / "file").write_text("")
    for name in ("broken", "other"):
        shutil.copytree(place / "onnx", bench.folder / name)
    with (bench.folder / "broken" / "model.onnx").open("ab") as file:
        file.write(b"x")
    about = json.loads((bench.folder / "other" / "model.json").read_text())
    (bench.folder / "other" / "model.json").write_text(json.dumps(about | {"cell": "another"}))
    more = [str(place / "without") if part == "without" else part for part in more]
    method = [] if "--method" in more else ["--method", "pixel_stats"]
    assert bench("latency", "--run", place / "r", "--category", "widget", *method, "--out", "l", *more) == 2
    assert said in bench.err and bench.err.startswith("error: ") and bench.err.count("\n") == 1
    assert not (bench.folder / "l").exists()
