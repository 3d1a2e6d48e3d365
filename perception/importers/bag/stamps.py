"""Which times an import takes: the stamps in the messages' headers where they are sane, else the times of receipt."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bodydouble.errors import InputError

CHOICES = ("header", "received")
_MAX_NS = (1 << 31) * 1_000_000_000 - 1
"""ROS stamps hold int32 seconds."""
_MAX_WANDER_NS = 2_000_000_000
"""Farther apart, over a few seconds, header and receipt do not run alike."""
_MAX_BACK_SHARE = 0.05
OTHER_CLOCK_NS = 1_000_000_000
"""Topics whose headers lie farther apart than this, at the same time of receipt, have different clocks."""


@dataclass
class StampSample:
    """Header stamps and times of receipt of the first messages of a topic."""

    header_ns: list[int] = field(default_factory=list)
    received_ns: list[int] = field(default_factory=list)

    def add(self, header_ns: int, received_ns: int) -> None:
        """Take in one message."""
        self.header_ns.append(header_ns)
        self.received_ns.append(received_ns)

    def fault(self) -> str | None:
        """Return why the header stamps cannot be used, or None where they are sane."""
        header, received = np.array(self.header_ns, np.int64), np.array(self.received_ns, np.int64)
        if not header.size:
            return None
        if (header <= 0).any() or (header > _MAX_NS).any():
            return "are zero or no time"
        if header.size < 2:
            return None
        if (np.diff(header) <= 0).mean() > _MAX_BACK_SHARE:
            return "do not rise"
        late = received - header
        if int(late.max() - late.min()) > _MAX_WANDER_NS + 0.2 * float(received[-1] - received[0]):
            return "run at another rate than the times of receipt"
        return None

    def lateness_ns(self) -> int:
        """Return the median of receipt minus header."""
        return int(np.median(np.array(self.received_ns, np.int64) - np.array(self.header_ns, np.int64)))


def choose_stamps(samples: dict[str, StampSample], choice: str, option: str) -> tuple[bool, list[str]]:
    """Return whether header stamps are taken, and notes.

    Args:
        samples: By topic: the images of all cameras.
        choice: `header`, `received`, or empty to decide by the data.
        option: The option's name, for messages.

    Raises:
        InputError: The choice is not known, or header stamps are told to be taken and are not sane.
    """
    if choice not in ("", *CHOICES):
        raise InputError(f"{option} {choice!r}: expected header or received")
    if choice == "received":
        return False, ["times are those of receipt, as told"]
    for topic, sample in samples.items():
        if (fault := sample.fault()) is not None:
            if choice == "header":
                raise InputError(f"the header stamps of {topic} {fault}; give {option} received")
            return False, [f"times are those of receipt: the header stamps of {topic} {fault}"]
    notes = []
    late = {topic: sample.lateness_ns() for topic, sample in samples.items() if sample.header_ns}
    first, last = min(late, key=late.__getitem__), max(late, key=late.__getitem__)
    if late[last] - late[first] > OTHER_CLOCK_NS:
        notes.append(
            f"the header stamps of {first} are {(late[last] - late[first]) * 1e-9:.3f} s ahead of those of {last}; if "
            f"the clocks differ, give {option} received"
        )
    return True, notes
