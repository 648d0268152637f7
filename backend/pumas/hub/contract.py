"""Parameters of the hub methods on the wire. `results.py` holds their results."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from pumas.hub.model import DEFAULT_REVISION
from pumas.library.contract import ModelIds, ModelIdText
from pumas.rpc.models import Name, Params, PathText, Text


class SearchHub(Params):
    query: Annotated[str, StringConstraints(max_length=1000)] = Field(
        description="Words of a repository's name, or its address; empty lists what is popular now."
    )
    kind: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Only this task, for example `text-generation`."
    )
    limit: int = Field(25, description="Clamped to 1..100.")


class RelatedModels(Params):
    model_id: ModelIdText = Field(description="The model's path below the library.")
    limit: int = Field(25, description="How many repositories are looked at; clamped to 1..100.")


ADDRESS = (
    "`owner/name`, `owner/name:Q4_K_M`, or an address on the hub; its revision, quantisation and file hold where none "
    "are given besides."
)
Filename = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class GetHubModel(Params):
    repo_id: Text = Field(description=ADDRESS)
    revision: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        DEFAULT_REVISION, description="Branch, tag or commit."
    )
    quant: Name | None = Field(None, description="A quantisation, in any spelling: `Q4_K_M`, `q4_k_m`.")
    filenames: Annotated[list[Filename], Field(max_length=200)] = Field(
        [], description="Files by name; `*` and `?` stand for any characters."
    )
    card: bool = Field(True, description="Fetch the model card's text as well.")


class LookupFile(Params):
    filename: Text = Field("", description="By default the name in `file_path`.")
    file_path: PathText | None = Field(None, description="Absolute path; with it digests are compared.")


class ListDrift(Params):
    model_ids: ModelIds | None = Field(None, description="Only these models; by default all that are from the hub.")
