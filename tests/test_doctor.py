"""`doctor`: planted faults are found, a sound category has none; what a run keeps and shows of its data."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from anoseg_bench.console import Console
from anoseg_bench.datasets import DATASETS
from anoseg_bench.errors import UsageError
from anoseg_bench.evaluation import inspection
from anoseg_bench.evaluation.datareport import NOTE, data_report, read_note
from anoseg_bench.evaluation.duplicates import NEIGHBOURS, STEP, candidates, near_copies
from anoseg_bench.evaluation.imagestats import mask_facts
from anoseg_bench.report.contact_sheet import OUTLINE, SIDE, choose
from anoseg_bench.report.data import data_sentences
from anoseg_bench.store.cells import Run
from anoseg_bench.store.records import DataReport, RunRecord
from tests.helpers import save

SIZE = 96


def texture(rng: np.random.Generator) -> np.ndarray:
    """Return a cloudy picture around one brightness, uint8 RGB."""
    clouds = cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)).astype(np.float32), (0, 0), 4)
    values = rng.normal(25, 2.5) * clouds / clouds.std() + rng.normal(0, rng.uniform(2, 4), (SIZE, SIZE))
    grey = np.clip(values - values.mean() + 120 + rng.normal(0, 2), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A sound category of 30 + 20 + 8 pictures, which differ by chance alone."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "part"
    for split, number in (("train", 30), ("test", 20)):
        for i in range(number):
            save(folder / split / "good" / f"{i:03d}.png", texture(rng))
    for i in range(8):
        picture, mask = texture(rng), np.zeros((SIZE, SIZE), np.uint8)
        mask[30:42, 20 + 3 * i : 40 + 3 * i] = 255
        picture[mask > 0] = np.clip(picture[mask > 0].astype(int) + 40, 0, 255)
        save(folder / "test" / "spot" / f"{i:03d}.png", picture)
        save(folder / "ground_truth" / "spot" / f"{i:03d}_mask.png", mask)
    return folder


def examine(bench, part: Path, *more: object) -> tuple[int, dict, dict[str, dict]]:
    """Run the doctor; return its exit code, all that it tells, and its findings by kind."""
    out = bench.folder / "found.json"
    code = bench(
        "doctor", "--dataset", "mvtec_layout", "--data-root", part.parent, "--holdout", "0.7", "--json", out, "--no-sheets", *more
    )
    told = json.loads(out.read_text())
    return code, told, {finding["kind"]: finding for finding in told["findings"]}


def test_a_sound_category_has_no_findings_and_its_facts_are_told(bench, part):
    code, told, findings = examine(bench, part)
    assert code == 0 and findings == {}, findings
    (data,) = told["categories"]
    assert data["counts"] == {"train": {"good": 30}, "test": {"good": 20, "spot": 8}}
    assert data["sizes"] == {"96x96": 58} and data["kinds"] == {"PNG RGB 8 bit": 58} and data["turned"] == 0
    assert data["held_out"] == 21 and "image decisions at 5 %" in data["decisions"]
    assert data["masks"]["spot"]["regions"] == 8 and data["masks"]["spot"]["smallest_area"] == 12 * 20
    assert "Makes numbers wrong: 0 findings" in bench.out and "part: 21 held out" in bench.out


def test_a_second_look_reads_no_image(bench, part, monkeypatch):
    monkeypatch.setattr("anoseg_bench.evaluation.facts._COARSE", -1e9)  # as if the files were old
    first = examine(bench, part)
    monkeypatch.setattr("anoseg_bench.evaluation.facts.open_picture", None)
    assert examine(bench, part) == first


@pytest.mark.parametrize("change", ["reencoded", "half the size", "larger", "the same bytes", "another format"])
def test_a_copy_of_a_test_image_in_train_is_found(bench, part, change):
    image = Image.open(part / "test" / "good" / "007.png")
    copy = part / "train" / "good" / "copied"
    if change == "reencoded":
        image.save(f"{copy}.jpg", quality=60)
    elif change in ("half the size", "larger"):
        size = SIZE // 2 if "half" in change else SIZE * 2
        image.resize((size, size), Image.Resampling.BICUBIC).save(f"{copy}.jpg", quality=85)
    else:
        image.save(f"{copy}.{'bmp' if 'format' in change else 'png'}")
    code, _, findings = examine(bench, part)
    assert code == 1 and "leak" in findings
    assert set(findings["leak"]["images"]) == {"train/good/copied", "test/good/007"}
    assert "1 group of 2 images" in findings["leak"]["text"]


def test_a_picture_that_is_good_and_defective_is_a_contradiction(bench, part):
    Image.open(part / "test" / "spot" / "003.png").save(part / "train" / "good" / "copied.jpg", quality=90)
    code, _, findings = examine(bench, part)
    assert code == 1 and "train/good/copied = test/spot/003" in findings["contradiction"]["text"]


def test_copies_within_a_split_do_not_make_numbers_wrong(bench, part):
    Image.open(part / "train" / "good" / "003.png").save(part / "train" / "good" / "copied.png")
    code, _, findings = examine(bench, part)
    assert code == 0 and list(findings) == ["repeated"]


def test_an_inverted_mask_is_found(bench, part):
    path = part / "ground_truth" / "spot" / "002_mask.png"
    save(path, 255 - np.asarray(Image.open(path)))
    code, _, findings = examine(bench, part)
    assert code == 1 and findings["inverted mask"]["images"] == ["test/spot/002"]


def test_a_defect_of_one_pixel_is_found_and_vanishes(bench, part):
    path = part / "ground_truth" / "spot" / "002_mask.png"
    mask = np.zeros((400, 400), np.uint8)
    mask[200, 200], mask[10:60, 10:60] = 255, 255
    save(path, mask)
    with Image.open(part / "test" / "spot" / "002.png") as image:
        image.resize((400, 400)).save(part / "test" / "spot" / "002.png")
    code, told, findings = examine(bench, part)
    assert code == 0 and set(findings) == {"speck", "vanishing"}
    assert "1 of 9 defective regions has 4 pixels or fewer, the smallest 1 (test/spot/002)" in findings["speck"]["text"]
    assert "1 at 128 px, 1 at 256 px" in findings["vanishing"]["text"]
    assert told["categories"][0]["masks"]["spot"]["smallest_area"] == 1


def test_a_darker_good_test_set_is_found(bench, part):
    for path in (part / "test" / "good").iterdir():
        save(path, (np.asarray(Image.open(path)) * 0.95).astype(np.uint8))
    code, _, findings = examine(bench, part)
    assert code == 1 and "darker (brightness: AUROC 0.0" in findings["shift"]["text"]


def test_another_jpeg_quality_of_good_test_images_is_found(bench, part):
    for path in [*part.glob("train/good/*"), *part.glob("test/*/*")]:
        Image.open(path).save(path.with_suffix(".jpg"), quality=70 if path.parent == part / "test" / "good" else 92)
        path.unlink()
    code, told, findings = examine(bench, part)
    assert code == 1 and "of lower JPEG quality (JPEG quality: AUROC 0.00" in findings["shift"]["text"]
    assert told["categories"][0]["kinds"] == {"JPEG RGB 8 bit": 58}


def test_the_other_facts_of_files(bench, part):
    image = Image.open(part / "train" / "good" / "003.png")
    tag = Image.Exif()
    tag[0x0112] = 6
    image.save(part / "train" / "good" / "turned.jpg", exif=tag)
    wide = np.asarray(image)[..., 0].astype(np.uint16) * 257
    Image.fromarray(wide).save(part / "train" / "good" / "wide.png")
    code, told, findings = examine(bench, part, "--holdout", "0.1", "--exclude", "part/test/good/01*")
    assert code == 0 and {"turned", "few held out", "few good test images"} <= set(findings)
    assert findings["turned"]["images"] == ["train/good/turned"] and "needs 19" in findings["few held out"]["text"]
    assert told["categories"][0]["kinds"]["PNG I;16 16 bit"] == 1


def test_what_cannot_be_read_is_a_finding_and_exit_code_2_is_for_the_question(bench, part):
    (part / "train" / "good" / "003.png").write_bytes(b"no image")
    code, told, findings = examine(bench, part)
    assert code == 1 and told["categories"] == [] and "003.png" in findings["unreadable"]["text"]
    assert bench("doctor", "--dataset", "mvtec_layout", "--data-root", part.parent, "--holdout", "2") == 2
    assert bench("doctor", "--dataset", "mvtec_layout", "--data-root", part.parent, "--data-note", "nowhere.md") == 2
    assert "nowhere.md" in bench.err


def test_json_on_the_terminal_and_sheets_with_outlines(bench, part):
    assert bench("doctor", "--dataset", "mvtec_layout", "--data-root", part.parent, "--json", "-", "--sheets", "sheets") == 0
    told = json.loads(bench.out)
    assert told["sheets"] == ["sheets/part.png"] and told["dataset"] == "data"
    sheet = np.asarray(Image.open("sheets/part.png"))
    line = (sheet == OUTLINE).all(axis=2)
    assert line.sum() > 8 * 40  # of each of the 8 masks the border of about 19 x 31 px
    assert sheet.shape[1] > 8 * SIDE and sheet.std() > 20


def test_a_sheet_shows_what_findings_name_first():
    class Named:
        def __init__(self, name):
            self.name = name

    items = [Named(str(i)) for i in range(50)]
    assert [item.name for item in choose(items, {"40", "41"})][:2] == ["40", "41"]
    assert len(choose(items, {"40"})) == 8 == len(choose(items, set())) and len(choose(items[:3], set())) == 3


def test_pictures_that_are_merely_alike_are_no_copies():
    rng = np.random.default_rng(0)
    products = [cv2.GaussianBlur(rng.normal(128, 60, (32, 32)).astype(np.float32), (0, 0), 1.5) for _ in range(3)]
    pictures = np.stack([p + rng.normal(0, 2, (32, 32)) for p in products for _ in range(30)])  # of three products, with grain
    noisy = np.clip(pictures, 0, 255)
    assert len(near_copies(noisy.round().astype(np.uint8))) == 0
    copied = np.concatenate([noisy, noisy[[7]] + rng.normal(0, 0.3, (1, 32, 32))]).round().astype(np.uint8)
    assert near_copies(copied).tolist() == [[7, 90]]


@pytest.mark.parametrize("alike", [False, True])
def test_the_cost_of_copies_grows_with_the_number_of_images(alike):
    bits = np.random.default_rng(0).random((1500, 64)) < 0.5
    if alike:  # the worst case: all hashes the same
        bits[:] = bits[0]
    assert len(candidates(bits)) <= len(bits) * NEIGHBOURS * 64 // STEP


@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.booleans()))
@settings(deadline=None, max_examples=40)
def test_facts_of_masks(mask):
    found = mask_facts(mask)
    assert sum(found.areas) == mask.sum() and found.share == pytest.approx(mask.mean())
    assert found.vanish == {128: 0, 256: 0}  # nothing vanishes where an image is enlarged
    large = mask_facts(np.kron(mask, np.ones((16, 16), bool)))
    assert [area * 256 for area in found.areas] == large.areas and large.vanish[256] == 0


def test_the_embedded_screw_has_its_planted_shortcut(bench):
    settings_ = [f"--set=synthetic.{n}={v}" for n, v in {"train": 24, "validation": 19, "test_good": 20, "per_defect": 2}.items()]
    assert bench("doctor", "--category", "screw", "--json", "-", "--no-sheets", *settings_) == 1
    (finding,) = [f for f in json.loads(bench.out)["findings"] if f["wrong"]]
    assert finding["kind"] == "shift" and "darker (brightness" in finding["text"]


# --- what a run keeps and shows -----------------------------------------------------------------------------------------


def test_a_run_keeps_and_shows_its_data(bench, part):
    (part.parent / NOTE).write_text("# Parts\n\n* **Licence:** CC0\n- split: by date\n\nMade <b>here</b>.\n")
    Image.open(part / "test" / "good" / "007.png").save(part / "train" / "good" / "copied.jpg", quality=80)
    assert bench.run(part.parent, "--out", "r", "--category", "part", "--workers", "0", methods="image_stats") == 0
    assert "note: part: the same picture" in bench.err
    data = Run.load(Path("r")).info.data
    assert data.note.licence == "CC0" and data.note.split == "by date" and data.categories[0].counts["train"] == {"good": 31}
    table = Path("r/tables/data.md").read_text()
    assert "| part " in table and "Licence: CC0" in table and "To do: leave the copies out" in table
    rows = list(csv.reader(Path("r/tables/shortcuts.csv").read_text().splitlines()))
    assert rows[0] == ["category", "statistic", "good test / train", "defective / good test"]
    assert rows[1][:2] == ["part", "brightness"]
    assert "Data, part: the same picture" in Path("r/tables/findings.md").read_text().replace("\\", "")
    page = Path("r/report.html").read_text()
    assert "Made \\u003cb>here" in page and '<h2 id="images">Data</h2>' in page


def test_a_generated_set_costs_a_run_no_look(tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "facts_of", None)
    report = data_report(inspection.inspect_all(DATASETS["synthetic"].load()(), ["pill"], tmp_path, (), Console(-1)), 0.1, 0)
    assert report.categories[0].counts["train"] == {"good": 120} and report.findings == []
    assert report.categories[0].separations == [] and report.categories[0].held_out == 20


def test_a_run_of_an_older_version_has_no_data():
    old = RunRecord(**{"schema_version": 1, "command": "c"})
    assert old.data is None and data_sentences(old.data) == []
    assert RunRecord(**{"data": {"categories": [], "more": 1}}).data == DataReport()


def test_a_note_is_read_where_it_is(tmp_path):
    assert read_note(None, tmp_path) is None and read_note(None, None) is None
    (tmp_path / NOTE).write_text("License: MIT\n")
    assert read_note(None, tmp_path).licence == "MIT"
    other = tmp_path / "other.txt"
    other.write_text("No such lines.")
    assert read_note(other, tmp_path).text == "No such lines." and read_note(other, tmp_path).licence == ""
    with pytest.raises(UsageError, match="cannot be read"):
        read_note(tmp_path / "nowhere", tmp_path)
