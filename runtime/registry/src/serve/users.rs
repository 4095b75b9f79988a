//! Who may ask: user and password of an htpasswd file with bcrypt hashes, as docker's registry takes it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use strake_oci::{Digest, Hasher};

use super::ServeError;
use super::answer::{Denied, blocking};

/// Logins that were found good are remembered up to this number: bcrypt is slow by design, and clients send their login with every request.
const MAX_KNOWN: usize = 4096;

/// The users of a registry.
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// Digests over a secret of this process and the header.
    known: Mutex<HashSet<Digest>>,
    secret: [u8; 32],
}

impl Users {
    /// Reads a file of `user:hash` lines; empty lines and those that begin with `#` are left out.
    pub(super) fn load(path: &Path) -> Result<Self, ServeError> {
        let text = std::fs::read_to_string(path).map_err(|source| ServeError::Users { path: path.to_owned(), source })?;
        let wrong = |line: usize, reason: &str| ServeError::UsersLine { path: path.to_owned(), line: line + 1, reason: reason.to_owned() };
        let mut hashes = BTreeMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
            let (user, hash) = line.trim().split_once(':').ok_or_else(|| wrong(number, "expected USER:HASH"))?;
            if user.is_empty() {
                return Err(wrong(number, "the user's name is missing"));
            }
            if !["$2y$", "$2a$", "$2b$", "$2x$"].iter().any(|kind| hash.starts_with(kind)) || hash.len() != 60 {
                return Err(wrong(number, "expected a bcrypt hash: make one with `htpasswd -nB USER`"));
            }
            hashes.insert(user.to_owned(), hash.to_owned());
        }
        if hashes.is_empty() {
            return Err(ServeError::NoUsers { path: path.to_owned() });
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| ServeError::Random { source: std::io::Error::other(error) })?;
        Ok(Users { hashes, known: Mutex::default(), secret })
    }

    /// Lets a request pass, or not.
    pub(super) async fn check(self: &std::sync::Arc<Self>, headers: &HeaderMap) -> Result<(), Denied> {
        let denied =
            || Denied::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "a login is needed").with(WWW_AUTHENTICATE, "Basic realm=\"strake\", charset=\"UTF-8\"");
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(denied)?;
        let seen = self.seen(value);
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&seen) {
            return Ok(());
        }
        let (user, password) = login(value).ok_or_else(denied)?;
        let users = std::sync::Arc::clone(self);
        let good = blocking(move || {
            // For a name that is not there as much time is spent.
            let hash = users.hashes.get(&user).or_else(|| users.hashes.values().next()).map_or("", String::as_str);
            Ok(bcrypt::verify(password, hash).unwrap_or(false) && users.hashes.contains_key(&user))
        });
        if !good.await? {
            return Err(denied());
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(seen);
        Ok(())
    }

    fn seen(&self, value: &str) -> Digest {
        let mut hasher = Hasher::default();
        hasher.field(&self.secret);
        hasher.field(value.as_bytes());
        hasher.finish()
    }
}

/// User and password of a header.
fn login(value: &str) -> Option<(String, String)> {
    let (scheme, text) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
