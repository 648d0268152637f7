//! Brings models from the hub into the library.
//!
//! From the outside in: [`DownloadService`] (jobs, queue, limits), `plan` (commit, files, digests, fixed at the start),
//! `downloading` (one download up to its publication), `fetching` (the connections), `large`, `relay` and `part` (one file in
//! blocks, hashed as they come), `content` (is this answer the span that was asked for?).

mod bandwidth;
mod content;
mod downloading;
mod fetching;
mod filling;
mod finishing;
mod large;
mod meter;
mod part;
mod patience;
mod plan;
mod queue;
mod relay;
mod running;
mod schedule;
mod service;
mod settings;
mod shared;
mod single;
mod space;
mod staged;
mod view;
mod wanted;

pub use bandwidth::Bandwidth;
pub use meter::FileProgress;
pub use plan::DownloadRequest;
pub use schedule::Schedule;
pub use service::DownloadService;
pub use settings::DownloadSettings;
pub(crate) use single::{Single, Way};
pub use view::{Download, Limits};
