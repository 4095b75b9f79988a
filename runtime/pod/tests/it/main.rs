//! The life of a pod against a node that pretends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking; what it expects stands in its assertions")]

mod bench;
mod deletion;
mod failures;
mod laws;
mod probing;
mod restarts;
mod running;
