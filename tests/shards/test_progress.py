"""One bar shows the progress of builds and trainings, and only on a terminal."""

from __future__ import annotations

import io

import pytest

from shards.terminal.console import Terminal
from shards.terminal.progress import progress_bar


class Screen(io.StringIO):
    """A stream that is, or is not, a terminal."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_shows_its_texts_as_they_are(is_terminal: bool, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(is_terminal)
    console = Terminal(file=screen, width=100, color_system=None)
    bar = progress_bar(console, transient=False)
    task = bar.add_task("my [set]", total=50, note="")
    with bar:
        bar.update(task, completed=10, note="3 rejects [red]")
    assert bar.disable is not is_terminal
    shown = screen.getvalue()
    if is_terminal:
        assert all(text in shown for text in ("my [set]", "10/50", "3 rejects [red]"))
    else:
        assert shown.strip() == ""
