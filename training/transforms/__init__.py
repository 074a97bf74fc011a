"""The conversion of a photo, or of a stretch of a recording, to a row of one fixed shape, as the artifact stores it.

Imports training's config, errors and tables.
"""

from lookalike.training.transforms.image import ImageTransform
from lookalike.training.transforms.input_spec import InputSpec, Transform, read_transform
from lookalike.training.transforms.stretch import Stretch, overlapping, stretch_of
from lookalike.training.transforms.window import WindowTransform

__all__ = [
    "ImageTransform",
    "InputSpec",
    "Stretch",
    "Transform",
    "WindowTransform",
    "overlapping",
    "read_transform",
    "stretch_of",
]
