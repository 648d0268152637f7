//! The rows, one file per domain: parameters in, one call of a service, its value out.

use crate::registry::{Methods, Row};

mod builtin;
mod downloads;
mod files;
mod hub;
mod imports;
mod jobs;
mod library;
mod net;
mod system;
mod versions;

/// Every method that this server serves.
#[must_use]
pub fn all() -> Methods {
    let domains: [Vec<Row>; 10] = [
        builtin::rows(),
        files::rows(),
        imports::rows(),
        jobs::rows(),
        system::rows(),
        library::rows(),
        net::rows(),
        hub::rows(),
        downloads::rows(),
        versions::rows(),
    ];
    Methods::new(domains.into_iter().flatten().collect())
}
