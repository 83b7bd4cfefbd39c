"""Every way to a LiveKit server's binary: PATH, cache, Go, release."""

import asyncio
import contextlib
import hashlib
import io
import os
import stat
import sys
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from runner import livekit_binary
from runner.errors import ServiceError

SCRIPT = "#!/bin/sh\n"


def silent(_: str, __: str) -> None:
    """A `Report` that tells nobody."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of programs; empty."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
async def release(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, bytes]]:
    """LiveKit's release page, on loopback: what it holds, by file name."""
    files: dict[str, bytes] = {}

    async def send(request: web.Request) -> web.Response:
        body = files.get(request.match_info["name"])
        return web.Response(status=404) if body is None else web.Response(body=body)

    app = web.Application()
    app.router.add_get("/{name}", send)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setattr(livekit_binary, "_RELEASE", f"http://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.setattr(livekit_binary, "_platform", lambda: "linux_amd64")
    yield files
    await runner.cleanup()


def _program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def _publish(files: dict[str, bytes], archive: bytes, digest: str | None = None) -> None:
    name = f"livekit_{livekit_binary.VERSION}_linux_amd64.tar.gz"
    digest = digest or hashlib.sha256(archive).hexdigest()
    files[name] = archive
    files["checksums.txt"] = f"{'0' * 64}  other.zip\n{digest}  {name}\n".encode()


def _archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _file(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


async def test_a_server_on_path_is_used(path: Path, tmp_path: Path) -> None:
    installed = _program(path / "livekit-server", SCRIPT)
    assert await livekit_binary.livekit_binary(tmp_path / "cache", silent) == installed


async def test_a_server_in_the_cache_is_used(path: Path, tmp_path: Path) -> None:
    cached = _program(tmp_path / f"livekit-server-{livekit_binary.VERSION}", SCRIPT)
    assert await livekit_binary.livekit_binary(tmp_path, silent) == cached


async def test_a_server_is_built_with_go_once_for_two_runners(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    go = f"#!/bin/sh\necho $@ >> {log}\n/bin/sleep .5\n/bin/cp {log} $GOBIN/server\n"
    _program(path / "go", go)
    lines: list[str] = []
    ways = await asyncio.gather(
        *(
            livekit_binary.livekit_binary(tmp_path / "cache", lambda _, line: lines.append(line))
            for _ in range(2)
        )
    )
    assert ways[0] == ways[1]
    assert os.access(ways[0], os.X_OK)
    assert log.read_text().splitlines() == [
        f"install github.com/livekit/livekit-server/cmd/server@v{livekit_binary.VERSION}"
    ]
    assert any("building" in line for line in lines)
    assert any("waiting for another runner" in line for line in lines)
    assert {file.name for file in (tmp_path / "cache").iterdir()} == {
        ways[0].name,
        f"{ways[0].name}.lock",
    }


async def test_a_build_that_is_interrupted_leaves_nothing_behind(
    path: Path, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    _program(path / "go", f"#!/bin/sh\n/bin/sleep 10000 &\necho $! > {pid}\nwait\n")
    build = asyncio.create_task(livekit_binary.livekit_binary(tmp_path / "cache", silent))
    await _until(lambda: pid.exists() and pid.read_text().strip())
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    await _until(lambda: not _lives(int(pid.read_text())))
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".lock"]


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  another process makes it true
            await asyncio.sleep(0.01)


def _lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


async def test_without_go_a_server_is_fetched_and_checked(
    path: Path, tmp_path: Path, release: dict[str, bytes]
) -> None:
    _publish(release, _archive(_file("LICENSE", b"Apache"), _file("livekit-server", b"binary")))
    binary = await livekit_binary.livekit_binary(tmp_path / "cache", silent)
    assert binary.read_bytes() == b"binary"
    assert stat.S_IMODE(binary.stat().st_mode) == 0o755


async def test_when_go_fails_a_server_is_fetched(
    path: Path, tmp_path: Path, release: dict[str, bytes]
) -> None:
    _program(path / "go", "#!/bin/sh\nexit 1\n")
    _publish(release, _archive(_file("livekit-server", b"binary")))
    binary = await livekit_binary.livekit_binary(tmp_path / "cache", silent)
    assert binary.read_bytes() == b"binary"


async def test_a_damaged_archive_is_refused_and_nothing_stays(
    path: Path, tmp_path: Path, release: dict[str, bytes]
) -> None:
    _publish(release, _archive(_file("livekit-server", b"binary")), digest="1" * 64)
    with pytest.raises(ServiceError, match=f"its release says {'1' * 64}"):
        await livekit_binary.livekit_binary(tmp_path / "cache", silent)
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".lock"]


async def test_an_archive_writes_nothing_but_the_binary(
    path: Path, tmp_path: Path, release: dict[str, bytes]
) -> None:
    outside = tmp_path / "outside"
    link = tarfile.TarInfo("livekit-server")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    _publish(release, _archive(_file(f"../../{outside.name}", b"bad"), (link, b"")))
    with pytest.raises(ServiceError, match=r"cannot be unpacked|no file"):
        await livekit_binary.livekit_binary(tmp_path / "cache", silent)
    assert not outside.exists()
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".lock"]


async def test_when_no_way_leads_to_a_server_all_of_them_are_named(
    path: Path, tmp_path: Path, release: dict[str, bytes]
) -> None:
    _program(path / "go", "#!/bin/sh\necho no such module >&2\nexit 1\n")
    with pytest.raises(ServiceError) as missing:
        await livekit_binary.livekit_binary(tmp_path / "cache", silent)
    told = str(missing.value)
    assert "livekit-server is not on PATH" in told
    assert "ended with status 1" in told
    assert "no such module" in told
    assert "checksums.txt" in told
    assert "livekit.url" in told


@pytest.mark.skipif(sys.platform != "linux", reason="LiveKit releases for Linux only")
def test_the_archive_is_named_as_livekit_names_it() -> None:
    assert livekit_binary._platform() in ("linux_amd64", "linux_arm64", "linux_armv7")
