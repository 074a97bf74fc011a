"""Versions: embed rows, build an index, write, verify, open, search; the store that numbers and promotes them.

Imports index's ann and items, and training's artifact.
"""

__all__: list[str] = []
