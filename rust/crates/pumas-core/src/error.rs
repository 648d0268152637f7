//! Every failure a caller can meet, as one enum whose variants carry facts.
//!
//! `contracts/errors.json` gives each [`Error::kind`] its code on the wire. A message is one sentence that says what to
//! do; it never holds a token, a backtrace, or bytes read from a file, and it is the same in both backends.

use crate::text::{cut, grouped, quoted, whole_seconds};

/// What all services answer with.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An expected failure; [`Error::Bug`] is the one that is not.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The operation failed, for a reason that only the message knows.
    #[error("{0}")]
    OperationFailed(String),
    /// A value from the caller is well-formed JSON but cannot be used.
    #[error("{field}: {reason}")]
    InvalidInput {
        /// The parameter.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A path or name would leave the folder it belongs to, or could not exist on every supported system.
    #[error("{field}: {reason}")]
    UnsafePath {
        /// The parameter.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that the caller named is missing, not a regular file, or cannot be read.
    #[error("{name}: {reason}")]
    FileUnavailable {
        /// As the caller named it.
        name: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// The given file or folder holds nothing that can be imported as a model.
    #[error("{0}")]
    NotAModel(String),
    /// A folder holds models that have nothing to do with each other.
    #[error("{}", several_models(name, candidates))]
    SeveralModels {
        /// The folder.
        name: String,
        /// Their paths.
        candidates: Vec<String>,
    },
    /// A model file's header is damaged, hostile, or larger than any real one.
    #[error("{0}")]
    MalformedModelFile(String),
    /// The file can run code when an app loads it, and the caller did not accept that.
    #[error("{0}")]
    PickleNotAcknowledged(String),
    /// The same bytes are already in the library.
    #[error("These bytes are already in the library as {model_id}; pass allow_duplicate to import again.")]
    DuplicateModel {
        /// Where they are.
        model_id: String,
    },
    /// The library has no such model.
    #[error("No model {} in the library.", quoted(.0, 200))]
    ModelNotFound(String),
    /// The trash has no such entry.
    #[error(
        "No entry {} in the trash; {listing} shows what can be restored.",
        quoted(trash_id, 100)
    )]
    TrashEntryNotFound {
        /// The id that was asked for.
        trash_id: String,
        /// The method that lists this trash.
        listing: &'static str,
    },
    /// The place where something should go is taken; nothing was changed.
    #[error("{0}")]
    AlreadyExists(String),
    /// There is no such job.
    #[error("No job {}; list_jobs shows the known ones.", quoted(.0, 100))]
    JobNotFound(String),
    /// The job cannot do that now, for example pausing a job that has finished.
    #[error("{0}")]
    WrongJobState(String),
    /// Stopped for good, as asked.
    #[error("{0}")]
    Cancelled(String),
    /// Work stopped because the sidecar stopped or a pause was asked for; it can be resumed.
    #[error("{0}")]
    Interrupted(String),
    /// The file system has no room.
    #[error("Not enough disk space: {} bytes needed, {} free. Free some and try again.", grouped(*needed), grouped(*free))]
    NotEnoughSpace {
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// The operating system said that the disk is full while something was written.
    #[error("{0}")]
    DiskFull(String),
    /// The place cannot be written.
    #[error("{0}")]
    ReadOnly(String),
    /// The operating system refused or failed to read or write; the message names the operation and the error.
    #[error("{0}")]
    DiskError(String),
    /// A state file exists but cannot be read, and neither can its backup; nothing destructive is done on it.
    #[error("{name} cannot be read ({reason}) and has no usable backup; it was left as it is.")]
    CorruptState {
        /// The file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by a newer version of this program.
    #[error("{0}")]
    NewerSchema(String),
    /// Another sidecar owns this launcher root.
    #[error("{0}")]
    RootInUse(String),
    /// Too much is going on at once; the same call may be repeated in a moment.
    #[error("{0}")]
    Busy(String),
    /// The work took too long and was stopped.
    #[error("{0}")]
    TimedOut(String),
    /// The library's folder is missing, cannot be read, or is an empty one where its volume should be mounted.
    #[error("{0}")]
    LibraryOffline(String),
    /// No store that was looked at holds this model.
    #[error("No store holds {}; scan_model_stores shows what can be adopted.", quoted(.0, 200))]
    StoredModelNotFound(String),
    /// There is no such adoption.
    #[error("{} was not adopted; list_adoptions shows what was.", quoted(.0, 200))]
    AdoptionNotFound(String),
    /// What should be removed holds the only copy of some bytes.
    #[error(
        "{model_id} holds the last copy of {}: the program that it came from removed or replaced its own. \
         Delete the model instead; it then goes into the trash.",
        cut(name, 200)
    )]
    LastCopy {
        /// The model.
        model_id: String,
        /// The file.
        name: String,
    },
    /// A host outside could not be used. Messages name the host alone: an address may carry a secret.
    #[error("{message}")]
    Network {
        /// Its name, with the port where that is unusual; "" when none is meant.
        host: String,
        /// The sentence.
        message: String,
    },
    /// Offline mode is on, so nothing was sent.
    #[error(
        "Offline mode is on, so {} was not asked; set_network_settings turns it off.",
        cut(host, 253)
    )]
    Offline {
        /// Who would have been asked.
        host: String,
    },
    /// No answer, or only a part of it.
    #[error("{} {reason}.", cut(host, 253))]
    ConnectionFailed {
        /// Who was asked.
        host: String,
        /// What happened, as the end of a sentence that begins with the host.
        reason: String,
        /// One of `dns refused unreachable reset timeout tls proxy cut`.
        cause: &'static str,
    },
    /// The host answered with a status that means failure.
    #[error("{} {} (HTTP {status}).", cut(host, 253), status_meaning(*status))]
    HttpStatus {
        /// The status code.
        status: u16,
        /// Who answered.
        host: String,
    },
    /// The host asked to wait.
    #[error("{} allows no more requests now; try again in {} s.", cut(host, 253), whole_seconds(*retry_after_s))]
    RateLimited {
        /// Who answered.
        host: String,
        /// Seconds from now.
        retry_after_s: f64,
    },
    /// The host failed several times in a row and is left alone for a while.
    #[error("{} failed repeatedly and is left alone; try again in {} s.", cut(host, 253), whole_seconds(*retry_after_s))]
    CircuitOpen {
        /// Who.
        host: String,
        /// Seconds from now.
        retry_after_s: f64,
    },
    /// What the host sent is not what was asked for: no JSON, too long, not HTTP, redirected to where we do not go.
    #[error("{} sent something unusable: {reason}.", cut(host, 253))]
    InvalidReply {
        /// Who answered.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The hub shows no such repository to this caller: there is none, it is private, or it was disabled.
    #[error("The hub {reason}: {}.", cut(repo_id, 200))]
    RepoNotFound {
        /// `owner/name`.
        repo_id: String,
        /// What the hub says, as a verb phrase.
        reason: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error(
        "{} has no branch, tag or commit {} on the hub.",
        cut(repo_id, 200),
        quoted(revision, 100)
    )]
    RevisionNotFound {
        /// `owner/name`.
        repo_id: String,
        /// What was asked for.
        revision: String,
    },
    /// The files of a repository are only given to users who accepted its terms.
    #[error(
        "{} is gated: accept its terms at {}, and let the hub know you by HF_TOKEN or by logging in with \
         `hf auth login`.",
        cut(repo_id, 200),
        cut(page, 300)
    )]
    GatedRepo {
        /// `owner/name`.
        repo_id: String,
        /// Where its terms are.
        page: String,
    },
    /// The hub does not know the token; without a valid one it answers nothing.
    #[error(
        "The hub does not accept the token from HF_TOKEN or the token file; make a new one, log in again with \
         `hf auth login`, or remove it."
    )]
    TokenRefused,
    /// What arrived is not what the hub lists, also at a second try; nothing of it was kept.
    #[error(
        "{} did not arrive as it is published: {reason}. Try again later.",
        cut(name, 200)
    )]
    DigestMismatch {
        /// The file.
        name: String,
        /// What differs.
        reason: String,
    },
    /// There is no such download.
    #[error("No download {}; list_model_downloads shows the known ones.", quoted(.0, 100))]
    DownloadNotFound(String),
    /// There is no such app.
    #[error("There is no app {}; {}", quoted(app_id, 100), known_apps(damaged.as_deref()))]
    UnknownApp {
        /// As the caller wrote it.
        app_id: String,
        /// What is wrong with the file that would describe it.
        damaged: Option<String>,
    },
    /// The version is not installed, or not whole.
    #[error("{app} {} {why}.", quoted(tag, 100))]
    VersionNotFound {
        /// The app's name.
        app: String,
        /// The version's tag.
        tag: String,
        /// What is wrong with it, and what helps.
        why: String,
    },
    /// The release is not known.
    #[error(
        "{app} {} {reason}; get_available_versions with force_refresh asks anew.",
        quoted(tag, 100)
    )]
    ReleaseNotFound {
        /// The app's name.
        app: String,
        /// The release's tag.
        tag: String,
        /// What is known of it, as a verb phrase.
        reason: String,
    },
    /// The version is active, is being installed, or runs; it cannot be removed or replaced now.
    #[error("{0}")]
    VersionInUse(String),
    /// The same action was asked for too often within a minute.
    #[error("Too many calls of {action}; try again in {} s.", whole_seconds(*retry_after_s))]
    TooManyCalls {
        /// The method.
        action: String,
        /// Seconds from now.
        retry_after_s: f64,
    },
    /// An archive holds what must not be extracted; nothing of it was kept.
    #[error("The archive was refused: {reason}{}.", in_brackets(member))]
    UnsafeArchive {
        /// What is wrong.
        reason: String,
        /// The name inside; may be empty.
        member: String,
    },
    /// A step of an installation failed; the version that was there before still is.
    #[error("{reason}")]
    InstallFailed {
        /// The step.
        stage: String,
        /// The sentence.
        reason: String,
    },
    /// The Python packages that a version needs cannot be had or do not fit together.
    #[error("{reason}")]
    DependencyFailed {
        /// The step.
        stage: String,
        /// The sentence.
        reason: String,
    },
    /// The new version was built but did not start; it was not put in place.
    #[error("{reason}")]
    SmokeLaunchFailed {
        /// The step.
        stage: String,
        /// The sentence.
        reason: String,
    },
    /// There is no earlier version.
    #[error("{0} has no earlier version to go back to.")]
    NothingToRollBack(String),
    /// Something was asked of the active version, and there is none: as soon as a whole one is installed, one is active.
    #[error("{0}")]
    NoActiveVersion(String),
    /// The version runs already.
    #[error("{app} {} runs already; stop it first.", cut(tag, 100))]
    AlreadyRunning {
        /// The app's name.
        app: String,
        /// The version's tag.
        tag: String,
    },
    /// Nothing that we started runs there. What somebody else started is never touched.
    #[error("{} does not run, or was not started here; list_processes shows what was.", cut(.0, 100))]
    NotRunning(String),
    /// There is no such run.
    #[error("No run {}; list_processes shows the known ones.", quoted(.0, 100))]
    ProcessNotFound(String),
    /// A program could not be started, or ended before it was ready.
    #[error("{0}")]
    LaunchFailed(String),
    /// Processes are still there after everything that may be done to end them.
    #[error("{0}")]
    StopFailed(String),
    /// A file is not in a form that may be patched or restored; it was left as it is.
    #[error("{0}")]
    CannotPatch(String),
    /// This system cannot do that.
    #[error("{0}")]
    Unsupported(String),
    /// The plan that the caller saw is not what would be done now.
    #[error("Something has changed since this plan was made; look at the new one and apply that.")]
    PlanOutdated,
    /// The version has no such custom node.
    #[error(
        "{} has no custom node {}; get_custom_nodes shows what it has.",
        cut(tag, 100),
        quoted(name, 100)
    )]
    NodeNotFound {
        /// The node.
        name: String,
        /// The version's tag.
        tag: String,
    },
    /// A folder is no git checkout that could be updated: no repository, a link, or without a usable address.
    #[error("{0}")]
    NotOurCheckout(String),
    /// Files of a checkout were changed on this machine; an update would lose that, so nothing was done.
    #[error("{0}")]
    LocalChanges(String),
    /// git is missing, or could not do what was asked; nothing was changed.
    #[error("{0}")]
    GitFailed(String),
    /// An update of the launcher was refused by its own checks or could not be finished.
    #[error("{0}")]
    UpdateFailed(String),
    /// A mistake of this program. The text is for the log; callers hear only that it happened.
    #[error("{0}")]
    Bug(String),
}

