"""Every failure a caller can meet, as a tree of exceptions that carry facts.

Services raise these; nothing here knows about HTTP or JSON-RPC. `contracts/errors.json` gives each `kind` its code on
the wire, and a test fails when a class has no entry there. A message is one sentence that says what to do; it never
holds a token, a traceback, or bytes read from a file.
"""

from __future__ import annotations

from typing import ClassVar


class PumasError(Exception):
    """Base of all expected failures. `kind` is the stable, machine-readable name."""

    kind: ClassVar[str] = "operation_failed"


class InvalidInput(PumasError):
    """A value from the caller is well-formed JSON but cannot be used."""

    kind = "invalid_input"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


class UnsafePath(InvalidInput):
    """A path or name would leave the folder it belongs to, or could not exist on every supported system."""

    kind = "unsafe_path"


class FileUnavailable(PumasError):
    """A file that the caller named is missing, not a regular file, or cannot be read."""

    kind = "file_unavailable"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name


class NotAModel(PumasError):
    """The given file or folder holds nothing that can be imported as a model."""

    kind = "not_a_model"


class SeveralModels(NotAModel):
    """A folder holds models that have nothing to do with each other; `candidates` are their paths."""

    kind = "several_models"

    def __init__(self, name: str, candidates: list[str]) -> None:
        shown = ", ".join(path.rsplit("/", 1)[-1][:80] for path in candidates[:5])
        more = f" and {len(candidates) - 5} more" if len(candidates) > 5 else ""
        super().__init__(f"{name} holds {len(candidates)} models ({shown}{more}); import each by its own path.")
        self.candidates = candidates


class MalformedModelFile(PumasError):
    """A model file's header is damaged, hostile, or larger than any real one."""

    kind = "malformed_model_file"


class PickleNotAcknowledged(PumasError):
    """The file can run code when an app loads it, and the caller did not accept that."""

    kind = "pickle_not_acknowledged"


class DuplicateModel(PumasError):
    """The same bytes are already in the library."""

    kind = "duplicate_model"

    def __init__(self, model_id: str) -> None:
        super().__init__(f"These bytes are already in the library as {model_id}; pass allow_duplicate to import again.")
        self.model_id = model_id


class ModelNotFound(PumasError):
    kind = "model_not_found"

    def __init__(self, model_id: str) -> None:
        super().__init__(f"No model {model_id[:200]!r} in the library.")
        self.model_id = model_id


class TrashEntryNotFound(PumasError):
    kind = "trash_entry_not_found"

    def __init__(self, trash_id: str, listing: str = "list_trash") -> None:
        super().__init__(f"No entry {trash_id[:100]!r} in the trash; {listing} shows what can be restored.")


class AlreadyExists(PumasError):
    """The place where something should go is taken; nothing was changed."""

    kind = "already_exists"


class JobNotFound(PumasError):
    kind = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"No job {job_id[:100]!r}; list_jobs shows the known ones.")


class WrongJobState(PumasError):
    """The job cannot do that now, for example pausing a job that has finished."""

    kind = "wrong_job_state"


class Cancelled(PumasError):
    kind = "cancelled"


class Interrupted(PumasError):
    """Work stopped because the sidecar stopped; it can be resumed."""

    kind = "interrupted"


class NotEnoughSpace(PumasError):
    kind = "disk_full"

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(f"Not enough disk space: {needed:,} bytes needed, {free:,} free. Free some and try again.")
        self.needed, self.free = needed, free


class ReadOnly(PumasError):
    kind = "read_only"


class DiskError(PumasError):
    """The operating system refused or failed to read or write; the message names the operation and the error."""

    kind = "disk_error"


class CorruptState(PumasError):
    """A state file exists but cannot be read, and neither can its backup; nothing destructive is done on it."""

    kind = "corrupt_state"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot be read ({reason}) and has no usable backup; it was left as it is.")
        self.name = name
        self.reason = reason


class NewerSchema(PumasError):
    """The file was written by a newer version of this program."""

    kind = "newer_schema"


class RootInUse(PumasError):
    """Another sidecar owns this launcher root."""

    kind = "root_in_use"


class Busy(PumasError):
    """Too much is going on at once; the same call may be repeated in a moment."""

    kind = "busy"


class TimedOut(PumasError):
    kind = "timed_out"


class StoredModelNotFound(PumasError):
    """No store that was looked at holds this model."""

    kind = "stored_model_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"No store holds {name[:200]!r}; scan_model_stores shows what can be adopted.")


class AdoptionNotFound(PumasError):
    kind = "adoption_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name[:200]!r} was not adopted; list_adoptions shows what was.")


class LastCopy(PumasError):
    """What should be removed holds the only copy of some bytes."""

    kind = "last_copy"

    def __init__(self, model_id: str, name: str) -> None:
        super().__init__(
            f"{model_id} holds the last copy of {name[:200]}: the program that it came from removed or replaced its "
            "own. Delete the model instead; it then goes into the trash."
        )


