"""The recording of the demo: a picture that moves by itself, and the same as text beside it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "{http://www.w3.org/2000/svg}text"


def test_the_picture_moves_by_itself_and_is_small() -> None:
    """Sound XML that needs no script and nothing from elsewhere; it stands still for whoever wants that."""
    file = DOCS / "demo.svg"
    picture = file.read_text(encoding="utf-8")
    assert file.stat().st_size < 400_000
    assert not re.search(r"<script|href=|url\((?!#)|@import", picture)
    assert "prefers-reduced-motion" in picture
    found = re.search(r"animation:tape ([\d.]+)s", picture)
    assert found
    assert 30 <= float(found[1]) <= 75
    frames = [float(share) for share in re.findall(r"([\d.]+)%\{transform", picture)]
    assert frames == sorted(frames)
    assert len(frames) == len(DOCS.joinpath("demo.txt").read_text(encoding="utf-8").splitlines()) + 1


def test_the_picture_says_what_the_text_says() -> None:
    """Every line, in order; and the demo went well."""
    written = DOCS.joinpath("demo.txt").read_text(encoding="utf-8")
    lines: dict[float, str] = {}
    (picture,) = map(ET.fromstring, [DOCS.joinpath("demo.svg").read_text(encoding="utf-8")])
    for one in picture.iter(TEXT):
        height = float(one.get("y", "0"))
        lines[height] = lines.get(height, "") + "".join(one.itertext())
    drawn = ["".join(text.split()) for _, text in sorted(lines.items())]
    assert [one for one in drawn if one] == ["".join(line.split()) for line in written.splitlines() if line.strip()]
    assert "0 differ from Neo4j" in written
    assert "Calls of the agent that failed: 0" in written
