"""Which file of a release is downloaded for this machine."""

from __future__ import annotations

from pumas.apps.description import AppDescription, this_platform
from pumas.errors import ReleaseNotFound
from pumas.versions.checksums import list_for
from pumas.versions.fetching import Archive, published_digest
from pumas.versions.releases import Release


def archive_of(app: AppDescription, release: Release) -> Archive:
    """What to download for this machine.

    Raises:
        ReleaseNotFound: the release has nothing for it.
    """
    if app.package.kind == "source":
        for key, ending in (("zipball_url", "zip"), ("tarball_url", "tar.gz")):
            url = release.raw.get(key)
            if isinstance(url, str) and url.startswith(("http://", "https://")):
                return Archive(url, f"{release.tag}.{ending}")
        raise ReleaseNotFound(app.name, release.tag, "has no archive")
    named = {str(asset.get("name")): asset for asset in release.assets}
    name = app.package.choose(list(named))
    if name is None:
        raise ReleaseNotFound(app.name, release.tag, f"has nothing for this machine ({this_platform()})")
    asset = named[name]
    size, url = asset.get("size"), asset.get("browser_download_url")
    if not isinstance(url, str):
        raise ReleaseNotFound(app.name, release.tag, "does not say where its files are")
    if not isinstance(size, int) or not 0 < size < 2**47:
        return Archive(url, name)
    digest = published_digest(asset.get("digest"))
    listed = named.get(list_for(name, named) or "", {}).get("browser_download_url") if digest is None else None
    return Archive(url, name, size, digest, listed if isinstance(listed, str) else None)
