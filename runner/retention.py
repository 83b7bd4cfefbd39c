"""``task=retention``: delete old conversations now, or say how many there are."""

from contextlib import AsyncExitStack

from runner import database
from runner.config import Config, RetentionTask
from runner.folders import archive_dir
from runner.progress import Progress
from runner.stack import Need, stack
from runner.store import Store
from runner.upkeep import forget


async def main(config: Config) -> int:
    """Prints how many sessions are gone, or would be.

    Raises:
        RunnerError: the database or the archive does not serve.
    """
    assert isinstance(config.task, RetentionTask)
    sessions = config.sessions
    if sessions.retention_days is None:
        print("Conversations are kept for ever: sessions.retention_days is null.")
        return 0
    async with AsyncExitStack() as exits:
        with Progress() as progress:
            wanted = frozenset({Need.POSTGRES})
            running = await exits.enter_async_context(stack(config, wanted, progress))
        socket = running.endpoints.postgres_socket
        await database.prepare(config.database, socket, config.agent)
        engine = database.engine(
            config.database, socket, pool_size=1, application_name="runner-retention"
        )
        exits.push_async_callback(engine.dispose)
        store, folder = Store(engine), archive_dir(config.deployment)
        if config.task.dry_run:
            found = await store.count_expired(sessions.retention_days)
            would = f"{found.sessions} sessions with {found.messages} messages would be deleted"
            print(f"{would}: they ended more than {sessions.retention_days} days ago.")
            return 0
        count = await forget(store, sessions, folder)
        kept = {"jsonl": f", and archived in {folder}", "table": ", and archived in the database"}
        print(f"{count} sessions were deleted with their messages{kept.get(sessions.archive, '')}.")
    return 0
