"""Print the version.

example:
  streamkit version --json
"""

from __future__ import annotations

import argparse
import json
import platform

from streamkit._version import __version__
from streamkit.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as one JSON object, with Python's version")


def run(options: argparse.Namespace, config: Config) -> int:
    if options.json:
        print(json.dumps({"version": __version__, "python": platform.python_version()}))
    else:
        print(f"streamkit {__version__}")
    return 0
