"""Settings as YAML: nothing is read otherwise than a person means it without a word, and no key has two values."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from anoseg_bench.errors import UsageError
from anoseg_bench.methods import METHODS
from anoseg_bench.settings import parse_value, read_yaml
from anoseg_bench.variants import parse_methods, read_settings

PLAIN = {
    **{"7": 7, "-7": -7, "0": 0, "0x1F": 31, "0.5": 0.5, ".5": 0.5, "1.": 1.0, "00.5": 0.5},
    **{"1e-3": 0.001, "1.5e3": 1500.0, "-.5": -0.5, ".inf": math.inf, "true": True, "False": False},
    **{"null": None, "~": None, "": None, "[1, x]": [1, "x"], "{a: 1}": {"a": 1}},
    **{"'020'": "020", '"yes"': "yes", "y": "y", "1,000": "1,000", "a:1": "a:1", "=": "=", "*x": "*x", "#fff": "#fff"},
    **{"a # b": "a # b", "a: b: c": "a: b: c", "2020-13-45": "2020-13-45", "--- 3": "--- 3"},
}
SURPRISES = {
    **{
        "020": "write 16 or 20",
        "-020": "write -16 or -20",
        "08": "write 8",
        "007": "write 7",
        "0o17": "write 15",
        "0b11": "write 3",
    },
    **{"1:30": "write 90", "1:30.5": "write 90.5", "190:20:30": "write 685230", "-0x1F": "write -31", "1_000": "write 1000"},
    **{"1_0.5": "write 10.5", "yes": "write true", "Off": "write false", "NO": "write false", "on": "write true"},
    **{"2020-01-01": "a date", "2020-01-01 10:00:00": "a date", "[1, [020]]": "write 16 or 20", "{a: {b: no}}": "write false"},
    **{"{on: 1}": "write true", "{a: 1, a: 2}": "'a' is given twice", "{x: {a: 1, b: 2, a: 1}}": "'x.a' is given twice"},
    **{
        "{<<: {a: 1}}": "'<<' merges",
        "!!int '020'": "the tag '!!int'",
        "!!python/name:os.system x": "the tag",
        "&a [*a]": "itself",
    },
    **{"{[a]: 1}": "expected a name"},
}


@pytest.mark.parametrize("text", PLAIN)
def test_plain_values(text):
    assert repr(parse_value(text, "--set")) == repr(PLAIN[text])


@pytest.mark.parametrize("text", SURPRISES)
def test_what_versions_of_yaml_read_differently_is_an_error_that_says_how_to_write_it(text):
    with pytest.raises(UsageError) as error:
        parse_value(text, f"--set a.b={text}")
    assert str(error.value).startswith(f"--set a.b={text}: ") and SURPRISES[text] in str(error.value)


@given(st.text("0123456789_:.+-eExob ynsftrul~'[],{}#", max_size=8))
@example("0o7")
def test_no_text_is_read_otherwise_than_it_looks_or_in_all_versions(text):
    try:
        value = parse_value(text, "--set")
    except UsageError:
        return
    try:
        usual = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        usual = text
    flat = repr(value)
    if isinstance(value, float) and isinstance(usual, str):
        assert value == float(usual)
    elif not isinstance(value, list | dict):
        assert flat in (repr(usual), repr(text))


def test_a_key_given_twice_in_a_file_is_an_error_with_its_line(tmp_path):
    file = tmp_path / "c.yaml"
    wrong = {
        "ae_recon: {steps: 5, steps: 9}\n": "c.yaml', line 1: 'ae_recon.steps' is given twice (first in line 1); keep one.",
        "ae_recon:\n  steps: 5\nanoseg: {}\nae_recon:\n  latent: 9\n": "line 4: 'ae_recon' is given twice (first in line 1)",
        "ae_recon:\n  steps: 5\n  'steps': 5\n": "line 3: 'ae_recon.steps' is given twice (first in line 2)",
        "ae_recon:\n  steps: 5\nae_l2:\n  steps: 9\n": "'ae_recon.steps' is given twice: 5 in",  # two names of one method
        "ae_recon:\n  steps: 020\n": "line 2: '020' is read as 16, as 20 or as text",
        "base: &b {steps: 5}\nae_recon:\n  <<: *b\n": "line 3: '<<' merges",
        "ae_recon: {steps: yes}\n": "line 1: 'yes'",
    }
    for text, message in wrong.items():
        file.write_text(text)
        with pytest.raises(UsageError) as error:
            read_settings(file, [], "synthetic", METHODS)
        assert message in str(error.value) and "\n" not in str(error.value)
    file.write_text("ae_recon: &a\n  steps: 5\nae_ssim: *a\n")
    known = read_settings(file, ["ae_recon.steps=7", "ae_recon.steps=7"], "synthetic", METHODS)
    assert known == {"ae_recon": {"steps": 7}, "ae_ssim": {"steps": 5}}
    assert read_yaml(file).lines["ae_recon", "steps"] == 2


def test_two_values_of_one_key_on_the_command_line_are_an_error():
    for given_twice in (["ae_recon.steps=5", "ae_recon.steps=9"], ["ae_recon.steps=5", "ae_l2.steps=9"]):
        with pytest.raises(UsageError, match=r"'ae_recon.steps' is given twice: 5 by --set and 9 by --set; keep one"):
            read_settings(None, given_twice, "synthetic", METHODS)
    with pytest.raises(UsageError, match=r"'ae_recon.steps' is given twice"):
        read_settings(None, {"ae_recon": {"steps": 1}, "ae_l2": {"steps": 2}}, "synthetic", METHODS)
    for inside in ("steps=5,steps=9", "label=a,label=b"):
        with pytest.raises(UsageError, match="is given twice in"):
            parse_methods(f"ae_recon[{inside}]", "demo", {})
    with pytest.raises(UsageError, match="read as 16"):
        parse_methods("ae_recon[steps=020]", "demo", {})
