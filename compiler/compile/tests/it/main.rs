//! Tests of strake-compile.

#![expect(clippy::disallowed_methods, reason = "golden cases are folders of files")]

mod cases;
mod config;
mod explain;
mod inference;
mod lints;
