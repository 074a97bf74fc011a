"""Columns of a table: what they hold, how they become features, which origin is subtracted.

Imports training's errors.
"""

__all__: list[str] = []
