"""What a desktop shell starts: `python rpc_server.py --port 0`.

Prints `RPC_PORT=<n>` on stdout once it listens, logs to stderr and a file, and ends with its parent. The token comes
in the environment variable PUMAS_RPC_TOKEN; without it only programs of the same user are answered.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

PARENT = os.getppid()  # first of all: it may die while the rest is loaded
sys.path.insert(0, str(Path(__file__).resolve().parent))

from pumas import utf8
from pumas.arguments import folder, given, port_number

DEFAULT_ROOT = Path(__file__).resolve().parents[1]
TOKEN_VARIABLE = "PUMAS_RPC_TOKEN"  # noqa: S105 - the variable's name


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="rpc_server.py", description="The Pumas sidecar: JSON-RPC 2.0 on loopback.")
    parser.add_argument(
        "-p", "--port", type=port_number, default=0, help="port to listen on; 0 picks a free one (default)"
    )
    parser.add_argument("--host", type=given, default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("-d", "--debug", action="store_true", help="log more")
    parser.add_argument(
        "--launcher-root",
        "--launcher_root",
        type=folder,
        default=DEFAULT_ROOT,
        metavar="DIR",
        help="folder with launcher-data and shared-resources (default: the checkout)",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    # Taken out of the environment, so that no child process inherits it.
    token = os.environ.pop(TOKEN_VARIABLE, None)
    if token is not None and not token.strip():
        # Whoever sets the variable wants a token; running without one would be the opposite.
        print(f"{TOKEN_VARIABLE} is empty: give it a value, or unset it to run without a token.", file=sys.stderr)
        return 2
    from pumas import footprint

    footprint.import_server()
    from pumas.app import run_sidecar
    from pumas.config import Layout, ServerSettings
    from pumas.rpc.access import LOOPBACK_NAMES

    if token is None and options.host not in LOOPBACK_NAMES:
        print(f"--host {options.host} needs a token: set {TOKEN_VARIABLE}.", file=sys.stderr)
        return 2
    settings = ServerSettings(host=options.host, port=options.port, token=token, debug=options.debug, parent=PARENT)
    return run_sidecar(Layout(options.launcher_root.expanduser().resolve()), settings)


if __name__ == "__main__":
    utf8.ensure()
    sys.exit(main())
