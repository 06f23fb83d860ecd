"""The embedded data set: what it promises of its images, its masks and the defect that only its position gives away."""

import random
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.synthetic import CAPACITOR, COLUMNS, EMPTY, RESISTOR, ROWS, SUBJECTS, Synthetic, SyntheticConfig, render
from anoseg_bench.errors import DataError
from tests.helpers import checkout_python

#: The smallest share of the image that a mask may cover, where it is not 0.002.
LEAST = {"connector": 0.001, "pill": 0.0005, "screw": 0.0002}
DEFECTS = [(category, defect) for category, subject in SUBJECTS.items() for defect in subject.defects]


def checksum(category: str, name: str, defect: str | None) -> int:
    image, mask = render(category, name, defect)
    return zlib.crc32(image.tobytes() + mask.tobytes())


def grown(mask: np.ndarray, by: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)).astype(bool)


def test_registered_and_needs_no_root() -> None:
    assert DATASETS["synthetic"].load() is Synthetic
    assert DATASETS.resolve("embedded") == "synthetic"
    assert not Synthetic.needs_root
    assert Synthetic().label == "synthetic"


def test_categories_cover_textures_and_objects() -> None:
    dataset = Synthetic()
    names = dataset.categories()
    groups = [dataset.load(name).group for name in names]
    assert names == sorted(SUBJECTS) and len(names) >= 6
    assert groups.count("textures") >= 3 and groups.count("objects") >= 3
    assert all(len(set(subject.defects)) >= 3 for subject in SUBJECTS.values())


@pytest.mark.parametrize("category", sorted(SUBJECTS))
def test_items_are_listed_by_the_configuration(category: str) -> None:
    loaded = Synthetic(config=SyntheticConfig(train=3, validation=1, test_good=2, per_defect=1)).load(category)
    assert [item.name for item in loaded.train] == ["train/good/000", "train/good/001", "train/good/002"]
    assert [item.name for item in loaded.validation] == ["validation/good/000"]
    assert all(item.is_good and item.mask is None for item in (*loaded.train, *loaded.validation))
    expected = ["test/good/000", "test/good/001", *(f"test/{defect}/000" for defect in SUBJECTS[category].defects)]
    assert [item.name for item in loaded.test] == expected
    for item in loaded.test:
        image = item.load_image()
        mask = item.load_mask(image.shape[:2])
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert mask.dtype == bool and mask.any() != item.is_good
        assert item.name.split("/")[1] == item.defect


def test_content_tells_configurations_apart() -> None:
    configs = [
        SyntheticConfig(),
        SyntheticConfig(train=5),
        SyntheticConfig(validation=5),
        SyntheticConfig(test_good=5),
        SyntheticConfig(per_defect=5),
    ]
    assert len({Synthetic(config=config).content() for config in configs}) == 5
    assert Synthetic().content() == Synthetic(config=SyntheticConfig()).content()
    with pytest.raises(ValidationError):
        SyntheticConfig(train=0)


def test_unknown_category_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="fabrik") as caught:
        Synthetic().load("fabrik")
    message = str(caught.value)
    assert "\n" not in message and all(name in message for name in SUBJECTS)


def test_same_pixels_in_any_order_and_whatever_the_global_seed() -> None:
    wanted = [(category, f"test/{defect}/001", defect) for category, defect in DEFECTS]
    first = [checksum(*each) for each in wanted]
    np.random.seed(5)
    random.seed(5)
    expected = np.random.random(), random.random()
    np.random.seed(5)
    random.seed(5)
    again = [checksum(*each) for each in reversed(wanted)]
    assert (np.random.random(), random.random()) == expected
    assert again[::-1] == first
    assert len(set(first)) == len(first)


def test_same_pixels_in_another_process() -> None:
    code = """if True:
        import zlib
        from anoseg_bench.datasets.synthetic import Synthetic
        dataset = Synthetic()
        for category in dataset.categories():
            item = dataset.load(category).test[-1]
            print(zlib.crc32(item.image().tobytes() + item.mask().tobytes()))
    """
    done = checkout_python(code)
    last = [(category, SUBJECTS[category].defects[-1]) for category in sorted(SUBJECTS)]
    assert done.stdout.split() == [str(checksum(category, f"test/{defect}/007", defect)) for category, defect in last]


