"""A document's chunks: exact sizes, exact overlap, and what stands above each."""

from itertools import pairwise

import pytest

from runner.rag.chunks import chunks


@pytest.mark.parametrize("length", [1, 199, 200, 201, 999, 1000, 1001, 1800, 1801, 12_345])
@pytest.mark.parametrize(("size", "overlap"), [(1000, 200), (1000, 0), (50, 49)])
def test_every_chunk_has_the_exact_size_and_repeats_exactly_the_overlap(
    length: int, size: int, overlap: int
) -> None:
    text = "".join(chr(0x4E00 + at % 20_000) for at in range(length))
    pieces = chunks(text, size, overlap)

    assert [piece.index for piece in pieces] == list(range(len(pieces)))
    assert all(len(piece.text) == size for piece in pieces[:-1])
    for piece, following in pairwise(pieces):
        assert following.text[:overlap] == piece.text[size - overlap :]
    assert pieces[0].text + "".join(piece.text[overlap:] for piece in pieces[1:]) == text


def test_no_chunk_holds_nothing_but_the_overlap() -> None:
    assert len(chunks("x" * 1000, 1000, 200)) == 1
    assert len(chunks("x" * 1800, 1000, 200)) == 2
    assert len(chunks("x" * 1801, 1000, 200)) == 3


def test_no_text_gives_no_chunk() -> None:
    assert chunks("", 1000, 200) == []


def test_a_chunk_is_cut_between_code_points() -> None:
    assert [piece.text for piece in chunks("😀😃😄😁", 2, 0)] == ["😀😃", "😄😁"]


def test_a_chunk_knows_the_heading_above_its_beginning() -> None:
    text = "intro\n# One\n" + "a" * 84 + "\n\nTwo\n===\n" + "b" * 40
    headings = [piece.heading for piece in chunks(text, 50, 0)]
    assert headings == [None, "One", "Two"]


def test_a_heading_at_a_chunks_very_beginning_is_its_own() -> None:
    assert chunks("# Title\ntext", 50, 0)[0].heading == "Title"


def test_a_comment_in_code_is_no_heading() -> None:
    text = "# Real\n```sh\n# not a heading\nmake run\n```\n" + "x" * 50
    assert [piece.heading for piece in chunks(text, 50, 0)] == ["Real", "Real"]


def test_a_chunk_knows_that_it_begins_inside_code() -> None:
    text = "before\n```sh\nmake run\n```\nafter"
    inside = [piece.in_code for piece in chunks(text, 1, 0)]
    assert "".join(char for char, flag in zip(text, inside, strict=True) if flag) == (
        "``sh\nmake run\n`"
    )


def test_an_endless_heading_is_not_repeated_with_every_chunk() -> None:
    assert all(len(piece.heading or "") <= 200 for piece in chunks("# " + "x" * 10_000, 1000, 200))


def test_a_chunk_knows_on_which_pages_it_begins_and_ends() -> None:
    pages = [(0, 1), (60, 2), (200, 7)]
    found = [(piece.page, piece.last_page) for piece in chunks("x" * 250, 50, 0, pages=pages)]
    assert found == [(1, 1), (1, 2), (2, 2), (2, 2), (7, 7)]


def test_a_comment_is_no_heading_where_the_text_is_not_markdown() -> None:
    [piece] = chunks("# a comment\nx = 1\n", 50, 0, markdown=False)
    assert (piece.heading, piece.in_code, piece.page) == (None, False, None)
