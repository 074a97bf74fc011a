"""Floor two: embed rows, index and measure the embeddings, and store everything as versions on disk."""

__all__: list[str] = []
