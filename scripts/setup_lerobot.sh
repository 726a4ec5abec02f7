#!/usr/bin/env bash
# Makes .venv-lerobot in the repository root: this package with LeRobot, whose PyTorch, NumPy and OpenCV are older than
# those in .venv. `taptr lerobot` runs there, and so do its tests, which scripts/test.sh starts if it exists.
#
#   PYTHON        interpreter to make the environment from, Python 3.12 or 3.13 (default: python3.12)
#   TORCH_INDEX   package index with PyTorch's CPU build (default: PyTorch's own); without it pip takes the CUDA build
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME _ROS_WHEELS_BOOTSTRAP_COMPLETE AMENT_PREFIX_PATH CMAKE_PREFIX_PATH

readonly base_python=${PYTHON:-python3.12}
readonly torch_index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
readonly venv=$PWD/.venv-lerobot

"$base_python" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 12))' 2>/dev/null || {
    echo "setup_lerobot.sh: $base_python is not Python 3.12 or newer; set PYTHON to one." >&2
    exit 1
}
rm -rf "$venv"
"$base_python" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" --no-deps --extra-index-url "$torch_index" --retries 1 --timeout 15 torch==2.11.0
"${pip[@]}" --editable ".[cpu,lerobot]" lerobot==0.6.1 pytest
"$venv/bin/python" -c 'import lerobot.datasets, onnxruntime, ray, taptr_ros.cli'
echo "The environment is ready: .venv-lerobot"
