#!/bin/sh
# Prints the path of a Chromium for the tests: $CHROMIUM, else one on PATH, else Debian's package
# where it may be installed, else Playwright's own download.
set -eu
cd "$(dirname "$0")/.."

on_path() {
    for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome-stable google-chrome \
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
        # Ubuntu's chromium-browser may be a stub, which answers nothing.
        if [ -n "$name" ] && "$name" --version >/dev/null 2>&1; then
            command -v "$name"
            return
        fi
    done
    return 1
}

debian() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    echo "Installing Debian's chromium …" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 && apt-get install -qq --no-install-recommends chromium >&2 && on_path
}

playwright() {
    echo "Downloading Playwright's Chromium …" >&2
    .venv/bin/python -m playwright install chromium >&2 &&
        .venv/bin/python -c 'from playwright.sync_api import sync_playwright as start
with start() as browsers: print(browsers.chromium.executable_path)'
}

on_path || debian || playwright || {
    echo "No browser for the tests: install Chromium, or set CHROMIUM to its path." >&2
    exit 1
}
