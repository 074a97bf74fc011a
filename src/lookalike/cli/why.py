"""The command `why`: which parts make two items alike, and which separate them."""

from contextlib import closing
from typing import Annotated, Any

import typer

from lookalike.cli.options import Device, StoreOption, open_store, out

__all__ = ["why"]

SHADES = " .:-=+*#"
"""The characters of tiles, from a tile that explains nothing to the strongest tile."""
NEAR = 1.0
"""Numbers that differ by less than this many standard deviations are shown as near."""


def why(
    a: Annotated[str, typer.Argument(metavar="A", help="The id of an item.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The id of another item.")],
    store: StoreOption,
    limit: Annotated[int, typer.Option(min=1, help="How many parts each of the two lists shows.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print all parts as one JSON object.")] = False,
    device: Device = "auto",
) -> None:
    """Show what makes two current items alike, and what separates them.

    Lists the columns of a table, the tiles of a picture or the segments of a window, the strongest first. `alike`: how
    much closer the two items are because they share the part, as a share of the usual distance of unrelated items.
    `apart`: the part's share of the way from one item to the other. `differ`: the plain difference in standard
    deviations.
    """
    from lookalike.cli.search_output import print_json

    explained = _explain(a, b, open_store(store), device)
    if as_json:
        print_json({"ids": [a, b], **explained})
        return
    parts: list[dict[str, Any]] = explained["parts"]
    out.print(f"{a} and {b}: score {explained['score']:.4f}")
    for name, title in (("alike", "what makes them alike"), ("apart", "what separates them")):
        strongest = [part for part in sorted(parts, key=lambda part: -part[name]) if part[name] > 0][:limit]
        out.print(f"\n{title}" + ("" if strongest else ": nothing"))
        out.print("\n".join(_lines(strongest, name)))
        if parts[0]["kind"] == "tile" and strongest:
            out.print("\n" + "\n".join(tile_map(parts, name)))


def tile_map(parts: list[dict[str, Any]], name: str) -> list[str]:
    """Return a line of characters for each row of tiles; a darker character has more weight."""
    weights = {(part["place"]["top"], part["place"]["left"]): max(0.0, part[name]) for part in parts}
    most = max(weights.values()) or 1.0
    shaded = {place: SHADES[round(weight / most * (len(SHADES) - 1))] for place, weight in weights.items()}
    tops = sorted({top for top, _ in weights})
    return ["  |" + "".join(2 * shaded[place] for place in sorted(weights) if place[0] == top) + "|" for top in tops]


def _explain(a: str, b: str, store: Any, device: Any) -> dict[str, Any]:
    import numpy as np

    from lookalike.index.changes.collection import open_collection
    from lookalike.index.changes.item_inputs import input_of, inputs_of_version, payload_of
    from lookalike.index.changes.log import ChangeLog
    from lookalike.index.evaluation.explain import compare
    from lookalike.index.evaluation.explanation_json import explanation_fields

    collection = open_collection(store, store.champion_number(), device)
    version = collection.version
    version.check_embeds()
    with closing(ChangeLog(store.folder)) as log:
        pair = np.stack([input_of(collection, log, name) for name in (a, b)])
    occlusion = compare(version.encoder, inputs_of_version(collection), pair)
    embeddings = np.concatenate([version.embed(block) for block in occlusion.blocks()])
    explanation = occlusion.explain(embeddings, version.metric)
    payloads = [payload_of(collection, name) for name in (a, b)]
    return explanation_fields(occlusion, explanation, version.encoder.origin, payloads)


def _lines(parts: list[dict[str, Any]], name: str) -> list[str]:
    """Return a line for each part: its name, both values, its weight, and the plain difference."""
    values = [f"{_text(part['a'])} {_sign(part)} {_text(part['b'])}" for part in parts]
    names, width = max((len(part["part"]) for part in parts), default=0), max(map(len, values), default=0)
    return [
        f"  {part['part']:{names}}  {value:{width}}  {name} {part[name]:6.1%}  differ {part['difference']:.2f}"
        for part, value in zip(parts, values, strict=True)
    ]


def _sign(part: dict[str, Any]) -> str:
    """Return = for equal values, ~ for near values, and ≠ for other values."""
    if part["difference"] == 0:
        return "="
    return "~" if part["difference"] < NEAR else "≠"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    return "missing" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
