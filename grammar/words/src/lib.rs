//! The small languages inside fields: image references, label and field selectors, quantities, durations, addresses of git repositories.
//!
//! Each has a `.pest` file with its grammar and a module with its tree. All of them read one short text and say in one sentence what is wrong with it.

mod duration;
mod error;
mod git;
mod quantity;
mod reference;
mod selector;

pub use duration::GoDuration;
pub use error::WordError;
pub use git::{GitReference, GitScheme};
pub use quantity::{Format, Quantity};
pub use reference::Reference;
pub use selector::{FieldSelector, FieldTerm, LabelSelector, Operator, Requirement, check_label_key, check_label_value};
