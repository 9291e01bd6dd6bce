"""`python -m docs.site FOLDER` builds the site there; it ends with 1 when something is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path

from .build import build


def main(arguments: list[str]) -> int:
    """Build, and say where it is, or what is wrong."""
    if len(arguments) != 1:
        print("usage: python -m docs.site FOLDER", file=sys.stderr)
        return 2
    site = Path(arguments[0])
    problems = build(site)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"{len(problems)} problems in the site", file=sys.stderr)
        return 1
    print(f"The site is in {site}/index.html")
    return 0


sys.exit(main(sys.argv[1:]))
