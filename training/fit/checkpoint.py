"""Checkpoints: a run's state at the end of an epoch, or within a long one, each in a separate sealed folder.

    RUN/checkpoint-000007/          weights.safetensors, manifest.json (history and settings), manifest.sha256
    RUN/checkpoint-000007-000120/   the same, after 120 steps of epoch 8

The newest intact checkpoint is used. Older checkpoints are deleted after a new one is in place.
"""

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn, optim

from lookalike.training.artifact.fields import check_fields
from lookalike.training.artifact.manifest import CheckpointManifest
from lookalike.training.errors import ArtifactError, ResumeError
from lookalike.training.history import State, WithinEpoch
from lookalike.training.sealed import Sealed, open_sealed, replace_folder, seal, staging

__all__ = ["latest_checkpoint", "read_state", "restore", "save_checkpoint"]

FORMAT = "lookalike-checkpoint/2"
_WEIGHTS = "weights.safetensors"


def save_checkpoint(
    run: Path, state: State, model: nn.Module, optimizer: optim.Optimizer, settings: dict[str, Any]
) -> None:
    """Write the state durably, then delete older checkpoints."""
    place = _place(state)
    target = run / "-".join(["checkpoint", *(f"{number:06d}" for number in place)])
    older = [folder for number, folder in _checkpoints(run) if number < place]
    tensors = _named("model", model.state_dict()) | _named("best", state.best_weights)
    for number, slots in optimizer.state_dict()["state"].items():
        tensors |= _named(f"optimizer.{number}", slots)
    within = state.within
    if within:
        tensors |= _named("within", within.tensors)
    header = {
        "history": [dataclasses.asdict(epoch) for epoch in state.history],
        "best_epoch": state.best_epoch,
        "stopped": state.stopped,
        "facts": state.facts,
        "within": {"step": within.step, "seconds": within.seconds, "counts": within.counts} if within else None,
        "settings": settings,
    }
    with staging(run) as folder:
        (folder / _WEIGHTS).write_bytes(safetensors.torch.save(tensors))
        seal(folder, FORMAT, header)
        replace_folder(folder, target)  # an existing checkpoint of this place is a damaged one
    for folder in older:
        shutil.rmtree(folder, ignore_errors=True)


def latest_checkpoint(run: Path) -> Sealed | None:
    """Return the newest intact checkpoint of a run, or None without any. Raises ArtifactError if all are damaged."""
    damage: ArtifactError | None = None
    for number, folder in sorted(_checkpoints(run), reverse=True):
        try:
            checkpoint = open_sealed(folder, FORMAT, needs=(_WEIGHTS,))
            if _place(read_state(checkpoint)) == number:
                return checkpoint
            expected, found = f"the checkpoint of epoch {number[0]}", "the checkpoint of another epoch or step"
            damage = damage or ArtifactError(str(folder), expected=expected, found=found)
        except ArtifactError as error:
            damage = damage or error
    if damage:
        raise damage
    return None


def _place(state: State) -> tuple[int, ...]:
    """Return the epochs that are done, and within an epoch also its steps."""
    return (len(state.history), state.within.step) if state.within else (len(state.history),)


def _checkpoints(run: Path) -> list[tuple[tuple[int, ...], Path]]:
    """Return the place and path of each folder with a checkpoint's name."""
    name = re.compile(r"checkpoint-(\d{6,})(?:-(\d{6,}))?")
    named = ((name.fullmatch(path.name), path) for path in run.glob("checkpoint-*"))
    return [(tuple(int(number) for number in match.groups() if number), path) for match, path in named if match]


def restore(checkpoint: Sealed, model: nn.Module, optimizer: optim.Optimizer, settings: dict[str, Any]) -> State:
    """Load a checkpoint's weights into `model` and `optimizer`, and return the run's state.

    Raises ResumeError if the settings or the data are not those of the run, ArtifactError if the weights do not fit.
    """
    saved = checkpoint.header["settings"]
    if saved != settings:
        differing = ", ".join(sorted(_differing(saved, settings)))
        place, expected = f"{checkpoint.folder}, {differing}", "the settings and data that the run began with"
        remedy = "Resume with the same settings and data, or begin a new run."
        raise ResumeError(place, expected=expected, found="different ones", remedy=remedy)
    state = read_state(checkpoint)
    try:
        tensors = safetensors.torch.load_file(checkpoint.folder / _WEIGHTS)
        model.load_state_dict(_under("model", tensors))
        _restore_optimizer(optimizer, _under("optimizer", tensors))
    except (SafetensorError, RuntimeError, ValueError, KeyError) as error:
        path = str(checkpoint.folder / _WEIGHTS)
        raise ArtifactError(path, expected="the weights of this run", found=str(error).splitlines()[0]) from error
    state.best_weights = _under("best", tensors)
    if state.within:
        state.within = dataclasses.replace(state.within, tensors=_under("within", tensors))
    return state


def _differing(left: dict[str, Any], right: dict[str, Any]) -> Iterator[str]:
    """Yield the dotted names of the entries that differ between two nested dicts."""
    for key in left.keys() | right.keys():
        a, b = left.get(key), right.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from (f"{key}.{name}" for name in _differing(a, b))
        elif a != b:
            yield key


def read_state(checkpoint: Sealed) -> State:
    """Return the run's state without its weights. Raises ArtifactError if a field of the manifest is wrong."""
    manifest = check_fields(checkpoint, CheckpointManifest)
    best_epoch = min(manifest.best_epoch, len(manifest.history))
    within = WithinEpoch(**manifest.within.model_dump()) if manifest.within else None
    return State(manifest.history, best_epoch, {}, manifest.stopped, manifest.facts, within)


def _restore_optimizer(optimizer: optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, slot = name.partition(".")
        slots.setdefault(int(number), {})[slot] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})


def _named(prefix: str, tensors: dict[str, Any]) -> dict[str, Tensor]:
    """Return contiguous copies under prefixed names: safetensors refuses tensors that share memory."""
    found = {f"{prefix}.{name}": t for name, t in tensors.items() if isinstance(t, Tensor)}
    return {name: t.detach().cpu().clone().contiguous() for name, t in found.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
