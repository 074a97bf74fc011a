"""The items of a version: ids, payloads in columns, and filters over them.

Imports index's errors and limits, and training's rows.
"""

__all__: list[str] = []
