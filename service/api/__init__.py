"""The HTTP API: routes, authorization, responses, OpenAPI.

Imports every other room of the service except client.
"""

__all__: list[str] = []
