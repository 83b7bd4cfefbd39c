"""The LiveKit server's binary: on PATH, in the cache, built with Go, or fetched and checked."""

import asyncio
import fcntl
import hashlib
import os
import platform
import shutil
import signal
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp

from runner.child import Child
from runner.errors import ServiceError
from runner.guard import Guard
from runner.services import Command, Report

VERSION = "1.13.5"

_MODULE = f"github.com/livekit/livekit-server/cmd/server@v{VERSION}"
_RELEASE = f"https://github.com/livekit/livekit/releases/download/v{VERSION}"
_MEMBER = "livekit-server"  # the binary's name in a release archive
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armv7"}  # what releases exist for
_LONGEST_CHECKSUMS_BYTES = 100_000
_LARGEST_ARCHIVE_BYTES = 200_000_000
_LARGEST_BINARY_BYTES = 500_000_000
_TIMEOUT = aiohttp.ClientTimeout(total=900, sock_connect=10, sock_read=30)
_REPORT_EVERY_S = 10.0
_LOCK_POLL_S = 0.5


async def livekit_binary(cache_dir: Path, report: Report) -> Path:
    """The path of a LiveKit server; one that is made is kept in ``cache_dir``.

    Raises:
        ServiceError: none of the ways led to one; says why each did not.
        OSError: the cache cannot be written.
    """
    if installed := shutil.which("livekit-server"):
        return Path(installed)
    cached = cache_dir / f"livekit-server-{VERSION}"
    if not cached.exists():
        async with _alone(cached.with_name(f"{cached.name}.lock"), report):
            if not cached.exists():
                await _make(cached, report)
    return cached


@asynccontextmanager
async def _alone(lock: Path, report: Report) -> AsyncIterator[None]:
    """Holds the file ``lock`` while no other runner does."""
    file = _opened(lock)
    try:
        while not _locked(file):
            report("livekit", "waiting for another runner, which is making the binary")
            await asyncio.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(file)


def _opened(lock: Path) -> int:
    lock.parent.mkdir(parents=True, exist_ok=True)
    return os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _make(cached: Path, report: Report) -> None:
    """Put a binary at ``cached``, whole or not at all."""
    folder = cached.with_name(f"{cached.name}.part")
    shutil.rmtree(folder, ignore_errors=True)  # of a runner that was killed meanwhile
    folder.mkdir()
    reasons = ["livekit-server is not on PATH"]
    try:
        for way in (_build, _fetch):
            try:
                made = await way(folder, report)
            except ServiceError as error:
                reasons.append(str(error))
            else:
                made.chmod(0o755)
                made.replace(cached)
                return
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    raise ServiceError(
        f"There is no LiveKit server, and none can be had: {'; '.join(reasons)}. "
        f"Put livekit-server {VERSION} on PATH, install Go, or set livekit.url to one that runs."
    )


async def _build(folder: Path, report: Report) -> Path:
    go = shutil.which("go")
    if go is None:
        raise ServiceError("go, which would build it, is not on PATH")
    with closing(Guard()) as guard:
        build = await Child.spawn("go", Command((go, "install", _MODULE), {"GOBIN": str(folder)}))
        guard.watch(build.pid, signal.SIGTERM)
        try:
            how = await _timed(build.wait(), report, f"building {VERSION} with Go (minutes, once)")
        finally:
            await build.stop()
            guard.forget(build.pid)
    binary = folder / "server"
    if not binary.exists():
        raise ServiceError(f"go install {_MODULE} {how} ({build.last_words(3)})")
    return binary


async def _timed(work: Awaitable[str], report: Report, message: str) -> str:
    """Await ``work``, reporting ``message`` with the seconds so far."""
    task, began = asyncio.ensure_future(work), time.monotonic()
    try:
        report("livekit", message)
        while not (await asyncio.wait({task}, timeout=_REPORT_EVERY_S))[0]:
            report("livekit", f"{message}, {time.monotonic() - began:.0f} s")
        return task.result()
    finally:
        task.cancel()


async def _fetch(folder: Path, report: Report) -> Path:
    archive = folder / f"livekit_{VERSION}_{_platform()}.tar.gz"
    url = f"{_RELEASE}/{archive.name}"
    try:
        async with aiohttp.ClientSession(
            timeout=_TIMEOUT, raise_for_status=True, trust_env=True
        ) as http:
            expected = await _checksum(http, archive.name)
            digest = await _timed(_download(http, url, archive), report, f"fetching {url}")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServiceError(f"{url} cannot be fetched: {error or type(error).__name__}") from error
    if digest != expected:
        raise ServiceError(f"{url} has the sha256 {digest}, its release says {expected}")
    return await asyncio.to_thread(_unpack, archive)


def _platform() -> str:
    """This machine in the words of LiveKit's releases, which exist for Linux only."""
    machine = _MACHINES.get(platform.machine())
    if platform.system() != "Linux" or machine is None:
        raise ServiceError(f"LiveKit releases none for {platform.system()} {platform.machine()}")
    return f"linux_{machine}"


async def _checksum(http: aiohttp.ClientSession, name: str) -> str:
    """The sha256 that the release gives for the archive ``name``.

    It comes from where the archive comes from: a guard against damage, not against a forger.
    """
    async with http.get(f"{_RELEASE}/checksums.txt") as answer:
        text = (await answer.content.read(_LONGEST_CHECKSUMS_BYTES)).decode(errors="replace")
    for line in text.splitlines():
        match line.split():
            case [digest, listed] if listed.removeprefix("*") == name:
                return digest.lower()
    raise ServiceError(f"{_RELEASE}/checksums.txt does not list {name}")


async def _download(http: aiohttp.ClientSession, url: str, target: Path) -> str:
    """Write ``url`` to ``target``; its sha256."""
    digest, size = hashlib.sha256(), 0
    async with http.get(url) as answer:
        with target.open("wb") as file:
            async for piece in answer.content.iter_chunked(1 << 20):
                size += len(piece)
                if size > _LARGEST_ARCHIVE_BYTES:
                    raise ServiceError(f"{url} is larger than {_LARGEST_ARCHIVE_BYTES} bytes")
                digest.update(piece)
                file.write(piece)
    return digest.hexdigest()


def _unpack(archive: Path) -> Path:
    """The one binary of ``archive``; no other member is written, none by its own path."""
    binary = archive.with_name(_MEMBER)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            member = tar.getmember(_MEMBER)
            source = tar.extractfile(member) if member.size <= _LARGEST_BINARY_BYTES else None
            if source is None:
                raise ServiceError(f"{archive.name}: {_MEMBER} is no file of a fit size")
            with source, binary.open("wb") as target:
                shutil.copyfileobj(source, target)
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise ServiceError(f"{archive.name} cannot be unpacked: {error}") from error
    return binary
