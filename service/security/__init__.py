"""API keys and TLS.

Imports the service's settings.
"""

__all__: list[str] = []
