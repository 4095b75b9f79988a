//! The terminal in raw mode while a remote one is shown in it.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::Failure;

/// Raw mode; dropping it restores what was.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Makes stdin raw.
    ///
    /// # Errors
    /// Stdin is no terminal.
    pub fn enter() -> Result<RawMode, Failure> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(RawMode { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