class NetworkError(PumasError):
    """A host outside could not be used. `host` is its name, with the port where that is unusual; "" when none is meant.

    Messages name the host alone: an address may carry a signature or a token in its path or query.
    """

    kind = "network_error"

    def __init__(self, host: str, message: str) -> None:
        super().__init__(message)
        self.host = host


class Offline(NetworkError):
    """Offline mode is on, so nothing was sent."""

    kind = "network_offline"

    def __init__(self, host: str) -> None:
        super().__init__(host, f"Offline mode is on, so {host[:253]} was not asked; set_network_settings turns it off.")


class ConnectionFailed(NetworkError):
    """No answer, or only a part of it. `cause` is one of `dns refused unreachable reset timeout tls proxy cut`."""

    kind = "connection_failed"

    def __init__(self, host: str, reason: str, cause: str = "cut") -> None:
        super().__init__(host, f"{host[:253]} {reason}.")
        self.reason, self.cause = reason, cause


class HttpStatus(NetworkError):
    """The host answered with a status that means failure."""

    kind = "http_error"

    def __init__(self, status: int, host: str) -> None:
        meaning = _STATUS.get(status) or ("has a problem of its own" if status >= 500 else "refused the request")
        super().__init__(host, f"{host[:253]} {meaning} (HTTP {status}).")
        self.status = status


_STATUS = {
    401: "wants a token, or does not accept the one it got",
    403: "does not allow this",
    404: "has no such thing",
    407: "cannot be reached because the proxy wants a password",
    410: "does not have this any more",
    451: "may not give this for legal reasons",
}


class RateLimited(NetworkError):
    """The host asked to wait, and how long: `retry_after_s` seconds from now."""

    kind = "rate_limited"

    def __init__(self, host: str, retry_after_s: float) -> None:
        super().__init__(host, f"{host[:253]} allows no more requests now; try again in {_whole(retry_after_s)} s.")
        self.retry_after_s = retry_after_s


class CircuitOpen(NetworkError):
    """The host failed several times in a row and is left alone for `retry_after_s` seconds."""

    kind = "circuit_open"

    def __init__(self, host: str, retry_after_s: float) -> None:
        super().__init__(
            host, f"{host[:253]} failed repeatedly and is left alone; try again in {_whole(retry_after_s)} s."
        )
        self.retry_after_s = retry_after_s


class InvalidReply(NetworkError):
    """What the host sent is not what was asked for: no JSON, too long, not HTTP, redirected to where we do not go."""

    kind = "invalid_reply"

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(host, f"{host[:253]} sent something unusable: {reason}.")


