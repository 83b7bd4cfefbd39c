"""What is kept of a child's output."""

import signal

from runner.child import Child


def child() -> Child:
    return Child("a-service", signal.SIGTERM)


def test_the_last_words_are_the_end_of_the_output() -> None:
    talker = child()
    for number in range(200):
        talker.pipe_data_received(1, f"line {number}\n".encode())
    assert talker.last_words(2) == "Its last words:\n    line 198\n    line 199"


def test_only_fifty_lines_are_kept() -> None:
    talker = child()
    talker.pipe_data_received(1, b"a line\n" * 1000)
    assert talker.last_words(1000).count("a line") == 50


def test_lines_that_arrive_in_pieces_are_put_together() -> None:
    talker = child()
    for piece in (b"fir", b"st\nsec", b"ond"):
        talker.pipe_data_received(1, piece)
    talker.pipe_connection_lost(1, None)
    assert talker.last_words() == "Its last words:\n    first\n    second"


def test_a_line_without_an_end_is_cut_and_not_kept_whole() -> None:
    talker = child()
    for _ in range(100):
        talker.pipe_data_received(1, b"x" * 10_000)
    assert len(talker.last_words(1000)) < 110_000
    assert len(talker._rest) <= 2_000


def test_control_sequences_do_not_reach_the_terminal() -> None:
    talker = child()
    talker.pipe_data_received(1, b"\x1b[31mred\x1b[0m\x07\x1b]0;title\r\xff\n")
    (line,) = talker.last_words().splitlines()[1:]
    assert line.startswith("    red")
    assert line.isprintable()


def test_a_silent_child_is_said_to_be_silent() -> None:
    assert child().last_words() == "It said nothing."
