"""Whether a server of ours answers at an address."""

import json
from typing import Any

import aiohttp

_TIMEOUT = aiohttp.ClientTimeout(total=3)
_LONGEST_BYTES = 100_000


async def health(host: str, port: int) -> dict[str, Any]:
    """What ``/health`` there says; nothing where nobody answers, or not as a server of ours."""
    url = f"http://{host}:{port}/health"
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as http, http.get(url) as answer:
            body = json.loads(await answer.content.read(_LONGEST_BYTES))
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}
