"""The registry: names, aliases, wildcards, plug-ins from files, modules and entry points."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys

import pytest

from anoseg_bench.errors import UsageError
from anoseg_bench.methods import METHODS
from anoseg_bench.registry import Registry
from tests.helpers import ROOT, checkout_python


@pytest.fixture
def registry(monkeypatch) -> Registry:
    """A registry with a package that has no modules of its own."""
    new: Registry = Registry("method", "tests", "none.such", "anoseg_bench.methods.base:Method")
    monkeypatch.setattr(new, "_discovered", True)
    new.register("ae_l", "somewhere:A", aliases=("old_l",))
    new.register("ae_s", "somewhere:B")
    return new


def test_aliases_resolve_before_anything_else(registry):
    assert registry.resolve("old_l") == "ae_l" and registry.match("old_l") == ["ae_l"]
    assert METHODS.match("ae_l2") == ["ae_recon"]


def test_wildcards(registry):
    assert registry.match("ae_*") == ["ae_l", "ae_s"]
    assert registry.match("old_*") == ["ae_l"]
    with pytest.raises(UsageError, match=r"No method matches 'x\*'"):
        registry.match("x*")


@pytest.mark.parametrize("name", ["ae_l", "old_l"])
def test_collision_is_an_error(registry, name):
    with pytest.raises(UsageError, match="taken twice"):
        registry.register(name, "elsewhere:C")
    with pytest.raises(UsageError, match="taken twice"):
        registry.register("new", "elsewhere:C", aliases=(name,))


def test_an_alias_may_not_hide_a_name(registry):
    with pytest.raises(UsageError, match="taken twice"):
        registry.register("third", "elsewhere:C", aliases=("ae_s",))
    assert registry.names() == ["ae_l", "ae_s"]


def test_unknown_name_answers_with_the_nearest(registry):
    with pytest.raises(UsageError, match=r"Unknown method 'ae_k'. Did you mean: ae_., ae_.\? Available: "):
        registry.resolve("ae_k")


PLUGIN = """
import torch
from anoseg_bench.methods import METHODS
from anoseg_bench.methods.base import Method, Prediction

class Plain(Method):
    \"\"\"Brightness as the map.\"\"\"
    def _fit(self, images, progress): progress(1, 1, 0.0)
    def _predict(self, images): return Prediction(images.float().mean(1))
    def state(self): return {"nothing": torch.zeros(1)}
    def load_state(self, state): pass

@METHODS.register("named")
class Named(Plain):
    \"\"\"The same under a name of its own.\"\"\"
"""


def test_a_file_on_the_command_line(tmp_path, bench, widget):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    code = bench.run(widget, "--out", "r", methods=f"{file}:Plain,{file}:Named[batch_size=2]")
    assert code == 0, bench.err
    assert "Plain" in bench.out and "named[batch_size=2]" in bench.out


def test_an_edited_file_is_not_taken_for_the_old_one(tmp_path, bench, widget):
    """The stored cell of a plug-in is used again only while its file is the same; its settings are known in time."""
    file = tmp_path / "mine.py"
    cases = [
        (name, text, status) for name in ("Plain", "Named") for text, status in ((PLUGIN, "done"), (PLUGIN + "# edited", "done"))
    ]
    for name, text, status in [*cases, ("Named", PLUGIN, "cached")]:
        file.write_text(text)
        setting = f"{'named' if name == 'Named' else name}.batch_size=2"
        assert bench.run(widget, "--out", "r", "--set", setting, methods=f"{file}:{name}") == 0, bench.err
        assert [c["status"] for c in json.loads((bench.folder / "r" / "run.json").read_text())["cells"]] == [status]


@pytest.mark.parametrize("spec", ["nothing.py:A", "no.such.module:A", "anoseg_bench.errors:Nothing"])
def test_a_spec_that_leads_nowhere(spec, registry):
    with pytest.raises(UsageError, match=spec):
        registry.match(spec)


def test_entry_points(tmp_path, monkeypatch):
    (tmp_path / "their_method.py").write_text(
        "from anoseg_bench import Method\nclass Theirs(Method):\n    _fit = _predict = state = load_state = None\n"
    )
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[a.group]\ntheirs = their_method:Theirs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    new: Registry = Registry("method", "tests", "a.group", "anoseg_bench.methods.base:Method")
    monkeypatch.setattr("pkgutil.iter_modules", lambda path: [])
    assert new.names() == ["theirs"]
    assert new["theirs"].load().__name__ == "Theirs"


def test_planning_imports_no_torch():
    """Names, configurations and variants are read without torch."""
    code = (
        "import sys; from anoseg_bench.plan import Plan; from anoseg_bench.datasets import DATASETS; DATASETS.names();"
        "import anoseg_bench.execution.run; from anoseg_bench.variants import parse_methods; parse_methods('*', 'full', {});"
        "sys.exit('torch' in sys.modules)"
    )
    assert checkout_python(code).returncode == 0


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys\nfrom anoseg_bench.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'pandas', 'pydantic', 'matplotlib')))"
    )
    done = checkout_python(code)
    assert done.returncode == 0 and "--methods" in done.stdout


def test_hugging_face_package_of_the_same_name(tmp_path):
    """With another package called `datasets` installed, the command uses ours."""
    site = tmp_path / "site" / "datasets"
    site.mkdir(parents=True)
    (site / "__init__.py").write_text("raise ImportError('the other datasets was imported')")
    done = subprocess.run(
        [sys.executable, str(ROOT / "run_bench.py"), "list"],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(site.parent)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "synthetic" in done.stdout, done.stderr


def test_the_project_installs_one_import_name():
    try:
        files = importlib.metadata.distribution("anoseg-bench").files or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the project is not installed in this environment (make setup does)")
    names = {part for part in (file.parts[0] for file in files) if not part.startswith(("__editable__", "..", "__pycache__"))}
    assert names and {name for name in names if not name.endswith(".dist-info")} <= {"anoseg_bench"}
