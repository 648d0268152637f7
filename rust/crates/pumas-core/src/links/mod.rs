//! Gives apps the library's models: plans, links, a registry of them, and what becomes of them when models go.

pub mod applying;
pub mod globs;
pub mod health;
pub mod keeping;
mod legacy;
pub mod linking;
mod noting;
mod paths;
pub mod places;
pub mod planning;
pub mod rows;
pub mod rules;
pub mod service;
pub mod store;
pub mod values;
pub mod version_sets;
pub mod volumes;
pub mod work;
