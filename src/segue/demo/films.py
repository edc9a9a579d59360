"""The films of the demo, their vectors, and the questions put to them, from the files in this folder.

It owns the reading of those files and what is wrong with the three broken drafts. It knows no store and needs no
model: the vectors were made beforehand by `make_vectors.py`. README.md says where everything comes from.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIMENSION = 384
"""Length of every vector but those of the broken drafts."""

NO_VECTOR = "no vector"
WRONG_DIMENSION = "wrong dimension"
ZERO_VECTOR = "zero vector"


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """A film as an application would store it.

    Attributes:
        id: Unique, lower-case ASCII, such as "wall-e-2008".
        language: The original language in English; "silent" where nobody speaks.
        minutes: Running time of the version usually shown.
        released: First day in cinemas at home, ISO 8601; None where it is disputed or not known.
        vector: 384 float32 of length 1, read-only; None, shorter, or all zeros for a broken draft.
        broken: Why it cannot be migrated as it is, one of this module's constants; None for real films.
    """

    id: str
    title: str
    year: int
    director: str
    genres: tuple[str, ...]
    country: str
    minutes: int
    language: str
    released: str | None
    description: str
    vector: NDArray[np.float32] | None
    broken: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Something a person would ask, with its vector: 384 float32 of length 1, read-only."""

    text: str
    vector: NDArray[np.float32]


def films() -> list[Film]:
    """Return all films by year, and the three broken drafts last."""
    vectors = iter(_vectors("films.npy"))
    return [_film(json.loads(line), vectors) for line in _text("films.jsonl").splitlines()]


def questions() -> list[Question]:
    """Return the questions, those with the plainest answers first."""
    pairs = zip(json.loads(_text("questions.json")), _vectors("questions.npy"), strict=True)
    return [Question(text=text, vector=vector) for text, vector in pairs]


def _film(record: dict[str, Any], vectors: Iterator[NDArray[np.float32]]) -> Film:
    broken = record.get("broken")
    return Film(
        id=record["id"],
        title=record["title"],
        year=record["year"],
        director=record["director"],
        genres=tuple(record["genres"]),
        country=record["country"],
        minutes=record["minutes"],
        language=record["language"],
        released=record.get("released"),
        description=record["description"],
        vector=_broken_vector(broken) if broken else next(vectors),
        broken=broken,
    )


def _broken_vector(broken: str) -> NDArray[np.float32] | None:
    if broken == NO_VECTOR:
        return None
    vector = {
        WRONG_DIMENSION: np.full(256, 1 / 16, dtype=np.float32),  # length 1: nothing but the dimension is wrong
        ZERO_VECTOR: np.zeros(DIMENSION, dtype=np.float32),
    }[broken]
    vector.setflags(write=False)
    return vector


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _vectors(name: str) -> NDArray[np.float32]:
    packed = resources.files(__package__).joinpath(name).read_bytes()
    vectors: NDArray[np.float32] = np.load(io.BytesIO(packed), allow_pickle=False)
    vectors.setflags(write=False)
    return vectors
