"""Floor one: read rows, fit an autoencoder, judge it, and export its encoder."""

__all__: list[str] = []
