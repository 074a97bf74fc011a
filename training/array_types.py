"""The types of arrays. A docstring states the shape of each array."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Booleans", "Doubles", "Floats", "Integers", "Positions"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Positions = Integers
"""The positions of items or rows; -1 for none."""
Booleans = NDArray[np.bool_]
