//! The Pumas sidecar: JSON-RPC 2.0 over loopback HTTP. The only place that knows the protocol; the work is done by
//! [`pumas_core`].

pub mod methods;
pub mod params;
pub mod registry;
pub mod wire;
pub mod wrap;
