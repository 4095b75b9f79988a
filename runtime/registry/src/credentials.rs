//! Logins as docker keeps them: `config.json` and credential helpers.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};

use crate::error::RegistryError;

/// A credential helper may ask its user something; one that takes longer hangs.
const HELPER_PATIENCE: Duration = Duration::from_secs(60);

/// Who we are to a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// Nobody.
    Anonymous,
    /// User and password.
    Basic(String, String),
    /// A token that a token service exchanges for another.
    Identity(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::Anonymous => "Anonymous",
            Login::Basic(..) => "Basic(…)",
            Login::Identity(_) => "Identity(…)",
        })
    }
}

/// The login for a registry; anonymous when none is stored. `dir` holds docker's `config.json`; nothing: where docker itself looks.
pub(crate) async fn find(host: &str, dir: Option<&Path>) -> Result<Login, RegistryError> {
    let Some(path) = dir.map(Path::to_owned).or_else(docker_dir).map(|dir| dir.join("config.json")) else { return Ok(Login::Anonymous) };
    let server = server_key(host).to_owned();
    // A helper is a program that is waited for.
    let reading = tokio::task::spawn_blocking(move || read(&path, &server));
    let Ok(found) = tokio::time::timeout(HELPER_PATIENCE, reading).await else {
        return Err(RegistryError::Helper { host: host.to_owned(), timeout: HELPER_PATIENCE });
    };
    match found.unwrap_or(Err(CredentialRetrievalError::HelperCommunicationError)) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Login::Basic(user, password)),
        Ok(DockerCredential::IdentityToken(token)) => Ok(Login::Identity(token)),
        Err(CredentialRetrievalError::ConfigNotFound | CredentialRetrievalError::NoCredentialConfigured) => Ok(Login::Anonymous),
        // A helper that knows nothing of this registry says so in words of its own.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => Ok(Login::Anonymous),
        Err(source) => Err(RegistryError::Credentials { host: host.to_owned(), source }),
    }
}

fn read(path: &Path, server: &str) -> Result<DockerCredential, CredentialRetrievalError> {
    match File::open(path) {
        Ok(file) => get_credential_from_reader(BufReader::new(file), server),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CredentialRetrievalError::ConfigNotFound),
        Err(_) => Err(CredentialRetrievalError::ConfigReadError),
    }
}

fn docker_dir() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home)
}

/// The name under which docker keeps the login: Docker Hub's is its old address.
fn server_key(host: &str) -> &str {
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => "https://index.docker.io/v1/",
        host => host,
    }
}