@pytest.mark.parametrize("category", sorted(SUBJECTS))
def test_normal_images_differ_but_only_as_samples_of_one_product(category: str) -> None:
    images = [render(category, f"train/good/{k:03d}")[0] for k in range(6)]
    assert len({image.tobytes() for image in images}) == 6
    means = np.array([image.mean() for image in images])
    assert 0 < np.ptp(means) < 30
    assert all(image.std() > 5 for image in images)
    assert all((image == 255).mean() < 0.05 and (image == 0).mean() < 0.05 for image in images)


def test_sizes_and_colours_vary_between_categories() -> None:
    sizes: dict[str, set[tuple[int, ...]]] = {}
    grey: dict[str, bool] = {}
    for category in SUBJECTS:
        images = [render(category, f"train/good/{k:03d}")[0] for k in range(8)]
        sizes[category] = {image.shape[:2] for image in images}
        grey[category] = all((image == image[..., :1]).all() for image in images)
        assert sizes[category] <= set(SUBJECTS[category].sizes)
    assert {(192, 192), (160, 224), (256, 256)} <= set.union(*sizes.values())
    assert any(len(found) > 1 for found in sizes.values())
    assert [category for category, is_grey in grey.items() if is_grey] == ["brushed_metal"]


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
def test_mask_is_where_the_image_changes(category: str, defect: str) -> None:
    for k in range(4):
        name = f"test/{defect}/{k:03d}"
        image, mask = render(category, name, defect)
        clean, nothing = render(category, name)
        change = np.abs(image.astype(int) - clean).max(axis=2)
        assert not nothing.any()
        assert LEAST.get(category, 0.002) <= mask.mean() <= 0.105
        assert (change[mask] > 2).mean() > 0.75 and change[mask].mean() > 7
        rim = mask & grown(~mask, 1)
        assert (change[rim] > 1).mean() > 0.7  # a mask two pixels too wide reaches 0.4 at most
        # Outside are only the blurred edge, of which the defect makes up a quarter at most, and beyond it nothing.
        assert change[~mask].max() < 80 and change[~mask].sum() < 0.2 * change.sum()
        assert change[~grown(mask, 3)].max() <= 1


@pytest.mark.parametrize("defect", SUBJECTS["screw"].defects)
def test_defects_of_the_screw_are_tiny(defect: str) -> None:
    shares = [render("screw", f"test/{defect}/{k:03d}", defect)[1].mean() for k in range(12)]
    assert 0.0002 <= min(shares) and max(shares) <= 0.002


def direction(image: np.ndarray) -> float:
    """Return the heading of the screw, from its head to its point."""
    y, x = np.nonzero(image.mean(axis=2) < 0.6 * np.median(image))
    points = np.stack([x, y], axis=1) - (x.mean(), y.mean())
    axis = np.linalg.svd(points, full_matrices=False)[2][0]
    along, across = points @ axis, np.abs(points @ (-axis[1], axis[0]))
    # The head is the wider end.
    forward = across[along < along.min() + 15].max() > across[along > along.max() - 15].max()
    return float(np.arctan2(axis[1], axis[0]) + (0 if forward else np.pi)) % (2 * np.pi)


def test_screw_lies_in_any_direction() -> None:
    turns = np.sort([direction(render("screw", f"train/good/{k:03d}")[0]) for k in range(60)]) / (2 * np.pi)
    # Kolmogorov and Smirnov: 1.63 / sqrt(60) is the threshold at 1 %.
    steps = np.arange(61) / 60
    assert max(np.abs(turns - steps[:-1]).max(), np.abs(turns - steps[1:]).max()) < 1.63 / np.sqrt(60)


def test_good_test_screws_are_darker_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = SUBJECTS["screw"]
    assert subject.good_test_gain == 0.94
    assert all(other.good_test_gain == 1 for category, other in SUBJECTS.items() if category != "screw")
    names = {"train/good/003": None, "test/good/003": None, **{f"test/{defect}/003": defect for defect in subject.defects}}
    seen = {name: render("screw", name, defect)[0].mean() for name, defect in names.items()}
    twins = {name: render("screw", name)[0].mean() for name in names}
    # Brightness alone tells good from defective test images.
    good = np.array([render("screw", f"test/good/{k:03d}")[0].mean() for k in range(15)])
    flawed = np.array([render("screw", f"test/burr/{k:03d}", "burr")[0].mean() for k in range(15)])
    train = np.array([render("screw", f"train/good/{k:03d}")[0].mean() for k in range(15)])
    assert auroc(good, flawed) > 0.9
    assert 0.3 < auroc(train, flawed) < 0.7
    assert good.mean() / train.mean() == pytest.approx(0.94, abs=0.02)
    monkeypatch.setitem(SUBJECTS, "screw", replace(subject, good_test_gain=1.0))
    for name, defect in names.items():
        gain = 0.94 if name == "test/good/003" else 1
        assert seen[name] / render("screw", name, defect)[0].mean() == pytest.approx(gain, abs=0.001)
        assert twins[name] / render("screw", name)[0].mean() == pytest.approx(gain, abs=0.001)


