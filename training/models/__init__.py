"""What an autoencoder is made of and trained with: layers, the model, the losses, the optimizers.

Imports training's settings and tables.
"""

__all__: list[str] = []
