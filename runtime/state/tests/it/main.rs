//! The meaning of `State`, run by every back end, and what only a file can get wrong.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking and say aloud what they skip")]

mod contract;
mod file;
