"""Methods about files that are not in the library yet: what an import dialog asks before it imports."""

from __future__ import annotations

import asyncio

from pumas.errors import FileUnavailable, UnsafePath
from pumas.library import contract as wire
from pumas.library import sources
from pumas.library.formats.detect import FileFormat, detect_format
from pumas.library.formats.embedded import embedded_metadata
from pumas.library.formats.shards import detect_sharded_sets
from pumas.rpc.registry import Methods
from pumas.storage.paths import caller_path


def register(methods: Methods) -> None:
    @methods.row("validate_file_type", wire.FilePath, wire.FileType, errors=[UnsafePath])
    async def validate_file_type(p: wire.FilePath) -> wire.FileType:
        """Say what kind of model file this is, by its content.

        `valid` is false for a file that is none; `detected_type` is `error` when it cannot be read.
        """
        path = caller_path(p.file_path, "file_path")
        try:
            found = await asyncio.to_thread(detect_format, str(path))
        except FileUnavailable as error:
            return wire.FileType(valid=False, detected_type="error", error=str(error))
        return wire.FileType(
            valid=found.format is not FileFormat.UNKNOWN, detected_type=found.format.value, error=found.error
        )

    @methods.row("get_embedded_metadata", wire.FilePath, wire.EmbeddedMetadata, errors=[UnsafePath])
    async def get_embedded_metadata(p: wire.FilePath) -> wire.EmbeddedMetadata:
        """Show what a GGUF or safetensors file says about itself.

        Large arrays and texts are shown in part, and `truncated` says which.
        """
        found = await asyncio.to_thread(embedded_metadata, caller_path(p.file_path, "file_path"))
        return wire.EmbeddedMetadata(
            success=not found.error,
            file_type=found.file_type.value,
            metadata=found.metadata,
            truncated=found.truncated,
            error=found.error or None,
        )

    @methods.row("detect_sharded_sets", wire.FilePaths, wire.ShardGroups)
    async def detect_sharded_set(p: wire.FilePaths) -> wire.ShardGroups:
        """Group files by the model that they are parts of, by their names; they need not exist."""
        groups = await asyncio.to_thread(detect_sharded_sets, p.file_paths)
        return wire.ShardGroups(groups={name: wire.ShardGroup.model_validate(group) for name, group in groups.items()})

    @methods.row("get_file_link_count", wire.FilePath, wire.LinkCount, errors=[UnsafePath, FileUnavailable])
    async def get_file_link_count(p: wire.FilePath) -> wire.LinkCount:
        """Count the names (hard links) that a file has."""
        count = await asyncio.to_thread(sources.link_count, p.file_path)
        return wire.LinkCount(link_count=count, is_hard_linked=count > 1)

    @methods.row("check_files_writable", wire.FilePaths, wire.WritableFiles, errors=[UnsafePath])
    async def check_files_writable(p: wire.FilePaths) -> wire.WritableFiles:
        """Say for each file whether it exists and may be moved away from its folder."""
        found = await asyncio.to_thread(sources.writable, p.file_paths)
        return wire.WritableFiles(
            all_writable=all(file.writable for file in found),
            details=[wire.WritableFile.model_validate(file) for file in found],
        )
