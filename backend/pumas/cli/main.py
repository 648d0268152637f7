"""Entry of the `pumas` command: sends `serve` on its short way, everything else to the command tree.

`serve` must start fast, so it is recognised before typer and rich are imported.
"""

from __future__ import annotations

import sys

from pumas import utf8


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status (see `exits.py`)."""
    if arguments is None:
        utf8.ensure()
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["serve"]:
        from pumas.cli.serve import is_rust, serve

        if not is_rust(words[1:]):
            from pumas import footprint

            footprint.import_server()
        return serve(words[1:])
    from pumas.cli.tree import run

    return run(words)
