//! The Pumas sidecar: JSON-RPC 2.0 over loopback HTTP. The only place that knows the protocol; the work is done by
//! [`pumas_core`].

pub mod args;
pub mod dispatch;
pub mod http;
pub mod jsontext;
pub mod logs;
pub mod methods;
pub mod params;
pub mod parent;
pub mod registry;
pub mod reply;
pub mod sidecar;
pub mod starter;
pub mod wire;
pub mod wrap;

mod footprint;
