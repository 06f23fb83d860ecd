"""Classes in files of users: what they import from beside them, what goes wrong in them, where they work."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from anoseg_bench import IMPORT_PATH, Plan, load_run, plugins
from tests.helpers import FAULTY, cells, make_category, usage_error

METHOD = '''
import torch
from anoseg_bench import Method, Prediction
from {helper} import LEVEL


class Theirs(Method):
    """Distance to a level."""

    def _fit(self, images, progress): ...

    def _predict(self, images):
        return Prediction((images.float().mean(1) - LEVEL).abs())

    def state(self):
        return {{"none": torch.zeros(1)}}

    def load_state(self, state): ...
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A method that imports a file from beside it."""
    monkeypatch.setattr(plugins, "_LOADED", {})
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "level_of_theirs.py").write_text("LEVEL = 100.0\n")
    (folder / "method.py").write_text(METHOD.format(helper="level_of_theirs"))
    yield folder / "method.py"
    for name in ("level_of_theirs", "level_of_others"):
        plugins.sys.modules.pop(name, None)


def test_a_file_beside_a_plugin_is_imported_and_counts_as_its_code(bench, widget, plugin):
    spec = f"{plugin}:Theirs"
    assert bench.run(widget, "--out", "r", methods=spec) == 0, bench.err
    assert bench.run(widget, "--out", "r", methods=spec) == 0 and cells(bench.folder / "r")[0]["status"] == "cached"
    first = cells(bench.folder / "r")[0]["key"]
    (plugin.parent / "level_of_theirs.py").write_text("LEVEL = 90.0\n")
    assert bench.run(widget, "--out", "r", methods=spec) == 0
    assert cells(bench.folder / "r")[0]["status"] == "done" and cells(bench.folder / "r")[0]["key"] != first


@pytest.mark.parametrize("workers", ["0", "1"])
def test_an_edited_plugin_gives_its_own_numbers_in_the_same_process(bench, widget, plugin, workers):
    spec, numbers = f"{plugin}:Theirs", []
    for sign in ("", "-"):
        plugin.write_text(plugin.read_text().replace("LEVEL).abs()", f"LEVEL).abs().mul({sign}1)"))
        assert bench.run(widget, "--out", "r", "--workers", workers, methods=spec) == 0, bench.err
        assert cells(bench.folder / "r")[0]["status"] == "done"
        numbers.append(load_run(bench.folder / "r").values("pixel_auroc").item())
        plugin.write_text(plugin.read_text().replace(f".mul({sign}1)", ""))
    assert numbers[0] == pytest.approx(1 - numbers[1]) and numbers[0] != numbers[1]


def test_two_plugins_with_a_file_of_the_same_name_are_refused(bench, widget, plugin, tmp_path):
    other = tmp_path / "others"
    other.mkdir()
    (other / "level_of_theirs.py").write_text("LEVEL = 1.0\n")
    (other / "second.py").write_text(METHOD.format(helper="level_of_theirs").replace("Theirs", "Second"))
    message = usage_error(bench, widget, methods=f"{plugin}:Theirs,{other / 'second.py'}:Second")
    assert "Two plug-ins bring a file of the same name" in message and "rename one" in message


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys\nsys.exit(0)\n", "it called sys.exit(0) ({file}, line 2)"),
        ("x = 1\nraise RuntimeError('no licence')\n", "RuntimeError: no licence ({file}, line 2)"),
        ("def (\n", "({file}, line 1)"),
    ],
)
def test_what_goes_wrong_at_import_names_file_and_line_and_exits_with_2(bench, widget, tmp_path, code, expected):
    file = tmp_path / "bad.py"
    file.write_text(code)
    assert expected.format(file=file) in usage_error(bench, widget, methods=f"{file}:X")


def test_a_plugin_that_changes_the_working_folder_costs_nothing(bench, widget, tmp_path):
    (tmp_path / "moving.py").write_text(
        METHOD.replace("from {helper} import LEVEL", "import os\nLEVEL = 1.0")
        .replace("{{", "{")
        .replace("}}", "}")
        .replace("def _fit(self, images, progress): ...", "def _fit(self, images, progress):\n        os.chdir('/')")
    )
    assert bench.run(widget, "--out", "r", "--workers", "0", methods=f"{tmp_path / 'moving.py'}:Theirs,random") == 0, bench.err
    assert (bench.folder / "r" / "report.html").is_file() and [c["status"] for c in cells(bench.folder / "r")] == ["done", "done"]


def test_a_run_without_a_result_writes_no_tables_and_says_each_error_once(bench, widget):
    assert bench.run(widget, "--out", "r", "--seeds", "0,1", methods=f"{FAULTY}[action=raises]") == 1
    assert not (bench.folder / "r" / "tables").exists() and not (bench.folder / "r" / "report.html").exists()
    summary = bench.err[bench.err.index("no cell has a result") :]
    assert summary.count("something broke") == 1 and "2 of 2 cells failed" in summary
    assert json.loads((bench.folder / "r" / "run.json").read_text())["cells"][0]["status"] == "failed"


