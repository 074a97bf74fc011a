"""Evaluate a version, and decide whether a retrained encoder may replace the champion's.

Imports index's versions and ann.
"""

__all__: list[str] = []
