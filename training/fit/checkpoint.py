"""Checkpoints: a run's state at the end of an epoch, as a sealed folder of its own.

    RUN/checkpoint-000007/   weights.safetensors, manifest.json (history and settings), manifest.sha256

The newest one that verifies is the one that counts; older ones are removed after it is in place.
"""

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn, optim

from lookalike.training.artifact.manifest import CheckpointManifest, check_fields
from lookalike.training.errors import ArtifactError, ResumeError
from lookalike.training.history import State
from lookalike.training.sealed import Sealed, open_sealed, replace_folder, seal, staging

__all__ = ["latest_checkpoint", "read_state", "restore", "save_checkpoint"]

FORMAT = "lookalike-checkpoint/1"
_WEIGHTS = "weights.safetensors"


def save_checkpoint(
    run: Path, state: State, model: nn.Module, optimizer: optim.Optimizer, settings: dict[str, Any]
) -> None:
    """Write the state durably, then remove older checkpoints."""
    target = run / f"checkpoint-{len(state.history):06d}"
    older = [folder for number, folder in _checkpoints(run) if number < len(state.history)]
    tensors = _named("model", model.state_dict()) | _named("best", state.best_weights)
    for number, slots in optimizer.state_dict()["state"].items():
        tensors |= _named(f"optimizer.{number}", slots)
    header = {
        "history": [dataclasses.asdict(epoch) for epoch in state.history],
        "best_epoch": state.best_epoch,
        "stopped": state.stopped,
        "facts": state.facts,
        "settings": settings,
    }
    with staging(run) as folder:
        (folder / _WEIGHTS).write_bytes(safetensors.torch.save(tensors))
        seal(folder, FORMAT, header)
        replace_folder(folder, target)  # one of that number is there only where it is damaged
    for folder in older:
        shutil.rmtree(folder, ignore_errors=True)


def latest_checkpoint(run: Path) -> Sealed | None:
    """The newest whole checkpoint of a run, or None where there is none yet.

    Raises:
        ArtifactError: there are checkpoints, and none is whole.
    """
    damage: ArtifactError | None = None
    for number, folder in sorted(_checkpoints(run), reverse=True):
        try:
            checkpoint = open_sealed(folder, FORMAT, needs=(_WEIGHTS,))
            if len(read_state(checkpoint).history) == number:
                return checkpoint
            damage = damage or ArtifactError(str(folder), expected=f"the checkpoint of epoch {number}", found="another")
        except ArtifactError as error:
            damage = damage or error
    if damage:
        raise damage
    return None


def _checkpoints(run: Path) -> list[tuple[int, Path]]:
    """What bears a checkpoint's name, with its number; whatever else lies there is not ours."""
    named = ((re.fullmatch(r"checkpoint-(\d{6,})", path.name), path) for path in run.glob("checkpoint-*"))
    return [(int(match[1]), path) for match, path in named if match]


def restore(checkpoint: Sealed, model: nn.Module, optimizer: optim.Optimizer, settings: dict[str, Any]) -> State:
    """Put a checkpoint's weights into `model` and `optimizer`, and return where the run stood.

    Raises:
        ResumeError: the checkpoint was made with other settings or other data.
        ArtifactError: its weights are not such a model's.
    """
    saved = checkpoint.header["settings"]
    if saved != settings:
        differing = ", ".join(sorted(_differing(saved, settings)))
        raise ResumeError(
            f"{checkpoint.folder}, {differing}",
            expected="the settings and data it began with",
            found="others",
            remedy="Resume with the same, or begin another run.",
        )
    state = read_state(checkpoint)
    try:
        tensors = safetensors.torch.load_file(checkpoint.folder / _WEIGHTS)
        model.load_state_dict(_under("model", tensors))
        _restore_optimizer(optimizer, _under("optimizer", tensors))
    except (SafetensorError, RuntimeError, ValueError, KeyError) as error:
        place = str(checkpoint.folder / _WEIGHTS)
        raise ArtifactError(place, expected="the weights of this run", found=str(error).splitlines()[0]) from error
    state.best_weights = _under("best", tensors)
    return state


def _differing(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    """The dotted names of what stands in one of two trees and not so in the other."""
    for key in one.keys() | other.keys():
        mine, its = one.get(key), other.get(key)
        if isinstance(mine, dict) and isinstance(its, dict):
            yield from (f"{key}.{name}" for name in _differing(mine, its))
        elif mine != its:
            yield key


def read_state(checkpoint: Sealed) -> State:
    """Where the run stood, without its weights.

    Raises:
        ArtifactError: the manifest does not describe a run; it names the field.
    """
    kept = check_fields(checkpoint, CheckpointManifest)
    return State(kept.history, min(kept.best_epoch, len(kept.history)), {}, kept.stopped, kept.facts)


def _restore_optimizer(optimizer: optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, slot = name.partition(".")
        slots.setdefault(int(number), {})[slot] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})


def _named(prefix: str, tensors: dict[str, Any]) -> dict[str, Tensor]:
    """Own, contiguous copies: safetensors refuses tensors that share memory."""
    return {
        f"{prefix}.{name}": t.detach().cpu().clone().contiguous()
        for name, t in tensors.items()
        if isinstance(t, torch.Tensor)
    }


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