def test_an_error_in_a_library_is_placed_in_the_plugin_that_called_it(bench, widget, tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("import torch\n\ntorch.load('nothing.pt')\n")
    assert f"({file}, line 3)" in usage_error(bench, widget, methods=f"{file}:X")


def test_what_is_no_method_is_refused_when_planning(bench, widget, tmp_path):
    file = tmp_path / "duck.py"
    file.write_text("class Config: ...\nclass Duck:\n    Config = Config\n")
    for spec in (f"{file}:Duck", "anoseg_bench.datasets.mvtec:MVTecAD"):
        assert "to be a subclass of anoseg_bench.methods.base.Method" in usage_error(bench, widget, "--dry-run", methods=spec)


def test_a_working_folder_that_goes_away_costs_no_other_cell(bench, widget, tmp_path):
    (tmp_path / "moving.py").write_text(
        METHOD.replace("from {helper} import LEVEL", "import os, tempfile\nLEVEL = 1.0")
        .replace("{{", "{")
        .replace("}}", "}")
        .replace(
            "def _fit(self, images, progress): ...",
            "def _fit(self, images, progress):\n        with tempfile.TemporaryDirectory() as d:\n            os.chdir(d)",
        )
    )
    assert bench.run(widget, "--out", "r", "--workers", "0", methods=f"random,{tmp_path / 'moving.py'}:Theirs,pixel_stats") == 0
    assert [c["status"] for c in cells(bench.folder / "r")] == ["done"] * 3 and "Written to r:" in bench.out


def test_a_report_of_an_earlier_command_goes_where_the_last_has_nothing_to_report(bench, widget):
    assert bench.run(widget, "--out", "r") == 0 and (bench.folder / "r" / "report.html").exists()
    assert bench.run(widget, "--out", "r", methods=f"{FAULTY}[action=raises]") == 1
    left = {path.name for path in (bench.folder / "r").iterdir()}
    assert left == {"run.json", "logs"}


CONFIG = """
class Config(MethodConfig):
    many: list[Path] = []
    names: frozenset[str] = frozenset("abcdef")
    folder: Path | None = None


class Theirs(Method):
    Config = Config
"""


def test_the_content_of_files_and_folders_that_a_configuration_names_counts(bench, widget, tmp_path, monkeypatch):
    text = METHOD.replace(
        "from {helper} import LEVEL", "from pathlib import Path\nfrom anoseg_bench.methods.base import MethodConfig"
    )
    text = text.replace("class Theirs(Method):\n", CONFIG).replace("LEVEL", "1.0").replace("{{", "{").replace("}}", "}")
    (tmp_path / "theirs.py").write_text(text)
    (tmp_path / "textures").mkdir()
    files = [tmp_path / "w.bin", tmp_path / "textures" / "a.png"]
    monkeypatch.chdir(tmp_path)

    def key() -> str:
        settings = {"Theirs": {"many": ["w.bin"], "folder": "textures"}}
        plan = Plan.of(f"{tmp_path / 'theirs.py'}:Theirs", dataset="mvtec_layout", data_root=widget, settings=settings)
        assert plan.variants[0].config.many == [tmp_path / "w.bin"]
        return plan.cell(plan.variants[0], "widget", 0, "content").key

    for file in files:
        file.write_bytes(b"1")
    keys = [key()]
    assert bench.run(widget, "--out", "r", "--workers", "1", methods=f"{tmp_path / 'theirs.py'}:Theirs") == 0, bench.err
    for file in files:
        file.write_bytes(b"22")
        keys.append(key())
    assert len(set(keys)) == 3


DATASET = """
from anoseg_bench.datasets.mvtec import MVTecLayout


class Failing(MVTecLayout):
    def load(self, name):
        if name == "widget":
            raise KeyError("no index")
        return super().load(name)


class Unlabelled(MVTecLayout):
    def __init__(self, root, config):
        super().__init__(root, config)
        del self.label
"""


def test_a_dataset_that_fails_costs_its_category_only(bench, widget, tmp_path):
    make_category(widget, "gadget")
    (tmp_path / "theirs.py").write_text(DATASET)
    arguments = ["--methods", "random", "--data-root", str(widget), "--out", "r"]
    assert bench(*arguments, "--dataset", f"{tmp_path / 'theirs.py'}:Failing") == 1
    assert "failed at 'widget': KeyError: 'no index'" in bench.err and f"({tmp_path / 'theirs.py'}, line 8)" in bench.err
    assert [c["status"] for c in cells(bench.folder / "r")] == ["done", "failed"]
    assert bench(*arguments, "--dataset", f"{tmp_path / 'theirs.py'}:Unlabelled") == 2 and "has no `label`" in bench.err
    assert bench("check", "mvtec_layout") == 2 and "give --data-root" in bench.err


def test_a_script_without_a_guard_runs_a_plan(widget, tmp_path):
    (tmp_path / "script.py").write_text(
        "from anoseg_bench import Plan, run\nprint('started')\n"
        f"plan = Plan.of('random,pixel_stats', dataset='mvtec_layout', data_root={str(widget)!r}, out='r', workers=2)\n"
        "print(run(plan).values('pixel_auroc').shape, 'nan' in str(run(plan).values('pixel_auroc')))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(IMPORT_PATH)}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.count("started") == 1 and done.stdout.endswith("(2, 1, 1) False\n"), done.stdout + done.stderr
