"""Plays the examples of `contracts/examples/` against a real sidecar and compares each reply, field by field.

An example is one JSON file: `files` (the user's files, reachable as `$files/NAME`), `root` (files below the launcher
root), `user` (files below the user's home), `hub` (the sidecar's hub is the test hub, `$hub`, asked with the given
`token`), `releases` (GitHub and the package index are the test server, `$releases`, with the given `latency_s`),
`git` (repositories, `$git/NAME.git`, each with its files; `checkout` is the one that
the launcher was cloned from), `before` (calls made first;
`as` names their result, `${name.key}` quotes it, `until` repeats the call until the job or download is in that state),
`params`, and the `result` or `error` that must come; `{"$matches": "flag"}` stands for any value of a kind. Fields
that differ from run to run are named in `contracts/volatile.json`, nowhere else.

`python tests/contract/replay.py --record` fills in the replies of examples that have none, for a person to read.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import json
import os
import re
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT / "tests"), str(PROJECT / "backend")]

import sidecar as running  # noqa: E402
from contract import heard  # noqa: E402
from fixtures.git import GitServer  # noqa: E402
from fixtures.hub import Hub  # noqa: E402
from fixtures.hub.steering import environment  # noqa: E402
from fixtures.releases import ReleaseServer  # noqa: E402

EXAMPLES = PROJECT / "contracts" / "examples"
VOLATILE: dict[str, str] = json.loads((PROJECT / "contracts" / "volatile.json").read_text())

_MATCHERS = {
    "time": lambda v: v is None or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", str(v)) is not None,
    "text": lambda v: v is None or isinstance(v, str),
    "number": lambda v: v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)),
    "flag": lambda v: isinstance(v, bool),
    "list": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}


def all_examples() -> list[Path]:
    return sorted(EXAMPLES.glob("*/*.json"))


def content(spec: dict[str, Any]) -> bytes:
    """The bytes of a file: `text`, `hex`, `json`, `gguf` with string metadata, or `hub`: owner/name/path there."""
    if "hub" in spec:
        owner, name, path = spec["hub"].split("/", 2)
        data = usual_hub().content.repos[f"{owner}/{name}"].file(path).data
        assert isinstance(data, bytes)
        return data
    if "gguf" in spec:
        return gguf(spec["gguf"])
    if "json" in spec:
        return json.dumps(spec["json"]).encode()
    return bytes.fromhex(spec["hex"]) if "hex" in spec else spec["text"].encode()


def gguf(metadata: dict[str, str]) -> bytes:
    """A GGUF v3 file without tensors (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    body = b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in metadata.items())
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(metadata)) + body


@functools.cache
def usual_hub() -> Hub:
    """One for all examples: they only read it."""
    hub = Hub().__enter__()
    atexit.register(hub.__exit__, None, None, None)
    return hub


