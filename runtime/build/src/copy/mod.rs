//! COPY and ADD: which files, and how they get into a file system.

pub(crate) mod direct;
mod files;
mod mode;
mod owner;
mod place;
mod source;
mod unpack;
pub(crate) mod vary;

pub(crate) use files::attributes;
pub use mode::ModeChange;
pub use owner::{Owner, OwnerError, find};
pub use place::{Destination, PlaceError, Placing};
pub use source::{SelectError, Selection, Source, SourceOrigin};
pub use unpack::{is_archive, unpack};
