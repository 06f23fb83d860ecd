"""The formats of exported models: how each is written, and run by its own runtime."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anoseg_bench.errors import BenchError, UsageError
from anoseg_bench.registry import nearest

#: Runs a model: images, uint8 (N, H, W, 3), to its outputs by name.
Runner = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes
    ----------
    files : tuple of str
        The names of its files; the first is given to the runtime.
    packages : tuple of str
        Modules that writing and running need.
    runtime : str
        The distribution of what runs it.
    write : callable
        Writes a `Deployed` model into a folder.
    open : callable
        Returns a `Runner` for a file, the names of the outputs, and the number of threads (0: all cores).
    """

    files: tuple[str, ...]
    packages: tuple[str, ...]
    runtime: str
    write: Callable[[Any, Path], None]
    open: Callable[[Path, list[str], int], Runner]


def choose_format(name: str) -> Format:
    """Return the format of a name.

    Raises
    ------
    UsageError
        If there is none, or a package that it needs is missing.
    """
    if name not in FORMATS:
        raise UsageError(f"Unknown format '{name}'. {nearest(name, FORMATS)}")
    missing = [package for package in FORMATS[name].packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UsageError(f"The format '{name}' needs {', '.join(missing)}: pip install 'anoseg-bench[export]'")
    return FORMATS[name]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep exporters from telling their own affairs; errors are raised all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def trace(deployed: Any) -> Any:
    """Return a `Deployed` model as torch.export's program; number, height and width of the images stay open.

    Raises
    ------
    BenchError
        If torch.export cannot follow its method.
    """
    import torch

    name = type(deployed.method).__name__
    size = deployed.resize.size
    dynamic = torch.export.Dim.DYNAMIC
    example = torch.zeros(2, size + 6, size + 26, 3, dtype=torch.uint8)
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(deployed, (example,), dynamic_shapes=({0: dynamic, 1: dynamic, 2: dynamic},), strict=False)
    except Exception as error:  # whatever the code of a method makes it stumble over
        reason = " ".join(str(error).split())[:200]
        raise BenchError(
            f"{name} cannot be exported: torch.export cannot follow its prediction ({type(error).__name__}: {reason}); "
            "write `_graph` for it in fixed operations, or set `no_graph` to say why there is none."
        ) from error


def _write_torch(deployed: Any, folder: Path) -> None:
    import torch

    torch.export.save(trace(deployed), folder / FORMATS["torch-export"].files[0])


def _write_onnx(deployed: Any, folder: Path) -> None:
    import torch

    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            trace(deployed), dynamo=True, verbose=False, input_names=["image"], output_names=deployed.outputs
        )
        assert program is not None
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # the lines of code that it comes from: paths of this machine
        program.save(folder / FORMATS["onnx"].files[0])


def _write_openvino(deployed: Any, folder: Path) -> None:
    import openvino

    _write_onnx(deployed, folder)
    path = folder / FORMATS["onnx"].files[0]
    model = openvino.convert_model(path)
    openvino.save_model(model, folder / FORMATS["openvino"].files[0], compress_to_fp16=False)
    path.unlink()


def _open_torch(path: Path, outputs: list[str], threads: int) -> Runner:
    import torch

    if threads:
        torch.set_num_threads(threads)
    with _quiet():
        model = torch.export.load(path).module()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: value.numpy() for name, value in model(torch.from_numpy(images)).items()}

    return run


def _open_onnx(path: Path, outputs: list[str], threads: int) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: dict(zip(outputs, session.run(outputs, {"image": images}), strict=True))


def _open_openvino(path: Path, outputs: list[str], threads: int) -> Runner:
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32"} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
    model = openvino.Core().compile_model(path, "CPU", options)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        found = model({"image": images})
        return {name: np.array(found[name]) for name in outputs}

    return run


FORMATS = {
    "onnx": Format(("model.onnx",), ("onnx", "onnxscript", "onnxruntime"), "onnxruntime", _write_onnx, _open_onnx),
    "openvino": Format(("model.xml", "model.bin"), ("onnx", "onnxscript", "openvino"), "openvino", _write_openvino, _open_openvino),
    "torch-export": Format(("model.pt2",), (), "torch", _write_torch, _open_torch),
}
