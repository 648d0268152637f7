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

    def __init__(self, trash_id: str) -> None:
        super().__init__(f"No entry {trash_id[:100]!r} in the trash; list_trash shows what can be restored.")


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
