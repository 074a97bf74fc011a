"""The layers, the autoencoder, the losses and the optimizers.

Imports training's settings and tables.
"""

__all__: list[str] = []
