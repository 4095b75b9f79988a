//! What a controller wants done, as data.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::Value;
use strake_kinds::core::ObjectReference;

use crate::ObjectId;

/// The answer of a controller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// What to do, in this order.
    pub actions: Vec<Action>,
    /// Look at this key again after this time even if nothing changes.
    pub requeue_after: Option<Duration>,
}

/// One write. Each says why.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create the object. "Already exists" means that an earlier decision did it: carry on and read it into the view.
    Create { object: Value, reason: Cow<'static, str> },
    /// Replace the object. Its `metadata.resourceVersion` is the precondition.
    Update { object: Value, reason: Cow<'static, str> },
    /// Replace the status through the `status` subresource. Its `metadata.resourceVersion` is the precondition.
    UpdateStatus { object: Value, reason: Cow<'static, str> },
    /// A JSON merge patch (RFC 7386) of the object or, if given, of a subresource. `metadata.uid` or
    /// `metadata.resourceVersion` inside the patch are preconditions, as the API treats them.
    Patch { id: ObjectId, subresource: Option<&'static str>, patch: Value, reason: Cow<'static, str> },
    /// Delete the object with this uid. "Not found" and "another uid" count as done.
    Delete { id: ObjectId, uid: String, propagation: Propagation, grace_seconds: Option<i64>, reason: Cow<'static, str> },
    /// Put the namespace through its `finalize` subresource: `spec.finalizers` as they stand in `object`.
    Finalize { object: Value, reason: Cow<'static, str> },
    /// Record an event about an object. Losing it harms nothing.
    RecordEvent { about: Box<ObjectReference>, event_type: EventType, reason: Cow<'static, str>, message: String },
}

impl Action {
    /// Why it should be done; for an event, its own reason.
    pub fn reason(&self) -> &str {
        match self {
            Self::Create { reason, .. }
            | Self::Update { reason, .. }
            | Self::UpdateStatus { reason, .. }
            | Self::Patch { reason, .. }
            | Self::Delete { reason, .. }
            | Self::Finalize { reason, .. }
            | Self::RecordEvent { reason, .. } => reason,
        }
    }

    /// It writes to an object (an event does not count).
    pub fn is_write(&self) -> bool {
        !matches!(self, Self::RecordEvent { .. })
    }
}

/// What happens to the dependents of a deleted object: `propagationPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    Background,
    Foreground,
    Orphan,
}

impl Propagation {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}
