"""From bytes to validated requests: HTTP heads, bodies, JSON, .npy, query strings, and their limits.

Imports the service's errors and settings, and index.
"""

__all__: list[str] = []
