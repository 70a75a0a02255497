"""Delete a stream with its records and checkpoints. It cannot be taken back.

On a terminal you are asked first; a script is not.

example:
  streamkit delete clicks
  streamkit delete clicks --yes
"""

from __future__ import annotations

import argparse
import sys

from streamkit.cli.common import add_target, is_meant, open_target, say
from streamkit.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the stream")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_target(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    with open_target(options, config) as kit:
        kit.describe(options.name)  # a wrong name is told before anybody is asked
        if sys.stdin.isatty() and not options.yes and not is_meant(f"stream {options.name} with all its records"):
            say("nothing was deleted")
            return 1
        kit.delete_stream(options.name)
    say(f"stream {options.name} is deleted")
    return 0
