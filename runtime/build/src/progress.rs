//! What a build tells while it runs.

use std::time::Duration;

use strake_plan::{Step, StepIndex};

use crate::{BuiltImage, StepError};

/// Hears what happens, from several threads at once; it must not block for long, for the build waits.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: ProgressEvent<'_>);
}

/// Something that happened. The events of one step come in order: [`ProgressEvent::Started`] before its output, its end last; a step from the cache
/// has only [`ProgressEvent::Cached`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ProgressEvent<'a> {
    /// A step is being executed.
    Started { index: StepIndex, step: &'a Step },
    /// A step's result was in the cache (also when another build made it just now).
    Cached { index: StepIndex, step: &'a Step },
    /// Output of a RUN, both streams, as it came.
    Output { index: StepIndex, step: &'a Step, bytes: &'a [u8] },
    /// Something the user should know that is no error.
    Warning { index: StepIndex, step: &'a Step, text: &'a str },
    /// A build cache of elsewhere is used no more: one of its layers could not be had, or was not what it promised.
    CacheGivenUp { name: &'a str, reason: &'a str },
    /// A step was executed.
    Done { index: StepIndex, step: &'a Step, duration: Duration },
    /// A step failed; the build ends with it.
    Failed { index: StepIndex, step: &'a Step, error: &'a StepError },
    /// An image is in the store under its tags.
    Assembled { image: &'a BuiltImage },
}

/// Tells nobody.
impl Progress for () {
    fn event(&self, _: ProgressEvent<'_>) {}
}
