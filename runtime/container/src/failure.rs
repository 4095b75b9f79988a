//! An account of what failed in one of our own helper processes, sent to the process that can tell the user.

use std::io;

use serde::{Deserialize, Serialize};

/// What was being done and what came of it, as one line for people, with the exit code it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// For people.
    pub text: String,
    /// 127 when the program was not found, 126 when it cannot be executed, 128 otherwise.
    pub code: i32,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Failure { text: text.into(), code: 128 }
    }
}

/// Names the action that failed.
pub(crate) trait Doing<T> {
    /// `what` completes the sentence "could not …".
    fn doing(self, what: &str) -> Result<T, Failure>;

    /// The same, with what it was done to.
    fn doing_to(self, what: &str, object: &dyn std::fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("could not {what}: {}", error.into())))
    }

    fn doing_to(self, what: &str, object: &dyn std::fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("could not {what} {object}: {}", error.into())))
    }
}
