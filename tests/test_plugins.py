"""Classes in files of users: what they import from beside them, what goes wrong in them, where they work."""

from __future__ import annotations

import json

import pytest

from anoseg_bench import METHODS, plugins
from anoseg_bench.variants import source_hash
from tests.helpers import FAULTY, cells, usage_error

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
    monkeypatch.setattr(plugins, "_LOADED", set())
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
    for name in [n for n in plugins.sys.modules if n.startswith("_bench_plugin_") or n == "level_of_theirs"]:
        del plugins.sys.modules[name]  # as in another command
    del METHODS._entries["Theirs"]
    source_hash.cache_clear()
    assert bench.run(widget, "--out", "r", methods=spec) == 0
    assert cells(bench.folder / "r")[0]["status"] == "done" and cells(bench.folder / "r")[0]["key"] != first


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
