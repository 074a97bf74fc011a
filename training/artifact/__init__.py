"""The encoder artifact: its preprocessing, layers, manifest, writer and reader, and the check of its export.

Imports training's settings, tables and models. The floors above load encoders from here.
"""

__all__: list[str] = []
