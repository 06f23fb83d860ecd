"""How training images are made of a category's normals: one recipe for every category (ours).

Published methods set by hand, per category, where anomalies may fall, how large they are, whether normals are turned, and which
change counts (NSA, DRAEM, DeSTSeg). Here the training images decide, as in nnU-Net (Isensee et al. 2021): facts first, then rules.
A fact that is not stable over the images switches its rules off.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from anoseg_bench.methods._normals import Fingerprint

if TYPE_CHECKING:
    from anoseg_bench.methods.anoseg import AnomalyConfig

#: Areas of anomalies, as shares of the image, where no foreground is known; the smaller least one where it is.
AREA, LEAST_AREA_ON_FOREGROUND = (0.0004, 0.33), 0.0002
#: A change of so many of 255 in any channel is visible, where the grain does not decide.
VISIBLE = 10
#: Range of brightness, as a log ratio, that normals are trained under: at least, at most, and over the training images' spread.
EXPOSURE, EXPOSURE_LIMIT, EXPOSURE_SPREADS = 0.2, 0.4, 1.0
#: Anomalies whose largest area is below this share of the image are small; an image then carries more of them.
SMALL = 0.05
#: Motion of normals that are turned the same way already.
CALM = 0.33
#: The foreground weighs as much as the background together, but a pixel of it never more than so many of those.
MOST_WEIGHT = 16


class Cut(NamedTuple):
    """What images are cut to, which the networks see as a square.

    Attributes
    ----------
    length, width : float
        Its sides, as shares of the image's: along and across the part where it is turned, else horizontal and vertical.
    turned : bool
        Whether parts that lie in any direction are turned the same way.
    """

    length: float
    width: float
    turned: bool


#: Of images that are not cut.
WHOLE = Cut(1.0, 1.0, False)


@dataclass(frozen=True)
class Recipe:
    """How training images are made of the normals of a category: what the rules, or the user, decided.

    Attributes
    ----------
    areas : tuple of float
        Smallest and largest area of an anomaly, as shares of what the networks see.
    visible : int
        A change of more than so many of 255 is an anomaly's.
    turns : bool
        Whether normals are turned by any angle.
    exposure : float
        Range of the brightness of normals, a log ratio.
    on_foreground : bool
        Whether anomalies lie on the foreground, and their patches come from there.
    foreground_weight : int
        How much a pixel of the foreground counts in the losses, beside 1 for one of the background.
    motion : float
        Shifts, turns and scalings of normals, as a multiple of those where nothing is known of their pose.
    seen : float
        Share of an image that the networks see: of its area, less than 1 where a part is cut out.
    """

    areas: tuple[float, float] = AREA
    visible: int = VISIBLE
    turns: bool = False
    exposure: float = EXPOSURE
    on_foreground: bool = False
    foreground_weight: int = 1
    motion: float = 1.0
    seen: float = 1.0

    @property
    def small(self) -> bool:
        """Whether all anomalies are small."""
        return self.areas[1] * self.seen < SMALL

    @classmethod
    def of(cls, facts: Fingerprint, config: AnomalyConfig, cut: Cut = WHOLE) -> Recipe:
        """Apply the rules that the configuration leaves to them.

        Parameters
        ----------
        facts : Fingerprint
            Of the normal images as the networks see them.
        cut : Cut
            What images were cut to.
        """
        length, width, turned = cut
        least, most = AREA
        if facts.plain and config.foreground:
            least = LEAST_AREA_ON_FOREGROUND
        if config.largest_area != "auto":
            most = config.largest_area
        elif facts.plain:
            most = min(most, max(0.004, (1.5 * facts.inner_width) ** 2 * min(length, width) / max(length, width)))
        if config.foreground_weight == "auto":
            weight = round(min(MOST_WEIGHT, max(1, (1 - facts.share) / max(facts.share, 1e-9))))
        else:
            weight = config.foreground_weight
        return cls(
            areas=(min(least, most), most),
            visible=facts.visible if config.visible == "auto" else config.visible,
            turns=facts.turns and cut == WHOLE if config.turns == "auto" else config.turns,
            exposure=min(EXPOSURE_LIMIT, max(EXPOSURE, EXPOSURE_SPREADS * facts.exposure_spread))
            if config.exposure == "auto"
            else config.exposure,
            on_foreground=facts.plain and config.foreground,
            foreground_weight=weight if facts.plain else 1,
            motion=config.motion * (CALM if turned else 1.0),
            seen=length * width,
        )


def describe(facts: Fingerprint, recipe: Recipe, cut: Cut) -> dict[str, dict[str, Any]]:
    """Return what images were cut to, facts and recipe as plain data, for records and people."""
    return {"cut": cut._asdict(), "fingerprint": asdict(facts), "recipe": asdict(recipe)}
