"""What the harness does otherwise for one variant: tiles, fewer or contaminated training images. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

#: The smallest side of a tile, px, and how much of it two tiles share where nobody says: an eighth.
SMALLEST_TILE, SHARED = 32, 8


class Conditions(BaseModel):
    """Settings of the harness that belong to a variant, all off by default; typed like those of its method."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tile: int = Field(0, ge=0, description="side of the square tiles that images are cut into, px of the image; 0 or none: whole")
    overlap: int = Field(0, ge=0, description="what neighbouring tiles share at least, px (default: an eighth of the tile)")
    train_share: float = Field(1.0, gt=0, le=1, description="share of the training images that is learned from")
    noise: float = Field(0.0, ge=0, lt=0.5, description="share of the images taken for normal that are defective ones of the test")
    set_aside: float = Field(0.0, ge=0, lt=0.5, description="as noise, but taken out of the test only (default: as many as noise)")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        given = dict(given)
        if given.get("tile") in (None, "none"):
            given["tile"] = 0
        if isinstance(given["tile"], int):
            given.setdefault("overlap", given["tile"] // SHARED)
        given.setdefault("set_aside", given.get("noise", 0.0))
        return given

    @field_validator("tile")
    @classmethod
    def _is_large_enough(cls, tile: int) -> int:
        if 0 < tile < SMALLEST_TILE:
            raise PydanticCustomError("tile", f"expected at least {SMALLEST_TILE} px, or 0 for whole images")
        return tile

    @field_validator("overlap")
    @classmethod
    def _leaves_a_step(cls, overlap: int, info: ValidationInfo) -> int:
        tile = info.data.get("tile", 2 * overlap)
        if overlap > tile // 2:
            what = f"expected at most half of the tile, {tile // 2} px" if tile else "expected none without tiles (give tile, too)"
            raise PydanticCustomError("overlap", what)
        return overlap

    @field_validator("set_aside")
    @classmethod
    def _is_enough(cls, set_aside: float, info: ValidationInfo) -> float:
        if set_aside < (noise := info.data.get("noise", 0.0)):
            raise PydanticCustomError("set_aside", f"expected at least noise, {noise}, which is taken out of the test, too")
        return set_aside

    @property
    def changed(self) -> dict[str, Any]:
        """What differs from the defaults: a part of what is trained."""
        return self.model_dump(exclude_defaults=True)


#: Nothing otherwise.
UNCHANGED = Conditions.model_validate({})


def in_words(changed: Mapping[str, Any]) -> str:
    """Return conditions in words, "" for none.

    Examples
    --------
    >>> in_words({"tile": 256, "overlap": 32, "train_share": 0.1})
    'tiles of 256 px that overlap by 32 px at least, 10 % of the training images'
    """
    noise, set_aside = changed.get("noise", 0), changed.get("set_aside", 0)
    parts = [
        f"tiles of {changed.get('tile')} px that overlap by {changed.get('overlap', 0)} px at least" * ("tile" in changed),
        f"{100 * changed.get('train_share', 1):.3g} % of the training images" * ("train_share" in changed),
        f"{100 * noise:.3g} % of the images taken for normal are defective" * bool(set_aside),
        f"defective images that would make up {100 * set_aside:.3g} % of them are left out of the test" * bool(set_aside),
    ]
    return ", ".join(filter(None, parts))
