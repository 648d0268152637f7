"""The sidecar's process has no root certificates in aiohttp, and only there."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pumas import footprint

BACKEND = Path(__file__).resolve().parents[1] / "backend"

PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
os.environ.pop("SSL_CERT_DIR", None)
os.environ["SSL_CERT_FILE"] = sys.argv[2]
from pumas import footprint
footprint.import_server()
import ssl
from aiohttp import connector
of_aiohttp = connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509_ca"]
own = ssl.create_default_context()
footprint.keep_heap_small()
footprint.settle()
print(json.dumps([of_aiohttp, own.cert_store_stats()["x509_ca"], os.environ.get("SSL_CERT_FILE"),
                  "SSL_CERT_DIR" in os.environ, own.verify_mode == ssl.CERT_REQUIRED]))
"""


def test_only_aiohttp_goes_without_certificates(tmp_path: Path) -> None:
    bundle = tmp_path / "roots.pem"
    bundle.write_text(ROOT_CERTIFICATE)
    command = [sys.executable, "-c", PROGRAM, str(BACKEND), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [0, 1, str(bundle), False, True]


# ISRG Root X2 of Let's Encrypt (https://letsencrypt.org/certs/isrg-root-x2.pem), public and short.
ROOT_CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIICGzCCAaGgAwIBAgIQQdKd0XLq7qeAwSxs6S+HUjAKBggqhkjOPQQDAzBPMQsw
CQYDVQQGEwJVUzEpMCcGA1UEChMgSW50ZXJuZXQgU2VjdXJpdHkgUmVzZWFyY2gg
R3JvdXAxFTATBgNVBAMTDElTUkcgUm9vdCBYMjAeFw0yMDA5MDQwMDAwMDBaFw00
MDA5MTcxNjAwMDBaME8xCzAJBgNVBAYTAlVTMSkwJwYDVQQKEyBJbnRlcm5ldCBT
ZWN1cml0eSBSZXNlYXJjaCBHcm91cDEVMBMGA1UEAxMMSVNSRyBSb290IFgyMHYw
EAYHKoZIzj0CAQYFK4EEACIDYgAEzZvVn4CDCuwJSvMWSj5cz3es3mcFDR0HttwW
+1qLFNvicWDEukWVEYmO6gbf9yoWHKS5xcUy4APgHoIYOIvXRdgKam7mAHf7AlF9
ItgKbppbd9/w+kHsOdx1ymgHDB/qo0IwQDAOBgNVHQ8BAf8EBAMCAQYwDwYDVR0T
AQH/BAUwAwEB/zAdBgNVHQ4EFgQUfEKWrt5LSDv6kviejM9ti6lyN5UwCgYIKoZI
zj0EAwMDaAAwZQIwe3lORlCEwkSHRhtFcP9Ymd70/aTSVaYgLXTWNLxBo1BfASdW
tL4ndQavEi51mI38AjEAi/V3bNTIZargCyzuFJ0nN6T5U6VR5CmD1/iQMVtCnwr1
/q4AaOeMSQ+2b1tbFfLn
-----END CERTIFICATE-----
"""


JSONRPC = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pumas import footprint
footprint.import_jsonrpcserver()
from pumas.rpc.dispatch import Dispatcher
during = sorted(name for name in sys.modules if name.split(".")[0] in ("jsonschema", "referencing", "rpds"))
import jsonschema
print(json.dumps([during, hasattr(jsonschema, "Draft202012Validator")]))
"""


def test_jsonrpcserver_comes_without_the_check_that_nobody_uses_and_jsonschema_stays_usable() -> None:
    command = [sys.executable, "-W", "ignore", "-c", JSONRPC, str(BACKEND)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], True]


def test_a_thread_that_gives_way_stands_behind_the_others() -> None:
    found: list[int] = []

    def look() -> None:
        footprint.give_way()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    behind = found[0] > before if sys.platform == "linux" else found[0] == before
    assert behind and os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


HEAP = """
import sys
sys.path.insert(0, sys.argv[1])
from pumas import footprint
if sys.argv[2] == "kept small":
    footprint.keep_heap_small()

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

before, small = resident(), []
for _ in range(3):
    large = [b"x" * (1 << 20) for _ in range(24)]
    small.append(b"y" * 100_000)  # what is freed below it stays in a heap
    del large
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the door")
def test_what_a_large_reply_took_is_given_back() -> None:
    def kept(how: str) -> int:
        command = [sys.executable, "-c", HEAP, str(BACKEND), how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert kept("kept small") < 4 << 20 < kept("as it comes")
