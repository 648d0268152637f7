"""Wire models of custom nodes."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from pumas.rpc.models import Params, Result

Tag = Annotated[str, Field(max_length=200, description="Of an installed ComfyUI version.")]
NodeName = Annotated[str, Field(max_length=200, description="Of the node's folder.")]
Requirements = Annotated[
    bool, Field(description="Also install its requirements into the version's environment; that may run their code.")
]


class OfVersion(Params):
    version_tag: Tag


class InstallNode(OfVersion):
    legacy_names: ClassVar[dict[str, str]] = {"repo_url": "git_url", "repoUrl": "git_url"}

    git_url: Annotated[str, Field(max_length=1000, description="https://host/path of a git repository.")]
    node_name: NodeName | None = Field(None, description="Left out: the last part of the address.")
    commit: Annotated[str, Field(max_length=200)] | None = Field(
        None,
        description="A branch, which is then followed, a tag, or a commit of its main branch by 7 digits of its id or "
        "more. Left out: the newest commit of its main branch.",
    )
    install_requirements: Requirements = False


class OfNode(OfVersion):
    node_name: NodeName


class UpdateNode(OfNode):
    install_requirements: Requirements = False


class Node(Result):
    name: str
    path: str
    url: str | None = Field(description="Where it was installed from; null for those that were not installed here.")
    commit: str | None = Field(description="The full id that was recorded when it was installed or updated here.")
    installed_at: str | None
    has_requirements: bool
    is_checkout: bool


class NodeList(Result):
    nodes: list[str] = Field(description="Names, in order.")
    details: list[Node]


class NodeChanged(Result):
    name: str
    commit: str | None = Field(description="The full id that it is at now; null while the job is at it.")
    previous_commit: str | None
    job_id: str
    pending: bool = Field(description="Still under way in the job.")


class NodeRemoved(Result):
    trash_id: str = Field(description="For restore_custom_node.")


class InNodeTrash(OfVersion):
    trash_id: Annotated[str, Field(max_length=200)]


class RemovedNodeInfo(Result):
    trash_id: str
    name: str
    url: str | None = Field(description="Where it was installed from; null for those that were not installed here.")
    commit: str | None
    removed_at: str | None


class RemovedNodes(Result):
    nodes: list[RemovedNodeInfo]


class NodeRestored(Result):
    name: str
