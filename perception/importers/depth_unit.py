"""The unit of depth numbers: told by the data where only one unit fits a room, asked for otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bodydouble.errors import InputError

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "0.2mm": 0.0002, "0.1mm": 0.0001}
"""Metres per count; 0.2mm is TUM RGB-D's 5000 per metre, 0.1mm that of some RealSense settings."""
SAMPLE_IMAGES = 8
"""Depth images that are looked at."""
_FAR_M = (1.2, 15.0)
"""In a recording of a room the 95th percentile of depth lies here: sensors reach no farther, rooms are not nearer."""
_MEDIAN_M = (0.3, 10.0)
_MAX_M = 65.5344
"""The farthest reading that a recording holds."""


@dataclass(frozen=True)
class DepthSample:
    """Median and far end of the valid readings of some depth images, in the source's counts."""

    median: float
    far: float
    """95th percentile."""

    def fits(self, metres: float) -> bool:
        """Return whether a room may look like this with so many metres per count."""
        return _MEDIAN_M[0] <= self.median * metres <= _MEDIAN_M[1] and _FAR_M[0] <= self.far * metres <= _FAR_M[1]

    def candidates(self) -> tuple[str, ...]:
        """Return the units with which the readings may be those of a room."""
        return tuple(name for name, metres in UNITS.items() if self.fits(metres))

    def describe(self, unit: str) -> str:
        """Return what the readings are with a unit, for messages."""
        metres = UNITS[unit]
        return f"{unit} (median {self.median * metres:.3g} m, far {self.far * metres:.3g} m)"


def sample_depth(images: Iterable[np.ndarray], where: str) -> DepthSample:
    """Return the sample of the first depth images that hold any reading.

    Args:
        images: Depth images (H, W) in counts, integer or float; 0, 65535 (as integer), NaN and infinity are no reading.
        where: Source, for messages.

    Raises:
        InputError: No image holds a reading.
    """
    values = []
    for image in images:
        part = np.asarray(image)[::2, ::2].reshape(-1) if image.size > 4096 else np.asarray(image).reshape(-1)
        valid = (part > 0) & (part < (65535 if part.dtype.kind in "ui" else np.inf))
        if valid.any():
            values.append(part[valid].astype(np.float64))
        if len(values) == SAMPLE_IMAGES:
            break
    if not values:
        raise InputError(f"{where}: no depth image holds a reading; check the sensor")
    median, far = np.percentile(np.concatenate(values), (50, 95))
    return DepthSample(float(median), float(far))


def detect_depth_unit(sample: DepthSample, where: str, option: str) -> str:
    """Return the only unit with which the readings are those of a room.

    Args:
        sample: The readings.
        where: Source, for messages.
        option: The option that names the unit, for messages.

    Raises:
        InputError: Several units fit, or none.
    """
    found = sample.candidates()
    if len(found) == 1:
        return found[0]
    raise InputError(
        f"{where}: the unit of depth is {'ambiguous' if found else 'unclear, none gives a room'}: "
        f"{' or '.join(sample.describe(unit) for unit in found or UNITS)}; name it with {option}"
    )


def check_depth_unit(sample: DepthSample, declared: str, where: str, option: str) -> None:
    """Refuse readings that cannot be those of a room in the unit that their format declares, if another unit fits.

    Raises:
        InputError: Another unit fits and the declared one does not; the message names both.
    """
    found = sample.candidates()
    if found and declared not in found:
        raise InputError(
            f"{where}: depth should be in {sample.describe(declared)}, which is no room; it looks like "
            f"{' or '.join(sample.describe(unit) for unit in found)}; name the unit with {option}"
        )


def doubt(sample: DepthSample, metres: float) -> str | None:
    """Return a note where a unit that the user named gives no room but another would; it is used all the same."""
    found = sample.candidates()
    if not found or sample.fits(metres):
        return None
    return (
        f"depth as named has median {sample.median * metres:.3g} m and far end {sample.far * metres:.3g} m, which is "
        f"no room; it looks like {' or '.join(sample.describe(unit) for unit in found)}"
    )


def require_unit(unit: str, option: str) -> float:
    """Return a unit's metres per count.

    Raises:
        InputError: The unit is not known.
    """
    if unit not in UNITS:
        raise InputError(f"{option} {unit!r}: expected one of {', '.join(UNITS)}")
    return UNITS[unit]


def to_millimetres(counts: np.ndarray, metres: float) -> tuple[np.ndarray, int]:
    """Return depth as uint16 millimetres, 0 = no reading, and how many readings were too far to be held.

    Args:
        counts: Depth image (H, W), integer or float; not positive, NaN and infinite values are no reading.
        metres: Metres per count.
    """
    values = np.asarray(counts, np.float64) * metres
    with np.errstate(invalid="ignore"):
        valid = (values > 0) & (values < np.inf)
        held = valid & (values < _MAX_M)
    return np.where(held, np.rint(np.where(held, values, 0.0) * 1000.0), 0.0).astype(np.uint16), int(
        valid.sum() - held.sum()
    )
