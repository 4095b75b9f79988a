//! The build scheduler: events in, commands out. It knows what may start, never how it is done.
//!
//! A step goes one way: its contexts are digested as soon as the build starts ([`Command::Key`]); when its inputs are there it is looked up
//! ([`Command::Probe`]); a miss that reads another stage's files is looked up once more by their content; what is still a miss is executed. Images are
//! assembled when their step is there. The first failure, or a cancellation, lets nothing new start and stops what runs.
//!
//! The driver owns time, threads and results; [`on_event`] only decides.

mod command;
mod core;

pub use command::{Chain, Command, Ending, Event, ImageIndex, Subject};
pub use core::{Core, on_event};
