//! From images and statements about them to what carries a name: an image alone, or an index of images and attestations.

use std::collections::{BTreeMap, HashMap};

use strake_oci::{Descriptor, Digest, Platform};
use strake_store::{Store, StoreError, for_platform, oci_platform};

use super::Statement;
use crate::BuiltImage;

/// What an annotation is written on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationTarget {
    /// Each image's manifest.
    Manifest,
    /// The index.
    Index,
    /// The entry of each image in the index.
    ManifestDescriptor,
    /// The entry of the index in a layout. A registry has no such entry.
    IndexDescriptor,
}

/// One annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Where it is written.
    pub target: AnnotationTarget,
    /// For which platform; all, when none is named.
    pub platform: Option<Platform>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Annotations in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations(pub Vec<Annotation>);

impl Annotations {
    /// Those for a target and, where it has one, a platform. Later ones win.
    pub fn of(&self, target: AnnotationTarget, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let fits = |own: &&Annotation| own.target == target && own.platform.as_ref().is_none_or(|only| Some(only) == platform);
        self.0.iter().filter(fits).map(|own| (own.name.clone(), own.value.clone())).collect()
    }
}

/// One image with what is said about it.
#[derive(Clone, Debug)]
pub struct Part {
    /// The image.
    pub image: BuiltImage,
    /// What it was built for.
    pub platform: Platform,
    /// Statements about it.
    pub statements: Vec<Statement>,
}

/// What carries a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Composed {
    /// Of the index, or of the only manifest.
    pub descriptor: Descriptor,
    /// True for an index.
    pub is_index: bool,
    /// The images' manifests, in the order of the parts.
    pub manifests: Vec<Digest>,
}

/// Puts images together: several of them, or one about which something is said, become an index; its entries stand in the order of the parts, attestations last.
///
/// `names` are package URLs without a platform, for the statements' subjects.
pub fn compose(store: &Store, parts: &[Part], annotations: &Annotations, names: &[String]) -> Result<Composed, StoreError> {
    let (mut listed, mut attestations, mut manifests) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let own = annotations.of(AnnotationTarget::Manifest, Some(&part.platform));
        let image = if own.is_empty() {
            store.manifest_at(&store.named(&part.image.manifest.to_string())?)?
        } else {
            store.put_annotated(&part.image.config, &part.image.layers, &own)?
        };
        let digest = image.digest()?;
        let mut entry = for_platform(&image.descriptor, &image.config);
        entry.set_platform(Some(oci_platform(&part.platform)));
        let own = annotations.of(AnnotationTarget::ManifestDescriptor, Some(&part.platform));
        entry.set_annotations((!own.is_empty()).then(|| own.into_iter().collect::<HashMap<_, _>>()));
        if !part.statements.is_empty() {
            let subjects: Vec<String> = names.iter().map(|name| with_platform(name, &part.platform)).collect();
            let statements: Vec<(String, Vec<u8>)> =
                part.statements.iter().map(|statement| (statement.kind.clone(), statement.encode(&subjects, &digest))).collect();
            attestations.push(store.put_attestation(&digest, &statements)?);
        }
        listed.push((entry, image.descriptor));
        manifests.push(digest);
    }
    if let ([(_, only)], []) = (&listed[..], &attestations[..]) {
        return Ok(Composed { descriptor: only.clone(), is_index: false, manifests });
    }
    let children: Vec<Descriptor> = listed.into_iter().map(|(entry, _)| entry).chain(attestations).collect();
    let descriptor = store.put_index(&children, &annotations.of(AnnotationTarget::Index, None))?;
    Ok(Composed { descriptor, is_index: true, manifests })
}

/// A package URL with the platform that it is about.
fn with_platform(name: &str, platform: &Platform) -> String {
    let separator = if name.contains('?') { '&' } else { '?' };
    format!("{name}{separator}platform={}", platform.to_string().replace('/', "%2F"))
}
