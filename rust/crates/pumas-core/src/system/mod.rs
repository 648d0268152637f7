//! The machine: load, disk, sandbox, what is missing.
