"""The methods of custom nodes: wire models in, plain values out, and back."""

from __future__ import annotations

from pumas.errors import (
    AlreadyExists,
    CorruptState,
    DiskError,
    GitFailed,
    InstallFailed,
    InvalidInput,
    LocalChanges,
    NodeNotFound,
    NotEnoughSpace,
    NotOurCheckout,
    Offline,
    ReadOnly,
    TrashEntryNotFound,
    Unsupported,
    VersionNotFound,
)
from pumas.nodes import contract as wire
from pumas.nodes.service import Answer, NodeService
from pumas.rpc.models import Done
from pumas.rpc.registry import Methods

_DISK = (CorruptState, DiskError, NotEnoughSpace, ReadOnly)
_WHICH = (InvalidInput, VersionNotFound)
_GIT = (GitFailed, InstallFailed, Offline, Unsupported, *_DISK)


def register(methods: Methods, nodes: NodeService) -> None:
    @methods.row("get_custom_nodes", wire.OfVersion, wire.NodeList, errors=[InvalidInput, CorruptState, DiskError])
    async def get_custom_nodes(p: wire.OfVersion) -> wire.NodeList:
        """List the custom nodes of a ComfyUI version; none for one that is not installed."""
        try:
            found = await nodes.list(p.version_tag)
        except VersionNotFound:  # older clients ask for any version
            found = []
        return wire.NodeList(
            nodes=[one.name for one in found], details=[wire.Node.model_validate(one) for one in found]
        )

    @methods.row("install_custom_node", wire.InstallNode, wire.NodeChanged, errors=[*_WHICH, AlreadyExists, *_GIT])
    async def install_custom_node(p: wire.InstallNode) -> wire.NodeChanged:
        """Clone a custom node and record the commit. It is a program: ComfyUI runs it at its next start."""
        return _changed(
            p.node_name or "",
            await nodes.install(
                p.version_tag, p.git_url, p.node_name, commit=p.commit, requirements=p.install_requirements
            ),
        )

    @methods.row(
        "update_custom_node",
        wire.UpdateNode,
        wire.NodeChanged,
        errors=[*_WHICH, NodeNotFound, NotOurCheckout, LocalChanges, *_GIT],
    )
    async def update_custom_node(p: wire.UpdateNode) -> wire.NodeChanged:
        """Go forward to the newest commit of a custom node's branch, unless its files were changed here."""
        return _changed(
            p.node_name, await nodes.update(p.version_tag, p.node_name, requirements=p.install_requirements)
        )

    @methods.row(
        "remove_custom_node",
        wire.OfNode,
        wire.NodeRemoved,
        errors=[*_WHICH, NodeNotFound, *_DISK],
    )
    async def remove_custom_node(p: wire.OfNode) -> wire.NodeRemoved:
        """Move a custom node to the version's trash."""
        return wire.NodeRemoved(trash_id=await nodes.remove(p.version_tag, p.node_name))

    _register_trash(methods, nodes)


def _register_trash(methods: Methods, nodes: NodeService) -> None:
    @methods.row(
        "list_removed_custom_nodes", wire.OfVersion, wire.RemovedNodes, errors=[*_WHICH, CorruptState, DiskError]
    )
    async def list_removed_custom_nodes(p: wire.OfVersion) -> wire.RemovedNodes:
        """What is in a version's trash of custom nodes, newest first."""
        found = await nodes.removed(p.version_tag)
        return wire.RemovedNodes(nodes=[wire.RemovedNodeInfo.model_validate(one) for one in found])

    @methods.row(
        "restore_custom_node",
        wire.InNodeTrash,
        wire.NodeRestored,
        errors=[*_WHICH, TrashEntryNotFound, AlreadyExists, *_DISK],
    )
    async def restore_custom_node(p: wire.InNodeTrash) -> wire.NodeRestored:
        """Put a custom node from the trash back."""
        return wire.NodeRestored(name=await nodes.restore(p.version_tag, p.trash_id))

    @methods.row("purge_removed_custom_node", wire.InNodeTrash, Done, errors=[*_WHICH, TrashEntryNotFound, *_DISK])
    async def purge_removed_custom_node(p: wire.InNodeTrash) -> Done:
        """Remove a custom node from the trash for good."""
        await nodes.purge(p.version_tag, p.trash_id)
        return Done()


def _changed(name: str, answer: Answer) -> wire.NodeChanged:
    done = answer.result or {}
    return wire.NodeChanged(
        name=done.get("name", name),
        commit=done.get("commit"),
        previous_commit=done.get("previous_commit"),
        job_id=answer.job_id,
        pending=answer.result is None,
    )
