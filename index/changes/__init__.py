"""The changes since a version: the change log, the delta in memory, and the compaction into a new version.

Imports index's versions, ann and items.
"""

__all__: list[str] = []
