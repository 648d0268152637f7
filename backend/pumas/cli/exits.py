"""The exit statuses of the command, told by `pumas --help`."""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
NOT_RUNNING = 3
INTERRUPTED = 130

HELP = f"""Exit status: {OK} done, {FAILED} failed, {USAGE} wrong usage, {NOT_RUNNING} no sidecar reachable \
(for serve: the root has one already), {INTERRUPTED} stopped by Ctrl-C."""
