"""The database connection of a search: its own, and held.

A check-out with its ping, SQLAlchemy, and psycopg's cursor around one small query take longer than
the query does, and a caller waits for them: so libpq is asked itself, as psycopg asks it. A search
also leaves settings behind that would make other queries miss rows.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import generators
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult
from sqlalchemy.ext.asyncio import AsyncEngine

Driver = psycopg.AsyncConnection[Any]

_PREPARED = b"own"
# PostgreSQL would plan the first five of a connection anew, each in 2 to 3 ms: of most calls, all.
_PLANNED_ONCE = "SET plan_cache_mode = force_generic_plan"
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")


class OwnConnection:
    """Asks one ``query``, which gives one value, with placeholders as psycopg's. The connection is
    taken from ``engine`` when it is first needed, and again when it was lost.

    Whoever asks at the same time waits in line; each time is a transaction of its own.
    """

    def __init__(self, engine: AsyncEngine, query: str) -> None:
        self._engine = engine
        self._names = list(dict.fromkeys(_PLACEHOLDER.findall(query)))
        numbers = {name: f"${at}" for at, name in enumerate(self._names, 1)}
        self._query = _PLACEHOLDER.sub(lambda found: numbers[found[1]], query)
        self._line = asyncio.Lock()
        self._driver: Driver | None = None

    async def value(self, values: Mapping[str, str | bytes]) -> bytes:
        """What the query gives, as PostgreSQL writes it; ``values`` as PostgreSQL reads them, or as
        it receives them in binary: bytes.

        Raises:
            SQLAlchemyError, psycopg.Error: the database did not answer.
        """
        given = [values[name] for name in self._names]
        async with self._line:
            if self._driver is not None:
                try:
                    return await self._asked(self._driver, given)
                except psycopg.OperationalError:
                    if not self._driver.closed:
                        raise
            self._driver = await self._taken()
            return await self._asked(self._driver, given)

    async def aclose(self) -> None:
        """Closes it."""
        if self._driver is not None:
            await self._driver.close()

    async def _taken(self) -> Driver:
        pooled = await self._engine.raw_connection()
        driver = pooled.driver_connection
        assert isinstance(driver, psycopg.AsyncConnection)
        pooled.detach()
        try:
            await driver.set_autocommit(True)
            await driver.execute(_PLANNED_ONCE)
            driver.pgconn.send_prepare(_PREPARED, self._query.encode())
            await _result(driver)
        except BaseException:
            await driver.close()
            raise
        return driver

    async def _asked(self, driver: Driver, given: list[str | bytes]) -> bytes:
        texts = [one.encode() if isinstance(one, str) else one for one in given]
        formats = [Format.TEXT if isinstance(one, str) else Format.BINARY for one in given]
        driver.pgconn.send_query_prepared(_PREPARED, texts, formats)
        value = (await _result(driver)).get_value(0, 0)
        assert value is not None
        return value


async def _result(driver: Driver) -> PGresult:
    result: PGresult
    [result] = await driver.wait(generators.execute(driver.pgconn))
    if result.status not in {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}:
        raise psycopg.errors.error_from_result(result)
    return result
