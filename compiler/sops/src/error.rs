//! Why a file could not be opened. No text has a value or a key in it.

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SopsError {
    /// Nobody gave a key.
    #[error("this file is encrypted for {recipients}, and there is no key")]
    NoKey {
        /// The recipients.
        recipients: String,
    },
    /// Keys were given, and none is one of its recipients'.
    #[error("none of the keys of {sources} opens this file: it is encrypted for {recipients}")]
    WrongKey {
        /// Where the keys came from.
        sources: String,
        /// The recipients.
        recipients: String,
    },
    /// A key service that strake does not speak to.
    #[error("this file is encrypted for {services} only, which strake does not ask: it opens files for age and ssh keys")]
    Service {
        /// `pgp`, `kms`, …
        services: String,
    },
    /// Something that SOPS has and strake does not.
    #[error("{what} is not supported")]
    Unsupported {
        /// What it is.
        what: String,
    },
    /// The digest of all values is another one.
    #[error("the values are not those that were encrypted: their digest (mac) is another one")]
    Mac,
    /// One value does not have the tag that it had.
    #[error("the value of `{path}` is not what was encrypted there")]
    Value {
        /// Its keys, with dots between them.
        path: String,
    },
    /// One value should be encrypted, and is not.
    #[error("the value of `{path}` is not encrypted, as this file's rules say that it is")]
    Bare {
        /// Its keys, with dots between them.
        path: String,
    },
    /// What SOPS wrote about the file cannot be read.
    #[error("what SOPS has written about this file is damaged: {what}")]
    Damaged {
        /// What cannot be read.
        what: String,
    },
    /// A text that was given as a key is none.
    #[error("{key_source}: {what}")]
    Key {
        /// Where it came from.
        key_source: String,
        /// What is wrong with it.
        what: String,
    },
}

impl SopsError {
    /// How to mend it.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            SopsError::NoKey { .. } => Some("give it in SOPS_AGE_KEY, name its file in SOPS_AGE_KEY_FILE, or keep it in ~/.config/sops/age/keys.txt"),
            SopsError::WrongKey { .. } => Some("use a key of one of its recipients, or let one of them add yours: `sops updatekeys FILE`"),
            SopsError::Service { .. } => Some("let somebody who can open it add an age recipient: `sops rotate -i --add-age RECIPIENT FILE`"),
            SopsError::Mac | SopsError::Value { .. } | SopsError::Bare { .. } => {
                Some("somebody has edited it by hand: take it back from git, and use `sops edit FILE`")
            }
            SopsError::Damaged { .. } => Some("take it back from git, and use `sops edit FILE`"),
            _ => None,
        }
    }
}
