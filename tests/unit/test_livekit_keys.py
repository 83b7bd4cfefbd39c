"""The pair that signs access to LiveKit: given, or made once and kept."""

import os
import stat
from pathlib import Path

import pytest

from runner import livekit_server
from runner.config import Config, LiveKit
from runner.errors import ServiceError
from runner.livekit_server import Keys, load_keys


@pytest.fixture
def config(settings: Config, monkeypatch: pytest.MonkeyPatch) -> LiveKit:
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    return settings.livekit


def test_a_pair_is_made_once_and_kept(config: LiveKit, tmp_path: Path) -> None:
    made = load_keys(config, tmp_path / "data")
    assert load_keys(config, tmp_path / "data") == made
    assert load_keys(config, tmp_path / "other") != made
    assert len(made.api_secret) >= 32


def test_only_its_owner_reads_the_file_and_nothing_else_stays(
    config: LiveKit, tmp_path: Path
) -> None:
    load_keys(config, tmp_path)
    (kept,) = tmp_path.iterdir()
    assert kept.name == "livekit.keys"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_of_two_runners_at_once_both_have_the_first_ones_pair(
    config: LiveKit, tmp_path: Path
) -> None:
    first = load_keys(config, tmp_path)
    livekit_server._make_keys(tmp_path / "livekit.keys")  # saw no file a moment ago
    assert load_keys(config, tmp_path) == first


def test_the_environment_wins(
    config: LiveKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "a-key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "a-secret")
    assert load_keys(config, tmp_path) == Keys("a-key", "a-secret")
    assert list(tmp_path.iterdir()) == []


def test_half_a_pair_is_told(
    config: LiveKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_API_SECRET", "a-secret")
    with pytest.raises(
        ServiceError, match="LIVEKIT_API_SECRET is set and LIVEKIT_API_KEY is not"
    ) as told:
        load_keys(config, tmp_path)
    assert "a-secret" not in str(told.value)


@pytest.mark.parametrize("content", ["", "key secret", "key: secret more", "\x00"])
def test_a_spoilt_file_is_named(config: LiveKit, tmp_path: Path, content: str) -> None:
    (tmp_path / "livekit.keys").write_text(content)
    with pytest.raises(ServiceError, match=str(tmp_path / "livekit.keys")):
        load_keys(config, tmp_path)


def test_a_folder_that_cannot_be_written_is_named_with_its_key(
    config: LiveKit, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match=r"deployment\.data_dir"):
        load_keys(config, tmp_path / "file" / "data")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_with_its_key(
    config: LiveKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    (tmp_path / "livekit.1").symlink_to("/dev/full")
    with pytest.raises(ServiceError, match=r"No space left on device.*deployment\.data_dir"):
        load_keys(config, tmp_path)


def test_the_secret_is_in_no_repr() -> None:
    assert "hidden" not in repr(Keys("a-key", "hidden"))
