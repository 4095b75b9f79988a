//! Statements about images (in-toto attestations): how one was made, and what is in it; and the index that carries them beside their images.

mod compose;
mod provenance;
mod purl;
mod sbom;

use serde_json::{Value, json};
use strake_oci::Digest;

pub use compose::{Annotation, AnnotationTarget, Annotations, Composed, Part, compose};
pub use provenance::{BUILD_TYPE, Dependency, Provenance, SLSA_PROVENANCE, Times};
pub use purl::image_purl;
pub use sbom::{Inventory, Package, SPDX, ScanError, inventory, spdx};

/// `_type` of every statement (in-toto attestation framework, "Statement"): what BuildKit writes since 2026; until then it wrote v0.1, and readers take both.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The name of a subject that has none.
const NAMELESS: &str = "_";

/// A statement without its subject, which is known only when the image's manifest is.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The predicate's type.
    pub kind: String,
    /// What is said.
    pub predicate: Value,
}

impl Statement {
    /// The statement about a manifest that is called `names` (package URLs).
    pub fn encode(&self, names: &[String], manifest: &Digest) -> Vec<u8> {
        let subject = |name: &str| json!({ "name": name, "digest": { "sha256": manifest.hex() } });
        let subjects: Vec<Value> = if names.is_empty() { vec![subject(NAMELESS)] } else { names.iter().map(|name| subject(name)).collect() };
        json!({ "_type": STATEMENT, "predicateType": self.kind, "subject": subjects, "predicate": self.predicate }).to_string().into_bytes()
    }
}
