"""A database's address as one URL. It stands in an environment variable, because it may hold the
password: its other parts become keys of the configuration, the password never does.
"""

import os
import re

from omegaconf import OmegaConf

_DRIVER = re.compile(r"^postgres(ql)?(\+\w+)?://")


def from_url(variable: str) -> dict[str, str]:
    """The parts of the PostgreSQL URL in an environment variable, under libpq's names: host, port,
    dbname, user, password, sslmode and the like. Empty: the variable is not set.

    Raises:
        ValueError: it holds something else, which is not shown.
    """
    url = os.environ.get(variable, "") if variable else ""
    if not url:
        return {}
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    if not _DRIVER.match(url):
        raise ValueError(f"{variable} holds no URL that begins with postgresql://")
    try:
        parts = conninfo_to_dict(_DRIVER.sub("postgresql://", url))
    except ProgrammingError:
        raise ValueError(f"{variable} holds a PostgreSQL URL that cannot be read") from None
    return {name: str(value) for name, value in parts.items() if value is not None}


def _part(variable: str, name: str, otherwise: str) -> str:
    return from_url(variable).get(name, otherwise)


OmegaConf.register_new_resolver("from_url", _part)
