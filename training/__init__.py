"""Floor one: read rows, fit an autoencoder, evaluate it, and export its encoder."""

__all__: list[str] = []
