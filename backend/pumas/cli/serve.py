"""`pumas serve`: the sidecar in the foreground, with a token of its own that clients find in `rpc.json`.

Imports nothing that the sidecar does not need anyway.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import shutil
import sys
import threading
import time
from pathlib import Path

from pumas.arguments import folder, given, port_number
from pumas.cli import page, rust
from pumas.config import Layout, ServerSettings
from pumas.errors import PumasError
from pumas.rpc.session import LIFE_S, new_code
from pumas.storage.owner import live_owner

TOKEN_VARIABLE = "PUMAS_RPC_TOKEN"  # noqa: S105 - the variable's name
TOKEN_BYTES = 32
EXIT_USAGE = 2


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pumas serve",
        description="Run the sidecar until Ctrl-C. Prints RPC_PORT=<n> on stdout once it listens.",
        epilog=f"A token is made at each start unless {TOKEN_VARIABLE} holds one; clients of the same user find it in "
        "launcher-data/rpc.json. Exit status: 0 stopped, 1 could not start, 2 wrong usage, 3 the root has a sidecar.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "-p", "--port", type=port_number, default=0, help="port to listen on; 0 picks a free one (default)"
    )
    parser.add_argument("--host", type=given, default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--root", type=folder, metavar="DIR", help="folder with the library (default: see pumas --help)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser, also of a sidecar that runs")
    parser.add_argument("--rust", action="store_true", help=f"the Rust backend; {rust.SWITCH}=1 means the same")
    parser.add_argument("-d", "--debug", action="store_true", help="log more")
    parser.add_argument("--parent", type=int, metavar="PID", help="stop when the process that started this, PID, dies")
    return parser


def serve(arguments: list[str]) -> int:
    try:
        options = parser().parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    root = _root(options.root)
    # Taken out of the environment, so that no child process inherits it.
    token = os.environ.pop(TOKEN_VARIABLE, "") or secrets.token_urlsafe(TOKEN_BYTES)
    code = new_code() if options.open else None
    layout = Layout(root)

    def listening(port: int) -> None:
        if options.parent is not None:
            return  # started by a program, which takes the last line for the reason of an end
        url = f"http://{_url_host(options.host)}:{port}"
        command, place = _own_name(), _place(root)
        _say(
            f"Pumas listens on {url} for {root} (Ctrl-C stops it).\n"
            f"In another terminal: {command} import FILE{place}, then {command} search WORDS{place}"
        )

    if is_rust(arguments):
        return _serve_rust(options, layout, token, code, listening)
    return _serve_python(options, layout, token, code, listening)


def is_rust(arguments: list[str]) -> bool:
    return "--rust" in arguments or os.environ.get(rust.SWITCH) == "1"


def _serve_python(
    options: argparse.Namespace, layout: Layout, token: str, code: str | None, listening: rust.Listening
) -> int:
    from pumas.app import EXIT_IN_USE, announce_port, run_sidecar

    settings = ServerSettings(
        host=options.host,
        port=options.port,
        token=token,
        debug=options.debug,
        parent=options.parent,
        session_code=code,
    )

    def announce(port: int) -> None:
        announce_port(port)
        listening(port)
        if code is not None:
            url = f"http://{_url_host(options.host)}:{port}"
            threading.Thread(target=_open, args=(layout, url, code), name="browser", daemon=True).start()

    try:
        status = run_sidecar(layout, settings, announce)
    finally:
        if code is not None:
            page.forget_opener(layout)
    return _open_running(layout.root) if code is not None and status == EXIT_IN_USE else status


def _serve_rust(
    options: argparse.Namespace, layout: Layout, token: str, code: str | None, listening: rust.Listening
) -> int:
    if code is not None and live_owner(layout) is not None:
        return _open_running(layout.root)
    arguments = ["--launcher-root", str(layout.root), "--host", options.host, "--port", str(options.port)]
    arguments += ["--parent", str(options.parent or 0), *(["--debug"] if options.debug else [])]
    environment = {**os.environ, TOKEN_VARIABLE: token, **({} if code is None else {rust.CODE_VARIABLE: code})}

    def then(port: int) -> None:
        listening(port)
        if code is not None:
            _show(layout, f"http://{_url_host(options.host)}:{port}", code)

    def afterwards() -> None:
        if code is not None:
            page.forget_opener(layout)

    aside = rust.Aside(then, afterwards, stays_s=0 if code is None else LIFE_S)
    try:
        return rust.take_over(rust.Run(arguments, environment), layout, aside)
    except PumasError as error:
        _say(f"pumas serve: error: {error}")
        return EXIT_USAGE


def _open(layout: Layout, url: str, code: str) -> None:
    """Open the page, and remove the way to it when its code is too old."""
    if _show(layout, url, code):
        time.sleep(LIFE_S)
        page.forget_opener(layout)


def _show(layout: Layout, url: str, code: str) -> bool:
    try:
        page.open_in_browser(layout, url, code)
    except PumasError as error:
        command = f"{_own_name()} open --url{_place(layout.root)}"
        _say(f"{error} For a browser elsewhere, {command} prints the page's address.")
        return False
    return True


def _open_running(root: Path) -> int:
    """The page of the sidecar that owns the root."""
    from pumas.cli.tree import run

    return run(["open", "--root", str(root)])


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _place(root: Path) -> str:
    return "" if root == _root(None) else f" --root {shlex.quote(str(root))}"


def _root(given: Path | None) -> Path:
    if given is None:
        from pumas.client.discovery import default_root

        given = default_root()
    return given.expanduser().resolve()


def _url_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _own_name() -> str:
    """How the person who reads it can call this command: by name where the shell finds it, else by path."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m pumas"
    found = shutil.which(called.name)
    if found is not None and Path(found).resolve() == called.resolve():
        return called.name
    relative = os.path.relpath(called)
    return relative if len(relative) < len(str(called)) else str(called)
