#!/usr/bin/env bash
# Runs the tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ -x .venv/bin/python ]] || { echo "test.sh: there is no .venv; run scripts/setup_dev.sh first." >&2; exit 1; }
# Threads that wait must not spin: torch and ONNX Runtime would take the cores from each other.
export OMP_WAIT_POLICY=PASSIVE
exec .venv/bin/python -m pytest "$@"
