"""Says in words of the command line what the sidecar advises in those of the wire: which method, which parameter.

Messages of the sidecar are for every client, so they name methods (`list_apps shows the known ones`). A table, and one
function; with --json messages stay as they are.
"""

from __future__ import annotations

import re

_TYPED = {
    "adopt_models takes them in": "pumas adopt ID takes them in",
    "adopt_models with that folder": "pumas adopt --in DIR ID",
    "import each by its own path": "add --each to import each of them",
    "get_available_versions with force_refresh": "pumas apps versions APP --refresh",
    "get_custom_nodes": "pumas nodes list",
    "get_installed_versions": "pumas apps",
    "get_missing_dependencies": "pumas call get_missing_dependencies",
    "install_version builds it anew": "pumas install APP TAG builds it anew",
    "install_version installs it anew": "pumas install APP TAG installs it anew",
    "install_version installs one": "pumas install APP installs one",
    "install_version_dependencies": "pumas call install_version_dependencies app_id=APP tag=TAG",
    "list_adoptions": "pumas adopt --list",
    "list_apps": "pumas apps",
    "list_jobs": "pumas jobs",
    "list_model_downloads": "pumas downloads --all",
    "list_processes": "pumas ps --all",
    "list_removed_custom_nodes": "pumas nodes trash",
    "list_removed_versions": "pumas apps restore APP",
    "list_trash": "pumas trash",
    "pass allow_duplicate": "add --allow-duplicate",
    "pass any_time to": "give --any-time instead to",
    "pass last": "add --last",
    "pass reinstall": "add --again",
    "pass security_acknowledged": "add --allow-pickle",
    "scan_model_stores": "pumas adopt",
    "set_network_settings turns it off": "pumas call set_network_settings offline=false turns it off",
    "switch_version": "pumas apps use APP TAG",
    "validate_installations with rebuild": "pumas call validate_installations app_id=APP rebuild=true",
}
_KNOWN = re.compile(rf"(?<!pumas call )\b(?:{'|'.join(map(re.escape, _TYPED))})\b")


def typed(message: str) -> str:
    """The message with what to type in the place of what to call."""
    return _KNOWN.sub(lambda found: _TYPED[found[0]], message)
