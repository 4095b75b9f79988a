//! What can go wrong between us and an API server.

use std::path::PathBuf;

pub use kube::core::Status;

/// An error of a request. The server's own refusals are [`ClientError::Api`] and keep everything it said.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused: `reason`, `code`, `message` and `details.causes` are its own.
    #[error("{}", said(.0))]
    Api(Box<Status>),
    /// The kubeconfig cannot be read.
    #[error("cannot read the kubeconfig {} (KUBECONFIG or --kubeconfig names another file)", path.display())]
    ReadKubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kubeconfig makes no sense or does not have what was asked for.
    #[error("reading the kubeconfig{}", of(path.as_ref()))]
    Kubeconfig {
        /// The file, if one was named.
        path: Option<PathBuf>,
        /// Why.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The kubeconfig has no context of this name.
    #[error("there is no context `{context}` in the kubeconfig{}: {}", of(path.as_ref()), list(known))]
    NoContext {
        /// The file, if one was named.
        path: Option<PathBuf>,
        /// What was asked for.
        context: String,
        /// The contexts that there are.
        known: Vec<String>,
    },
    /// A client could not be made from the kubeconfig: its certificates, keys or credential plug-in.
    #[error("preparing the connection to {server}")]
    Prepare {
        /// The server's address.
        server: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The request did not reach the server, or its answer did not come back.
    #[error("no answer to {method} {path}")]
    Send {
        /// The method.
        method: http::Method,
        /// The path without the query.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer broke off.
    #[error("reading the answer to {path}")]
    Receive {
        /// The path without the query.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer was not what the API promises.
    #[error("the answer to {path} is not the JSON that was expected")]
    Decode {
        /// The path without the query.
        path: String,
        /// Where it stopped making sense.
        #[source]
        source: serde_json::Error,
    },
    /// Nothing inside the pod takes connections at the port, or the pod's node does not get there.
    #[error("port {port} of pod {pod} is not forwarded: {reason}")]
    NotConnected {
        /// The pod.
        pod: String,
        /// The port.
        port: u16,
        /// Why, in the node's words.
        reason: String,
    },
    /// A request could not be put into words: a name with characters that no path can hold.
    #[error("{path} is not a path that can be requested")]
    Build {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: http::Error,
    },
}

fn of(path: Option<&PathBuf>) -> String {
    path.map(|path| format!(" {}", path.display())).unwrap_or_default()
}

/// What the server said; of credentials that are not accepted it says one word only.
fn said(status: &Status) -> String {
    if status.code == 401 {
        return format!(
            "{}: the server does not accept the credentials of the kubeconfig; a token or certificate may have expired: log in again",
            status.message
        );
    }
    status.message.clone()
}

fn list(contexts: &[String]) -> String {
    if contexts.is_empty() { "it has none".to_owned() } else { format!("it has {}", contexts.join(", ")) }
}

impl ClientError {
    /// What the server said, if it was the server that refused.
    pub fn status(&self) -> Option<&Status> {
        match self {
            ClientError::Api(status) => Some(status),
            _ => None,
        }
    }

    fn code_is(&self, code: u16) -> bool {
        self.status().is_some_and(|status| status.code == code)
    }

    fn reason_is(&self, reason: &str) -> bool {
        self.status().is_some_and(|status| status.reason == reason)
    }

    /// There is no such object (or no such resource).
    pub fn is_not_found(&self) -> bool {
        self.code_is(404)
    }

    /// Somebody else changed the object in between, or owns a field (server-side apply).
    pub fn is_conflict(&self) -> bool {
        self.code_is(409) && !self.is_already_exists()
    }

    /// A create met an object of the same name.
    pub fn is_already_exists(&self) -> bool {
        self.reason_is("AlreadyExists")
    }

    /// The object breaks a rule; `details.causes` names the fields.
    pub fn is_invalid(&self) -> bool {
        self.code_is(422)
    }

    /// The revision is too old to watch or to continue from: list again.
    pub fn is_expired(&self) -> bool {
        self.code_is(410)
    }

    /// The server cannot be reached at all (as opposed to: it refused).
    pub fn is_unreachable(&self) -> bool {
        matches!(self, ClientError::Send { .. })
    }
}

/// Reads a refusal; a body that is no Status becomes one.
pub(crate) fn refusal(code: http::StatusCode, body: &[u8]) -> ClientError {
    let mut status: Status = serde_json::from_slice(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&body[..body.len().min(512)]);
        let message = if text.trim().is_empty() { format!("the server answered {code}") } else { format!("the server answered {code}: {}", text.trim()) };
        Status::failure(&message, code.canonical_reason().unwrap_or("Unknown"))
    });
    if status.code == 0 {
        status.code = code.as_u16();
    }
    if status.message.is_empty() {
        status.message = format!("the server answered {code}");
    }
    ClientError::Api(Box::new(status))
}
