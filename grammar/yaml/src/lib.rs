//! YAML and JSON manifests as trees with spans, scalars read as Kubernetes reads them (YAML 1.1 as in Go: `yes` is true, `0644` is 420, `<<` merges).
//!
//! [`parse`] never fails: it returns every document that can be read and a finding for everything that cannot. Duplicate keys, tabs, unknown aliases, alias bombs and
//! nesting deeper than [`MAX_DEPTH`] are errors; a mistake in one document does not hide the next.

mod document;
mod json;
mod node;
mod offsets;
mod scalar;
mod sealed;
mod syntax;
mod tree;

pub use document::{Document, parse};
pub use node::{Kind, Node};
pub use sealed::parse_file;

/// Mappings and sequences may nest this deep.
pub const MAX_DEPTH: usize = 64;
/// What aliases may copy in one file, counted in nodes (a long text counts as one for each 64 bytes).
pub const ALIAS_BUDGET: usize = 100_000;
