"""Read the queries of a search: the rows of DATA, or a photo from standard input."""

from typing import BinaryIO

from lookalike.data import open_inputs
from lookalike.index.changes.collection import Collection
from lookalike.training.array_types import Floats
from lookalike.training.errors import DataError
from lookalike.training.rows import Rows
from lookalike.training.transforms import ImageTransform, Transform

__all__ = ["open_queries", "photo_from"]

NAME = "standard input"
MOST_BYTES = 1 << 30


def open_queries(data: str, collection: Collection) -> Rows:
    """Open the rows of DATA as the encoder reads rows. Raises DataError; its remedy is --id if DATA is an item's id."""
    try:
        return open_inputs(data, collection.encoder.inputs)
    except DataError as error:
        if collection.items.find(data) is not None:
            error.remedy = "An item has this id. To search with the item, use --id."
        raise


def photo_from(stream: BinaryIO, transform: Transform | None) -> Floats:
    """Read a photo as an encoder reads it: (1, width) float32 from 0 to 255.

    Raises DataError if the photo cannot be read, is too large, or the encoder was not trained on photos.
    """
    from lookalike.training.transforms.photos import open_photo, to_pixels

    if not isinstance(transform, ImageTransform):
        expected, remedy = "the name of DATA: the encoder was not trained on photos", "Put the rows into a file."
        raise DataError(NAME, expected=expected, found="-", remedy=remedy)
    content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise DataError(NAME, expected=f"a photo of at most {MOST_BYTES:,} bytes", found="more bytes")
    return to_pixels(open_photo(content, NAME, transform), transform).reshape(1, -1)