impl Error {
    /// A value from the caller that cannot be used.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidInput {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A path or name that must not be used.
    pub fn unsafe_path(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::UnsafePath {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A file that cannot be used.
    pub fn unavailable(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::FileUnavailable {
            name: name.into(),
            reason: reason.into(),
        }
    }

    /// The stable, machine-readable name: a key of `contracts/errors.json`, or `internal_error`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::OperationFailed(_) => "operation_failed",
            Self::InvalidInput { .. } => "invalid_input",
            Self::UnsafePath { .. } => "unsafe_path",
            Self::FileUnavailable { .. } => "file_unavailable",
            Self::NotAModel(_) => "not_a_model",
            Self::SeveralModels { .. } => "several_models",
            Self::MalformedModelFile(_) => "malformed_model_file",
            Self::PickleNotAcknowledged(_) => "pickle_not_acknowledged",
            Self::DuplicateModel { .. } => "duplicate_model",
            Self::ModelNotFound(_) => "model_not_found",
            Self::TrashEntryNotFound { .. } => "trash_entry_not_found",
            Self::AlreadyExists(_) => "already_exists",
            Self::JobNotFound(_) => "job_not_found",
            Self::WrongJobState(_) => "wrong_job_state",
            Self::Cancelled(_) => "cancelled",
            Self::Interrupted(_) => "interrupted",
            Self::NotEnoughSpace { .. } | Self::DiskFull(_) => "disk_full",
            Self::ReadOnly(_) => "read_only",
            Self::DiskError(_) => "disk_error",
            Self::CorruptState { .. } => "corrupt_state",
            Self::NewerSchema(_) => "newer_schema",
            Self::RootInUse(_) => "root_in_use",
            Self::Busy(_) => "busy",
            Self::TimedOut(_) => "timed_out",
            Self::LibraryOffline(_) => "offline",
            Self::StoredModelNotFound(_) => "stored_model_not_found",
            Self::AdoptionNotFound(_) => "adoption_not_found",
            Self::LastCopy { .. } => "last_copy",
            Self::Network { .. } => "network_error",
            Self::Offline { .. } => "network_offline",
            Self::ConnectionFailed { .. } => "connection_failed",
            Self::HttpStatus { .. } => "http_error",
            Self::RateLimited { .. } => "rate_limited",
            Self::CircuitOpen { .. } => "circuit_open",
            Self::InvalidReply { .. } => "invalid_reply",
            Self::RepoNotFound { .. } => "repo_not_found",
            Self::RevisionNotFound { .. } => "revision_not_found",
            Self::GatedRepo { .. } => "gated_repo",
            Self::TokenRefused => "token_refused",
            Self::DigestMismatch { .. } => "digest_mismatch",
            Self::DownloadNotFound(_) => "download_not_found",
            Self::UnknownApp { .. } => "unknown_app",
            Self::VersionNotFound { .. } => "version_not_found",
            Self::ReleaseNotFound { .. } => "release_not_found",
            Self::VersionInUse(_) => "version_in_use",
            Self::TooManyCalls { .. } => "too_many_calls",
            Self::UnsafeArchive { .. } => "unsafe_archive",
            Self::InstallFailed { .. } => "install_failed",
            Self::DependencyFailed { .. } => "dependency_failed",
            Self::SmokeLaunchFailed { .. } => "smoke_launch_failed",
            Self::NothingToRollBack(_) => "nothing_to_roll_back",
            Self::NoActiveVersion(_) => "no_active_version",
            Self::AlreadyRunning { .. } => "already_running",
            Self::NotRunning(_) => "not_running",
            Self::ProcessNotFound(_) => "process_not_found",
            Self::LaunchFailed(_) => "launch_failed",
            Self::StopFailed(_) => "stop_failed",
            Self::CannotPatch(_) => "cannot_patch",
            Self::Unsupported(_) => "unsupported",
            Self::PlanOutdated => "plan_outdated",
            Self::NodeNotFound { .. } => "node_not_found",
            Self::NotOurCheckout(_) => "not_a_checkout",
            Self::LocalChanges(_) => "local_changes",
            Self::GitFailed(_) => "git_failed",
            Self::UpdateFailed(_) => "update_failed",
            Self::Bug(_) => "internal_error",
        }
    }
}

fn several_models(name: &str, candidates: &[String]) -> String {
    let last = |path: &String| cut(path.rsplit('/').next().unwrap_or(path), 80).to_owned();
    let shown = candidates.iter().take(5).map(last).collect::<Vec<_>>().join(", ");
    let more = match candidates.len() {
        0..=5 => String::new(),
        all => format!(" and {} more", all - 5),
    };
    format!(
        "{name} holds {} models ({shown}{more}); import each by its own path.",
        candidates.len()
    )
}

fn known_apps(damaged: Option<&str>) -> String {
    damaged.map_or_else(
        || "list_apps shows the known ones.".to_owned(),
        |reason| format!("its description is not used: {reason}."),
    )
}

fn in_brackets(member: &str) -> String {
    if member.is_empty() {
        String::new()
    } else {
        format!(" ({})", quoted(member, 200))
    }
}

fn status_meaning(status: u16) -> &'static str {
    match status {
        401 => "wants a token, or does not accept the one it got",
        403 => "does not allow this",
        404 => "has no such thing",
        407 => "cannot be reached because the proxy wants a password",
        410 => "does not have this any more",
        451 => "may not give this for legal reasons",
        500.. => "has a problem of its own",
        _ => "refused the request",
    }
}
