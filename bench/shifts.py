"""Changes of light, focus and camera that a deployed decision may meet: the one table of kinds and strengths."""

from __future__ import annotations

from dataclasses import dataclass

#: Raise it when an image under a shift changes, or this table does: what cells have stored is then made anew.
VERSION = 1


@dataclass(frozen=True)
class Shift:
    """A kind of change.

    Attributes
    ----------
    name : str
        Its name in tables, and in what cells store.
    unit : str
        What the strengths are, ``{}`` in their place.
    strengths : tuple of float
        Of the strengths 1, 2, ...: from barely visible to severe, but a person still sees the defects.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]


SHIFTS = (
    Shift("darker", "values × {}", (0.95, 0.85, 0.7, 0.55, 0.4)),
    Shift("brighter", "values × {}", (1.05, 1.15, 1.3, 1.5, 1.8)),
    Shift("less contrast", "contrast × {}", (0.95, 0.85, 0.7, 0.55, 0.4)),
    Shift("warmer", "red × and blue / {}", (1.02, 1.05, 1.1, 1.2, 1.35)),
    Shift("cooler", "red / and blue × {}", (1.02, 1.05, 1.1, 1.2, 1.35)),
    Shift("out of focus", "σ {} % of the shorter side", (0.2, 0.4, 0.7, 1.0, 1.4)),
    Shift("noise", "σ {} of 255", (3, 8, 16, 28, 45)),
    Shift("JPEG", "quality {}", (85, 60, 35, 18, 8)),
    Shift("rotated", "{}°", (0.5, 1.5, 3, 6, 10)),
    Shift("moved", "{} % of the shorter side", (0.5, 1.5, 3, 6, 10)),
)
#: Images that an image becomes.
NUMBER = sum(len(shift.strengths) for shift in SHIFTS)
