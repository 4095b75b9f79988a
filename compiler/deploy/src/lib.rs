//! Manifests to a deploy plan: documents become checked objects ([`read`]), objects become ordered changes with their edges ([`plan`]).
//!
//! A manifest is checked as strictly as `fieldValidation=Strict` does, then defaulted and validated by the functions that the API server calls, so what passes
//! here passes there. Every finding has its place in the file.

mod check;
mod documents;
mod graph;
mod health;
mod manifest;
mod mentions;
mod order;
mod places;
mod references;
mod restart;
mod rollout;
mod sensitive;
mod values;
mod wishes;

pub use documents::read;
pub use health::HealthRule;
pub use manifest::{Manifest, Options, find};
pub use order::{is_hook, plan};
pub use references::{ImageUse, Reference, ReferenceKind, images, references};
pub use restart::{CHECKSUM, RESTART};
