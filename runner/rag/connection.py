"""The database connection of a search: its own, and held.

A check-out with its ping, and SQLAlchemy around each of two small queries, take longer than the
queries do, and a caller waits for them. A search also leaves settings behind that would make other
queries miss rows.
"""

import asyncio
from typing import Any

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

Driver = psycopg.AsyncConnection[Any]


class OwnConnection:
    """Taken from ``engine`` when it is first needed, and again when it was lost.

    Whoever asks at the same time waits in line; each query is a transaction of its own.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._taking = asyncio.Lock()
        self._driver: Driver | None = None

    async def rows(self, query: str, values: dict[str, Any]) -> list[Any]:
        """What a query finds.

        Raises:
            SQLAlchemyError, psycopg.Error: the database did not answer.
        """
        driver = self._driver
        if driver is not None:
            try:
                return await _rows(driver, query, values)
            except psycopg.OperationalError:
                if not driver.closed:
                    raise
        return await _rows(await self._taken(instead_of=driver), query, values)

    async def aclose(self) -> None:
        """Closes it."""
        if self._driver is not None:
            await self._driver.close()

    async def _taken(self, instead_of: Driver | None) -> Driver:
        async with self._taking:
            if self._driver is instead_of or self._driver is None:
                pooled = await self._engine.raw_connection()
                driver = pooled.driver_connection
                assert driver is not None
                pooled.detach()
                await driver.set_autocommit(True)
                self._driver = driver
            return self._driver


async def _rows(driver: Driver, query: str, values: dict[str, Any]) -> list[Any]:
    cursor = await driver.execute(query.encode(), values, prepare=True)
    return await cursor.fetchall()
