"""The demo's data is whole, well formed and answers questions as a person would."""

from __future__ import annotations

import re
from datetime import date
from importlib import resources

import numpy as np
import pytest
from numpy.typing import NDArray

from segue.demo.films import DIMENSION, NO_VECTOR, WRONG_DIMENSION, ZERO_VECTOR, Film, Question, films, questions


def sound() -> list[Film]:
    """All films but the broken drafts."""
    return [film for film in films() if film.broken is None]


def vector_of(item: Film | Question) -> NDArray[np.float32]:
    """The vector of an item that has one."""
    assert item.vector is not None
    return item.vector


def test_ids_are_unique_slugs() -> None:
    """Every id can be a primary key: unique, lower-case ASCII words, ending in the year."""
    loaded = films()
    assert len({film.id for film in loaded}) == len(loaded)
    for film in loaded:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", film.id)
        assert film.id.endswith(f"-{film.year}")


def test_there_are_films_from_many_years_and_countries() -> None:
    """The set is large and broad enough for a tour: hundreds of films, a century, dozens of countries and languages."""
    loaded = sound()
    assert len(loaded) >= 400
    assert min(film.year for film in loaded) == 1902
    assert max(film.year for film in loaded) == 2023
    assert len({film.country for film in loaded}) >= 40
    assert len({film.language for film in loaded}) >= 30


def test_facts_are_plausible() -> None:
    """Every film has a title, a director, genres and a running time; a release date, if any, lies in the film's year."""
    for film in sound():
        assert film.title
        assert film.director
        assert film.genres
        assert 5 <= film.minutes <= 600
        assert film.released is None or date.fromisoformat(film.released).year == film.year


def test_some_release_dates_are_missing() -> None:
    """Part of the films lack `released`, so that the demo shows how a missing value travels."""
    missing = sum(film.released is None for film in sound())
    assert 0 < missing < len(sound())


def test_descriptions_are_distinct_and_of_readable_length() -> None:
    """No description occurs twice, and each has 12 to 60 words."""
    loaded = films()
    assert len({film.description for film in loaded}) == len(loaded)
    for film in loaded:
        assert 12 <= len(film.description.split()) <= 60


def test_every_vector_has_the_dimension_and_length_one() -> None:
    """Films and questions carry read-only float32 vectors of 384 dimensions and length 1 within 1e-5."""
    items: list[Film | Question] = [*sound(), *questions()]
    for item in items:
        vector = vector_of(item)
        assert vector.dtype == np.float32
        assert vector.shape == (DIMENSION,)
        assert not vector.flags.writeable
        assert np.linalg.norm(vector.astype(np.float64)) == pytest.approx(1, abs=1e-5)


def test_films_and_vectors_agree_in_number() -> None:
    """There is one vector a film, so that none is paired with its neighbour's."""
    folder = resources.files("segue.demo")
    with resources.as_file(folder / "films.npy") as path:
        assert np.load(path).shape == (len(sound()), DIMENSION)


def test_twelve_questions_are_asked() -> None:
    """There are twelve distinct questions."""
    assert len({question.text for question in questions()}) == 12


def test_three_drafts_are_broken_each_in_its_way() -> None:
    """One draft has no vector, one the wrong dimension, one only zeros; all are titled as drafts, no film is."""
    broken = {film.broken: film for film in films() if film.broken is not None}
    assert set(broken) == {NO_VECTOR, WRONG_DIMENSION, ZERO_VECTOR}
    assert broken[NO_VECTOR].vector is None
    assert vector_of(broken[WRONG_DIMENSION]).shape not in {(DIMENSION,), (0,)}
    assert not vector_of(broken[ZERO_VECTOR]).any()
    assert vector_of(broken[ZERO_VECTOR]).shape == (DIMENSION,)
    assert [film.title.startswith("(draft) ") for film in films()] == [film.broken is not None for film in films()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a lonely robot in space", "wall-e-2008"),
        ("two strangers fall in love on a train", "before-sunrise-1995"),
        ("newspaper reporters uncover a scandal", "all-the-presidents-men-1976"),
        ("people who love food and cooking", "babettes-feast-1987"),
        ("prisoners dig a tunnel to escape", "the-great-escape-1963"),
        ("a giant monster destroys a city", "king-kong-1933"),
        ("a child who can see ghosts", "the-sixth-sense-1999"),
        ("living the same day over and over again", "groundhog-day-1993"),
        ("trapped in a submarine during the war", "das-boot-1981"),
        ("a father searches the ocean for his lost son", "finding-nemo-2003"),
        ("an old married couple at the end of their lives", "tokyo-story-1953"),
        ("falling in love with a computer", "her-2013"),
    ],
)
def test_the_film_a_person_would_name_is_among_the_five_nearest(text: str, expected: str) -> None:
    """Asked that question, the five nearest films include the one that a person would name."""
    loaded = sound()
    question = next(question for question in questions() if question.text == text)
    scores = np.stack([vector_of(film) for film in loaded]) @ question.vector
    nearest = [loaded[index].id for index in np.argsort(-scores)[:5]]
    assert expected in nearest