def test_few_images_category_is_capped_whatever_is_asked() -> None:
    assert {category: subject.at_most for category, subject in SUBJECTS.items() if subject.at_most} == {"connector": 40}
    for asked, connectors in ((7, 7), (40, 40), (120, 40), (1000, 40)):
        dataset = Synthetic(config=SyntheticConfig(train=asked))
        assert len(dataset.load("connector").train) == connectors
        assert len(dataset.load("pill").train) == asked
    assert len(Synthetic().load("pill").train) == 120 and len(Synthetic().load("connector").train) == 40


def slots(image: np.ndarray) -> np.ndarray:
    """Return what is around each slot of the circuit, blurred over the jitter: float, shape (4, 4, D)."""
    smooth = cv2.GaussianBlur(image, (0, 0), 4).astype(float)
    return np.array([[smooth[y - 28 : y + 28 : 4, x - 28 : x + 28 : 4].ravel() for x in COLUMNS] for y in ROWS])


def occupied(image: np.ndarray) -> np.ndarray:
    """Return which kind of part is in each slot, by the colour of its middle: tan, black, or the board's; shape (4, 4)."""
    middle = np.array([[image[y - 4 : y + 5, x - 4 : x + 5].mean(axis=(0, 1)) for x in COLUMNS] for y in ROWS])
    return np.where(middle[..., 0] > 110, CAPACITOR, np.where(np.ptp(middle, axis=-1) < 20, RESISTOR, EMPTY))


def auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    return float((anomalous[:, None] > normal).mean() + (anomalous[:, None] == normal).mean() / 2)


def test_misplaced_is_told_by_position_and_by_nothing_else() -> None:
    train = np.array([slots(render("circuit", f"train/good/{k:03d}")[0]) for k in range(40)])
    anywhere = train.reshape(-1, train.shape[-1])
    local: tuple[list[float], list[float]] = ([], [])
    positional: tuple[list[float], list[float]] = ([], [])
    for k in range(24):
        image, mask = render("circuit", f"test/misplaced/{k:03d}", "misplaced")
        kinds, parts = occupied(image), slots(image)
        for (r, c), kind in np.ndenumerate(kinds):
            if kind != EMPTY:
                wrong = bool(mask[ROWS[r], COLUMNS[c]])
                assert wrong == (kind == (RESISTOR, None, None, CAPACITOR)[c])
                local[wrong].append(np.linalg.norm(anywhere - parts[r, c], axis=1).min())
                positional[wrong].append(np.linalg.norm(train[:, r, c] - parts[r, c], axis=1).min())
    assert len(local[True]) == 24
    assert 0.3 < auroc(np.array(local[False]), np.array(local[True])) < 0.7
    assert auroc(np.array(positional[False]), np.array(positional[True])) > 0.99


def test_misplaced_marks_one_whole_part() -> None:
    for k in range(6):
        _, mask = render("circuit", f"test/misplaced/{k:03d}", "misplaced")
        count, _, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        x, _y, width, height, area = boxes[1]
        assert count == 2 and area > 0.85 * width * height
        assert 36 <= width <= 42 and 20 <= height <= 26
        assert min(abs(x + width / 2 - column) for column in (COLUMNS[0], COLUMNS[3])) < 5


def test_every_neighbour_of_a_misplaced_part_is_a_normal_neighbour() -> None:
    beside: set[tuple[int, int, int]] = set()
    for k in range(40):
        kinds = occupied(render("circuit", f"train/good/{k:03d}")[0])
        assert RESISTOR not in kinds[:, 0] and CAPACITOR not in kinds[:, 3]
        for r, c in np.ndindex(4, 3):
            beside.add((int(kinds[r, c]), 0, int(kinds[r, c + 1])))
            beside.add((int(kinds[c, r]), 1, int(kinds[c + 1, r])))
    assert {(a, axis, b) for a in range(3) for b in range(3) for axis in range(2)} <= beside
