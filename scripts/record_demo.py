"""Makes `docs/demo.svg` and `docs/demo.txt` of a real run of `segue demo`: what a terminal showed, with the waiting left out.

    make record-demo

The demo runs in a terminal of its own; `pyte` works out what that showed in the end, `rich` draws it. The picture is one tall
text that moves up behind a window, a line at a time, by CSS alone.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import struct
import sys
import tempfile
import termios
from io import StringIO
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

DOCS = Path(__file__).parents[1] / "docs"
COLUMNS, ROWS = 118, 32
MOST_LINES = 5_000

LINE_SECONDS = 0.05
COMMAND_SECONDS = 0.85
"""How long what stands there is left alone before the next command."""

STEP_SECONDS = 1.5
"""The same before the next step of the tour."""

END_SECONDS = 4.0

CHARACTER, LINE = 12.2, 24.4
"""How wide and high `rich` draws one, in pixels."""

EDGE, BAR = 14, 34

_PICTURE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 WIDTH HEIGHT" xml:space="preserve" role="img"
aria-label="A recording of segue demo">
<style>
text{{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;font-size:20px;
white-space:pre}}
{styles}
.tape{{transform:translateY(END);animation:tape SECONDSs step-end infinite}}
@media (prefers-reduced-motion:reduce){{.tape{{animation:none}}}}
@keyframes tape{{KEYFRAMES}}
</style>
<defs><clipPath id="window"><rect x="0" y="BAR" width="WIDTH" height="INNER"/></clipPath></defs>
<rect width="WIDTH" height="HEIGHT" rx="10" fill="#16181d"/>
<circle cx="22" cy="17" r="6" fill="#ff5f57"/><circle cx="42" cy="17" r="6" fill="#febc2e"/>
<circle cx="62" cy="17" r="6" fill="#28c840"/>
<g clip-path="url(#window)"><g transform="translate(EDGE BAR)"><g class="tape">{backgrounds}{matrix}</g></g></g>
</svg>
"""


def main() -> int:
    """Run the demo, and write what it showed."""
    with tempfile.TemporaryDirectory() as folder:
        lines, status = _shown([sys.executable, "-m", "segue", "demo"], Path(folder))
    if status:
        sys.stderr.write(f"the demo ended with {status}; nothing is written\n")
        return 1
    DOCS.joinpath("demo.txt").write_text("".join(f"{line.plain.rstrip()}\n" for line in lines), encoding="utf-8")
    picture = DOCS / "demo.svg"
    picture.write_text(drawn(lines), encoding="utf-8")
    sys.stderr.write(f"{picture}: {len(lines)} lines, {sum(_pauses(lines)):.0f} s, {picture.stat().st_size:,} bytes\n")
    return 0


def _shown(command: list[str], folder: Path) -> tuple[list[Text], int]:
    """Run a command in a terminal; return every line that stood there in the end, and its exit code."""
    screen = pyte.HistoryScreen(COLUMNS, ROWS, history=MOST_LINES, ratio=0.5)
    stream, decoder = pyte.Stream(screen), codecs.getincrementaldecoder("utf-8")("replace")
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.environ.pop("NO_COLOR", None)
        os.execvp(command[0], command)  # noqa: S606  # our own command, in a terminal of its own
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    while data := _read(terminal):
        text = decoder.decode(data)
        sys.stderr.write(text)
        stream.feed(text)
    _, status = os.waitpid(process, 0)
    rows = [*screen.history.top, *(screen.buffer[number] for number in range(ROWS))]
    lines = [_line(row) for row in rows]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    return lines, os.waitstatus_to_exitcode(status)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:
        # Linux says so where nobody has the other end any more.
        return b""


def _line(row: pyte.screens.StaticDefaultDict[int, pyte.screens.Char]) -> Text:
    """Return a row of the terminal with its colours."""
    line = Text()
    for column in range(COLUMNS):
        one = row[column]
        line.append(one.data, Style(color=_colour(one.fg), bold=one.bold or None, italic=one.italics or None))
    line.rstrip()
    return line


def _colour(name: str) -> str | None:
    """Return a colour of the terminal in `rich`'s words."""
    if name == "default":
        return None
    if len(name) == 6 and all(letter in "0123456789abcdef" for letter in name):
        return f"#{name}"
    return name.replace("brown", "yellow").replace("bright", "bright_")


def _pauses(lines: list[Text]) -> list[float]:
    """Return how long it takes until each line comes after the one before it, and what the end takes."""
    pauses = []
    for line in lines:
        is_step, is_command = line.plain.startswith("───"), line.plain.startswith("$ ")
        pauses.append(STEP_SECONDS if is_step else COMMAND_SECONDS if is_command else LINE_SECONDS)
    return [*pauses, END_SECONDS]


def drawn(lines: list[Text]) -> str:
    """Return the picture that moves."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop", crop=False)
    pauses = _pauses(lines)
    whole, at, frames = sum(pauses), 0.0, []
    for number, pause in enumerate(pauses[:-1], start=1):
        at += pause
        frames.append(f"{100 * at / whole:.2f}%{{transform:translateY({_offset(number):.1f}px)}}")
    # Nothing stands there at first.
    frames.insert(0, f"0%{{transform:translateY({_offset(0):.1f}px)}}")
    width, inner = COLUMNS * CHARACTER + 2 * EDGE, ROWS * LINE + 2
    places = {
        "WIDTH": f"{width:.0f}",
        "HEIGHT": f"{BAR + inner + EDGE / 2:.0f}",
        "INNER": f"{inner:.0f}",
        "BAR": str(BAR),
        "EDGE": str(EDGE),
        "END": f"{_offset(len(lines)):.1f}px",
        "SECONDS": f"{whole:.1f}",
        "KEYFRAMES": "".join(frames).replace("{", "{{").replace("}", "}}"),
    }
    template = _PICTURE
    for name, value in places.items():
        template = template.replace(name, value)
    picture = console.export_svg(theme=MONOKAI, code_format=template, unique_id="t")
    # Every line is clipped to itself otherwise, and its spaces take six letters each.
    return re.sub(r' clip-path="url\(#t-line-\d+\)"', "", picture).replace("&#160;", " ")


def _offset(lines: int) -> float:
    """Return how far the text is moved where so many lines have come: the last of them stands at the bottom."""
    return (ROWS - lines) * LINE


if __name__ == "__main__":
    sys.exit(main())
