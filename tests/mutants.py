"""Weakened copies of our own guards, each of which the tests named for it must notice.

    python tests/mutants.py [--jobs N] [WORD ...]     only mutants whose file or text holds a WORD

Every mutant is one replacement of text in one file, made in a copy of the checkout; then its tests run there. A mutant
that they let pass is shown and makes the exit status 1. Access rules have theirs in `rpc/test_access.py`, where they
are part of every test run; these take a minute. That each still fits its file is tested by `test_mutants.py`.
"""

from __future__ import annotations

import argparse
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
COPIED = ("backend", "tests", "contracts", "pyproject.toml")
FAILED, LIMIT_S = 1, 180.0


@dataclass(frozen=True)
class Suite:
    """Tests that guard one file. `words` choose among them as pytest's `-k` does."""

    file: str
    tests: str
    words: str = ""


@dataclass(frozen=True)
class Mutant:
    suite: Suite
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.suite.file}: {self.old!r} -> {self.new!r}"


LIMIT_TESTS = "tests/faults/test_limits.py"
PATHS = Suite("backend/pumas/storage/paths.py", "tests/storage/test_paths.py")
DISPATCH = Suite("backend/pumas/rpc/dispatch.py", "tests/rpc/test_dispatch.py")
JSON = Suite("backend/pumas/rpc/jsontext.py", "tests/rpc/test_jsontext.py")
HTTP_DOOR = Suite("backend/pumas/rpc/http.py", "tests/rpc/test_http.py")
HTTP_PAGE = Suite("backend/pumas/rpc/http.py", "tests/rpc/test_page.py", "not sidecar")
PAGE = Suite("backend/pumas/rpc/page.py", "tests/rpc/test_page.py", "not sidecar")
SESSION = Suite("backend/pumas/rpc/session.py", "tests/rpc/test_session.py")
HTTP_LIMITS = Suite("backend/pumas/rpc/http.py", LIMIT_TESTS, "body or bodies or chunked or reply")
CONNECTIONS = Suite("backend/pumas/rpc/connections.py", LIMIT_TESTS, "deadline or header or idle or reply")
FRAMING = Suite("backend/pumas/rpc/connections.py", "tests/faults/test_requests.py", "not generated")
TRY_OUT = Suite("backend/pumas/versions/smoke.py", "tests/versions/test_sidecar.py", "outlives")
MARKED = Suite("backend/pumas/versions/running.py", "tests/versions/test_running.py")
ONE_HOST = Suite("backend/pumas/rpc/connections.py", "tests/rpc/test_http.py", "refused_on_every_path")
STREAM = Suite("backend/pumas/events/stream.py", "tests/events/test_stream.py")
SSE = Suite("backend/pumas/rpc/sse.py", "tests/events/test_sse.py")
SEARCH = Suite("backend/pumas/library/search.py", "tests/library/test_search.py")
FILES = Suite("backend/pumas/storage/files.py", "tests/storage/test_files.py")
DATABASE = Suite("backend/pumas/storage/database.py", "tests/storage/test_database.py")
COPY_IN_PLACE = Suite("backend/pumas/storage/database.py", "tests/storage/test_database_copy.py")
COPY = Suite("backend/pumas/storage/database_copy.py", "tests/storage/test_database_copy.py")
OWNER = Suite("backend/pumas/storage/owner.py", "tests/storage/test_owner.py")
TROUBLES = Suite("backend/pumas/storage/troubles.py", "tests/storage/test_troubles.py")
STATE = Suite("backend/pumas/storage/json_file.py", "tests/storage/test_json_file.py")
NUMERALS = Suite("backend/pumas/storage/numerals.py", "tests/storage/test_numerals.py")

