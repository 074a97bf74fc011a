"""Plain English: patterns that a reader stumbles over stay out of docstrings, comments, messages and documents."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import ROOT

FOLDERS = ("src", "training", "index", "service", "lessons", "benchmarks", "notebooks", "tests", "docs")
PATTERNS = {
    "say 'if' or 'when'": r"(?:^|[.,;:(] ?)[Ww]here (?:a|an|the|there|that|it|no|one|they|you|some|nothing|this|two)\b",
    "say 'must' or the active voice": r"\b(?:is|are|was|were|be|been) told\b|\btells? of\b|\bhears? of\b",
    "say 'is'": r"\b(?:stands?|stood|lies?|lay) (?:there|beside|in|on|for|last|among|at|with)\b",
    "name the verb": r"\bto be had\b|\b(?:is|are|be) had\b|\bas it has\b",
    "name the number": r"\b[Ss]o (?:many|few|far|long) (?!that\b|as\b)\w+ (?:as|lie|are|is|of)\b",
    "name the noun": r"(?:^|[.;:,(] ?)What (?:a|an|the|is|was|are|has|have|it|they|counts|cannot|can)\b",
    "name the person or the program": r"\b[Ww]hoever\b|\b[Ww]ho (?:knows|asks|brings|may|is missing|stands)\b",
    "say what was found": r"\bit is nothing\b|\bof none\b|\bnone of that\b|\bis none of\b",
    "say 'must' or 'will'": r"\bshall\b|\bshould they\b|\bhave it that\b",
    "say 'own' without 'of'": r"\bof (?:its|their|one's|his) own\b|\bof (?:ours|theirs)\b",
    "old words": r"\b(?:thereof|therein|henceforth|forthwith|anew|wherever|howsoever)\b",
    "say 'replace'": r"\btook the place\b|\btakes (?:its|the) place\b|\bin the place of\b",
    "say 'detect' or 'state'": r"\bfound out\b|\bsaid of\b|\basked (?:of|with)\b|\bit says\b",
}
"""What to do instead, and the pattern."""

SOURCES = sorted(
    path
    for folder in FOLDERS
    for suffix in ("*.py", "*.md")
    for path in (ROOT / folder).rglob(suffix)
    if "results" not in path.parts and path != Path(__file__)
) + sorted(ROOT.glob("*.md"))


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring, comment, and part of an error; of each line of a document."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield from enumerate(source.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value
        if isinstance(node, ast.keyword) and node.arg in {"expected", "found", "remedy", "help"}:
            yield node.value.lineno, f'{node.arg}="{ast.unparse(node.value)[1:-1]}"'
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_text_is_plain(path: Path) -> None:
    found = [
        f"line {line}: {advice}: {match.group()!r}"
        for line, text in texts(path)
        for advice, pattern in PATTERNS.items()
        if (match := re.search(pattern, text))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "Where there is none, it is made.",
        "the answer stands in the manifest",
        "What counts of the changes after it.",
        "None: whoever asks, is told so.",
        "a folder of its own",
        "The next shall find it anew.",
    ],
)
def test_the_patterns_find_odd_sentences(text: str) -> None:
    assert any(re.search(pattern, text) for pattern in PATTERNS.values())


@pytest.mark.parametrize(
    "text",
    [
        "If there is no folder, it is created.",
        "The latest change of each id in (after, upto].",
        "Reap dead workers, start missing ones, kill hung ones.",
        "Ties are ordered by id.",
    ],
)
def test_the_patterns_pass_plain_sentences(text: str) -> None:
    assert not any(re.search(pattern, text) for pattern in PATTERNS.values())
