"""The methods about sizes of releases: wire models in, plain values out, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pumas.errors import InvalidInput, ReleaseNotFound, UnknownApp
from pumas.rpc.models import NoParams
from pumas.rpc.registry import Methods
from pumas.versions import contract as wire
from pumas.versions.service import VersionService

if TYPE_CHECKING:
    from pumas.versions.sizes import ReleaseSize

_OF_RELEASE = (UnknownApp, InvalidInput, ReleaseNotFound)


def register(methods: Methods, versions: VersionService) -> None:
    @methods.row("calculate_release_size", wire.CalculateSize, wire.ReleaseSizeInfo, errors=[*_OF_RELEASE])
    async def calculate_release_size(p: wire.CalculateSize) -> wire.ReleaseSizeInfo:
        """How much a release weighs with all it depends on, found out from metadata; nothing is built.

        Answers within seconds, at worst with an estimate while the calculation goes on; there is a number ever after.
        """
        return _info(await versions.offers.size(p.tag, p.app_id, force=p.force_refresh))

    @methods.row("calculate_all_release_sizes", NoParams, wire.AllSizes, errors=[])
    async def calculate_all_release_sizes(_: NoParams) -> dict[str, Any]:
        """The sizes of all ComfyUI releases that are offered, one key for each tag.

        What is not known yet is calculated behind.
        """
        known, pending = await versions.offers.all_sizes()
        shown: dict[str, Any] = {size.tag: _info(size).model_dump(mode="json") for size in known}
        return {**shown, "sizes": {size.tag: size.total_size for size in known}, "pending": pending}

    @methods.row("get_release_size_info", wire.SizeInfoOf, wire.ReleaseSizeInfo | None, errors=[*_OF_RELEASE])
    async def get_release_size_info(p: wire.SizeInfoOf) -> wire.ReleaseSizeInfo:
        """As `calculate_release_size`, with the archive's size as the caller knows it."""
        size = await versions.offers.size(p.tag, p.app_id)
        return _info(replace(size, archive_size=p.archive_size) if p.archive_size else size)

    @methods.row("get_release_size_breakdown", wire.VersionChoice, wire.SizeBreakdown, errors=[UnknownApp])
    async def get_release_size_breakdown(p: wire.VersionChoice) -> dict[str, Any]:
        """What was calculated before, ready to be shown; empty when nothing was."""
        size = await versions.offers.known_size(p.tag, p.app_id)
        return {} if size is None else _breakdown(size)

    @methods.row("get_release_dependencies", wire.DependenciesOf, list[wire.PackageSize], errors=[UnknownApp])
    async def get_release_dependencies(p: wire.DependenciesOf) -> list[wire.PackageSize]:
        """The packages that a release brings along, largest first, as calculated before."""
        size = await versions.offers.known_size(p.tag, p.app_id)
        listed = _packages(size) if size else []
        return listed if p.top_n is None else listed[: p.top_n]


def _packages(size: ReleaseSize) -> list[wire.PackageSize]:
    return [wire.PackageSize.model_validate(one) for one in size.dependencies]


def _info(size: ReleaseSize) -> wire.ReleaseSizeInfo:
    return wire.ReleaseSizeInfo(
        tag=size.tag,
        total_size=size.total_size,
        total_bytes=size.total_size,
        archive_size=size.archive_size,
        dependencies_size=size.dependencies_size,
        dependency_count=size.dependency_count,
        unknown_size_count=size.unknown_count,
        dependencies=_packages(size),
        requirements_hash=size.requirements_hash,
        calculated_at=size.calculated_at,
        platform=size.platform,
        python_version=size.python_version,
        dependencies_size_source=size.source,
        is_estimated=size.estimated,
    )


def _breakdown(size: ReleaseSize) -> dict[str, Any]:
    from pumas.versions.sizes import formatted

    total = size.total_size
    return {
        "total_size": total,
        "archive_size": size.archive_size,
        "dependencies_size": size.dependencies_size,
        "total_size_formatted": formatted(total),
        "archive_size_formatted": formatted(size.archive_size),
        "dependencies_size_formatted": formatted(size.dependencies_size),
        "archive_percentage": size.archive_size / total * 100 if total else 0.0,
        "dependencies_percentage": size.dependencies_size / total * 100 if total else 0.0,
        "dependency_count": size.dependency_count,
        "unknown_count": size.unknown_count,
    }
