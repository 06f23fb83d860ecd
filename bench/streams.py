"""The standard streams, which take any text, whatever their encoding; imports nothing heavy."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import unicodedata

#: What stands for a sign that an encoding lacks, where it has no plain letter in it.
_PLAIN = {
    **{"±": "+-", "≥": ">=", "≤": "<=", "≈": "~", "×": "x", "…": "...", "·": "*", "†": "+", "µ": "u", "°": " deg", "ß": "ss"},
    **{"–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"'},
    **{"█": "#", "▌": "#", "✓": "ok", "✗": "x", "★": "*", "▼": "v", "→": "->", "←": "<-", "ø": "o", "Ø": "O", "æ": "ae", "ł": "l"},
}


def _readable(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks by what reads alike, else by a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(map(_plain, lacking)), error.end


def _plain(sign: str) -> str:
    letters = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return _PLAIN.get(sign) or letters or ("" if unicodedata.combining(sign) else "?")


codecs.register_error("readable", _readable)


def make_streams_safe() -> None:
    """Let the standard streams take any text: what their encoding lacks is replaced by what reads alike."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape", "backslashreplace"):
            stream.reconfigure(errors="readable")


def drop_unwritten() -> None:
    """Let go of what the standard output could not take, which Python would try, and complain about, once more at its end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
