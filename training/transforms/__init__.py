"""The conversion of a photo, or of an interval of a recording, to a row of one fixed shape, as the artifact stores it.

Imports training's config, errors and tables.
"""

from lookalike.training.transforms.image import ImageTransform
from lookalike.training.transforms.input_spec import InputSpec, Transform, read_transform
from lookalike.training.transforms.interval import Interval, interval_of, overlapping
from lookalike.training.transforms.window import WindowTransform

__all__ = [
    "ImageTransform",
    "InputSpec",
    "Interval",
    "Transform",
    "WindowTransform",
    "interval_of",
    "overlapping",
    "read_transform",
]
