//! What the scheduler hears and what it says.

use std::fmt;

use strake_oci::Digest;
use strake_plan::StepIndex;

/// The identity of a step's result: the chain id of its layers, `None` for the empty file system.
pub type Chain = Option<Digest>;

/// An image's place in [`strake_plan::BuildPlan::images`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageIndex(pub usize);

/// What a command works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A step.
    Step(StepIndex),
    /// An image being assembled.
    Image(ImageIndex),
}

/// What happened. Every command except [`Command::Stop`] and [`Command::End`] is answered by exactly one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The build begins.
    Start,
    /// The content that the step reads has been digested (answers [`Command::Key`]).
    ContentKeyed { step: StepIndex },
    /// The step was looked up (answers [`Command::Probe`]): `hit` is the result the cache holds.
    Probed { step: StepIndex, hit: Option<Chain> },
    /// The step was executed (answers [`Command::Execute`]).
    Finished { step: StepIndex, chain: Chain },
    /// The image is in the store (answers [`Command::Assemble`]).
    Assembled { image: ImageIndex },
    /// Whatever was asked for failed, or was given up after [`Command::Stop`].
    Failed { subject: Subject, reason: String },
    /// The user gave up.
    Cancelled,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Digest the content that the step reads; `stages` is true when other steps' files are part of it (their results are there by then).
    Key { step: StepIndex, stages: bool },
    /// Look the step up; its inputs' results are there. `by_content` is true when the content of other steps' files is known.
    Probe { step: StepIndex, by_content: bool },
    /// Execute the step.
    Execute { step: StepIndex },
    /// Assemble the image; its step's result is there.
    Assemble { image: ImageIndex },
    /// Give up what is being done for this subject: its answer is still awaited.
    Stop { subject: Subject },
    /// The build is over; nothing is running any more.
    End(Ending),
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every image is assembled.
    Built,
    /// This failed first.
    Failed { subject: Subject, reason: String },
    /// The user gave up before anything failed.
    Cancelled,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Step(step) => write!(f, "step {}", step.0),
            Subject::Image(image) => write!(f, "image {}", image.0),
        }
    }
}
