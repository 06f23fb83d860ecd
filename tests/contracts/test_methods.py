"""Every registered method passes every check of the contract."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from methods import METHODS
from tests.contracts.method_checks import CHECKS, SIZE, Case, check_state, normal_images

CASES = {name: Case(name) for name in METHODS.names()}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_contract(name, check):
    check(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_state(name, tmp_path: Path):
    check_state(CASES[name], tmp_path)


def test_the_method_of_the_readme_passes_too(tmp_path: Path, monkeypatch):
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    (tmp_path / "darkness.py").write_text(readme.split("```python\n")[1].split("```")[0])
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))
    assert METHODS.match(f"{tmp_path / 'darkness.py'}:Darkness") == ["darkness"]
    case = Case("darkness")
    for check in CHECKS:
        check(case)
    check_state(case, tmp_path)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"random"}))
def test_higher_is_more_anomalous(name):
    """After a short training, a foreign bright block is hotter than the same pixels of a normal image."""
    method = Case(name).make()
    steps = {"steps": 150} if "steps" in type(method.config).model_fields else {}
    method.config = method.config.model_copy(update=steps | {"batch_size": 8})
    method.fit(normal_images(16))
    clean = normal_images(4, seed=7)
    marred = clean.clone()
    block = (slice(None), slice(None), slice(20, 40), slice(20, 40))
    marred[block] = torch.randint(180, 256, marred[block].shape, dtype=torch.uint8)
    both = method.predict(torch.cat([clean, marred])).maps
    maps = torch.nn.functional.interpolate(both[:, None], size=(SIZE, SIZE), mode="bilinear")[:, 0, 20:40, 20:40].mean((1, 2))
    assert maps[4:].mean() > maps[:4].mean()
