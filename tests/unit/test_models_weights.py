"""Weights: found without running a package's code, joined, checked."""

import hashlib
from pathlib import Path

import pytest

from runner.errors import ModelError
from runner.models import weights
from runner.models.weights import File, Weights


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def of(*files: File) -> Weights:
    return Weights("model", "someone/model", "0" * 40, files)


def quiet(_: str) -> None:
    """A report that nobody reads."""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two installed data packages, whose code must not run."""
    for name in ("data_one", "data_two"):
        folder = tmp_path / "site" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise SystemExit('the package was run')")
        (folder / "part").write_text(name)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_packaged_file_lies_under_the_name_that_its_reader_wants(packages, tmp_path):
    file = File("model.bin", sha256("data_one"), ("data_one/part",))
    folder = weights.ensure(of(file), tmp_path / "cache", quiet)
    assert (folder / "model.bin").read_text() == "data_one"
    assert (folder / "model.bin").resolve() == packages / "data_one" / "part"


def test_the_parts_of_a_file_are_joined_once_and_again_when_it_was_damaged(packages, tmp_path):
    file = File("model.bin", sha256("data_onedata_two"), ("data_one/part", "data_two/part"))
    lines: list[str] = []
    for _ in range(2):
        folder = weights.ensure(of(file), tmp_path / "cache", lines.append)
    assert lines == ["joining the parts of model"]
    (folder / "model.bin").write_text("data_oneda")
    weights.ensure(of(file), tmp_path / "cache", lines.append)
    assert (folder / "model.bin").read_text() == "data_onedata_two"
    assert [path.name for path in folder.iterdir()] == ["model.bin"]


def test_a_file_that_is_not_the_known_one_is_refused(packages, tmp_path):
    file = File("model.bin", "f" * 64, ("data_one/part",))
    with pytest.raises(ModelError) as refused:
        weights.ensure(of(file), tmp_path / "cache", quiet)
    message = str(refused.value)
    assert str(packages / "data_one" / "part") in message
    assert "f" * 64 in message
    assert sha256("data_one") in message
    assert weights.INSTALL in message


def test_parts_that_do_not_make_the_known_file_are_refused(packages, tmp_path):
    file = File("model.bin", "f" * 64, ("data_two/part", "data_one/part"))
    with pytest.raises(ModelError, match=sha256("data_twodata_one")):
        weights.ensure(of(file), tmp_path / "cache", quiet)


def test_a_package_that_moved_is_linked_anew(packages, tmp_path):
    file = File("model.bin", sha256("data_one"), ("data_one/part",))
    stale = tmp_path / "cache" / "weights" / "model" / "model.bin"
    stale.parent.mkdir(parents=True)
    stale.symlink_to(tmp_path / "gone")
    weights.ensure(of(file), tmp_path / "cache", quiet)
    assert stale.read_text() == "data_one"


def test_what_is_neither_packaged_nor_at_the_hub_is_named_with_its_mend(packages, tmp_path):
    file = File("model.bin", sha256("x"), ("data_none/part",))
    with pytest.raises(ModelError) as refused:
        weights.ensure(of(file), tmp_path / "cache", quiet)
    assert "someone/model" in str(refused.value)
    assert weights.INSTALL in str(refused.value)


def test_a_file_that_no_package_has_comes_from_the_hub(packages, tmp_path, monkeypatch):
    fetched = tmp_path / "fetched"
    fetched.write_text("from the hub")

    def download(repo: str, path: str, *, revision: str, cache_dir: Path) -> str:
        assert (repo, path, revision) == ("someone/model", "onnx/m.onnx", "0" * 40)
        assert cache_dir == tmp_path / "cache" / "hub"
        return str(fetched)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    file = File("m.onnx", sha256("from the hub"), ("data_none/m",), "onnx/m.onnx")
    folder = weights.ensure(of(file), tmp_path / "cache", quiet)
    assert (folder / "m.onnx").read_text() == "from the hub"


def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(weights, "_LIBRARIES", ("sys", "no_such_library"))
    with pytest.raises(ModelError, match=r"no_such_library .*pip install .*\[embedded\]"):
        weights.require_libraries()
