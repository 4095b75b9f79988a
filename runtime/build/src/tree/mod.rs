//! Trees of files by descriptor: looking paths up without ever leaving a root, overlays without a mount point, and walks.

mod below;
mod entry;
mod overlay;
mod root;
mod walk;

pub(crate) use below::{Below, Found, LookError, Looks, Named};
pub use entry::{Entry, Kind};
pub use overlay::{ViewError, edit, view};
pub use root::{LastLink, Root, clean, kind, permissions};
pub use walk::{Verdict, list, walk};
