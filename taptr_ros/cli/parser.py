"""The argument parser of all commands; it imports nothing that takes time."""

from __future__ import annotations

import argparse
from typing import NoReturn

from taptr_ros.errors import InvalidConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `InvalidConfigError` instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as a sentence that names the help."""
        raise InvalidConfigError(f"{message.rstrip('.')}; see `{self.prog} --help`.")


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Help that keeps the lines of the description and shows a default where there is one to show."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)
