#!/usr/bin/env bash
# Runs the tests with the oldest versions that pyproject.toml allows, in an environment of its own, .venv-oldest.
# What needs PyTorch or ROS is skipped. Arguments go to pytest.
#
#   PYTHON    interpreter to make the environment from, 3.10 to 3.12, for which the old versions exist (default: python3)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME _ROS_WHEELS_BOOTSTRAP_COMPLETE # of another environment

readonly venv=$PWD/.venv-oldest
readonly stamp=$venv/packages.sha256

packages=$(sha256sum requirements-oldest.txt)
if [[ ! -e $stamp || $(<"$stamp") != "$packages" ]]; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement requirements-oldest.txt
    echo "$packages" >"$stamp"
fi
PYTHONPATH=$PWD exec "$venv/bin/python" -m pytest "$@"
