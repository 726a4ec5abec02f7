"""The argument parser of all commands; it imports nothing that takes time."""

from __future__ import annotations

import argparse
import math
from typing import NoReturn

from taptr_ros.errors import InvalidConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `InvalidConfigError` instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as a sentence that names the help."""
        raise InvalidConfigError(f"{message.rstrip('.')}; see `{self.prog} --help`.")


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Help that keeps the lines of the description and shows a default where there is one that it does not name."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_told = action.default in (None, False, [], math.inf) or "(default:" in (action.help or "")
        return action.help if is_told else super()._get_help_string(action)
