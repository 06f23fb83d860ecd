"""Run of one cell: load, hold out, fit, predict, bring maps to the images' size, evaluate, store; or evaluate again."""

from __future__ import annotations

import hashlib
import io
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from anoseg_bench.datasets.base import Category, Item
from anoseg_bench.errors import DataError
from anoseg_bench.evaluation.ahead import ahead
from anoseg_bench.evaluation.cost import images_per_second, model_mib, multiply_adds, peak_memory
from anoseg_bench.evaluation.holdout import Division, divide
from anoseg_bench.evaluation.maps import Predicted, Stream, map_name, read_map, write_maps
from anoseg_bench.evaluation.shift import under_all_shifts
from anoseg_bench.evaluation.tiles import TileMaps, Tiling, draw_corners
from anoseg_bench.methods import METHODS
from anoseg_bench.methods.base import Method, Prediction
from anoseg_bench.metrics import evaluate
from anoseg_bench.plan import Cell
from anoseg_bench.shifts import NUMBER, SHIFTS
from anoseg_bench.store.cells import MODEL, CellResult, Store, to_json
from anoseg_bench.store.claims import Claim
from anoseg_bench.store.files import write_atomically, write_by, write_file
from anoseg_bench.store.provenance import provenance
from anoseg_bench.store.records import SCHEMA, CellRecord, ImageCounts, Made, Regions, Shifts, Timing
from anoseg_bench.variants import source_hash

#: Longest side, in pixels, of what is kept of images and maps for galleries.
THUMBNAIL = 160
#: Share of the pixels whose mean is the image score ``map_top``.
TOP = 0.002
#: Points kept of a training curve.
CURVE_POINTS = 200
#: Begins the names of the arrays with image scores under shifts.
SHIFTED = "shift/"

Progress = Callable[[str, int, int, float | None], None]


def resize(image: np.ndarray, size: int) -> torch.Tensor:
    """Return an image (H, W, 3) as uint8 (3, size, size): bilinear, antialiased, the aspect ratio given up."""
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def thumbnail(array: np.ndarray, resample: Image.Resampling = Image.Resampling.BOX) -> np.ndarray:
    """Return an image, mask or map reduced to at most `THUMBNAIL` px; smaller ones as they are."""
    scale = THUMBNAIL / max(array.shape[:2])
    if scale >= 1:
        return array
    size = (max(1, round(array.shape[1] * scale)), max(1, round(array.shape[0] * scale)))
    return np.asarray(Image.fromarray(array).resize(size, resample))


