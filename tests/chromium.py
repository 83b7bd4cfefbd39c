"""The browser of the tests."""

import os
import shutil

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
"""Its path; ``make test`` finds or installs one (tests/browser.sh)."""

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""No sandbox: root has none. A pretended microphone, allowed without a question; no traffic of
the browser's own."""
