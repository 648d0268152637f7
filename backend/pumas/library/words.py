"""Text as the index sees it: folded words, and the facets by which models are filtered.

The index's tokenizer (FTS5 `unicode61 remove_diacritics 2`, https://www.sqlite.org/fts5.html#unicode61_tokenizer)
splits at everything that is neither letter nor number, and folds case and diacritics. `words` does the same to a query
and to names that are compared outside of SQLite. Nothing here knows SQL.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from bisect import bisect_right

# Letters that unicode61 nevertheless takes for separators (New Tai Lue and Vedic vowel signs that changed category).
_NOT_LETTERS_TO_SQLITE = "\u19b0-\u19c0\u19c8\u19c9\u1cf2\u1cf3"
_DIACRITICS = re.compile("[\u0300-\u036f]+")
# `\w` minus "_" is exactly the letters and numbers.
_WORD = re.compile(rf"[^\W_{_NOT_LETTERS_TO_SQLITE}]+")
_ASCII_WORD = re.compile("[0-9a-z]+")
# A private-use character is a letter to unicode61, and `words` never yields one: no query can reach a facet. All begin
# alike, so that the prefix indexes hold one beginning for each model, not four for each of its facets.
_FACET = "\ue000000"


def words(text: str) -> list[str]:
    """The folded words of `text`, in order."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    decomposed = unicodedata.normalize("NFD", text.encode("utf-8", "replace").decode())
    return _WORD.findall(unicodedata.normalize("NFC", _DIACRITICS.sub("", decomposed)).lower())


@functools.lru_cache(maxsize=1024)
def facet(kind: str, value: str) -> str:
    """The index word for one property, such as ("tag", "chat"); compared exactly, so apply `same` first."""
    property_ = f"{kind}\0{value}".encode("utf-8", "replace")
    return _FACET + hashlib.blake2b(property_, digest_size=6).hexdigest()


# Lower bounds in GiB of the bands by which models are filtered by size.
_SIZE_BANDS = (0, 1, 4, 8, 16, 32, 64)


def size_band(size: int) -> str:
    """The lower bound in GiB, as text, of the band that a size in bytes falls into: `0`, `1`, `4`, … `64`."""
    return str(_SIZE_BANDS[bisect_right(_SIZE_BANDS, size >> 30) - 1])


def same(text: str) -> str:
    """The form in which two tags are equal: composed, without case."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()
