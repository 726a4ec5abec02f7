#!/usr/bin/env bash
# Installs Chromium, in which the tests of the page run, where that can be done without asking: as root, on Debian.
# Elsewhere, and without a network, it says so, and these tests are skipped.
set -euo pipefail

for browser in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$browser" >/dev/null; then exit 0; fi
done
# Ubuntu's package of this name is only a pointer to a snap, which containers cannot run.
if [[ $(id -u) == 0 ]] && grep -qs '^ID=debian' /etc/os-release && command -v apt-get >/dev/null; then
    echo "Installing Chromium for the tests of the page..."
    install=(apt-get install --yes --quiet=2 --no-install-recommends chromium fonts-dejavu-core)
    export DEBIAN_FRONTEND=noninteractive
    # Lists of packages may be missing or old.
    "${install[@]}" >/dev/null 2>&1 || { apt-get update --quiet=2 && "${install[@]}" >/dev/null; } && exit 0
fi
echo "There is no browser: the tests of the page are skipped. Install Chromium or Chrome to run them."
