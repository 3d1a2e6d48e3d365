"""Frames on disk: as indexable as an array, and no memory is held but the frame that is read."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble.errors import InputError


class FrameSpool:
    """Images of one shape and type in a temporary file, which is gone when the spool is.

    They are read by position and not mapped: mapped pages would count as the process's memory.

    Args:
        shape: Shape of an image, (H, W) or (H, W, 3).
        dtype: Its type.
        folder: Where the file is made; the system's temporary folder where not given (set TMPDIR to move it).

    Raises:
        InputError: The file cannot be made.
    """

    def __init__(self, shape: Sequence[int], dtype: np.dtype | type, folder: Path | None = None):
        self._image_shape, self.dtype = tuple(int(n) for n in shape), np.dtype(dtype)
        self._bytes = int(np.prod(self._image_shape)) * self.dtype.itemsize
        self._count = 0
        self._places: np.ndarray | None = None  # of a choice of another spool's images
        try:
            self._file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115, it lives as long as this
        except OSError as error:
            raise InputError(f"no temporary file for the frames could be made ({error}); set TMPDIR") from None

    def __getstate__(self) -> dict[str, Any]:
        """Hand the open file to another process of this machine; both read the same frames."""
        state = self.__dict__.copy()
        state["_file"] = DupFd(self._file.fileno())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._file = os.fdopen(state["_file"].detach(), "r+b", buffering=0)

    def append(self, image: np.ndarray) -> None:
        """Add an image at the end.

        Raises:
            InputError: The image has another shape or type, or the disk is full.
        """
        if image.shape != self._image_shape or image.dtype != self.dtype:
            raise InputError(
                f"image {self._count} is {image.dtype} {image.shape}, the images before it are {self.dtype} "
                f"{self._image_shape}; a camera's images must not change"
            )
        if self._places is not None:
            raise InputError("a choice of another spool's images takes no further image; append to that spool")
        data, done = np.ascontiguousarray(image).data.cast("B"), 0
        try:
            while done < self._bytes:
                done += os.pwrite(self._file.fileno(), data[done:], self._count * self._bytes + done)
        except OSError as error:
            raise InputError(f"image {self._count} could not be written to the temporary folder: {error}") from None
        self._count += 1

    def chosen(self, places: np.ndarray) -> FrameSpool:
        """Return a spool of some of the images, by index or by mask; it reads the same file, nothing is copied."""
        other = copy.copy(self)
        all_places = np.arange(self._count) if self._places is None else self._places
        other._places = all_places[places]
        other._count = len(other._places)
        return other

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all images together, (F, H, W) or (F, H, W, 3)."""
        return (self._count, *self._image_shape)

    def __len__(self) -> int:
        """Return the number of images."""
        return self._count

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the images, one at a time."""
        return (self._read(index) for index in range(self._count))

    def __getitem__(self, key: int | np.integer | tuple | slice | np.ndarray) -> np.ndarray:
        """Return an image, a part of one (`spool[3, ::2, ::2]`), or several as an array (`spool[2:5]`)."""
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        if isinstance(first, (int, np.integer)):
            return self._read(int(first))[rest]
        chosen = np.arange(self._count)[first]
        images = np.empty((len(chosen), *self._image_shape), dtype=self.dtype)
        for place, index in enumerate(chosen):
            images[place] = self._read(int(index))
        return images[(slice(None), *rest)]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """Return all images in memory, for short clips."""
        return self[:].astype(dtype or self.dtype, copy=False)

    def _read(self, index: int) -> np.ndarray:
        if not -self._count <= index < self._count:
            raise IndexError(f"image {index} of {self._count}")
        image = np.empty(self._image_shape, dtype=self.dtype)
        place = index % self._count if self._places is None else int(self._places[index])
        into, start = image.data.cast("B"), place * self._bytes
        done = 0
        while done < self._bytes:
            got = os.preadv(self._file.fileno(), [into[done:]], start + done)
            if not got:
                raise InputError(f"image {index} is missing in the temporary file; it was cut off from outside")
            done += got
        return image
