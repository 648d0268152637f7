"""What one domain does when something happens in another. None of them knows the others."""

from __future__ import annotations

from pumas.apps.catalog import DEFAULT_APP, Apps
from pumas.desktop.service import DesktopService
from pumas.links.keeping import LinkKeeper
from pumas.links.service import LinkService
from pumas.nodes.service import NodeService
from pumas.processes.patching import Patching
from pumas.processes.service import ProcessService
from pumas.versions.service import VersionService
from pumas.versions.state import InstalledVersion


def follow_versions(
    versions: VersionService,
    apps: Apps,
    keeper: LinkKeeper,
    links: LinkService,
    nodes: NodeService,
    desktop: DesktopService,
) -> None:
    """Versions that come get their links, those that are gone for good lose them; what is being worked on stays."""

    async def link_models(version: InstalledVersion) -> None:
        if apps.get(version.app_id).models is not None:
            await links.follow_version(version.app_id, version.tag)

    async def remove_shortcuts(app_id: str, tag: str) -> None:
        if app_id == DEFAULT_APP:
            await desktop.remove(tag)

    keeper.ask_removed(versions.is_removed)
    versions.installs.after(link_models)
    versions.after_return(link_models)
    versions.after_loss(links.forget_version)
    versions.after_removal(remove_shortcuts)
    versions.ask_in_use(links.works_on)
    versions.ask_in_use(nodes.works_on)


def follow_runs(
    versions: VersionService, processes: ProcessService, patching: Patching, desktop: DesktopService
) -> None:
    """What runs is neither removed nor replaced; a server that is installed gets its title; pages are shown on the
    desktop."""

    async def name_server(version: InstalledVersion) -> None:
        if version.app_id == DEFAULT_APP:
            await patching.patch(version.tag)

    versions.ask_in_use(processes.runs)
    versions.installs.after(name_server)
    processes.show_pages_by(desktop.open_app)
