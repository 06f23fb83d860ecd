"""Contact sheets: images of each split and defect type of a category, what masks mark outlined, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anoseg_bench.datasets.base import Category, Item
from anoseg_bench.formatting import one_line
from anoseg_bench.store.files import write_by
from anoseg_bench.store.records import DataFinding

#: Longest side of a picture, pictures of a row, rows of a group at most, space between, px; and the height of a line of text.
SIDE, PER_ROW, ROWS, GAP, TEXT = 150, 8, 2, 8, 16
GROUND, INK, QUIET, OUTLINE, FLAG = "#16191d", "#e6e9ed", "#a3adb8", (0, 229, 255), "#e69f00"


def write_sheet(category: Category, findings: Sequence[DataFinding], path: Path) -> Path:
    """Write the contact sheet of a category, and return its path.

    Of each split and defect type it shows the images that findings name, in a frame, and others at equal distances.
    """
    flagged = {name for finding in findings for name in finding.images}
    groups: dict[str, list[Item]] = {}
    for split, items in (("train", category.train), ("validation", category.validation), ("test", category.test)):
        for item in items:
            groups.setdefault(f"{split}, {item.defect}", []).append(item)
    shown = {title: choose(items, flagged) for title, items in groups.items()}
    width = PER_ROW * (SIDE + GAP) + GAP
    step = SIDE + GAP + TEXT
    height = GAP + 3 * TEXT + sum(2 * TEXT + -(-len(items) // PER_ROW) * step for items in shown.values())
    sheet = Image.new("RGB", (width, height), GROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    draw.text((GAP, GAP), one_line(category.name), INK, font=ImageFont.load_default(15))
    legend = "Line: the border of what the mask marks. Frame: a finding names the image."
    draw.text((GAP, GAP + 1.5 * TEXT), legend, QUIET, font=font)
    y = GAP + 3 * TEXT
    for title, items in shown.items():
        draw.text((GAP, y + TEXT / 2), f"{one_line(title)}: {len(items)} of {len(groups[title])}", INK, font=font)
        y += 2 * TEXT
        for i, item in enumerate(items):
            left, top = GAP + (i % PER_ROW) * (SIDE + GAP), y + (i // PER_ROW) * step
            sheet.paste(picture(item), (left, top))
            label = one_line(item.name.rpartition("/")[2])
            draw.text((left, top + SIDE + 1), label if len(label) <= 24 else f"…{label[-23:]}", QUIET, font=font)
            if item.name in flagged:
                draw.rectangle((left - 3, top - 3, left + SIDE + 2, top + SIDE + 2), outline=FLAG, width=3)
        y += -(-len(items) // PER_ROW) * step
    write_by(path, lambda file: sheet.save(file, "PNG"))
    return path


def choose(items: Sequence[Item], flagged: set[str]) -> list[Item]:
    """Return the items to show: those that are flagged first, then others at equal distances."""
    first = [item for item in items if item.name in flagged][: ROWS * PER_ROW]
    rest = [item for item in items if item.name not in flagged]
    room = min(len(rest), -len(first) % PER_ROW if first else PER_ROW)
    return [*first, *(rest[i] for i in np.linspace(0, max(0, len(rest) - 1), room).astype(int))]


def picture(item: Item) -> Image.Image:
    """Return an image reduced to `SIDE`, with the border of its mask as a line."""
    image = item.load_image()
    scale = SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST))
    if not item.is_good:
        mask = item.load_mask(image.shape[:2]).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        moved = [np.clip(((line + 0.5) * scale).astype(np.int32), 0, np.array(size) - 1) for line in outlines]
        cv2.polylines(small, moved, isClosed=True, color=OUTLINE, thickness=1)
    canvas = Image.new("RGB", (SIDE, SIDE), GROUND)
    canvas.paste(Image.fromarray(small), ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return canvas
