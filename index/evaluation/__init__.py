"""How good a version is, and whether a retrained encoder may replace the champion's.

Imports index's versions and ann.
"""

__all__: list[str] = []
