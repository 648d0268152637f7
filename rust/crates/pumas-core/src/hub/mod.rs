//! Asks the Hugging Face hub: searches, repositories, which files make a model, what its words become in our metadata.
//!
//! Everything in its answers was said by somebody else: texts are cut to one clean line, numbers and digests have the right
//! form, and a path of the hub's becomes a name here only after it was checked. What was answered is kept, and serves while
//! the hub cannot be reached.

mod answers;
mod client;
mod contents;
mod drift;
mod kinds;
mod lookup;
mod metadata;
mod model;
mod names;
mod origins;
mod reading;
mod repository;
mod search;
mod selection;
mod service;
mod store;

pub use answers::Answer;
pub use client::HubClient;
pub use contents::Contents;
pub use drift::{Drift, DriftReport};
pub use kinds::Role;
pub use metadata::describe;
pub(crate) use model::parse_place;
pub use model::{HubFile, HubListing, HubModel, parse_repo_id};
pub use repository::RepoView;
pub use selection::{Choice, DownloadOption, choose};
pub use service::{Found, HubService, Wish};
