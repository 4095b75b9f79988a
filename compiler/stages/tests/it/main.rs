//! Golden cases (`UPDATE_GOLDEN=1` writes them anew) and tables.

#![expect(clippy::disallowed_methods, reason = "golden cases are folders of files")]

mod bases;
mod checks;
mod golden;
mod history;
mod identity;
mod linked;
mod properties;
mod reach;
mod targets;
