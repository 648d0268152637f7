//! Models of other programs: found where those programs keep them, taken in without copying a byte, given back.
//!
//! From the outside in: `service` (jobs, answers), `work` (the blocking side), `scan` (all stores at one look),
//! `adopting` and `undoing` with the journal in `store`. `locations` knows where programs keep their models, one reader
//! per kind of store (`huggingface`, `ollama`, `trees`) what lies there. Other programs' stores are never written.

pub mod adopting;
pub mod duplicates;
pub mod found;
pub mod grouping;
pub mod huggingface;
pub mod locations;
pub mod look;
pub mod model_paths;
pub mod ollama;
pub mod planning;
pub mod programs;
pub mod results;
pub mod scan;
pub mod service;
pub mod settling;
pub mod store;
pub mod trees;
pub mod undoing;
pub mod work;

#[cfg(test)]
pub(crate) mod testing;

pub use service::AdoptionService;