def _whole(seconds: float) -> int:
    return max(1, -int(-seconds // 1))


class RepoNotFound(PumasError):
    """The hub shows no such repository to this caller: there is none, it is private, or it was disabled."""

    kind = "repo_not_found"

    def __init__(self, repo_id: str, reason: str = "has no model repository of that name, or a private one") -> None:
        super().__init__(f"The hub {reason}: {repo_id[:200]}.")
        self.repo_id = repo_id


class RevisionNotFound(PumasError):
    kind = "revision_not_found"

    def __init__(self, repo_id: str, revision: str) -> None:
        super().__init__(f"{repo_id[:200]} has no branch, tag or commit {revision[:100]!r} on the hub.")
        self.repo_id, self.revision = repo_id, revision


class GatedRepo(PumasError):
    """The files of a repository are only given to users who accepted its terms."""

    kind = "gated_repo"

    def __init__(self, repo_id: str, page: str) -> None:
        super().__init__(
            f"{repo_id[:200]} is gated: accept its terms at {page[:300]}, and let the hub know you by HF_TOKEN or by "
            "logging in with `hf auth login`."
        )
        self.repo_id = repo_id


class TokenRefused(PumasError):
    """The hub does not know the token; without a valid one it answers nothing."""

    kind = "token_refused"

    def __init__(self) -> None:
        super().__init__(
            "The hub does not accept the token from HF_TOKEN or the token file; make a new one, log in again with "
            "`hf auth login`, or remove it."
        )


class DigestMismatch(PumasError):
    """What arrived is not what was published, also at a second try; nothing of it was kept."""

    kind = "digest_mismatch"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name[:200]} did not arrive as it is published: {reason}. Try again later.")


class DownloadNotFound(PumasError):
    kind = "download_not_found"

    def __init__(self, download_id: str) -> None:
        super().__init__(f"No download {download_id[:100]!r}; list_model_downloads shows the known ones.")


class UnknownApp(PumasError):
    kind = "unknown_app"

    def __init__(self, app_id: str, damaged: str = "") -> None:
        """`damaged`: what is wrong with the file that would describe it."""
        why = f"; its description is not used: {damaged}." if damaged else "; list_apps shows the known ones."
        super().__init__(f"There is no app {app_id[:100]!r}{why}")
        self.app_id = app_id


class VersionNotFound(PumasError):
    kind = "version_not_found"

    def __init__(self, app: str, tag: str, why: str = "is not installed; get_installed_versions shows what is") -> None:
        super().__init__(f"{app} {tag[:100]!r} {why}.")
        self.tag = tag


class ReleaseNotFound(PumasError):
    kind = "release_not_found"

    def __init__(self, app: str, tag: str, reason: str = "is not among the releases that are known") -> None:
        super().__init__(f"{app} {tag[:100]!r} {reason}; get_available_versions with force_refresh asks anew.")
        self.tag = tag


class VersionInUse(PumasError):
    """The version is active, is being installed, or runs; it cannot be removed or replaced now."""

    kind = "version_in_use"


class TooManyCalls(PumasError):
    """The same action was asked for too often within a minute; `retry_after_s` says when it may be again."""

    kind = "too_many_calls"

    def __init__(self, action: str, retry_after_s: float) -> None:
        super().__init__(f"Too many calls of {action}; try again in {_whole(retry_after_s)} s.")
        self.retry_after_s = retry_after_s


class UnsafeArchive(PumasError):
    """An archive holds what must not be extracted; nothing of it was kept. `member` is the name inside."""

    kind = "unsafe_archive"

    def __init__(self, reason: str, member: str = "") -> None:
        super().__init__(f"The archive was refused: {reason}{f' ({member[:200]!r})' if member else ''}.")


class InstallFailed(PumasError):
    """A step of an installation failed; the version that was there before still is. `stage` names the step."""

    kind = "install_failed"

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage


class DependencyFailed(InstallFailed):
    """The Python packages that a version needs cannot be had or do not fit together."""

    kind = "dependency_failed"


class SmokeLaunchFailed(InstallFailed):
    """The new version was built but did not start; it was not put in place."""

    kind = "smoke_launch_failed"


class NothingToRollBack(PumasError):
    kind = "nothing_to_roll_back"

    def __init__(self, app: str) -> None:
        super().__init__(f"{app} has no earlier version to go back to.")


class NoActiveVersion(PumasError):
    """Something was asked of the active version, and there is none: as soon as a whole one is installed, one is
    active."""

    kind = "no_active_version"

    def __init__(self, app: str, why: str = "") -> None:
        """`why`: the sentence about a version that is listed and cannot be used; nothing is when there is none."""
        super().__init__(why or f"No version of {app} is installed; install_version installs one.")


class AlreadyRunning(PumasError):
    kind = "already_running"

    def __init__(self, app: str, tag: str) -> None:
        super().__init__(f"{app} {tag[:100]} runs already; stop it first.")
        self.tag = tag


class NotRunning(PumasError):
    """Nothing that we started runs there. What somebody else started is never touched."""

    kind = "not_running"

    def __init__(self, app: str) -> None:
        super().__init__(f"{app[:100]} does not run, or was not started here; list_processes shows what was.")


class ProcessNotFound(PumasError):
    kind = "process_not_found"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"No run {run_id[:100]!r}; list_processes shows the known ones.")


class LaunchFailed(PumasError):
    """A program could not be started, or ended before it was ready."""

    kind = "launch_failed"


class StopFailed(PumasError):
    """Processes are still there after everything that may be done to end them."""

    kind = "stop_failed"


class CannotPatch(PumasError):
    """A file is not in a form that may be patched or restored; it was left as it is."""

    kind = "cannot_patch"


class Unsupported(PumasError):
    """This system cannot do that."""

    kind = "unsupported"


class PlanOutdated(PumasError):
    """The plan that the caller saw is not what would be done now."""

    kind = "plan_outdated"

    def __init__(self) -> None:
        super().__init__("Something has changed since this plan was made; look at the new one and apply that.")


class NodeNotFound(PumasError):
    kind = "node_not_found"

    def __init__(self, name: str, tag: str) -> None:
        super().__init__(f"{tag[:100]} has no custom node {name[:100]!r}; get_custom_nodes shows what it has.")
        self.name = name


class NotOurCheckout(PumasError):
    """A folder is no git checkout that could be updated: no repository, a link, or without a usable address."""

    kind = "not_a_checkout"


class LocalChanges(PumasError):
    """Files of a checkout were changed on this machine; an update would lose that, so nothing was done."""

    kind = "local_changes"


class GitFailed(PumasError):
    """git is missing, or could not do what was asked; nothing was changed."""

    kind = "git_failed"


class UpdateFailed(PumasError):
    """An update of the launcher was refused by its own checks or could not be finished; what was there before runs."""

    kind = "update_failed"
