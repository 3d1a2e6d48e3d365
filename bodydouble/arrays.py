"""The array library of some arrays, found quickly: a robot's tick asks for it fifteen times, always about numpy."""

from __future__ import annotations

from typing import Any

import array_api_compat
import array_api_compat.numpy as numpy_namespace
import numpy as np


def array_namespace(*arrays: Any) -> Any:
    """Return what `array_api_compat.array_namespace` returns, at once where all are numpy's own arrays."""
    if all(type(array) is np.ndarray for array in arrays):
        return numpy_namespace
    return array_api_compat.array_namespace(*arrays)
