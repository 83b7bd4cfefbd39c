"""The log: one line an event on the terminal, nothing that a caller said unless configured."""

import json
import logging
import sys
from datetime import UTC, datetime

from runner.config import Log

_NOISY = (
    *("httpx2", "httpcore2", "aiohttp.access", "openai", "asyncio", "hydra", "livekit"),
    "watchfiles",
)
_TOLD = ("livekit.plugins.google", "google_genai")  # with tracebacks, what runner says in a line
_HANGING_UP = ("data channel", "unknown FFI handle")  # of which the SDK complains at each end


class WithoutCallers(logging.Filter):
    """Drops what livekit-agents attaches as personal (``lk.pii.*``), and its messages that
    quote a caller or a reply in their text."""

    _QUOTING = ("text_sent", "no audio frames")

    def filter(self, record: logging.LogRecord) -> bool:
        for key in [key for key in vars(record) if key.startswith("lk.pii.") or key == "text_sent"]:
            delattr(record, key)
        return not any(quote in str(record.msg) for quote in self._QUOTING)


class AsJson(logging.Formatter):
    """An object a line: ``time`` (UTC), ``level``, ``logger`` and ``message``, of a turn its facts
    as ``turn``, of a failure its traceback as ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if turn := getattr(record, "turn", None):
            line["turn"] = turn
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up(config: Log) -> None:
    """Configures the root logger; for the parent and again in every job's process."""
    handler = logging.StreamHandler(sys.stderr)
    console = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s")
    handler.setFormatter(AsJson() if config.format == "json" else console)
    if not config.transcripts:
        handler.addFilter(WithoutCallers())
    handler.addFilter(_is_news)
    logging.basicConfig(level=config.level, handlers=[handler], force=True)
    if config.level != "DEBUG":
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.WARNING)
        for name in _TOLD:
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _is_news(record: logging.LogRecord) -> bool:
    return record.name != "livekit" or not any(part in str(record.msg) for part in _HANGING_UP)