NOWHERE = "http://127.0.0.1:9"
"""Where nobody answers: without a hub of its own, no example may reach a real one."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """For examples that launch an app: one at a time on this machine, as another may take its port before it does."""
    with (Path(tempfile.gettempdir()) / f"pumas-examples-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Stage:
    """One sidecar on a prepared root, for one example."""

    def __init__(self, folder: Path, example: dict[str, Any], backend: str | None = None) -> None:
        """`backend` is the one that the environment names unless given."""
        self.files, self.root = folder / "files", folder / "root"
        self._names: dict[str, Any] = {}
        self._example = example
        asked = example.get("hub")
        self._hub = NOWHERE if asked is None else usual_hub().url
        self._env = environment(self._hub, home=folder / "home", token=(asked or {}).get("token", ""))
        self._releases = ReleaseServer() if "releases" in example else None
        if backend is not None:
            self._env[running.RUST_SWITCH] = "1" if backend == "rust" else "0"
        self._env["PUMAS_GITHUB_API"] = NOWHERE
        if self._releases is not None:
            self._releases.latency_s = example["releases"].get("latency_s", 0.0)
            self._env |= self._releases.environment()
        # The user's own desktop is left alone: shortcuts go here, and what would be opened is not.
        own = folder / "user"
        self._env |= {"HOME": str(own), "XDG_DATA_HOME": str(own / "data"), "XDG_CONFIG_HOME": str(own / "config")}
        self._env["PUMAS_OPENER"] = shutil.which("true") or ""
        self._git: GitServer | None = None
        if "git" in example:
            self._git = GitServer(folder / "git")
            for name, files in example["git"].items():
                self._git.commit(name, files)
            self._env["PUMAS_GIT_HTTP"] = "loopback"
        # The launcher that is tested is neither updated nor started again.
        self._env |= {"PUMAS_CHECKOUT": str(folder / "checkout"), "PUMAS_LAUNCHER": shutil.which("true") or ""}
        if self._git is not None and "checkout" in example:
            self._git.clone(example["checkout"], folder / "checkout")
        for place, key in ((self.files, "files"), (self.root, "root"), (own, "user")):
            place.mkdir(parents=True, exist_ok=True)
            for name, spec in example.get(key, {}).items():
                path = place / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content(spec))
                if spec.get("executable"):
                    path.chmod(0o755)
                if "size" in spec:  # the rest is a hole, read as zeros
                    os.truncate(path, spec["size"])

    def play(self, method: str) -> dict[str, Any]:
        """The reply without its frame: `{"result": …}` or `{"error": …}`, places written as `$root` and `$files`."""
        methods = [method, *(call["method"] for call in self._example.get("before", []))]
        launches = any(name.startswith("launch_") for name in methods)
        with alone() if launches else contextlib.nullcontext(), self.ready() as sidecar:
            reply = sidecar.rpc(method, self.params())
        assert reply.pop("jsonrpc") == "2.0"
        assert reply.pop("id") == 1
        return self._unfill(reply)

    @contextlib.contextmanager
    def ready(self) -> Iterator[running.Sidecar]:
        """The sidecar, once everything was done that comes before the call."""
        with self._releases or contextlib.nullcontext(), self._git or contextlib.nullcontext():
            sidecar = running.start(self.root, env=self._env)
            try:
                with heard.listening(sidecar) as events:
                    for call in self._example.get("before", []):
                        self._before(sidecar, call)
                    yield sidecar
            finally:
                sidecar.close()
            assert heard.wrong(events) == []

    def params(self) -> Any:
        """The call's parameters, once the sidecar is ready."""
        return self._fill(self._example["params"])

    def _before(self, sidecar: running.Sidecar, call: dict[str, Any]) -> None:
        def done() -> bool:
            result = self._names[call.get("as", "")] = sidecar.result(
                call["method"], self._fill(call.get("params", {}))
            )
            one = result.get("job", result) if isinstance(result, dict) else {}
            return "until" not in call or call["until"] in (one.get("state"), one.get("status"))

        running.eventually(done, what=f"{call['method']} until {call.get('until')}")

    def _fill(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fill(item) for item in value]
        if not isinstance(value, str):
            return value
        quoted = re.sub(r"\$\{(\w+)\.(\w+)\}", lambda m: self._names[m[1]][m[2]], value)
        if self._git is not None:
            quoted = quoted.replace("$git", self._git.url)
        return quoted.replace("$files", str(self.files)).replace("$root", str(self.root)).replace("$hub", self._hub)

    def _unfill(self, value: Any) -> Any:
        text = json.dumps(value).replace(str(self.files), "$files").replace(str(self.root), "$root")
        text = text.replace(self._hub, "$hub").replace(self._hub.removeprefix("http://"), "$hub_host")
        if self._git is not None:
            text = text.replace(self._git.url, "$git")
        if self._releases is not None:
            text = text.replace(self._releases.url, "$releases")
        for name, result in self._names.items():
            for key in ("job_id", "trash_id", "download_id"):
                if isinstance(result, dict) and result.get(key):
                    text = text.replace(result[key], f"${{{name}.{key}}}")
        return json.loads(text)


def differences(expected: Any, got: Any, where: str = "") -> list[str]:
    """Where `got` is not what the example says."""
    key = where.rpartition(".")[2]
    if key in VOLATILE:
        same = expected == got and type(expected) is type(got)
        return [] if same or _MATCHERS[VOLATILE[key]](got) else [f"{where}: {got!r} is no {VOLATILE[key]}"]
    if isinstance(expected, dict) and "$matches" in expected:
        return [] if _MATCHERS[expected["$matches"]](got) else [f"{where}: {got!r} is no {expected['$matches']}"]
    if isinstance(expected, dict) and isinstance(got, dict):
        found = [f"{where}: {k!r} only in the {'example' if k in expected else 'reply'}" for k in expected.keys() ^ got]
        for name in expected.keys() & got.keys():
            found += differences(expected[name], got[name], f"{where}.{name}")
        return found
    if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        pairs = enumerate(zip(expected, got, strict=True))
        return [found for i, (one, other) in pairs for found in differences(one, other, f"{where}.{i}")]
    return [] if expected == got and type(expected) is type(got) else [f"{where}: {expected!r} expected, {got!r} came"]


def left_open(example: Any, reply: Any) -> Any:
    """The reply, with what the example leaves open in it left open."""
    if isinstance(example, dict) and "$matches" in example:
        return example
    if isinstance(example, dict) and isinstance(reply, dict):
        return {key: left_open(example.get(key), value) for key, value in reply.items()}
    if isinstance(example, list) and isinstance(reply, list) and len(example) == len(reply):
        return [left_open(*pair) for pair in zip(example, reply, strict=True)]
    return reply


def play(path: Path, backend: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the example, the reply that came); from the backend that the environment names unless given."""
    example = json.loads(path.read_text(encoding="utf-8"))
    method = path.name.rsplit(".", 2)[0]
    with tempfile.TemporaryDirectory() as folder:
        return example, Stage(Path(folder), example, backend).play(method)


def record() -> None:
    for path in all_examples():
        example = json.loads(path.read_text(encoding="utf-8"))
        if "result" in example or "error" in example:
            continue
        _, reply = play(path)
        path.write_text(json.dumps(example | reply, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path.relative_to(EXAMPLES)}: {json.dumps(reply)[:300]}")


if __name__ == "__main__":
    if sys.argv[1:] != ["--record"]:
        sys.exit(__doc__)
    record()
