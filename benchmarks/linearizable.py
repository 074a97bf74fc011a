"""Does one order of all operations on a register explain every answer?

A register contains a text or nothing. Each operation takes effect at one moment between its call and its answer. An
operation without an answer takes effect at any moment after its call, or never.

The search follows the history in time (Lowe, "Testing for linearizability", 2017; Wing and Gong, 1993, is the same
search by recursion). It keeps every configuration that the answers so far allow: which open operations have taken
effect, and what the register contains. When an operation is answered, it must have taken effect. If no configuration is
left, no order explains this answer. Equal configurations are kept once. A configuration that has used fewer operations
without an answer can do everything that the larger one can, and replaces it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["ABSENT", "Kind", "Operation", "Violation", "after", "tagged", "violations"]

Kind = Literal["write", "read", "read any", "read other", "delete", "delete tagged"]
State = str
ABSENT: State = ""
_READS = ("read", "read any", "read other")
LEAST = 6
"""The least number of operations in a window, so that it shows where the state comes from."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One call, as its client saw it; equal only to itself.

    Attributes:
        kind: what it does. "read any" found some value; "read other" found no value of the tag; "delete" found a
            value; "delete tagged" deletes a value of the tag, and nothing else. A "read" of ABSENT found no value.
        text: the value of a write or a read, or the tag; a value is "name/tag".
        called: when the client sent it.
        answered: when the client received the answer; None if no answer came.
    """

    kind: Kind
    text: str
    called: int
    answered: int | None
    client: str = ""


@dataclass(frozen=True, slots=True)
class Violation:
    """An answer that no order explains: the possible states before it, and the operations up to it."""

    operation: Operation
    states: tuple[State, ...]
    window: tuple[Operation, ...]


def tagged(state: State, tag: str) -> bool:
    """Whether the register contains a value of this tag."""
    return state != ABSENT and state.rpartition("/")[2] == tag


def after(operation: Operation, state: State) -> State | None:
    """The state after the operation has taken effect in this state; None if its answer is impossible then."""
    match operation.kind:
        case "write":
            return operation.text
        case "read":
            return state if state == operation.text else None
        case "read any":
            return state if state != ABSENT else None
        case "read other":
            return None if tagged(state, operation.text) else state
        case "delete":
            return ABSENT if state != ABSENT else None
        case "delete tagged":
            return ABSENT if tagged(state, operation.text) else state


def violations(operations: Iterable[Operation], first: State = ABSENT) -> list[Violation]:
    """The answers that no order of the operations explains, in the order of the answers.

    The search ignores such an answer and continues. So one lost write may cause many violations.
    """
    search, found = _Search(first), list[Violation]()
    writes: dict[str, Operation] = {}
    for operation, is_answer in _events(operations):
        if not is_answer:
            search.call(operation)
            if operation.kind == "write":
                writes[operation.text] = operation
        elif not search.answer(operation):
            found.append(search.violation(operation, writes.get(operation.text)))
    return found


def _events(operations: Iterable[Operation]) -> Iterator[tuple[Operation, bool]]:
    """Calls and answers, ordered by time. At the same moment calls come first: the operations may overlap."""
    events = []
    for place, operation in enumerate(operations):
        events.append((operation.called, False, place, operation))
        if operation.answered is not None:
            events.append((operation.answered, True, place, operation))
    for _, is_answer, _, operation in sorted(events, key=lambda event: event[:3]):
        yield operation, is_answer


@dataclass(slots=True)
class _Frontier:
    """Configurations. Of those that differ only in the unanswered operations they used, the smallest are kept."""

    kept: dict[tuple[int, State], list[int]] = field(default_factory=dict)

    def add(self, answered: int, unanswered: int, state: State) -> bool:
        """Add a configuration, unless a kept one replaces it; returns whether it was added."""
        others = self.kept.setdefault((answered, state), [])
        if any(other & unanswered == other for other in others):
            return False
        others[:] = [other for other in others if other & unanswered != unanswered]
        others.append(unanswered)
        return True

    def __iter__(self) -> Iterator[tuple[int, int, State]]:
        for (answered, state), others in self.kept.items():
            for unanswered in others:
                yield answered, unanswered, state


class _Search:
    """A configuration has two sets of open operations, as bits: those with an answer to come, and those without."""

    def __init__(self, first: State) -> None:
        self._frontier = _Frontier({(0, first): [0]})
        self._open: dict[Operation, int] = {}
        self._lost: dict[tuple[Kind, str], list[tuple[Operation, int]]] = {}
        self._lost_count = 0
        self._recent: deque[Operation] = deque(maxlen=LEAST)
        self._since_quiet: list[Operation] = []

    def call(self, operation: Operation) -> None:
        if operation.answered is None:
            self._lost.setdefault((operation.kind, operation.text), []).append((operation, 1 << self._lost_count))
            self._lost_count += 1
            return
        if not self._open:
            self._recent.extend(self._since_quiet[-LEAST:])
            self._since_quiet.clear()
        used = set(self._open.values())
        self._open[operation] = next(1 << place for place in range(len(used) + 1) if 1 << place not in used)
        self._since_quiet.append(operation)

    def answer(self, operation: Operation) -> bool:
        """Keep the configurations in which the operation has taken effect; if there are none, ignore the answer."""
        bit, reached = self._open[operation], _Frontier()
        seen, todo = _Frontier(), deque(self._frontier)
        while todo:
            answered, unanswered, state = todo.popleft()
            if answered & bit:
                reached.add(answered ^ bit, unanswered, state)
                continue
            result = after(operation, state)
            if result is not None:
                reached.add(answered, unanswered, result)
            if result is None or operation.kind not in _READS:  # an operation before a read may as well come after it
                todo.extend(one for one in self._next(answered, unanswered, state) if seen.add(*one))
        del self._open[operation]
        if reached.kept:
            self._frontier = reached
        return bool(reached.kept)

    def violation(self, operation: Operation, origin: Operation | None) -> Violation:
        """The violation of an answer; `origin` wrote the value that was found."""
        states = {state for _, _, state in self._frontier}
        window = list(dict.fromkeys((*self._recent, *self._since_quiet)))
        if origin and origin not in window:
            window.insert(0, origin)
        return Violation(operation, tuple(sorted(states)), tuple(window))

    def _next(self, answered: int, unanswered: int, state: State) -> Iterator[tuple[int, int, State]]:
        """The configurations after one more open operation."""
        needs_another = False
        for operation, bit in self._open.items():
            if answered & bit:
                continue
            result = after(operation, state)
            if result is not None:
                yield answered | bit, unanswered, result
            needs_another |= result is None or (operation.kind == "delete tagged" and result == state)
        if not needs_another:  # an operation without an answer may as well take effect later, or never
            return
        for alike in self._lost.values():  # they have the same effect, so the first remaining one is enough
            left = next((one for one in alike if not unanswered & one[1]), None)
            if left and (result := after(left[0], state)) not in (None, state):
                yield answered, unanswered | left[1], str(result)
