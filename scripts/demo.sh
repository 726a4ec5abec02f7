#!/usr/bin/env bash
# Makes the environment if it is not there yet, and runs the demo; arguments go to `taptr demo`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup_dev.sh"
exec "$root/.venv/bin/taptr" demo "$@"
