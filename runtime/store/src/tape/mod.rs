//! The tar format: a canonical writer (same tree, same bytes, on any machine) and a strict reader.

pub(crate) mod header;
pub(crate) mod pax;
pub(crate) mod reader;
pub(crate) mod sink;
pub(crate) mod tree;
