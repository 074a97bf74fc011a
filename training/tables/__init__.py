"""A table's columns: their values, their features, and the origin that is subtracted from them.

Imports training's errors.
"""

__all__: list[str] = []
