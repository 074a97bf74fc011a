"""Answers to requests: engine, batches, change writer, replacement of versions, workers.

Imports the service's parsing, observability, security and settings, and index.
"""

__all__: list[str] = []
