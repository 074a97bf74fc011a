"""The HTTP API: routes, authorization, the shapes of requests and responses, OpenAPI.

Imports every other room of the service except client.
"""

__all__: list[str] = []
