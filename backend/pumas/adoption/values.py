"""What callers of adoption hand in and get back: plain values without a word about how it is done."""

from __future__ import annotations

from dataclasses import dataclass

from pumas.adoption.store import Adoption
from pumas.library.references import State


@dataclass(frozen=True)
class Wanted:
    """One thing to adopt: by the id of a scan, or by store and name. "" means: find out."""

    id: str | None = None
    store: str | None = None
    name: str | None = None
    revision: str | None = None
    official_name: str = ""
    family: str = ""
    model_type: str = ""
    subtype: str = ""
    tags: tuple[str, ...] = ()
    security_acknowledged: bool = False
    allow_duplicate: bool = False


@dataclass(frozen=True)
class ListedAdoption:
    """A row of the journal with what is true now. `present`: the model is in its place."""

    row: Adoption
    present: bool
    state: State
    official_name: str = ""
