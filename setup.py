"""Builds the ROS interfaces for pip, with the same CMakeLists.txt that colcon uses.

`colcon build` reads package.xml and never runs this file. Metadata is in pyproject.toml.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from setuptools import Command, Distribution, setup
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
NAME = "taptr_ros"


def ros_prefixes() -> list[str]:
    """Directories that hold ROS: those of a sourced installation, else where pip put the wheels."""
    if sourced := os.environ.get("AMENT_PREFIX_PATH"):
        return sourced.split(os.pathsep)
    prefixes: list[str] = []
    for module in ("rclpy", "std_msgs", "rosidl_generator_py"):
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise SystemExit(f"{module} is not installed; install requirements-ros-kilted.txt or source a ROS 2 setup.")
        prefix = str(Path(spec.origin).parents[4])  # prefix/lib/pythonX.Y/site-packages/module/__init__.py
        if prefix not in prefixes:
            prefixes.append(prefix)
    return prefixes


def build_and_install(build_directory: Path, stage: Path) -> None:
    """Run CMake's configure, build and install steps; `stage` receives the installed tree."""
    prefixes = ros_prefixes()
    environment = {
        **os.environ,
        "AMENT_PREFIX_PATH": os.pathsep.join(prefixes),
        "CMAKE_PREFIX_PATH": os.pathsep.join(prefixes),
        # Under pip's build isolation the generators are importable only through this process's path.
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        # The wheels have no RPATH: the linker finds their second-level libraries here.
        "LD_LIBRARY_PATH": os.pathsep.join(
            [*(f"{prefix}/lib" for prefix in prefixes), os.environ.get("LD_LIBRARY_PATH", "")]
        ),
    }
    if shutil.which("ninja"):
        environment.setdefault("CMAKE_GENERATOR", "Ninja")
    configure = [
        *("cmake", "-S", str(ROOT), "-B", str(build_directory), f"-DCMAKE_INSTALL_PREFIX={stage}"),
        *("-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={sys.executable}"),
    ]
    for command in (
        configure,
        ["cmake", "--build", str(build_directory), "--parallel", str(os.cpu_count())],
        ["cmake", "--install", str(build_directory)],
    ):
        subprocess.run(command, check=True, env=environment)


def files_below(directory: Path) -> list[Path]:
    """All files in `directory` and its subdirectories."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def copy(files: list[Path], root: Path, target: Path) -> None:
    """Copy `files` to `target`, laid out as they are below `root`."""
    for path in files:
        destination = target / path.relative_to(root)
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, destination)


class BuildInterfaces(Command):
    """Sub-command of `build` that adds the generated Python modules, the libraries and the ament resources."""

    description = "build the ROS interfaces with CMake"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []
    editable_mode = False

    def initialize_options(self) -> None:
        # None marks an option that finalize_options takes over from `build`.
        self.build_lib: Any = None
        self.build_temp: Any = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"), ("build_temp", "build_temp"))

    def run(self) -> None:
        work = Path(self.build_temp).resolve() / "interfaces"
        shutil.rmtree(work, ignore_errors=True)
        stage = work / "stage"
        build_and_install(work / "cmake", stage)

        (package,) = stage.glob(f"**/*-packages/{NAME}")
        # The installed package also has our own modules, which pip takes from the source tree.
        generated = [
            path
            for path in files_below(package)
            if path.suffix in {".py", ".so"} and not (ROOT / NAME / path.relative_to(package)).exists()
        ]
        # Headers and CMake files serve packages that are built against this one: colcon's case, not pip's.
        resources = [
            path
            for path in files_below(stage)
            if package.parent not in path.parents and not {"cmake", "include"} & set(path.parts)
        ]
        if self.editable_mode:
            # Where setuptools collects what an editable installation cannot leave in the source tree.
            install = self.get_finalized_command("install")
            copy(generated, package, Path(install.install_lib, NAME))
            copy(resources, stage, Path(install.install_data))
        else:
            copy(generated, package, Path(self.build_lib, NAME))
            self.distribution.data_files = [(str(path.parent.relative_to(stage)), [str(path)]) for path in resources]

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return ["CMakeLists.txt", "package.xml", *(str(path.relative_to(ROOT)) for path in ROOT.glob("[ms][sr][gv]/*"))]


class PlatformDistribution(Distribution):
    """The wheel holds compiled type support, so it is bound to this platform and Python."""

    def has_ext_modules(self) -> bool:
        return True


build.sub_commands.append(("build_interfaces", None))

setup(cmdclass={"build_interfaces": BuildInterfaces}, distclass=PlatformDistribution)
