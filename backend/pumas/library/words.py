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
from collections.abc import Iterable
from itertools import islice

# Letters that unicode61 nevertheless takes for separators (New Tai Lue and Vedic vowel signs that changed category).
_NOT_LETTERS_TO_SQLITE = "\u19b0-\u19c0\u19c8\u19c9\u1cf2\u1cf3"
_DIACRITICS = re.compile("[\u0300-\u036f]+")
# `\w` minus "_" is exactly the letters and numbers.
_WORD = re.compile(rf"[^\W_{_NOT_LETTERS_TO_SQLITE}]+")
_LIKELY = re.compile("[0-9](?<=[a-z]{3}[0-9])")  # most names have no such number, and this is quick to tell
_NUMBERS_AFTER_NAMES = re.compile(r"\b[a-z]{3,}([0-9][0-9a-z]*)\b")
# Thai to Khmer, kana, Han: whole sentences are one word to the tokenizer.
_UNDIVIDED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_MOST_ENDS = 32
_ASCII_WORD = re.compile("[0-9a-z]+")
# A capital behind a small letter, and the last of several before one.
_HUMP = re.compile("(?<=[a-z])(?=[A-Z])|(?<=[0-9A-Z])(?=[A-Z][a-z])")
# A private-use character is a letter to unicode61, and `words` never yields one: no query can reach a facet. All begin
# alike, so that the prefix indexes hold one beginning for each model, not four for each of its facets.
_FACET = "\ue000000"


def words(text: str) -> list[str]:
    """The folded words of `text`, in order."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    decomposed = unicodedata.normalize("NFD", text.encode("utf-8", "replace").decode())
    return _WORD.findall(unicodedata.normalize("NFC", _DIACRITICS.sub("", decomposed)).lower())


def further(folded: Iterable[str]) -> list[str]:
    """What has to stand in the index beside a text with these words, so that what a person types finds it:

    - words that are not ASCII, as the tokenizer folds some in its own way (it keeps the accents of Greek and Cyrillic);
    - their ends, where the script puts nothing between words: a query finds only beginnings;
    - `3` of `qwen3`, so that "qwen 3" finds it as well as `Qwen-3`; `fp16` is no name with a number.
    """
    text = " ".join(folded)
    if text.isascii():
        return _NUMBERS_AFTER_NAMES.findall(text) if _LIKELY.search(text) else []
    found: list[str] = []
    for word in text.split(" "):
        if word.isascii():
            found += _NUMBERS_AFTER_NAMES.findall(word)
        else:
            starts = (match.start() for match in _UNDIVIDED.finditer(word, 1))
            found += [word, *(word[start:] for start in islice(starts, _MOST_ENDS))]
    return found


def humps(text: str) -> list[str]:
    """The folded words of which names are put together: "deep seek" finds `DeepSeek`, "llama" finds `TinyLlama`."""
    if not _HUMP.search(text):
        return []
    parted = (_HUMP.split(word) for word in _WORD.findall(text) if word.isascii())
    return [part.lower() for parts in parted if len(parts) > 1 for part in parts]


def apart(folded: Iterable[str]) -> list[str]:
    """The same words with names and the numbers behind them as words of their own: `llama3` is `llama`, `3`."""
    parts: list[str] = []
    for word in folded:
        match = _NUMBERS_AFTER_NAMES.fullmatch(word)
        parts += [word[: match.start(1)], match[1]] if match else [word]
    return list(dict.fromkeys(parts))


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
