"""What the site takes from outside `docs/`: pictures and tables of reference runs, and the files beside the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff", "SECURITY.md")


def on_files(files: Files, config: Any) -> Files:
    """Add them to the site, under the paths that `on_page_markdown` links to."""
    found = [*(ROOT / "results" / "reference").rglob("*.*"), *(ROOT / name for name in BESIDE), *(ROOT / "examples").glob("*.*")]
    for path in found:
        files.append(File(path.relative_to(ROOT).as_posix(), str(ROOT), config["site_dir"], config["use_directory_urls"]))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Link to them: in the repository they lie one folder above the docs, in the site beside them."""
    if page.file.src_uri in BESIDE:
        return re.sub(r"\]\(docs/", "](", markdown)
    return re.sub(r"\]\(\.\./", "](", markdown)
