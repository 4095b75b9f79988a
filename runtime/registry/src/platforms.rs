//! Places of manifests that have no name.

use strake_oci::Digest;

use crate::error::RegistryError;

/// The place of a manifest that is named by its digest only, in the repository of a reference.
pub fn at_digest(reference: &str, digest: &Digest) -> Result<String, RegistryError> {
    let parsed = strake_words::Reference::parse(reference).map_err(|source| RegistryError::Reference { reference: reference.to_owned(), source })?;
    Ok(format!("{}@{digest}", parsed.repository()))
}