def scores_of_maps(maps: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return image scores made of maps (N, h, w): ``map_max``, and ``map_top``, the mean of the `TOP` hottest pixels."""
    flat = maps.flatten(1)
    return {"map_max": flat.amax(1), "map_top": flat.topk(max(1, round(TOP * flat.shape[1])), dim=1).values.mean(1)}


def training_images(items: Sequence[Item], tiling: Tiling, size: int, seed: int) -> tuple[torch.Tensor, int]:
    """Return images to learn from, uint8 (N, 3, size, size), or tiles of them, and how many there were to draw from."""
    rng, parts, number = np.random.default_rng(seed), [], 0
    for item in items:
        image = item.load_image()
        corners = tiling.corners((image.shape[0], image.shape[1]))
        number += len(corners)
        parts += [resize(tiling.crop(image, corner), size) for corner in draw_corners(corners, len(items), rng)]
    return torch.stack(parts), number


def largest(values: torch.Tensor, numbers: Sequence[int]) -> torch.Tensor:
    """Return the largest of the values of the tiles of each image, of which there are so many."""
    return torch.stack([part.amax() for part in values.split(list(numbers))])


@dataclass(frozen=True)
class Keep:
    """How a cell is written.

    Attributes
    ----------
    maps : bool
        Whether all maps are kept, as float32 TIFF at the images' size.
    model : bool
        Whether what the method learned is kept, as safetensors.
    shifts : bool
        Whether image scores under the shifts of `anoseg_bench.shifts` are.
    replace : bool
        Whether a cell that is there gives way.
    claim : Claim or None
        What the cell is written under.
    """

    maps: bool = False
    model: bool = False
    shifts: bool = False
    replace: bool = True
    claim: Claim | None = None


def score_of(prediction: Prediction) -> torch.Tensor:
    """Return the image scores that decide: the method's own, or else the maximum of each map."""
    return scores_of_maps(prediction.maps)["map_max"] if prediction.scores is None else prediction.scores


class _Predictor:
    """Predicts items one batch at a time, of which the next is read meanwhile.

    It keeps the maps as the method returned them, and the time of the method alone: on the clock, and of the processor without
    what reading took.

    In tiles, a batch is those of one image, whose scores are the largest of its tiles'.
    """

    def __init__(self, method: Method, tiling: Tiling) -> None:
        self.method, self.tiling = method, tiling
        self.seconds = self.cpu_seconds = 0.0
        self.sample = torch.empty(0)  # some of the images, or the tiles of one
        self.images = self.tiles = 0

    def __call__(self, items: list[Item], progress: Callable[[int, int], None]) -> Predicted:
        maps = TileMaps(self.tiling)
        shapes: list[tuple[int, int]] = []
        scores: list[torch.Tensor] = []
        others: dict[str, list[torch.Tensor]] = {}
        for prediction, sizes in self._predictions(item.load_image() for item in items):
            numbers = [len(self.tiling.corners(size)) for size in sizes]
            scores.append(largest(score_of(prediction), numbers))
            for name, values in (scores_of_maps(prediction.maps) | prediction.other_scores).items():
                others.setdefault(name, []).append(largest(values, numbers))
            for own, size in zip(prediction.maps.split(numbers), sizes, strict=True):
                maps.add(own.numpy(), size)
            shapes += sizes
            self.images, self.tiles = self.images + len(numbers), self.tiles + sum(numbers)
            progress(len(maps), len(items))
        together = torch.cat(scores).numpy() if scores else np.empty(0, np.float32)
        gathered = {name: torch.cat(values).numpy() for name, values in others.items()}
        return Predicted(items, shapes, Stream(maps.whole, len(maps)), together, gathered)

    @property
    def tiles_per_image(self) -> float:
        """The mean over all images so far."""
        return self.tiles / max(1, self.images)

    def under_shifts(self, items: list[Item], progress: Callable[[int, int], None]) -> dict[str, np.ndarray]:
        """Return the image scores (N, strengths) under each shift, by `shift/<name>`; each image is read once."""
        scores: list[torch.Tensor] = []
        images = (shifted for item in items for shifted in under_all_shifts(item.load_image(), item.name))
        for prediction, sizes in self._predictions(images):
            scores.append(largest(score_of(prediction), [len(self.tiling.corners(size)) for size in sizes]))
            progress(sum(map(len, scores)), NUMBER * len(items))
        ends = np.cumsum([len(shift.strengths) for shift in SHIFTS])[:-1]
        parts = np.split(torch.cat(scores).numpy().reshape(len(items), -1), ends, axis=1)
        return {f"{SHIFTED}{shift.name}": part for shift, part in zip(SHIFTS, parts, strict=True)}

    def _predictions(self, images: Iterable[np.ndarray]) -> Iterator[tuple[Prediction, list[tuple[int, int]]]]:
        """Yield what the method says of each batch of images, and their sizes."""
        config, process, thread, within, reading = self.method.config, time.process_time(), time.thread_time(), 0.0, 0.0
        at_once = 1 if self.tiling.side else config.batch_size
        for batch, shapes, so_far in ahead(_batches(images, self.tiling, config.input_size, at_once)):
            began, used = time.perf_counter(), time.thread_time()
            prediction = self.method.predict(batch)
            self.seconds += time.perf_counter() - began
            within, reading = within + time.thread_time() - used, so_far
            self.sample = batch if len(batch) > len(self.sample) else self.sample
            yield prediction, shapes
        beside = time.thread_time() - thread - within  # what this thread did but predict
        self.cpu_seconds += time.process_time() - process - reading - beside


def _batches(
    images: Iterable[np.ndarray], tiling: Tiling, side: int, number: int
) -> Iterator[tuple[torch.Tensor, list[tuple[int, int]], float]]:
    """Yield the tiles of at most so many images, resized, the sizes of the images, and the seconds of the processor so far."""
    sized = (([resize(tile, side) for tile in tiling.crops(image)], (image.shape[0], image.shape[1])) for image in images)
    began = time.thread_time()
    while batch := list(itertools.islice(sized, number)):
        tiles = torch.stack([tile for own, _ in batch for tile in own])
        yield tiles, [shape for _, shape in batch], time.thread_time() - began


def run_cell(
    cell: Cell,
    category: Category,
    store: Store,
    progress: Progress,
    keep: Keep | None = None,
    concurrency: Callable[[], int] = lambda: 1,
) -> None:
    """Run a cell and write its result to the store.

    Parameters
    ----------
    progress : callable
        Called as ``progress(stage, done, total, loss)``.
    concurrency : callable
        Returns how many cells ran on this machine at once meanwhile.

    Raises
    ------
    BenchError
        If the data or the method break their contract.
    FencedError
        If the cell's claim was lost.
    """
    config, origin = cell.variant.config, provenance(cell.device)
    conditions = cell.variant.conditions
    tiling = Tiling(conditions.tile, conditions.overlap)
    division = divide(category, conditions, cell.holdout, cell.seed)
    method: Method = METHODS[cell.variant.method].load()(config, seed=cell.seed, device=cell.device)
    curve: list[tuple[int, float]] = []

    def training(step: int, steps: int, loss: float | None) -> None:
        if loss is not None:
            curve.append((step, loss))
        progress("train", step, steps, loss)

    images, available = training_images(division.train, tiling, config.input_size, cell.seed)
    began, used = time.perf_counter(), time.process_time()
    with peak_memory(cell.device) as training_peak:
        method.fit(images, training)
    train_seconds, train_cpu = time.perf_counter() - began, time.process_time() - used

    predict = _Predictor(method, tiling)
    with peak_memory(cell.device) as prediction_peak:
        unseen, test = _predict_both(predict, division, progress)
    tiles = predict.tiles_per_image
    made = Made(
        identity=cell.identity,
        method=cell.variant.method,
        config=config.model_dump(mode="json"),
        conditions=conditions.changed,
        deviations=config.deviations(),
        pretrained=config.pretrained(),
        dataset=cell.dataset,
        seed=cell.seed,
        content=_tested_content(cell, division.category),
        source=source_hash(cell.variant.method),
        timing=Timing(
            train_s=train_seconds,
            train_cpu_s=train_cpu,
            predict_s=predict.seconds,
            predict_cpu_s=predict.cpu_seconds,
            images_per_s_1=images_per_second(method, predict.sample, 1, tiles),
            images_per_s_16=images_per_second(method, predict.sample, 16, tiles),
            parameters=method.parameters(),
            multiply_adds=round(tiles * multiply_adds(method)),
            model_mib=model_mib(method),
            train_peak_mib=training_peak.mib,
            predict_peak_mib=prediction_peak.mib,
        ),
        training_curve=curve[: -1 : max(1, len(curve) // CURVE_POINTS)] + curve[-1:],
        findings=method.findings() | ({"tiles": {"drawn": len(images), "of": available}} if tiling.side else {}),
        provenance=origin.model_copy(update={"concurrency": concurrency()}),
        images=ImageCounts(train=len(division.train), contaminated=division.contaminated),
    )
    keep = keep or Keep()
    category = division.category
    shifted = _under_shifts(_Predictor(method, tiling), category, progress) if keep.shifts else {}
    write_cell(store, cell.key, category, made, test, unseen, method.probability, keep, method, shifted)


def _under_shifts(predict: _Predictor, category: Category, progress: Progress) -> dict[str, np.ndarray]:
    return predict.under_shifts(category.test, lambda done, total: progress("shifted", done, total, None))


def _tested_content(cell: Cell, category: Category) -> str:
    """Return what tells the images of a cell from those of others: the category's, and which are tested if some are left out."""
    if not cell.variant.conditions.set_aside:
        return cell.content
    return hashlib.sha256("\n".join([cell.content, *(item.name for item in category.test)]).encode()).hexdigest()


def _predict_both(predict: _Predictor, division: Division, progress: Progress) -> tuple[Predicted, Predicted]:
    unseen = predict(division.held_out, lambda done, total: progress("held-out", done, total, None))
    return unseen, predict(division.category.test, lambda done, total: progress("predict", done, total, None))


def evaluate_again(cell: Cell, category: Category, store: Store, old: CellResult, progress: Progress, keep: Keep) -> bool:
    """Evaluate a stored cell again, from its maps or by its trained model, and add what it lacks; nothing is trained.

    Returns
    -------
    bool
        False where what was kept does not do for that.
    """
    if not old.can_become(keep.model, keep.shifts):
        return False
    conditions = cell.variant.conditions
    tiling = Tiling(conditions.tile, conditions.overlap)
    division = divide(category, conditions, cell.holdout, cell.seed)
    category = division.category
    cls = METHODS[cell.variant.method].load()
    method: Method | None = None
    folder = old.folder / "maps"
    if old.has_model:
        method = cls(cell.variant.config, seed=cell.seed, device=cell.device)
        method.load(old.folder / MODEL)
    if old.has_maps:
        unseen, test = (
            _stored(folder, old, items, name) for items, name in ((division.held_out, "held_out_score"), (category.test, "score"))
        )
    else:
        assert method is not None
        unseen, test = _predict_both(_Predictor(method, tiling), division, progress)
    shifted = {name: array for name, array in old.arrays.items() if name.startswith(SHIFTED)} if old.has_shifts else {}
    if keep.shifts and not shifted:
        assert method is not None
        shifted = _under_shifts(_Predictor(method, tiling), category, progress)
    same = {name: getattr(old.record, name) for name in Made.model_fields}
    made = Made(**same | {"identity": cell.identity, "evaluated": provenance(cell.device)})
    write_cell(store, cell.key, category, made, test, unseen, cls.probability, keep, method, shifted)
    return True


def _stored(folder: Path, old: CellResult, items: list[Item], score: str) -> Predicted:
    """Return the maps and scores that a cell has kept of some images."""
    files = [folder / f"{map_name(item.name)}.tiff" for item in items]
    shapes = [item.load_image().shape[:2] for item in items]
    others = {name.partition("/")[2]: a for name, a in old.arrays.items() if name.startswith(f"{score}/")}
    return Predicted(items, shapes, Stream(lambda i: read_map(files[i]), len(files)), old.arrays[score], others)


def write_cell(
    store: Store,
    key: str,
    category: Category,
    made: Made,
    test: Predicted,
    held_out: Predicted,
    probability: bool,
    keep: Keep | None = None,
    method: Method | None = None,
    shifted: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Evaluate the maps of a category and write the cell, with what is known of how they came about.

    Parameters
    ----------
    method : Method or None
        The trained method, for ``keep.model``.
    shifted : mapping of str to numpy.ndarray or None
        The scores of the test images under shifts, by their names among the arrays.

    Raises
    ------
    DataError
        If a map holds NaN, or is no probability where it should be.
    """
    keep = keep or Keep()
    names, defects = [item.name for item in test.items], [item.defect for item in test.items]
    given = (test.maps, test.masks, test.scores, held_out.maps, held_out.scores, probability, names)
    try:
        evaluation = evaluate(*given, defects=defects, regions=test.regions, threads=torch.get_num_threads())
    except ValueError as error:
        raise DataError(str(error)) from error
    good = sum(item.is_good for item in test.items)
    sizes = evaluation.region_sizes
    reading = test.items[0].reading
    counts = {"held_out": len(held_out.items), "test_good": good, "test_defective": len(test.items) - good}
    record = CellRecord(
        **{name: getattr(made, name) for name in Made.model_fields} | {"images": made.images.model_copy(update=counts)},
        schema_version=SCHEMA,
        category=category.name,
        group=category.group,
        positional=sorted(category.positional),
        values=evaluation.values,
        reasons=evaluation.reasons,
        defects=evaluation.defects,
        scaled=evaluation.scaled,
        mode=evaluation.mode,
        items=[(item.name, item.defect) for item in test.items],
        regions=Regions(number=len(sizes), **_spread(sizes)),
        value_range=None if reading.low is None or reading.high is None else (reading.low, reading.high),
        page=reading.page,
        shifts=Shifts.stated() if shifted else None,
    )
    arrays = {name: _compact(a) for name, a in (evaluation.curves | evaluation.per_image).items()}
    arrays["region_sizes"] = _compact(sizes)
    if held_out.scores is not None:
        arrays["held_out_score"] = held_out.scores
    for whose, predicted in (("score", test), ("held_out_score", held_out)):
        arrays |= {f"{whose}/{name}": values for name, values in predicted.other_scores.items()}
    arrays |= shifted or {}
    thumbnails = [thumbnail(map_) for map_ in test.maps]
    peak = max(float(np.abs(small).max()) for small in thumbnails)
    kind = np.float16 if 1e-2 < peak < 6e4 else np.float32
    arrays |= {f"map/{i}": small.astype(kind) for i, small in enumerate(thumbnails)}
    _write_previews(store.previews(made.content), test)
    if shifted:
        _write_shifted_previews(store.shifted_previews(record), test.items)
    with store.writing(made.method, key, keep.claim, keep.replace) as folder:
        write_by(folder / "arrays.npz", lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
        if keep.maps:
            about = record.model_dump(mode="json", include={"method", "config", "dataset", "category", "seed", "provenance"})
            write_maps(folder / "maps", [test, held_out], about | {"probability": probability})
        if keep.model and method is not None:
            method.save(folder / MODEL)
        files = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
        write_file(folder / "cell.json", to_json(record.model_copy(update={"files": files}).model_dump()))


def _spread(sizes: np.ndarray) -> dict[str, float]:
    """Return the smallest, the median and the largest size of regions, in pixels."""
    return {"smallest": sizes.min(), "median": np.median(sizes), "largest": sizes.max()} if len(sizes) else {}


def _compact(array: np.ndarray) -> np.ndarray:
    """Return counts as the smallest unsigned type that holds them, and other arrays as they are."""
    if array.dtype != np.int64:
        return array
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))


def _write_previews(path: Path, test: Predicted) -> None:
    if path.exists():
        return
    previews = {}
    for i, (item, mask) in enumerate(zip(test.items, test.masks, strict=True)):
        previews[f"image/{i}"] = thumbnail(item.load_image())
        previews[f"mask/{i}"] = thumbnail(mask.astype(np.uint8) * 255)
    _write_arrays(path, previews)


def _write_shifted_previews(path: Path, items: Sequence[Item]) -> None:
    """Keep one image, the first defective one where there is one, under all shifts."""
    if path.exists():
        return
    item = next((item for item in items if not item.is_good), items[0])
    shifted = under_all_shifts(item.load_image(), item.name)
    kinds = [(shift.name, strength) for shift in SHIFTS for strength in range(1, len(shift.strengths) + 1)]
    previews = {f"{name}/{strength}": thumbnail(image) for (name, strength), image in zip(kinds, shifted, strict=True)}
    _write_arrays(path, {"0": thumbnail(item.load_image())} | previews)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_atomically(path, content.getvalue())
