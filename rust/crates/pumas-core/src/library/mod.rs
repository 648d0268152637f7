//! The model library.
