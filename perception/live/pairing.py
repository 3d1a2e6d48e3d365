"""Pairs of depth and colour images by their stamps, as they arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

Payload = TypeVar("Payload")


class Pair(NamedTuple, Generic[Payload]):
    """A depth image and the colour image nearest to it in time."""

    depth_ns: int
    depth: Payload
    color_ns: int
    color: Payload


class Pairing(Generic[Payload]):
    """Pairs each depth image with the nearest colour image; each image is used at most once.

    A depth image waits until a colour image at or after its stamp has come, so that no nearer one can follow.

    Args:
        slop_ns: Farthest distance of the stamps of a pair, ns.
        waiting: Most images of a kind that wait; the oldest is dropped beyond it.
        alone: Called with stamp and image of each depth image without a colour image in reach.
    """

    def __init__(self, slop_ns: int, waiting: int, alone: Callable[[int, Payload], None] | None = None) -> None:
        self._slop_ns = slop_ns
        self._waiting = waiting
        self._alone = alone
        self._depth: deque[tuple[int, Payload]] = deque()
        self._color: deque[tuple[int, Payload]] = deque()
        self.paired = 0
        """Pairs so far."""
        self.dropped_depth = 0
        """Depth images without a colour image in reach."""
        self.dropped_color = 0
        """Colour images that no depth image took."""

    def add_depth(self, t_ns: int, image: Payload) -> Iterator[Pair[Payload]]:
        """Take in a depth image and yield the pairs that are ready. Stamps must not go back."""
        if not self._depth or t_ns > self._depth[-1][0]:
            self._depth.append((t_ns, image))
        else:
            self.dropped_depth += 1  # a stamp that goes back is no image of its own
        yield from self._ready()

    def add_color(self, t_ns: int, image: Payload) -> Iterator[Pair[Payload]]:
        """Take in a colour image and yield the pairs that are ready. Stamps must not go back."""
        if not self._color or t_ns > self._color[-1][0]:
            self._color.append((t_ns, image))
        else:
            self.dropped_color += 1
        yield from self._ready()

    def finish(self) -> Iterator[Pair[Payload]]:
        """Yield the last pairs and count what is left over."""
        while self._depth:
            yield from self._take()
        self.dropped_color += len(self._color)
        self._color.clear()

    def _ready(self) -> Iterator[Pair[Payload]]:
        while self._depth and (
            len(self._depth) > self._waiting or (self._color and self._color[-1][0] >= self._depth[0][0])
        ):
            yield from self._take()
        while len(self._color) > self._waiting:
            self._color.popleft()
            self.dropped_color += 1

    def _take(self) -> Iterator[Pair[Payload]]:
        t_ns, depth = self._depth.popleft()
        while len(self._color) > 1 and abs(self._color[1][0] - t_ns) <= abs(self._color[0][0] - t_ns):
            self._color.popleft()
            self.dropped_color += 1
        if self._color and abs(self._color[0][0] - t_ns) <= self._slop_ns:
            color_ns, color = self._color.popleft()
            self.paired += 1
            yield Pair(t_ns, depth, color_ns, color)
        else:
            self.dropped_depth += 1
            if self._alone is not None:
                self._alone(t_ns, depth)
