"""``task=retention``: delete old conversations now, or say how many there are."""

from runner.config import Config, RetentionTask
from runner.folders import archive_dir
from runner.stack import Need, database_pool
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
    wanted = frozenset({Need.POSTGRES})
    async with database_pool(config, wanted, task="retention", pool_size=1) as engine:
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
