"""What answers: the engine, batches, the change writer, versions that replace each other, workers.

Imports the service's parsing, observability, security and settings, and index.
"""

__all__: list[str] = []
