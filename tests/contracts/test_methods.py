"""Every registered method passes every check of the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from anoseg_bench.methods import METHODS
from tests.contracts.method_checks import CHECKS, Case, check_state

CASES = {name: Case(name, learns=name != "random") for name in METHODS.names()}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_contract(name, check):
    check(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_state(name, tmp_path: Path):
    check_state(CASES[name], tmp_path)


def test_the_method_of_the_readme_passes_too(tmp_path: Path):
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    (tmp_path / "brightness.py").write_text(readme.split("```python\n")[1].split("```")[0])
    assert METHODS.match(f"{tmp_path / 'brightness.py'}:Brightness") == ["brightness"]
    case = Case("brightness")
    for check in CHECKS:
        check(case)
    check_state(case, tmp_path)
