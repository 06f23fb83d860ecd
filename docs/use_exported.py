"""Use a model that `anoseg-bench export` wrote; onnxruntime, numpy and pillow are all it needs: use_exported.py DIR IMAGE...

Images of 8 bits are read as the benchmark reads them. Of more than 8 bits Pillow keeps 8 or reads a type of its own: bring such
images to uint8 by the range `input.black_and_white` of model.json.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def open_model(folder, threads=0):
    """Return a function from an image, uint8 (H, W, 3), to the model's outputs by name."""
    names = list(json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))["outputs"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # 0: all cores
    session = onnxruntime.InferenceSession(Path(folder) / "model.onnx", options, providers=["CPUExecutionProvider"])
    return lambda image: {name: a[0] for name, a in zip(names, session.run(names, {"image": image[None]}), strict=True)}


def read_image(path):
    """Return an image file as uint8 RGB (H, W, 3): turned as its orientation tag says, what is transparent black."""
    with Image.open(path) as stored:
        if stored.mode[0] in "IF":
            raise ValueError(f"it has more than 8 bits (mode {stored.mode}); bring it to uint8 first")
        pixels = np.asarray(ImageOps.exif_transpose(stored).convert("RGBA"))
    return np.round(pixels[..., :3] * (pixels[..., 3:].astype(np.float32) / 255)).astype(np.uint8)


if __name__ == "__main__":
    if len(sys.argv) < 3 or not (Path(sys.argv[1]) / "model.json").is_file():
        sys.exit(f"usage: {sys.argv[0]} DIR IMAGE..., where DIR holds the model.json of an exported model")
    model, failed = open_model(sys.argv[1]), False
    for file in sys.argv[2:]:
        try:
            found = model(read_image(file))
        except (OSError, ValueError) as error:
            print(f"{file}: not judged: {error}", file=sys.stderr)
            failed = True
            continue
        decision = {True: "defective", False: "normal"}.get(bool(found["defective"])) if "defective" in found else "not decided"
        print(f"{file}: {decision}, score {found['score']:.6g}, {found.get('mask', np.zeros(1)).sum():.0f} pixels marked")
    sys.exit(failed)
