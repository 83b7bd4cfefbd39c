"""Where files lie: the program's own (conf, sql, page, manual) and the user's (data, cache)."""

import os
from pathlib import Path

import platformdirs

from runner.config import Deployment

_HERE = Path(__file__).resolve().parent
_APP = "voice-agent-runner"

RESOURCES = _HERE if (_HERE / "conf").is_dir() else _HERE.parent
"""Holds ``conf/``, ``sql/``, ``web/out/`` and ``docs/``: inside the package when it was installed
from a wheel, beside it in a checkout."""


def data_dir(deployment: Deployment) -> Path:
    """Folder of what must last (the database, generated keys); not below /root for root,
    because Postgres runs as another user there."""
    if deployment.data_dir:
        return Path(deployment.data_dir).expanduser().resolve()
    if os.name == "posix" and os.geteuid() == 0:
        return Path("/var/lib") / _APP
    return Path(platformdirs.user_data_dir(_APP))


def cache_dir(deployment: Deployment) -> Path:
    """Folder of what can be made or fetched again (binaries, weights)."""
    if deployment.cache_dir:
        return Path(deployment.cache_dir).expanduser().resolve()
    return Path(platformdirs.user_cache_dir(_APP))


def outbox_dir(deployment: Deployment) -> Path:
    """Folder of what calls have said and the database does not have yet."""
    return data_dir(deployment) / "outbox"


def archive_dir(deployment: Deployment) -> Path:
    """Folder of old conversations that the database does not have any more."""
    return data_dir(deployment) / "archive"


def kept_dir(deployment: Deployment) -> Path:
    """Folder of the sound of sentences that are always the same: it lasts, because the day on which
    no voice answers is the day on which it is needed."""
    return data_dir(deployment) / "kept"


def documents_dir(docs_dir: str) -> Path:
    """The documents' folder: as seen from here, else the manual that comes with the program."""
    here = Path(docs_dir).expanduser()
    shipped = RESOURCES / docs_dir
    return shipped if not here.exists() and shipped.is_dir() else here.resolve()
