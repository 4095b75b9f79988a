//! The scheduler: tables of filters and scores with the text people see, and its laws.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking; what it expects stands in its assertions")]

mod filtering;
mod laws;
mod made;
mod scoring;
