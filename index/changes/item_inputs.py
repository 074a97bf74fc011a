"""The input of an item: in the version if the item has not changed since, else in the change log."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection
from lookalike.index.changes.inputs import stacked
from lookalike.index.changes.log import ChangeLog
from lookalike.index.errors import QueryError, UnknownItemError
from lookalike.index.items.ids import MAX_ID
from lookalike.index.versions.stored_inputs import InputWriter, StoredInputs
from lookalike.training.array_types import Floats, Positions
from lookalike.training.errors import ArtifactError

__all__ = ["copy_inputs", "input_in_log", "input_in_version", "input_of", "inputs_of_version", "payload_of"]

_BLOCK_VALUES = 1 << 22


def input_of(collection: Collection, log: ChangeLog, name: str) -> Floats:
    """Return the input of a current item, (width,) float32, minus the encoder's origin.

    Raises UnknownItemError if no item has this id, and QueryError if the version has no inputs.
    """
    found = input_in_version(collection, name)
    return input_in_log(collection, name, log.find(name)) if found is None else found


def inputs_of_version(collection: Collection) -> StoredInputs:
    """Return the inputs of the version. Raises QueryError if it was built without them, or has no encoder."""
    collection.version.check_embeds()
    if collection.version.inputs is None:
        expected, remedy = "a version with inputs", "Build the version again, without --no-inputs."
        found = f"version {collection.number}, which was built without them"
        raise QueryError("version", expected=expected, found=found, remedy=remedy)
    return collection.version.inputs


def input_in_version(collection: Collection, name: str) -> Floats | None:
    """Return the input of a current item as `input_of` does; None if only the change log has it. Raises the same."""
    inputs, position = inputs_of_version(collection), collection.items.find(name)
    if position is None:
        raise _unknown(name)
    return inputs.at(np.array([position]))[0] if position < len(inputs) else None


def input_in_log(collection: Collection, name: str, last: Change | None) -> Floats:
    """Return the input of an item's last change. Raises UnknownItemError if it was deleted."""
    if last is None or last.input is None:
        raise _unknown(name)
    row: Floats = stacked([last.input], collection.encoder.origin)[0]
    return row


def payload_of(collection: Collection, name: str) -> dict[str, Any]:
    """Return the payload of a current item. Raises UnknownItemError if no item has this id."""
    position = collection.items.find(name)
    if position is None:
        raise _unknown(name)
    payload: dict[str, Any] = json.loads(collection.items.payload_json(position))
    return payload


def copy_inputs(folder: Path, collection: Collection, order: Positions, log: ChangeLog) -> None:
    """Write the inputs of the items at the positions `order`, in which new items have rising positions, to a folder.

    Raises ArtifactError if the log lacks the input of an item.
    """
    inputs, width = inputs_of_version(collection), collection.encoder.width
    writer, new = InputWriter(folder, len(order), width), _new_inputs(collection, log)
    try:
        step = max(1, _BLOCK_VALUES // width)
        for start in range(0, len(order), step):
            some = order[start : start + step]
            rows, is_new = np.empty((len(some), width), np.float32), some >= len(inputs)
            rows[~is_new] = inputs.at(some[~is_new])
            for place in np.flatnonzero(is_new):
                position, rows[place] = next(new, (-1, np.nan))
                if position != some[place]:
                    found = "none, or in another order"
                    raise ArtifactError("change log", f"the input of {collection.items.id_at(some[place])!r}", found)
            writer.write(rows)
        writer.finish()
    finally:
        writer.close()


def _new_inputs(collection: Collection, log: ChangeLog) -> Iterator[tuple[int, Floats]]:
    """Yield position and input of each current item that is not in the version, in the order of the changes."""
    for changes in log.current(collection.version.sequence, collection.applied):
        for change in changes:
            position = collection.items.find(change.id)
            if change.input is not None and position is not None and position >= len(collection.version.items):
                yield position, stacked([change.input], collection.encoder.origin)[0]


def _unknown(name: str) -> UnknownItemError:
    return UnknownItemError("id", expected="an item's id", found=repr(name[:MAX_ID]))
