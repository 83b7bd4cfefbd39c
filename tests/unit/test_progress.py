"""What is shown of a start."""

from io import StringIO

from rich.console import Console

from runner.progress import Progress


def test_without_a_terminal_each_step_is_a_line() -> None:
    shown = StringIO()
    with Progress(Console(file=shown, force_terminal=False)) as progress:
        progress("livekit", "starting")
        progress("postgres", "starting")
        progress("livekit", "ready in 0.1 s")
    assert shown.getvalue().splitlines() == [
        "livekit: starting",
        "postgres: starting",
        "livekit: ready in 0.1 s",
    ]


def test_a_repeated_step_is_shown_once() -> None:
    shown = StringIO()
    with Progress(Console(file=shown, force_terminal=False)) as progress:
        for _ in range(3):
            progress("livekit", "waiting")
    assert shown.getvalue() == "livekit: waiting\n"


def test_a_terminal_shows_a_line_for_each_service_with_its_last_message() -> None:
    shown = StringIO()
    console = Console(file=shown, force_terminal=True, width=100, color_system=None)
    with Progress(console) as progress:
        progress("livekit", "starting")
        progress("postgres", "starting")
        progress("livekit", "ready in 0.1 s")
    last = [line for line in shown.getvalue().replace("\r", "\n").splitlines() if ":0" in line][-2:]
    assert "✓ livekit" in last[0]
    assert "ready in 0.1 s" in last[0]
    assert "✓" not in last[1]
    assert "starting" in last[1]


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    shown = StringIO()
    console = Console(file=shown, force_terminal=True, width=100, color_system=None)
    with Progress(console) as progress:
        progress("livekit", "[red]/a/path[/red] [/]")
    assert "[red]/a/path[/red] [/]" in shown.getvalue()


def test_what_comes_after_the_start_is_a_plain_line_on_a_terminal_too() -> None:
    shown = StringIO()
    console = Console(file=shown, force_terminal=True, width=100, color_system=None)
    with Progress(console) as progress:
        progress("livekit", "ready in 0.1 s")
    progress("livekit", "ended with status 1. Next start in 0.2 s")
    assert shown.getvalue().endswith("livekit: ended with status 1. Next start in 0.2 s\n")
