"""From bytes to checked values: limits of HTTP heads, bodies, JSON, .npy, query strings.

Imports the service's errors and settings, and index.
"""

__all__: list[str] = []
