//! Versions of apps: lists releases, installs one beside the others, tries it, and gives it its place by one rename; knows
//! which is active, goes back and removes into a trash. What a kill cut off is finished or undone at a start.

mod archive;
mod checksums;
mod dependencies;
mod fetching;
mod filling;
pub(crate) mod github;
mod installing;
mod installs;
mod known;
mod node_packages;
mod offers;
pub(crate) mod packages;
pub(crate) mod places;
mod placing;
mod progress;
pub(crate) mod python;
mod rates;
mod recovering;
mod releases;
mod requirements;
pub(crate) mod running;
mod scratch;
mod service;
mod setup_links;
mod sizes;
pub(crate) mod smoke;
mod state;
mod tags;
mod turn;
mod undoing;

pub use dependencies::Dependencies;
pub use installs::Installs;
pub use known::InUse;
pub use node_packages::NodePackages;
pub use offers::{Offered, Offers};
pub use places::Removed;
pub use releases::{CacheStatus, Release};
pub use service::{AppOverview, OfTag, OfVersion, OneVersion, Overview, Update, VersionService};
pub use sizes::{ReleaseSize, formatted_size};
pub use state::{InstalledVersion, Validation, VersionState};
pub use tags::check_tag;
