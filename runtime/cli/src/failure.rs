//! How a command ends when it does not end well: one message, one exit code.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use strake_client::ClientError;

use crate::interrupt::INTERRUPTED;

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    /// What to print; empty when everything has been said already.
    message: String,
    /// 1 failed, 2 changes pending or wrong usage, 130 interrupted.
    code: u8,
    /// The cluster did not answer: the same may work later.
    away: bool,
}

impl Failure {
    /// A message of our own.
    pub fn text(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: 1, away: false }
    }

    /// An error with its whole chain.
    pub fn chain(error: &(dyn Error + 'static)) -> Failure {
        Failure::text(chain(error)).because(error)
    }

    /// Everything has been said already.
    pub fn silent(code: u8) -> Failure {
        Failure { message: String::new(), code, away: false }
    }

    /// Ended by Ctrl-C or SIGTERM; `words` say what that leaves.
    pub fn interrupted(words: impl Into<String>) -> Failure {
        Failure { message: words.into(), code: INTERRUPTED, away: false }
    }

    /// The same with another exit code.
    #[must_use]
    pub fn with_code(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }

    /// The same, with what is known of it from the error that it tells.
    #[must_use]
    pub fn because(mut self, error: &(dyn Error + 'static)) -> Failure {
        let mut causes = std::iter::successors(Some(error), |error| (*error).source());
        self.away = causes.any(|cause| cause.downcast_ref::<ClientError>().is_some_and(ClientError::is_unreachable));
        self
    }

    /// Whether the cluster did not answer.
    pub fn is_away(&self) -> bool {
        self.away
    }

    /// A file that cannot be read.
    pub fn read(path: &Path, source: io::Error) -> Failure {
        let hint = match source.kind() {
            io::ErrorKind::NotFound => ": there is no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => ": permission denied".to_owned(),
            _ => format!(": {source}"),
        };
        Failure::text(format!("cannot read {}{hint}", path.display()))
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error and its causes as one sentence: parts that repeat what was said are left out.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// The likely way out when the kernel said no to somebody who isn't root.
pub fn root_hint(message: &str) -> &'static str {
    let denied = message.to_lowercase().contains("permission denied");
    if denied && !rustix::process::geteuid().is_root() { ". Run it with sudo, or use a directory of your own with --root" } else { "" }
}

/// Turns any error into a failure with its chain.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::chain(&error)
    }
}
