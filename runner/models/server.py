"""The model server's life: its address, its models, its end.

The native libraries are imported when it starts, so that this module itself is light.
"""

import asyncio
import errno
import logging
import os
import socket
from pathlib import Path

from aiohttp import web

from runner.config import Config, Models
from runner.errors import ServiceError
from runner.folders import cache_dir as cache_dir_of
from runner.models import weights

_SHUTDOWN_S = 2.0  # for answers that are being spoken

_log = logging.getLogger(__name__)


async def main(config: Config) -> int:
    """``task=models``: serve the models alone, until interrupted."""
    await serve(config.models, cache_dir_of(config.deployment))
    return 0


async def serve(models: Models, cache_dir: Path) -> None:
    """Serve until cancelled. The port answers only when every model is loaded and warm.

    Raises:
        ModelError: a library or weights are missing, or not the known ones.
        ServiceError: the address cannot be had.
    """
    weights.require_libraries()
    with _bound(models) as address:
        app = await asyncio.to_thread(_application, models, cache_dir)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S
        )
        await runner.setup()
        try:
            await web.SockSite(runner, address).start()
            _log.info("the models are served at http://%s:%d/v1", models.host, models.port)
            await asyncio.Event().wait()
        except OSError as error:
            raise _unusable(models, error) from error
        finally:
            await runner.cleanup()


def _application(models: Models, cache_dir: Path) -> web.Application:
    # Read when numpy is imported: its threads wait busily, and double a transcription's CPU time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from runner.models.api import application
    from runner.models.engines import load

    return application(load(models, cache_dir, _log.info), models)


def _bound(models: Models) -> socket.socket:
    """A socket at the configured address that does not listen yet: it fails early where the
    address is taken, and refuses callers until the models are there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            models.host, models.port, type=socket.SOCK_STREAM
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise _unusable(models, error) from error
    return bound


def _unusable(models: Models, error: OSError) -> ServiceError:
    if error.errno == errno.EADDRINUSE:
        return ServiceError(
            f"Port {models.port} at {models.host} is taken by another program. "
            "Stop that, or set models.port to another port."
        )
    return ServiceError(
        f"The model server cannot listen at {models.host}:{models.port}: "
        f"{error.strerror or error}. Set models.host and models.port to an address of this machine."
    )
