"""Every case of `access_cases.py` over the guards, and over weakened copies of them."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from pumas.rpc import access
from pumas.rpc.http import MAX_BODY_BYTES
from rpc.access_cases import ALL, TOKEN, Case, P

SOURCE = Path(access.__file__)


def status_of(module: Any, case: Case) -> int:
    """What the guards of `module` answer to a case: 0 or a status."""
    guard = module.Guard(P, TOKEN)
    values = case.filled(P, TOKEN)
    refusal = {
        "host": lambda: guard.check_host(values),
        "origin": lambda: guard.check_origin(values, ()),
        "site": lambda: guard.check_origin((), values),
        "token": lambda: guard.check_token(values),
        "content": lambda: module.check_content(values, ()),
        "encoding": lambda: module.check_content(("application/json",), values),
        "length": lambda: module.check_length(int(values[0]) if values else None, MAX_BODY_BYTES),
    }[case.guard]()
    return 0 if refusal is None else refusal.status


@pytest.mark.parametrize("case", ALL, ids=lambda c: f"{c.guard}-{c.status}-{c.values!r}"[:80])
def test_case(case: Case) -> None:
    assert status_of(access, case) == case.status


def test_the_table_has_positive_and_negative_cases_for_every_guard() -> None:
    for guard in {case.guard for case in ALL}:
        answers = {case.status == 0 for case in ALL if case.guard == guard}
        assert answers == {True, False}, guard


def test_hosts_given_by_the_user_are_names_of_ours_too() -> None:
    guard = access.Guard(P, TOKEN, ["192.168.1.5", "fd00::5"])
    for good in (f"192.168.1.5:{P}", f"[fd00::5]:{P}", f"127.0.0.1:{P}"):
        assert guard.check_host([good]) is None, good
        assert guard.check_origin([f"http://{good}"], ()) is None, good
    for bad in (f"192.168.1.6:{P}", f"fd00::5:{P}", f"192.168.1.5.evil.example:{P}", f"[192.168.1.5]:{P}"):
        assert guard.check_host([bad]) is not None, bad
        assert guard.check_origin([f"http://{bad}"], ()) is not None, bad


def test_without_a_token_the_other_guards_hold() -> None:
    guard = access.Guard(P, None)
    assert not guard.needs_token
    assert guard.check_token([]) is None
    for case in ALL:
        if case.guard in ("host", "origin"):
            check = guard.check_host if case.guard == "host" else lambda v: guard.check_origin(v, ())
            assert (check(case.filled(P, TOKEN)) is None) == (case.status == 0), case


def test_refusals_quote_nothing() -> None:
    for case in ALL:
        values = case.filled(P, TOKEN)
        guard = access.Guard(P, TOKEN)
        refusal = {
            "host": lambda v=values, g=guard: g.check_host(v),
            "origin": lambda v=values, g=guard: g.check_origin(v, ()),
            "token": lambda v=values, g=guard: g.check_token(v),
        }.get(case.guard, lambda: None)()
        if refusal is not None:
            assert TOKEN not in refusal.message
            assert "evil" not in refusal.message


# -- weakened copies ------------------------------------------------------------------------------------------------

MUTANTS = [
    ("len(values) == 1 and values[0]", "values and values[0]"),
    ("len(values) == 1 and values[0]", "len(values) <= 2 and values[-1:] and values[-1]"),
    (".lower() in self._hosts", ".lower().startswith(tuple(self._hosts))"),
    (".lower() in self._hosts", ".lower().endswith(tuple(self._hosts))"),
    (".lower() in self._hosts", ".lower().split(':')[0] in {h.split(':')[0] for h in self._hosts}"),
    (".lower() in self._hosts", ".strip().lower() in self._hosts"),
    (".lower() in self._hosts", ".casefold() in self._hosts"),
    (".lower() in self._hosts", " in self._hosts"),
    (".lower() in self._hosts", ".lower() not in self._hosts"),
    ("Refusal(421", "Refusal(403"),
    ('LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")', 'LOOPBACK_NAMES = ("127.0.0.1", "localhost")'),
    ('LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")', 'LOOPBACK_NAMES = ("127.0.0.1", "::1")'),
    (
        'LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")',
        'LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1", "0.0.0.0")',
    ),
    ('("none", "same-origin")', '("none", "same-origin", "same-site")'),
    ('("none", "same-origin")', '("none", "same-origin", "cross-site")'),
    ('("none", "same-origin")', '("none",)'),
    ('("none", "same-origin")', '("same-origin",)'),
    ("if any(site", "if all(site"),
    ("if any(site", "if fetch_sites and all(site"),
    (" or len(origins) > 1", ""),
    ("not in self._origins", "in self._origins"),
    ("if origins and origins[0] not in self._origins", "if False"),
    ("origins[0] not in self._origins", "not origins[0].startswith(tuple(self._origins))"),
    ("origins[0] not in self._origins", "origins[0].strip() not in self._origins"),
    ("origins[0] not in self._origins", "origins[0] not in (*self._origins, 'null')"),
    ("origins[0] not in self._origins", "origins[0] and origins[0] not in self._origins"),
    ("origins[0] not in self._origins", "origins[0].replace('https', 'http') not in self._origins"),
    ("origins[0] not in self._origins", "not any(o.rsplit(':', 1)[0] in origins[0] for o in self._origins)"),
    ("_FOREIGN = Refusal(403", "_FOREIGN = Refusal(401"),
    ("if self._token is None:", "if True:"),
    ('values[0].partition(" ") if len(values) == 1', 'values[0].partition(" ") if values'),
    ('values[0].partition(" ") if len(values) == 1', 'values[-1].partition(" ") if values'),
    (' and scheme.lower() == "bearer"', ""),
    ('scheme.lower() == "bearer"', 'scheme == "Bearer"'),
    ('scheme.lower() == "bearer"', 'scheme.lower() != "bearer"'),
    ("hmac.compare_digest(given_bytes, self._token)", "self._token.startswith(given_bytes)"),
    ("hmac.compare_digest(given_bytes, self._token)", "given_bytes.startswith(self._token)"),
    ("hmac.compare_digest(given_bytes, self._token)", "given_bytes in self._token"),
    ("hmac.compare_digest(given_bytes, self._token)", "given_bytes.lower() == self._token.lower()"),
    ("hmac.compare_digest(given_bytes, self._token)", "len(given_bytes) == len(self._token)"),
    ("hmac.compare_digest(given_bytes, self._token)", "hmac.compare_digest(given.strip(), self._token.decode())"),
    ("Refusal(401", "Refusal(403"),
    ("if encodings:", "if False:"),
    ("if encodings:", "if any(encodings):"),
    ("if encodings:", "if encodings and encodings[0] != 'identity':"),
    ('!= "application/json"', '!= "text/plain"'),
    ('media.strip().lower() != "application/json"', 'not media.strip().lower().startswith("application/json")'),
    ('media.strip().lower() != "application/json"', 'not media.strip().lower().endswith("json")'),
    ('media.strip().lower() != "application/json"', '"application/json" not in content_types[0:1][0].lower()'),
    ('media.strip().lower() != "application/json"', 'media and media.strip().lower() != "application/json"'),
    (' or charset not in ("", "charset=utf-8", "charset=utf8")', ""),
    ('content_types[0].partition(";") if len(content_types) == 1', 'content_types[0].partition(";") if content_types'),
    ("length > limit", "length >= limit"),
    ("length > limit", "length < limit"),
    ("length is not None and length > limit", "False"),
]


def load_copy(text: str) -> types.ModuleType:
    spec = importlib.util.spec_from_loader("access_copy", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["access_copy"] = module
    exec(compile(text, "access_copy", "exec"), module.__dict__)  # noqa: S102 - our own source, changed
    return module


def noticed(module: Any) -> bool:
    for case in ALL:
        try:
            if status_of(module, case) != case.status:
                return True
        except Exception:
            return True
    return False


def test_weakened_guards_are_noticed() -> None:
    text = SOURCE.read_text(encoding="utf-8")
    assert not noticed(load_copy(text))
    missed = []
    for old, new in MUTANTS:
        assert old in text, f"the mutant {old!r} no longer fits the source"
        if not noticed(load_copy(text.replace(old, new, 1))):
            missed.append((old, new))
    assert len(missed) <= len(MUTANTS) * 0.05, missed
