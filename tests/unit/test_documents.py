"""The files of the documents' folder, friendly and hostile."""

import os
from pathlib import Path

import pytest

from runner.rag.documents import DocumentError, document_name, documents, read

RUSSIAN = "Насос был установлен в прошлом году, и он работает без остановки."  # noqa: RUF001


def _write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in documents(folder)]


def test_text_and_markdown_are_found_in_folders_below_in_a_stable_order(tmp_path: Path) -> None:
    _write(tmp_path, "b.md", "A.TXT", "sub/deep/c.Md", "a/d.txt")
    assert _names(tmp_path) == ["A.TXT", "b.md", "a/d.txt", "sub/deep/c.Md"]


def test_other_formats_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    _write(tmp_path, "a.exe", "b.md~", "c", ".d.md", ".git/e.md", "sub/.cache/f.txt")
    assert _names(tmp_path) == []


def test_patterns_leave_files_and_folders_out_as_in_a_gitignore(tmp_path: Path) -> None:
    _write(tmp_path, "a.md", "b.log", "keep.log", "drafts/c.md", "sub/drafts/d.md", "sub/e.md")
    found = documents(tmp_path, ["/drafts/", "*.log", "!keep.log", "sub/**/d.md"])
    assert [path.name for path in found] == ["a.md", "keep.log", "e.md"]


def test_a_folder_called_like_a_document_is_none(tmp_path: Path) -> None:
    (tmp_path / "folder.md").mkdir()
    assert _names(tmp_path) == []


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, "secret.md", "outside/secret.md", "docs/a.md")
    docs = tmp_path / "docs"
    (docs / "file.md").symlink_to(tmp_path / "secret.md")
    (docs / "up.md").symlink_to("../secret.md")
    (docs / "folder").symlink_to(tmp_path / "outside")
    (docs / "loop.md").symlink_to("loop.md")
    (docs / "dangling.md").symlink_to("nothing.md")
    assert _names(docs) == ["a.md"]


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    _write(tmp_path, "docs/.data/a.md")
    docs = tmp_path / "docs"
    (docs / "a.md").symlink_to(".data/a.md")  # how a cluster mounts its files
    assert _names(docs) == ["a.md"]


def test_the_folder_may_be_a_link_itself(tmp_path: Path) -> None:
    _write(tmp_path, "real/a.md")
    (tmp_path / "docs").symlink_to("real")
    assert _names(tmp_path / "docs") == ["a.md"]


def test_a_pipe_is_no_document(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("naïve, “quoted” 😀".encode(), "naïve, “quoted” 😀"),
        (b"\xef\xbb\xbfwith a BOM", "with a BOM"),
        ("sixteen bits: ä".encode("utf-16"), "sixteen bits: ä"),
        (b"\xfe\xff" + "big end".encode("utf-16-be"), "big end"),
        ("thirty-two bits".encode("utf-32"), "thirty-two bits"),
        (b"caf\xe9 costs 5 \x80", "café costs 5 €"),
        ("bare: no BOM".encode("utf-16-le"), "bare: no BOM"),
        ("bare: no BOM".encode("utf-16-be"), "bare: no BOM"),
        (RUSSIAN.encode("cp1251"), RUSSIAN),
        (RUSSIAN.encode("koi8-r"), RUSSIAN),
        (
            "ボイラーは四十リットルの水を入れます。圧力は三バールです。".encode("shift_jis"),
            "ボイラーは四十リットルの水を入れます。圧力は三バールです。",
        ),
        (b"one\r\ntwo\rthree\n", "one\ntwo\nthree\n"),
    ],
)
def test_encodings_and_line_ends_become_one(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert read(path) == text


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "It is empty"),
        (b" \r\n\t\n", "It is empty"),
        (b"\xef\xbb\xbf", "It is empty"),
        (b"text with a NUL \0 in it", "It is not a text file"),
        (bytes(range(256)) * 10, "It is not a text file"),
        (b"\x7fELF\x02\x01\x01" + b"\x03\x04\x05\x06" * 50, "It is not a text file"),
        (b"\xff\xfeodd", "It is not a text file"),
        (b"x" * 5_000_001, "It is larger than 5 MB"),
    ],
)
def test_what_cannot_be_a_document_is_refused_with_a_sentence(
    tmp_path: Path, data: bytes, sentence: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(DocumentError, match=sentence):
        read(path)


def test_a_file_that_went_away_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="It cannot be read"):
        read(tmp_path / "gone.txt")


def test_a_document_is_called_by_its_path_below_the_folder(tmp_path: Path) -> None:
    assert document_name(tmp_path / "sub" / "ärger; DROP.md", tmp_path) == "sub/ärger; DROP.md"


@pytest.mark.parametrize("name", ["x" * 498 + ".md", "a\nb.md", os.fsdecode(b"\xff.md")])
def test_a_name_that_cannot_be_stored_or_shown_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DocumentError, match=r"rename it|shorten it"):
        document_name(tmp_path / name, tmp_path)
