"""Floor two: embed rows, index them, measure the index, and keep versions of the whole on disk."""

__all__: list[str] = []
