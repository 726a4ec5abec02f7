#!/usr/bin/env bash
# Makes the development environment: .venv in the repository root, with everything pinned, and this package in it,
# editable, with its ROS interfaces built. Quick when nothing has changed; a broken environment is made anew.
#
#   PYTHON        interpreter to make the environment from (default: python3)
#   TORCH_INDEX   package index with PyTorch's CPU build (default: PyTorch's own)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME _ROS_WHEELS_BOOTSTRAP_COMPLETE # of another environment
unset AMENT_PREFIX_PATH CMAKE_PREFIX_PATH                  # of a sourced ROS installation

readonly base_python=${PYTHON:-python3}
readonly torch_index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
readonly venv=$PWD/.venv
readonly python=$venv/bin/python
readonly unfinished=$venv/unfinished         # exists while packages are being installed
readonly packages_stamp=$venv/packages.sha256
readonly interfaces_stamp=$venv/interfaces.sha256

fail() {
    echo "setup_dev.sh: $*" >&2
    exit 1
}

check_machine() {
    [[ $(uname -sm) == "Linux x86_64" ]] ||
        fail "the ROS 2 wheels exist for Linux x86_64 only; on $(uname -sm) build with colcon on a ROS 2 installation."
    command -v "$base_python" >/dev/null || fail "$base_python is not installed; set PYTHON to Python 3.10 to 3.13."
    "$base_python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' ||
        fail "$base_python is $("$base_python" --version 2>&1); set PYTHON to Python 3.10 to 3.13."
    command -v g++ >/dev/null || fail "g++ is missing; install it, for instance with: sudo apt install g++"
}

# Whether .venv runs, was made at this place, and no installation in it was interrupted.
venv_is_sound() {
    [[ ! -e $unfinished ]] && "$python" -m pip --version >/dev/null 2>&1 && grep -qF "$venv/bin/" "$venv/bin/pip"
}

make_venv() {
    rm -rf "$venv"
    mkdir "$venv"
    touch "$unfinished"
    "$base_python" -m venv "$venv" || fail "python3's venv module failed; on Debian and Ubuntu: sudo apt install python3-venv"
}

install_packages() {
    local pip=("$python" -m pip install --quiet --disable-pip-version-check)
    touch "$unfinished"
    # An older environment may have it; it fills the same directory as opencv-python-headless.
    "$python" -m pip uninstall --quiet --yes --disable-pip-version-check opencv-python 2>/dev/null
    # PyPI's torch brings CUDA, gigabytes of it; PyTorch's own index has the CPU build, which pip prefers to PyPI's.
    # Only torch is looked up there, and briefly: without that index the other build serves as well.
    "${pip[@]}" --no-deps --extra-index-url "$torch_index" --retries 1 --timeout 15 \
        "$(grep '^torch==' requirements-dev.txt)"
    "${pip[@]}" --requirement requirements-dev.txt --requirement requirements-ros-kilted.txt
    rm "$unfinished"
}

install_this_package() {
    PATH=$venv/bin:$PATH "$python" -m pip install --quiet --disable-pip-version-check \
        --no-deps --no-build-isolation --editable .
}

check_imports() {
    "$python" -c 'import cv2' ||
        fail "OpenCV cannot be imported; remove .venv and run this script again."
    "$python" -c 'import onnxruntime, rclpy, torch; from taptr_ros.msg import TrackedPoints' ||
        fail "the environment is incomplete; remove .venv and run this script again."
}

hash_of() {
    sha256sum "$@" | sha256sum
}

check_machine
venv_is_sound || make_venv

packages=$(hash_of requirements-dev.txt requirements-ros-kilted.txt)
if [[ ! -e $packages_stamp || $(<"$packages_stamp") != "$packages" ]]; then
    echo "Installing pinned packages into .venv (3.5 GB on disk)..."
    rm -f "$packages_stamp"
    install_packages
    echo "$packages" >"$packages_stamp"
fi

interfaces=$(hash_of CMakeLists.txt package.xml pyproject.toml setup.py requirements-ros-kilted.txt msg/* srv/*)
if [[ ! -e $interfaces_stamp || $(<"$interfaces_stamp") != "$interfaces" ]]; then
    echo "Building the ROS interfaces..."
    rm -f "$interfaces_stamp"
    install_this_package
    check_imports
    echo "$interfaces" >"$interfaces_stamp"
fi
echo "The development environment is ready: .venv"
