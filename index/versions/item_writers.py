"""The writers of the files that have one entry for each item, beside the embeddings."""

from dataclasses import dataclass

from lookalike.index.items.previews import PreviewWriter
from lookalike.index.items.table import ItemWriter
from lookalike.index.versions.stored_inputs import InputWriter
from lookalike.training.array_types import Booleans
from lookalike.training.rows import Chunk

__all__ = ["ItemWriters"]


@dataclass(frozen=True)
class ItemWriters:
    """Write ids and payloads, previews, and inputs (None: not stored), chunk by chunk."""

    items: ItemWriter
    previews: PreviewWriter
    inputs: InputWriter | None = None

    def write(self, chunk: Chunk) -> None:
        """Append a chunk. Raises DataError if an id or a payload is invalid."""
        self.items.write(chunk.ids, chunk.payloads)
        self.previews.write(len(chunk.ids), chunk.previews)
        if self.inputs:
            self.inputs.write(chunk.inputs)

    def close(self, last: Booleans | None = None) -> None:
        """Complete the files. `last`: (n,) which items to move after all others; None means no items."""
        self.items.close(last)
        self.previews.close(last)
        if self.inputs:
            self.inputs.finish(last)
