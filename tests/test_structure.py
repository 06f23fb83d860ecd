"""Who may import whom: the arrows between the folders point down, as CONTRIBUTING's table says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.helpers import ROOT

PLUGINS = {"registry", "plugins", "errors"}
PLANNING = {
    "plan",
    "conditions",
    "settings",
    "variants",
    "validation",
    "options",
    "experiments",
    "datasets",
    "methods",
    "store",
} | PLUGINS
#: Each folder, or the modules at the top, and what it may import beside itself.
ALLOWED = {
    "metrics": set(),
    "store": {"errors", "formatting", "metrics", "shifts"},
    "methods": {"errors", "registry"},
    "datasets": {"errors", "registry"},
    "evaluation": {"metrics", "store", "console", "formatting", "shifts", *PLANNING},
    "execution": {"evaluation", "store", "console", "streams", "formatting", "shifts", *PLANNING},
    "report": {"conditions", "metrics", "store", "methods", "datasets", "registry", "errors", "formatting", "experiments"},
    "export": {"evaluation", "report", "metrics", "store", "methods", "formatting", "registry", "errors"},
    "errors": set(),
    "conditions": set(),
    "formatting": set(),
    "shifts": set(),
    "options": set(),
    "plugins": {"errors"},
    "registry": {"errors", "plugins"},
    "experiments": {"errors", "registry"},
    "settings": {"errors"},
    "variants": {"conditions", "methods", "settings", *PLUGINS},
    "validation": {"datasets", "options", "variants", "store", *PLUGINS},
    "plan": PLANNING | {"metrics"},
    "streams": set(),
    "console": {"formatting", "streams"},
    "testing": PLANNING,
}
FOLDERS = {"methods": ROOT / "methods", "datasets": ROOT / "datasets"}


def imported_by(file: Path) -> set[str]:
    """Return the folders and top modules of the package that a file imports, also in functions."""
    tree = ast.parse(file.read_text())
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [
        f"anoseg_bench.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "anoseg_bench"
        for alias in node.names
        if alias.name.islower() and not alias.name.startswith("_")
    ]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("anoseg_bench.")}


@pytest.mark.parametrize("room", ALLOWED)
def test_arrows_point_down(room):
    folder = FOLDERS.get(room, ROOT / "bench" / room)
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / "bench" / f"{room}.py"]
    assert files
    wrong = {str(file.relative_to(ROOT)): sorted(imported_by(file) - ALLOWED[room] - {room}) for file in files}
    assert not {file: names for file, names in wrong.items() if names}


def test_the_rules_have_no_circle():
    order: list[str] = []
    left = dict(ALLOWED)
    while left:
        free = [room for room, allowed in left.items() if not allowed & (left.keys() - {room})]
        assert free, f"a circle among {sorted(left)}"
        order += free
        left = {room: allowed for room, allowed in left.items() if room not in free}
