//! The keys that files are opened with.

use std::io::Read as _;
use std::iter;
use std::str::FromStr as _;

use crate::error::SopsError;
use crate::metadata::Recipient;

/// Identities of age and ssh, with where they came from.
#[derive(Default)]
pub struct Keys {
    identities: Vec<Box<dyn age::Identity + Send + Sync>>,
    sources: Vec<String>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} of {:?})", self.identities.len(), self.sources)
    }
}

impl Keys {
    /// Whether nobody gave one.
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }

    /// Adds the keys in a text: `AGE-SECRET-KEY-…`, one a line with `#` before comments, or a private key of ssh. `source` is where it came from.
    ///
    /// # Errors
    /// [`SopsError::Key`] for what is no key.
    pub fn add(&mut self, source: &str, text: &str) -> Result<(), SopsError> {
        let wrong = |what: &str| SopsError::Key { key_source: source.to_owned(), what: what.to_owned() };
        if text.trim_start().starts_with("-----BEGIN") {
            return self.ssh(source, text);
        }
        let before = self.identities.len();
        for (number, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with("AGE-PLUGIN-") || line.starts_with("AGE-SECRET-KEY-PQ-") {
                return Err(wrong(&format!("the key in line {} needs a plugin of age, and strake runs none", number + 1)));
            }
            // What the parser says could have the key in it.
            let identity = age::x25519::Identity::from_str(line).map_err(|_| wrong(&format!("line {} is no key: expected AGE-SECRET-KEY-1…", number + 1)))?;
            self.identities.push(Box::new(identity));
        }
        if self.identities.len() == before {
            return Err(wrong("there is no key in it: expected AGE-SECRET-KEY-1…"));
        }
        self.sources.push(source.to_owned());
        Ok(())
    }

    fn ssh(&mut self, source: &str, text: &str) -> Result<(), SopsError> {
        let wrong = |what: &str| SopsError::Key { key_source: source.to_owned(), what: what.to_owned() };
        match age::ssh::Identity::from_buffer(text.as_bytes(), None) {
            Ok(age::ssh::Identity::Encrypted(_)) => Err(wrong("the key has a passphrase, and nobody is asked for it")),
            Ok(identity @ age::ssh::Identity::Unencrypted(_)) => {
                self.identities.push(Box::new(identity));
                self.sources.push(source.to_owned());
                Ok(())
            }
            _ => Err(wrong("this is no private key of ssh that is supported: expected ssh-ed25519 or ssh-rsa")),
        }
    }

    /// The data key, from the first recipient that one of the keys belongs to.
    pub(crate) fn data_key(&self, recipients: &[Recipient]) -> Result<[u8; 32], SopsError> {
        let named = || recipients.iter().map(|recipient| recipient.name.as_str()).collect::<Vec<_>>().join(", ");
        if self.is_empty() {
            return Err(SopsError::NoKey { recipients: named() });
        }
        for recipient in recipients {
            let reader = age::armor::ArmoredReader::new(recipient.message.as_bytes());
            let damaged = |_| SopsError::Damaged { what: format!("the key for {}", recipient.name) };
            let decryptor = age::Decryptor::new(reader).map_err(damaged)?;
            let identities = self.identities.iter().map(|identity| identity.as_ref() as &dyn age::Identity);
            let Ok(mut stream) = decryptor.decrypt(identities.chain(iter::empty())) else { continue };
            let mut key = Vec::new();
            let whole = stream.read_to_end(&mut key).is_ok();
            return <[u8; 32]>::try_from(key).ok().filter(|_| whole).ok_or(SopsError::Damaged { what: format!("the key for {}", recipient.name) });
        }
        Err(SopsError::WrongKey { sources: self.sources.join(", "), recipients: named() })
    }
}
