//! What can go wrong between us and a registry.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use strake_oci::{Digest, Platform};
use strake_store::StoreError;

/// Why an image could not be pulled or pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The text is no image reference.
    #[error("`{reference}` is not an image reference")]
    Reference { reference: String, source: strake_words::WordError },
    /// The HTTP client could not be made.
    #[error("cannot set up the connection to registry {host}")]
    Client { host: String, source: reqwest::Error },
    /// `registries.yaml` cannot be read.
    #[error("cannot read {}", path.display())]
    RegistriesRead { path: PathBuf, source: io::Error },
    /// `registries.yaml` has mistakes in it.
    #[error("{} has mistakes:\n{findings}", path.display())]
    Registries { path: PathBuf, findings: String },
    /// A file of authorities cannot be read.
    #[error("cannot read the authorities of registry {host} from {}", path.display())]
    Authorities { host: String, path: PathBuf, source: io::Error },
    /// A file of authorities holds none.
    #[error("{} holds no certificates for registry {host}", path.display())]
    AuthoritiesDecode { host: String, path: PathBuf, source: reqwest::Error },
    /// Nobody answers, or not in full.
    #[error("cannot reach registry {host}")]
    Unreachable { host: String, source: reqwest::Error },
    /// The registry stopped answering.
    #[error("registry {host} did not answer within {} s", timeout.as_secs())]
    Timeout { host: String, timeout: Duration },
    /// The registry, or what it leads to, is at an address that may not be reached.
    #[error("registry {host} leads to {address}, a link-local, metadata or loopback address: it may not be reached from there")]
    Forbidden { host: String, address: IpAddr },
    /// The registry leads in circles, or from https to http, or to something that is no address.
    #[error("registry {host} gives an unacceptable redirect: {reason}")]
    Redirect { host: String, reason: String },
    /// The registry sends its logins to a host that is not its own.
    #[error(
        "registry {host} wants the login sent to {realm}, a host of somebody else; if that is its token service, list it under `auth` of {host} in registries.yaml"
    )]
    Realm { host: String, realm: String },
    /// The registry wants other credentials, or hides that the image does not exist.
    #[error("registry {host} denies access to {reference}: it needs a login, or does not exist")]
    Unauthorized { host: String, reference: String, source: Refusal },
    /// No such image.
    #[error("{reference} does not exist in its registry")]
    NotFound { reference: String, source: Refusal },
    /// Too many requests.
    #[error("registry {host} limits how much is asked of it: log in, or try again later")]
    RateLimited { host: String, source: Refusal },
    /// Anything else that the registry answered.
    #[error("registry {host} gave an unexpected answer for {reference}")]
    Answer { host: String, reference: String, source: Refusal },
    /// An answer that does not have the shape that the distribution specification gives it.
    #[error("registry {host} broke the protocol: {reason}")]
    Protocol { host: String, reason: String },
    /// A stored login could not be read.
    #[error("cannot read the stored login for registry {host}")]
    Credentials { host: String, source: docker_credential::CredentialRetrievalError },
    /// A credential helper does not end.
    #[error("the credential helper for registry {host} did not answer within {} s", timeout.as_secs())]
    Helper { host: String, timeout: Duration },
    /// The image exists for other platforms only.
    #[error("{reference} is not available for {platform}: it has {}", available.iter().map(Platform::to_string).collect::<Vec<_>>().join(", "))]
    Platform { reference: String, platform: Platform, available: Vec<Platform> },
    /// A manifest that means something unacceptable.
    #[error("{reference} has an unacceptable manifest: {reason}")]
    Manifest { reference: String, reason: String },
    /// A manifest that is not JSON of the right shape.
    #[error("the manifest of {reference} cannot be decoded")]
    Decode { reference: String, source: serde_json::Error },
    /// A blob larger than allowed, or longer than its descriptor says.
    #[error("blob {digest} has more than the {max_bytes} bytes allowed")]
    TooLarge { digest: Digest, max_bytes: u64 },
    /// A connection that broke in the middle of a blob, also when tried again.
    #[error("the transfer of blob {digest} broke off")]
    Transfer { digest: Digest, source: io::Error },
    /// The store refused: a wrong digest, a full disk.
    #[error("cannot store {reference}")]
    Store { reference: String, source: Box<StoreError> },
    /// The task that packs layers died.
    #[error("packing the layers of {reference} was interrupted")]
    Pack { reference: String, source: tokio::task::JoinError },
    /// A writing task died.
    #[error("writing {digest} was interrupted")]
    Interrupted { digest: Digest, source: tokio::task::JoinError },
}

/// What a registry answered instead of what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it answered {status}{}{}", code.as_ref().map(|code| format!(" {code}")).unwrap_or_default(), if message.is_empty() { String::new() } else { format!(": {message}") })]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The error code of the distribution specification, when there was one.
    pub code: Option<String>,
    /// The registry's own words, in one line and bounded.
    pub message: String,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl RegistryError {
    /// Sorts out what a registry answered.
    pub(crate) fn refused(host: &str, reference: &str, source: Refusal) -> Self {
        let (host, reference) = (host.to_owned(), reference.to_owned());
        match (source.status, source.code.as_deref()) {
            (429, _) | (_, Some("TOOMANYREQUESTS")) => RegistryError::RateLimited { host, source },
            (401 | 403, _) | (_, Some("UNAUTHORIZED" | "DENIED")) => RegistryError::Unauthorized { host, reference, source },
            (404, _) | (_, Some("MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "BLOB_UNKNOWN" | "NOT_FOUND")) => RegistryError::NotFound { reference, source },
            _ => RegistryError::Answer { host, reference, source },
        }
    }

    /// Whether the same request may well succeed a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            RegistryError::RateLimited { .. } | RegistryError::Timeout { .. } | RegistryError::Transfer { .. } => true,
            RegistryError::Unreachable { source, .. } => !source.is_connect() || source.is_timeout(),
            RegistryError::Answer { source, .. } => source.status >= 500 || source.status == 408,
            _ => false,
        }
    }

    /// How long the registry asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            RegistryError::RateLimited { source, .. } | RegistryError::Answer { source, .. } => source.retry_after,
            _ => None,
        }
    }

    /// Whether another registry with the same content may do better.
    pub(crate) fn is_of_this_host(&self) -> bool {
        let ours = |source: &StoreError| !matches!(source, StoreError::DigestMismatch { .. });
        match self {
            RegistryError::Store { source, .. } => !ours(source),
            RegistryError::Pack { .. } | RegistryError::Interrupted { .. } | RegistryError::Reference { .. } | RegistryError::Platform { .. } => false,
            _ => true,
        }
    }
}

/// An error and its causes as one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
