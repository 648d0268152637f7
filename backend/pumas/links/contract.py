"""Wire models of the link methods' parameters. Paths are absolute. What they answer with is `results.py`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pumas.library.contract import ModelIds, ModelIdText
from pumas.rpc.models import MAX_LIST, Params, PathText

App = Annotated[str, Field(max_length=200, description="The app; compared without case.")]
Tag = Annotated[str, Field(min_length=1, max_length=200, description="The tag of an installed version.")]
PlanId = Annotated[str, Field(max_length=200)]
PLAN = "From `preview_model_mapping`: apply only if that is still what would be done."
COPY = "Copy files where no link can be made; without this they are left out."
REPLACE = (
    "Where the version's models folder is a link that leads elsewhere (`models_link` of the preview): move that link "
    "aside and make a folder in its place; without this nothing is linked there. What lies where it leads is not "
    "touched."
)
DEFAULT = "comfyui"


class OfApp(Params):
    app_id: App = DEFAULT


class OfVersion(OfApp):
    version_tag: Tag


class PreviewMapping(OfVersion):
    allow_copy: bool = Field(False, description=COPY)
    replace_models_link: bool = Field(False, description=REPLACE)


class ApplyMapping(PreviewMapping):
    plan_id: PlanId | None = Field(None, description=PLAN)


class SyncModels(OfVersion):
    model_ids: ModelIds


class SyncWithResolutions(ApplyMapping):
    resolutions: dict[ModelIdText, Annotated[str, Field(max_length=100)]] = Field(
        description="Model id to `skip`, `overwrite` (what is in the way is kept in a folder of its own) or `rename` "
        "(it is kept beside the link as `<name>.old`). Models that are not named are skipped.",
        max_length=MAX_LIST,
    )


class LinksOfModel(Params):
    model_id: ModelIdText


class ListLinks(Params):
    app_id: App | None = None
    version_tag: Tag | None = None
    limit: int = Field(1000, ge=1, le=10_000)
    offset: int = Field(0, ge=0, le=2**31)


class LinkHealth(OfApp):
    version_tag: Tag | None = Field(None, description="Look for orphans in this version; null looks in none.")


class RemoveOrphans(OfVersion):
    paths: list[PathText] = Field(
        [],
        max_length=MAX_LIST,
        description="Also these links, of `orphaned_links`, that we did not make; they are moved aside, not deleted.",
    )
