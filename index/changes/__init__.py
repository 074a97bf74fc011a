"""What was put and deleted since a version: the change log, the delta, and how both become a new version.

Imports index's versions, ann and items.
"""

__all__: list[str] = []
