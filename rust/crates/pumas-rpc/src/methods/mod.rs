//! The rows, one file per domain: parameters in, one call of a service, its value out.

use crate::registry::{Methods, Row};

mod builtin;
mod jobs;

/// Every method that this server serves.
#[must_use]
pub fn all() -> Methods {
    let domains: [Vec<Row>; 2] = [builtin::rows(), jobs::rows()];
    Methods::new(domains.into_iter().flatten().collect())
}
