"""Inspect what comes into a folder, by a model that `anoseg-bench export` wrote; it needs use_exported.py beside it.

    python watch_folder.py DIR incoming

An image that has stopped growing is judged, a line is added to incoming/inspected.csv, and the image moves to incoming/done, a
broken one to incoming/broken. Ctrl-C ends it after the image at hand.
"""

import argparse
import csv
import signal
import sys
import time
from pathlib import Path

from use_exported import open_model, read_image

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
COLUMNS = ("time", "image", "score", "decision", "marked_pixels", "milliseconds")


def move(file, folder):
    """Move a file into a folder, under a name that is free there."""
    folder.mkdir(exist_ok=True)
    target, number = folder / file.name, 1
    while target.exists():
        number += 1
        target = folder / f"{file.stem}-{number}{file.suffix}"
    file.rename(target)


def judge(model, file):
    """Return a line of the table for an image."""
    began = time.perf_counter()
    found = model(read_image(file))
    decision = "" if "defective" not in found else "defective" if found["defective"] else "normal"
    marked = int(found["mask"].sum()) if "mask" in found else ""
    spent = f"{1000 * (time.perf_counter() - began):.1f}"
    return [time.strftime("%Y-%m-%dT%H:%M:%S"), file.name, f"{found['score']:.9g}", decision, marked, spent]


def settled(folder, before):
    """Return the images that are as they were at the last look, oldest first, and how all are now."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    now = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}
    return sorted((path for path in files if before.get(path) == now[path]), key=lambda path: (now[path], path)), now


def main():
    """Watch until Ctrl-C, or until nothing has come for --idle-seconds; return how many images were broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of the exported model")
    parser.add_argument("folder", type=Path, help="folder to watch")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="time between two looks (default: 1)")
    parser.add_argument("--idle-seconds", type=float, metavar="SECONDS", help="end when nothing has come for so long")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        sys.exit(f"error: there is no folder '{arguments.folder}'")
    if not (arguments.model / "model.json").is_file():
        sys.exit(f"error: '{arguments.model}' holds no exported model (model.json)")
    model = open_model(arguments.model)
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    table = arguments.folder / "inspected.csv"
    judged = broken = 0
    known, last = {}, time.monotonic()
    with table.open("a", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        if not file.tell():
            lines.writerow(COLUMNS)
        while not stopped:
            ready, known = settled(arguments.folder, known)
            for path in ready:
                if stopped:
                    break
                try:
                    lines.writerow(judge(model, path))
                    file.flush()
                except (OSError, ValueError, SyntaxError) as error:  # what Pillow says of files that are not whole
                    print(f"{path}: not judged: {error}", file=sys.stderr)
                    broken += 1
                    move(path, arguments.folder / "broken")
                else:
                    judged += 1
                    move(path, arguments.folder / "done")
                last = time.monotonic()
            if arguments.idle_seconds is not None and time.monotonic() - last >= arguments.idle_seconds:
                break
            if not stopped:
                time.sleep(arguments.every)
    print(f"{judged} images judged, {broken} broken; see {table}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
