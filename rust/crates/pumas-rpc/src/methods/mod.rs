//! The rows, one file per domain: parameters in, one call of a service, its value out.

use crate::registry::Methods;

mod adoption;
mod builtin;
mod desktop;
mod downloads;
mod files;
mod hub;
mod imports;
mod jobs;
mod library;
mod links;
mod net;
mod nodes;
mod processes;
mod system;
mod updates;
mod versions;

/// Every method that this server serves.
#[must_use]
pub fn all() -> Methods {
    let domains = [
        adoption::rows(),
        builtin::rows(),
        files::rows(),
        imports::rows(),
        jobs::rows(),
        system::rows(),
        library::rows(),
        net::rows(),
        hub::rows(),
        downloads::rows(),
        updates::rows(),
        versions::rows(),
        desktop::rows(),
        links::rows(),
        nodes::rows(),
        processes::rows(),
    ];
    Methods::new(domains.into_iter().flatten().collect())
}