WEAKER: dict[Suite, list[tuple[str, str]]] = {
    PATHS: [
        ('part in ("", ".", "..")', 'part in (".", "..")'),
        ("if _FORBIDDEN.search(part):", "if False:"),
        ("_FORBIDDEN.search(part)", "_FORBIDDEN.match(part)"),
        (r"""r'[\x00-\x1f\x7f<>:"|?*\\]'""", r"""r'[\x00-\x1f\x7f<>:"|?*]'"""),
        (r"""r'[\x00-\x1f\x7f<>:"|?*\\]'""", r"""r'[\x00-\x1f\x7f<>"|?*\\]'"""),
        ('in ("Cs", "Cc")', 'in ("Cs",)'),
        ('part.endswith((".", " "))', 'part.endswith(".")'),
        ('part.endswith((".", " "))', 'part.endswith(" ")'),
        (' or part.startswith(" ")', ""),
        ("if _RESERVED.match(part):", "if False:"),
        ('r"(?i)^(con', 'r"^(con'),
        (r"conout\$)(\..*)?$", r"conout\$)$"),
        ("com[0-9¹²³]|lpt[0-9¹²³]", "com[0-9¹²³]"),
        ("MAX_NAME_BYTES = 255", "MAX_NAME_BYTES = 256"),
        ("MAX_NAME_BYTES = 255", "MAX_NAME_BYTES = 254"),
        ("MAX_RELATIVE_BYTES = 1024", "MAX_RELATIVE_BYTES = 10240"),
        ("if length > MAX_RELATIVE_BYTES", "if len(text) > 4 * MAX_RELATIVE_BYTES"),
        ("        _check_part(field, part)\n    return text", "        pass\n    return text"),
        ("for part in text.split", "for part in text[1:].split"),
        ("path = root / relative_path(text, field)", "path = root / text"),
        ("if real == real_root or not real.is_relative_to(real_root):", "if False:"),
        ("real == real_root or not", "not"),
        ("not real.is_relative_to(real_root)", "not str(real).startswith(str(real_root))"),
        ("not real.is_relative_to(real_root)", "False"),
        ("real = Path(os.path.realpath(path))", "real = Path(os.path.abspath(path))"),
        ('if "\\0" in text:\n        raise UnsafePath(field, "must not hold NUL bytes")\n    if', "if"),
        ("if not path.is_absolute():", "if False:"),
        ("if length > MAX_ABSOLUTE_BYTES:", "if False:"),
        ("    except RuntimeError:", "    except KeyError:"),
        ('.strip("-. _")\n    name = re', '.strip("-_")\n    name = re'),
        (r'return _RESERVED.sub(r"\1_\2", name)', "return name"),
        ("[:128].decode", "[:1280].decode"),
        ("    if not name:\n        return fallback\n", ""),
        ('"backslashreplace")\n    return', '"surrogateescape")\n    return'),
        ('c if c.isprintable() else c.encode("unicode_escape").decode()', "c"),
    ],
    DISPATCH: [
        ("MAX_BATCH = 100", "MAX_BATCH = 1000000"),
        ("if len(messages) > MAX_BATCH:", "if len(messages) >= MAX_BATCH:"),
        ("        if not messages:\n", "        if False:\n"),
        ("return answers or None", "return answers"),
        ("(answer := await self._one(message)) is not None]", "(answer := await self._one(message)) or True]"),
        ("if self._in_flight >= MAX_IN_FLIGHT and", "if False and"),
        ("self._in_flight >= MAX_IN_FLIGHT", "self._in_flight > MAX_IN_FLIGHT"),
        (" and not is_builtin(name)", ""),
        ("not is_builtin(name)", "is_builtin(name)"),
        ("        finally:\n            self._in_flight -= 1", "        finally:\n            pass"),
        ("self._in_flight += 1", "self._in_flight += 2"),
        (" if request.id is not NOID else None", ""),
        ('return _error(refused, message["id"]) if "id" in message else None', 'return _error(refused, message["id"])'),
        ('return _error(named, message["id"]) if "id" in message else None', 'return _error(named, None)'),
        ("not isinstance(params, dict):\n", "not isinstance(params, (dict, list)):\n"),
        ("if params is not None and not isinstance(params, dict):", "if params and not isinstance(params, dict):"),
        ('message.get("jsonrpc", "2.0") != "2.0"', 'message.get("jsonrpc", "2.0") not in ("2.0", "1.0")'),
        ('message.get("jsonrpc", "2.0") != "2.0"', 'float(message.get("jsonrpc", "2.0") or 2) != 2.0'),
        ('message.get("jsonrpc", "2.0") != "2.0"', 'message.get("jsonrpc") != "2.0"'),
        ("not isinstance(method, str) or not method", "not method"),
        ("not isinstance(method, str) or not method", "not isinstance(method, str)"),
        ('    if not _is_id(message.get("id")):\n', "    if False:\n"),
        (" and not isinstance(value, bool))", ")"),
        ("isinstance(value, (str, int, float))", "isinstance(value, (str, int))"),
        ("isinstance(value, (str, int, float))", "isinstance(value, (str, int, float, list, dict))"),
        ("return value if _is_id(value) else None", "return value"),
        ("return value if _is_id(value) else None", "return None"),
        ("_usable_id(error.without_numbers)", "None"),
        ("        except NumberTooLarge as error:", "        except NumberTooLarge if False else () as error:"),
        ("    if not isinstance(message, dict):\n        return wire", "    if message is None:\n        return wire"),
        ("            async with asyncio.timeout(CALL_TIMEOUT_S):", "            async with asyncio.timeout(None):"),
        (
            "        except TimeoutError:\n            error = wire.busy",
            "        except KeyError:\n            error = wire.busy",
        ),
        ("_refusal(wire.method_not_found(name))", "_refusal(wire.internal_error())"),
        (
            "    except TypeError:\n        if isinstance(answer, list)",
            "    except KeyError:\n        if isinstance(answer, list)",
        ),
        ("return encode(_error(wire.internal_error(), answer", "return encode(_error(wire.parse_error(''), answer"),
        ('        log.exception("a result has no JSON form")\n', ""),
        ("        if isinstance(answer, list):\n            return b", "        if False:\n            return b"),
    ],
    JSON: [
        ("parse_constant=_refuse_constant, parse_int=_bounded_int, parse_float=_finite)", "parse_int=_bounded_int)"),
        ("parse_int=_bounded_int, parse_float=_finite)", "parse_float=_finite)"),
        ("parse_int=_bounded_int, parse_float=_finite)", "parse_int=_bounded_int)"),
        ("INT_MIN, INT_MAX = -(2**63), 2**64 - 1", "INT_MIN, INT_MAX = -(2**63), 2**64"),
        ("INT_MIN, INT_MAX = -(2**63), 2**64 - 1", "INT_MIN, INT_MAX = -(2**63) - 1, 2**64 - 1"),
        ("INT_MIN, INT_MAX = -(2**63), 2**64 - 1", "INT_MIN, INT_MAX = -(2**63), 2**63 - 1"),
        ("len(digits) > _MAX_INT_CHARS or not", "not"),
        ("    if not math.isfinite(value):", "    if math.isnan(value):"),
        ('body.decode("utf-8")', 'body.decode("utf-8", "replace")'),
        ('body.decode("utf-8")', 'body.decode("utf-8", "surrogatepass")'),
        ('body.decode("utf-8")', 'body.decode("utf-8-sig")'),
        ('body.decode("utf-8")', 'body.decode("latin-1")'),
        ("    except RecursionError:", "    except KeyError:"),
        ("    except json.JSONDecodeError as error:\n        raise", "    except KeyError as error:\n        raise"),
        ("MAX_DEPTH = 64", "MAX_DEPTH = 128"),
        ("            if depth > MAX_DEPTH:", "            if depth >= MAX_DEPTH:"),
        ("            if depth > MAX_DEPTH:", "            if depth > 2 * MAX_DEPTH:"),
        ("        else:\n            depth -= 1\n", ""),
        ('if body.count(b"[") + body.count(b"{") > MAX_DEPTH:', 'if body.count(b"[") > MAX_DEPTH:'),
        ('if body.count(b"[") + body.count(b"{") > MAX_DEPTH:', "if False:"),
        ('if body.count(b"[") + body.count(b"{") > MAX_DEPTH:', 'if body.count(b"{") > MAX_DEPTH:'),
        ("body.replace(b\"\\\\\\\\\", b\"\").replace(b'\\\\\"', b\"\").split(b'\"')[::2]", "[body]"),
        ('body.replace(b"\\\\\\\\", b"").replace', "body.replace"),
        (".replace(b'\\\\\"', b\"\").split", ".split"),
        ("split(b'\"')[::2]", "split(b'\"')[1::2]"),
        ('if bracket in b"[{":', 'if bracket in b"[":'),
        ('    if b"\\\\u" in body:', "    if False:"),
        ("lowered = text.lower()", "lowered = text"),
        ('if "\\\\ud" not in lowered:', 'if "\\\\ud8" not in lowered:'),
        ("    except UnicodeEncodeError:", "    except KeyError:"),
        ("error.without_numbers = _tolerant_decoder.decode(text)", "error.without_numbers = None"),
        ("    if isinstance(value, Encoded):", "    if False:"),
        ('    raise TypeError(f"{type(value).__name__} has no JSON form")', "    return str(value)"),
    ],
    HTTP_DOOR: [
        ("            or guard.check_host(headers.getall(hdrs.HOST, ()))\n", ""),
        ("            or (None if without_token else guard.check_token(headers.getall(hdrs.AUTHORIZATION, ())))\n", ""),
        ("check_origin(headers.getall(hdrs.ORIGIN, ()), ", "check_origin((), "),
        ('headers.getall("Sec-Fetch-Site", ())', "()"),
        (
            "                return _refuse(refusal)\n            return await",
            "                pass\n            return await",
        ),
        ("        if request.method != method:", "        if False:"),
        ("headers.getall(hdrs.CONTENT_TYPE, ()), headers", '("application/json",), headers'),
        (" or access.check_length(request.content_length, limit)", ""),
        ("request.raw_path.partition", "request.path.partition"),
        (' or (question and path not in _WITH_QUERY)', ""),
        (
            "    response.force_close()\n    return response\n\n\ndef _wrong_method",
            "    return response\n\n\ndef _wrong_method",
        ),
        ("            return web.Response(status=204, headers=COMMON_HEADERS)", "            return _json(b'')"),
    ],
    HTTP_PAGE: [
        ("for_page = request.method in _READ and Page.has(path)", "for_page = Page.has(path)"),
        (
            'without_token = for_page or (request.method == hdrs.METH_POST and path == "/session")',
            'without_token = for_page or path.startswith("/session")',
        ),
        ('            and path == "/"\n', ""),
        ("(code is None or not self._codes.redeem(code))", "code is None"),
        ("await self._json_body(request, MAX_SESSION_BYTES)", "await self._body(request, MAX_SESSION_BYTES)"),
    ],
    PAGE: [
        (r"(?:assets/)?[A-Za-z0-9_]", r"(?:[^/]+/)*[A-Za-z0-9_]"),
        (r"(?:assets/)?[A-Za-z0-9_][", r"(?:assets/)?["),
        ("_FILE.fullmatch(path) is not None", "_FILE.match(path) is not None"),
        ("_FOREVER if _HASHED.fullmatch(name) else _ASK_AGAIN", "_FOREVER"),
        ("if _matches(tag, known):", "if known:"),
        ('return {"Server": "pumas", **rules().headers}', 'return {"Server": "pumas"}'),
    ],
    SESSION: [
        ("            del self._expiry[code]\n", "            pass\n"),
        ("if end > now}", "}"),
        ("while len(self._expiry) >= MOST_OPEN:", "while False:"),
        ("hmac.compare_digest(code.encode(), sent)", "code.encode().startswith(sent)"),
        ("CODE_BYTES = 32", "CODE_BYTES = 8"),
    ],
    HTTP_LIMITS: [
        ("MAX_BODY_BYTES = 32 * 1024 * 1024", "MAX_BODY_BYTES = 32 * 1024 * 1024 + 1"),
        ("MAX_BODY_BYTES = 32 * 1024 * 1024", "MAX_BODY_BYTES = 32 * 1024 * 1024 - 1"),
        ("if size > limit:", "if False:"),
        ("if self._buffered > MAX_BUFFERED_BYTES:", "if False:"),
        ("            self._buffered -= size", "            pass"),
        ("asyncio.timeout(BODY_DEADLINE_S)", "asyncio.timeout(None)"),
    ],
    CONNECTIONS: [
        ("        self._arm(HEADER_DEADLINE_S)", "        pass"),
        ("            self._arm(KEEPALIVE_S)", "            pass"),
        ("            transport.abort()", "            pass"),
        ("        if self._loop.time() < self._cut_at:", "        if True:"),
        ('the handler\'s own deadlines hold."""\n        self._cut_at = None', 'the handler\'s own deadlines hold."""'),
        ("HEADER_DEADLINE_S = 10.0", "HEADER_DEADLINE_S = 100.0"),
        ("KEEPALIVE_S = 25.0", "KEEPALIVE_S = 250.0"),
    ],
    FRAMING: [
        ("            self.malformed = True\n", ""),
        ("            request.content.feed_eof()\n", ""),
        ("MAX_HEADER_BYTES = 16 * 1024", "MAX_HEADER_BYTES = 16 * 1024 * 1024"),
        ("text=refusal.message", "text=str(exc)"),
    ],
    TRY_OUT: [(", wholly=True", "")],
    MARKED: [(" or seen.group in marked", ""), ("if seen.pid in marked or", "if")],
    ONE_HOST: [
        ("exc.message.lower() in _NOT_ONE_HOST", "exc.message.lower() in _NOT_ONE_HOST[:1]"),
        ("exc.message.lower() in _NOT_ONE_HOST", "exc.message.lower() in _NOT_ONE_HOST[1:]"),
    ],
    STREAM: [
        ("while len(self._buffer) > REPLAY_EVENTS or", "while"),
        (" or self._buffered_bytes > REPLAY_BYTES", ""),
        ("self._buffered_bytes -= len", "self._buffered_bytes -= 0 * len"),
        ("if len(self._queue) >= QUEUE_EVENTS:", "if False:"),
        ("if after > self._cursor or", "if"),
        (" or after < oldest - 1", ""),
        ("after < oldest - 1", "after < oldest"),
        ('topic == t or topic.startswith(f"{t}.")', "topic.startswith(t)"),
        (
            "        self._queue.clear()\n        self._queue.append(Event(cursor",
            "        self._queue.append(Event(cursor",
        ),
        ("            self._readers.discard(reader)", "            pass"),
    ],
    SSE: [
        ("text.isascii() and text.isdecimal() and len(text) <= 19", "text.isdecimal() and len(text) <= 19"),
        (" and len(text) <= 19", ""),
        ("MAX_TOPICS = 32", "MAX_TOPICS = 3200"),
        ("asyncio.timeout(WRITE_DEADLINE_S)", "asyncio.timeout(None)"),
    ],
    SEARCH: [
        ("min(max(limit, 1), MAX_LIMIT)", "min(limit, MAX_LIMIT)"),
        ("min(max(limit, 1), MAX_LIMIT)", "max(limit, 1)"),
        ("words(text[:MAX_TEXT])))[:MAX_TERMS]", "words(text[:MAX_TEXT])))"),
        ("word[:MAX_TERM]", "word"),
        ("words(text[:MAX_TEXT])", "words(text)"),
    ],
    STATE: [
        (" | os.O_NONBLOCK", ""),
        ("        if status.st_size > MAX_STATE_BYTES:", "        if False:"),
        ("    if not isinstance(value, dict):\n", "    if False:\n"),
        (
            "        if reason is None:\n            return Loaded(None)",
            "        if True:\n            return Loaded(None)",
        ),
        ("        was_good = before is not None\n", "        was_good = True\n"),
        (
            "            put_aside(path)\n        try:\n            write_durably",
            "            pass\n        try:\n            write_durably",
        ),
        ("value = load(path).value or {}", "value = parse_object(path) if path.exists() else {}"),
    ],
    NUMERALS: [
        (" and now == orjson.loads(digits)", ""),
        ("parse_float=_Numeral", "parse_float=float"),
        ("parse_int=_Numeral", "parse_int=int"),
        ("[\\d.]{16}", "[\\d.]{30}"),
        (" if i < len(olds) else None", ""),
    ],
    FILES: [
        ("            os.fsync(file.fileno())\n", ""),
        ("        raise\n    fsync_folder(path.parent)\n", "        raise\n"),
        ("            temporary.unlink()\n        raise", "            pass\n        raise"),
        ("        os.fsync(fd)\n", "        pass\n"),
        ("        if source.parent != target.parent:\n            fsync", "        if False:\n            fsync"),
        ("            _rename_exclusively(target, source)\n        raise", "            pass\n        raise"),
        ("ctypes.c_uint(_RENAME_NOREPLACE)", "ctypes.c_uint(0)"),
        ("if code not in (errno.ENOSYS, errno.EINVAL):", "if True:"),
        ("        target.mkdir()\n", "        target.mkdir(exist_ok=True)\n"),
        ("os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL", "os.open(target, os.O_WRONLY | os.O_CREAT"),
        ("target.rmdir() if target.is_dir() else target.unlink()", "None"),
        ("not stat.S_ISREG(path.lstat().st_mode)", "not stat.S_ISREG(path.stat().st_mode)"),
        ("        os.link(path, aside)\n", "        os.rename(path, aside)\n"),
        ("match is not None and _is_stale", "_is_stale"),
        ("if pid != os.getpid() and not psutil.pid_exists(pid):", "if True:"),
        ("age > 24 * 3600 or", "age >= 0 or"),
        ("[0-9a-f]{{8}}", "[0-9a-fA-F]{{8}}"),
        ("errno.ENOSPC, errno.EDQUOT, errno.EFBIG", "errno.ENOSPC, errno.EFBIG"),
        ("isinstance(why_not_written(folder), DiskFull)", "why_not_written(folder) is not None"),
        ("    if needed + margin > free:", "    if needed > free + margin:"),
        ("            made.append(path)\n        fsync_folder(path.parent)", "            made.append(path)"),
    ],
    DATABASE: [
        ("if self._open and self._generation == generation:", "if self._open:"),
        ('getattr(conn, "generation", None) != generation', "False"),
        ('for suffix in ("-wal", "-shm"):', "for suffix in ():"),
        ('"disk is full" in text or ', ""),
        (" or isinstance(reason, DiskFull)", ""),
        (" or isinstance(reason, ReadOnly)", ""),
        (', "SQLITE_CANTOPEN"', ""),
        ("            except ReadOnly:\n                self._open_read_only()\n", "            except KeyError:\n"),
        ("            if self._read_only and not self._not_writable():", "            if False:"),
        ("        if conn.in_transaction:\n            conn", "        if False:\n            conn"),
        ("            if version > self._schema.version:\n", "            if False:\n"),
        ("conn.set_progress_handler(lambda: time.monotonic() > end,", "conn.set_progress_handler(lambda: False,"),
        ("        self._on_quarantine(kept, reason)\n", ""),
        ("if _is_damage(error) and not self._read_only:", "if not self._read_only:"),
    ],
    COPY_IN_PLACE: [
        ("                with _transaction(conn):\n                    conn.execute(self._renewal)\n", ""),
    ],
    COPY: [
        ("size < WORTH_BYTES or ", ""),
        ("if size < WORTH_BYTES or is_odd(copy):", "if size < WORTH_BYTES:"),
        ("    if _is_usable(copy, version) and size", "    if size"),
        ("copy.stat().st_size * (_GROWTH + 1) // _GROWTH", "copy.stat().st_size"),
        ("_is_usable(copy, version) and size <= ", "_is_usable(copy, version) and 0 * "),
        ("    if size * _SHARE_OF_FREE_SPACE > free", "    if size > free"),
        ("        if stopped():", "        if False:"),
        ("            temporary.unlink(missing_ok=True)", "            pass"),
        ("            copy.unlink(missing_ok=True)", "            pass"),
        ("_USER_VERSION.unpack(header) == (version,)", "True"),
    ],
    OWNER: [
        ("            raise RootInUse(_describe_owner(self._layout)) from None", "            pass"),
        ("            if is_odd(path):\n", "            if False:\n"),
        ("mode=0o600", "mode=0o644"),
        ("return facts if drift <= START_TOLERANCE_S else None", "return facts"),
        ("return facts if record == LockRecord.of(facts.pid, facts.port) else None", "return facts"),
        ("LockRecord.of(facts.pid, facts.port)", "LockRecord.of(facts.pid, record.port)"),
        ("LockRecord.of(facts.pid, facts.port)", "LockRecord.of(record.pid, facts.port)"),
        ("LockRecord.of(facts.pid, facts.port) else None", "LockRecord.of(facts.pid, facts.port) else facts"),
        ('if fields[0] in (b"Z", b"X"):', "if False:"),
        ('if file.read(len(_RECORD)) in (b"", _RECORD):', "if True:"),
        ("        if parse_rpc_file(layout.rpc_file).pid == os.getpid():", "        if True:"),
        ("and not _parses(layout.rpc_file)", "and False"),
    ],
    TROUBLES: [
        ("if subject not in self._by_subject and len", "if len"),
        ("                self._dropped += 1\n", ""),
        ("if t.kind == kind]", "]"),
        ("self._by_subject.pop(subject, None)", "self._by_subject.pop(subject)"),
    ],
}  # fmt: skip
MUTANTS = [Mutant(suite, old, new) for suite, pairs in WEAKER.items() for old, new in pairs]


