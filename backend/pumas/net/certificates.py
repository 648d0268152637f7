"""All certificates that the user trusts in one file: git, uv and pip read one, instead of the system's."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

from pumas.storage.files import make_folders, write_durably

_HASH_LINK = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""How OpenSSL finds a certificate in a folder: https://docs.openssl.org/master/man1/openssl-rehash/"""


def gathered(bundle: str, target: Path) -> str:
    """Write the system's roots and those of `bundle` to `target`. Which to trust: `bundle` itself where that fails."""
    try:
        data = b"\n".join([*_system(), Path(bundle).read_bytes()])
        make_folders(target.parent)
        write_durably(target, data)
    except OSError:
        return bundle
    return str(target)


def _system() -> Iterator[bytes]:
    """PEM of what OpenSSL trusts by itself, or Mozilla's where the system has nothing."""
    loaded = ssl.create_default_context().get_ca_certs(binary_form=True)
    for certificate in loaded:
        yield ssl.DER_cert_to_PEM_cert(certificate).encode()
    folder = ssl.get_default_verify_paths().capath
    if not loaded and folder:  # it looks into folders only when it needs a certificate
        loaded = [file for file in sorted(Path(folder).iterdir()) if _HASH_LINK.fullmatch(file.name)]
        for file in loaded:
            with contextlib.suppress(OSError):
                yield file.read_bytes()
    if not loaded:
        from requests.utils import DEFAULT_CA_BUNDLE_PATH

        yield Path(DEFAULT_CA_BUNDLE_PATH).read_bytes()
