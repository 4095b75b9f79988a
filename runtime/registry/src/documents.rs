//! Manifests and indexes from a registry: bounded, verified, and each with one meaning only.

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use strake_oci::{Descriptor, Digest, ImageIndex, Platform, platform_of};
use strake_store::{digest_of, is_attestation};

use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::retry::again;
use crate::session::Session;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Every form that strake understands.
pub(crate) const KINDS: [&str; 4] = [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST];
/// Manifests and indexes longer than this are refused.
pub(crate) const MAX_DOCUMENT_BYTES: u64 = 8 << 20;
/// An index of more entries is refused when all of them are wanted.
const MAX_ENTRIES: usize = 256;
/// The registry's own word for the digest of what it sends.
pub(crate) const CONTENT_DIGEST: &str = "docker-content-digest";

/// A manifest or an index as it came.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub digest: Digest,
    pub bytes: Vec<u8>,
    /// Its media type.
    pub kind: String,
    /// Statements about an image rather than an image.
    pub attestation: bool,
}

/// What is wanted of an index.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'p> {
    /// The image for this platform.
    Platform(&'p Platform),
    /// All; this one is given to the caller.
    All(&'p Platform),
}

/// What a reference leads to.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub index: Option<Document>,
    pub manifests: Vec<Document>,
    /// The image for the platform.
    pub chosen: Document,
}

impl Session<'_> {
    /// The manifests that the reference leads to.
    pub(crate) async fn documents(&self, wanted: Wanted<'_>) -> Result<Found, RegistryError> {
        let expected = match &self.reference.digest {
            Some(text) => Some(text.parse::<Digest>().map_err(|error| self.refused(error.to_string()))?),
            None => None,
        };
        let word = expected.map(|digest| digest.to_string()).or_else(|| self.reference.tag.clone()).unwrap_or_default();
        let top = self.document(&word, expected.as_ref(), None).await?;
        if !is_index(&top.kind) {
            return Ok(Found { index: None, manifests: vec![top.clone()], chosen: top });
        }
        let index: ImageIndex = self.decode(&top.bytes)?;
        let (Wanted::Platform(platform) | Wanted::All(platform)) = wanted;
        let chosen = self.choose(index.manifests(), platform)?;
        let mut manifests = Vec::new();
        match wanted {
            Wanted::Platform(_) => manifests.push(self.child(chosen).await?),
            Wanted::All(_) => {
                if index.manifests().len() > MAX_ENTRIES {
                    return Err(self.refused(format!("its index lists {} manifests; {MAX_ENTRIES} are the most", index.manifests().len())));
                }
                for entry in index.manifests() {
                    manifests.push(self.child(entry).await?);
                }
            }
        }
        let wanted = digest_of(chosen).map_err(|source| self.storing(source))?;
        let chosen = manifests.iter().find(|document| document.digest == wanted).cloned();
        let chosen = chosen.ok_or_else(|| self.refused("its index does not hold what was chosen from it".to_owned()))?;
        Ok(Found { index: Some(top), manifests, chosen })
    }

    /// The entry for a platform: the very one, else the best whose code the platform runs.
    fn choose<'i>(&self, entries: &'i [Descriptor], wanted: &Platform) -> Result<&'i Descriptor, RegistryError> {
        let images: Vec<&Descriptor> = entries.iter().filter(|entry| !is_attestation(entry)).collect();
        let platforms: Vec<Option<Platform>> = images.iter().map(|entry| platform_of(entry)).collect();
        if let ([only], [None]) = (&images[..], &platforms[..]) {
            return Ok(only);
        }
        let place = wanted.choose(platforms.iter().map(Option::as_ref));
        place.map(|place| images[place]).ok_or_else(|| RegistryError::Platform {
            reference: self.name.clone(),
            platform: wanted.clone(),
            available: platforms.into_iter().flatten().collect(),
        })
    }

    async fn child(&self, entry: &Descriptor) -> Result<Document, RegistryError> {
        let expected = digest_of(entry).map_err(|source| self.storing(source))?;
        if entry.size() > MAX_DOCUMENT_BYTES {
            return Err(self.refused(format!("its index promises a manifest of {} bytes", entry.size())));
        }
        let mut document = self.document(&expected.to_string(), Some(&expected), Some(entry.size())).await?;
        if is_index(&document.kind) {
            return Err(self.refused("an index leads to another index".to_owned()));
        }
        document.attestation = is_attestation(entry);
        Ok(document)
    }

    /// One document, by tag or digest.
    async fn document(&self, word: &str, expected: Option<&Digest>, size_bytes: Option<u64>) -> Result<Document, RegistryError> {
        self.each(async |endpoint| again(self.options, || self.document_of(endpoint, word, expected, size_bytes)).await).await
    }

    async fn document_of(&self, endpoint: &Endpoint, word: &str, expected: Option<&Digest>, size_bytes: Option<u64>) -> Result<Document, RegistryError> {
        let mut ask = endpoint.ask(Method::GET, &format!("manifests/{word}"))?;
        ask.headers.push(("accept", KINDS.join(", ")));
        let response = endpoint.send(&ask, &[]).await?;
        let (said, promised) = (content_type(response.headers()), content_digest(response.headers()));
        let bytes = endpoint.body(response, MAX_DOCUMENT_BYTES).await?;
        let bytes = bytes.ok_or_else(|| self.refused(format!("it is longer than {MAX_DOCUMENT_BYTES} bytes")))?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(self.refused(format!("{expected} was asked for, {digest} came")));
        }
        if let Some(promised) = promised.filter(|promised| *promised != digest) {
            return Err(self.refused(format!("{} says that it sends {promised}, {digest} came", endpoint.host)));
        }
        if let Some(size_bytes) = size_bytes.filter(|size| *size != bytes.len() as u64) {
            return Err(self.refused(format!("the index promises {digest} with {size_bytes} bytes, the registry gave {}", bytes.len())));
        }
        let value: serde_json::Value = self.decode(&bytes)?;
        let kind = kind_of(&value, said.as_deref()).map_err(|reason| self.refused(reason))?;
        Ok(Document { digest, bytes, kind, attestation: false })
    }

    /// What the reference means now.
    pub(crate) async fn digest_of_reference(&self) -> Result<Digest, RegistryError> {
        if let Some(digest) = self.reference.digest.as_ref().and_then(|text| text.parse().ok()) {
            return Ok(digest);
        }
        let tag = self.reference.tag.clone().unwrap_or_default();
        let asked = self.each(async |endpoint| again(self.options, || self.digest_at(endpoint, &tag)).await).await?;
        match asked {
            Some(digest) => Ok(digest),
            // A registry that does not say it: the document itself does.
            None => self.document(&tag, None, None).await.map(|document| document.digest),
        }
    }

    /// The digest that a registry gives for a tag, without the document.
    pub(crate) async fn digest_at(&self, endpoint: &Endpoint, word: &str) -> Result<Option<Digest>, RegistryError> {
        let mut ask = endpoint.ask(Method::HEAD, &format!("manifests/{word}"))?;
        ask.headers.push(("accept", KINDS.join(", ")));
        Ok(content_digest(endpoint.send(&ask, &[]).await?.headers()))
    }
}

fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

pub(crate) fn is_index(kind: &str) -> bool {
    kind == OCI_INDEX || kind == DOCKER_LIST
}

/// The media type of a document, with one meaning only (CVE-2021-41190): what it says itself, what came with it and what is in it must agree.
pub(crate) fn kind_of(value: &serde_json::Value, said: Option<&str>) -> Result<String, String> {
    let (lists, layers) = (value.get("manifests").is_some(), value.get("layers").is_some() || value.get("config").is_some());
    if lists && layers {
        return Err("it can be read as an index and as an image".to_owned());
    }
    if value.get("schemaVersion").and_then(serde_json::Value::as_u64) != Some(2) {
        return Err("its schemaVersion is not 2: such images are of before 2016, push it again with a newer tool".to_owned());
    }
    let said = said.filter(|said| KINDS.contains(said));
    let own = value.get("mediaType").and_then(serde_json::Value::as_str).filter(|own| !own.is_empty());
    if let (Some(said), Some(own)) = (said, own)
        && said != own
    {
        return Err(format!("it calls itself {own} and was sent as {said}"));
    }
    let kind = own.or(said).unwrap_or(if lists { OCI_INDEX } else { OCI_MANIFEST }).to_owned();
    match (KINDS.contains(&kind.as_str()), is_index(&kind) == lists) {
        (false, _) => Err(format!("its media type {kind} is not known")),
        (true, false) => Err(format!("it calls itself {kind} and is none")),
        (true, true) if !lists && value.get("layers").is_none() => Err("it lists no layers".to_owned()),
        (true, true) => Ok(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, kind_of};
    use serde_json::json;

    #[test]
    fn s16_a_document_has_one_meaning() {
        let manifest = json!({"schemaVersion": 2, "config": {}, "layers": []});
        let index = json!({"schemaVersion": 2, "manifests": []});
        assert_eq!(kind_of(&manifest, None).unwrap(), OCI_MANIFEST);
        assert_eq!(kind_of(&manifest, Some(DOCKER_MANIFEST)).unwrap(), DOCKER_MANIFEST);
        assert_eq!(kind_of(&manifest, Some("application/octet-stream")).unwrap(), OCI_MANIFEST);
        assert_eq!(kind_of(&index, Some(DOCKER_LIST)).unwrap(), DOCKER_LIST);
        let both = json!({"schemaVersion": 2, "manifests": [], "layers": []});
        let named = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "config": {}, "layers": []});
        for (value, said) in [
            (&both, None),
            (&both, Some(OCI_INDEX)),
            (&named, None),
            (&named, Some(OCI_MANIFEST)),
            (&manifest, Some(OCI_INDEX)),
            (&index, Some(OCI_MANIFEST)),
            (&json!({"schemaVersion": 1, "fsLayers": []}), None),
            (&json!({"schemaVersion": 2, "config": {}}), None),
            (&json!({"schemaVersion": 2, "mediaType": "x/y", "layers": []}), None),
            (&json!([]), None),
        ] {
            assert!(kind_of(value, said).is_err(), "{value} {said:?}");
        }
    }
}