class Copy:
    """A checkout of its own for one thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source = PROJECT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, folder / name)

    def unharmed(self, suite: Suite) -> bool:
        """Whether the tests pass on the file as it is; otherwise their failures would prove nothing."""
        return self._run(suite) == 0

    def tests_fail(self, mutant: Mutant) -> bool:
        """Raises ValueError when the copy cannot even be tested."""
        file = self.folder / mutant.suite.file
        text = file.read_text(encoding="utf-8")
        if mutant.old not in text:
            raise ValueError("it no longer fits the file")
        file.write_text(text.replace(mutant.old, mutant.new, 1), encoding="utf-8")
        try:
            return self._run(mutant.suite) == FAILED
        finally:
            file.write_text(text, encoding="utf-8")

    def _run(self, suite: Suite) -> int:
        choice = ["-k", suite.words] if suite.words else []
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *choice, suite.tests]
        try:
            done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return FAILED
        if done.returncode not in (0, FAILED):
            raise ValueError(f"its tests do not run: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done.returncode


def judge(copy: Copy, mutant: Mutant) -> str:
    """Empty when it was noticed."""
    try:
        return "" if copy.tests_fail(mutant) else "survived"
    except ValueError as error:
        return f"unusable ({error})"


def check(mutants: list[Mutant], jobs: int) -> list[str]:
    """What is wrong with which mutant."""
    waiting: queue.SimpleQueue[list[Mutant]] = queue.SimpleQueue()
    for suite in dict.fromkeys(mutant.suite for mutant in mutants):
        waiting.put([mutant for mutant in mutants if mutant.suite == suite])
    wrong: list[str] = []

    def work(folder: Path) -> None:
        copy = Copy(folder)
        while not waiting.empty():
            group = waiting.get()
            sound = copy.unharmed(group[0].suite)
            for mutant in group:
                verdict = judge(copy, mutant) if sound else "unusable (its tests fail without it)"
                print(f"{verdict or 'killed':9} {mutant}", flush=True)
                if verdict:
                    wrong.append(f"{verdict}: {mutant}")

    with tempfile.TemporaryDirectory(prefix="pumas-mutants-") as base:
        threads = [threading.Thread(target=work, args=(Path(base, str(number)),)) for number in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("words", nargs="*", metavar="WORD")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if all(word in str(mutant) for word in options.words)]
    wrong = check(chosen, options.jobs)
    print(f"\n{len(chosen) - len(wrong)} of {len(chosen)} weakened copies were noticed")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
