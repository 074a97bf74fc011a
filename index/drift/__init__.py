"""Detect drift: whether the queries are still like the data of the version.

Imports index's versions.
"""

__all__: list[str] = []
