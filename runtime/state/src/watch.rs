//! Recent events and those who wait for the next ones.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{Entry, Revision, StateError};

/// Events remembered for those who resume.
const REMEMBERED_EVENTS: usize = 8192;
/// Bytes of values that remembered events may hold.
const REMEMBERED_BYTES: usize = 24 << 20;
/// Events a watcher may lag behind before it is closed.
const LAG: usize = 1024;

/// One write, as watchers see it.
#[derive(Debug)]
pub struct Event {
    /// The key written.
    pub key: Arc<str>,
    /// The write's number.
    pub revision: Revision,
    /// The value, or for a removal the last bytes that its writer encoded.
    pub value: Bytes,
    /// Whether the key was removed.
    pub removed: bool,
    /// What the key held before; `None` when it was created.
    pub previous: Option<Entry>,
    /// Room for a reader to remember how it encodes this event, so that it does so once for all watchers.
    pub encoded: OnceLock<Bytes>,
}

impl Event {
    /// Bytes that it keeps alive: its value and what a reader makes of it. What was there before is most often the value of an earlier event.
    fn weight(&self) -> usize {
        2 * self.value.len() + std::mem::size_of::<Event>()
    }
}

/// A stream of events. It ends ([`Watch::next`] gives `None`) when its reader lagged too far behind or when the state closed: resume or list again.
#[derive(Debug)]
pub struct Watch {
    backlog: VecDeque<Arc<Event>>,
    live: mpsc::Receiver<Arc<Event>>,
}

impl Watch {
    /// The next event. Safe to cancel.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        match self.backlog.pop_front() {
            Some(event) => Some(event),
            None => self.live.recv().await,
        }
    }

    /// The next event if it is there already.
    pub fn try_next(&mut self) -> Option<Arc<Event>> {
        self.backlog.pop_front().or_else(|| self.live.try_recv().ok())
    }

    /// Whether no further event can come once those already here are read.
    pub fn is_closed(&self) -> bool {
        self.live.is_closed()
    }
}

#[derive(Debug)]
struct Watcher {
    after: Revision,
    sender: mpsc::Sender<Arc<Event>>,
}

/// Recent events, and the watchers grouped by the prefix they asked for.
#[derive(Debug)]
pub(crate) struct Hub {
    recent: VecDeque<Arc<Event>>,
    recent_bytes: usize,
    /// Nothing after this revision is forgotten.
    floor: Revision,
    groups: Vec<(Box<str>, Vec<Watcher>)>,
}

impl Hub {
    pub(crate) fn new(floor: Revision) -> Hub {
        Hub { recent: VecDeque::new(), recent_bytes: 0, floor, groups: Vec::new() }
    }

    pub(crate) fn watch(&mut self, prefix: &str, after: Revision, newest: Revision) -> Result<Watch, StateError> {
        if after < self.floor || after > newest {
            return Err(StateError::Compacted { asked: after, oldest: self.floor, newest });
        }
        let start = self.recent.partition_point(|event| event.revision <= after);
        let backlog = self.recent.range(start..).filter(|event| event.key.starts_with(prefix)).cloned().collect();
        let (sender, live) = mpsc::channel(LAG);
        let watcher = Watcher { after, sender };
        match self.groups.iter_mut().find(|(name, _)| **name == *prefix) {
            Some((_, watchers)) => watchers.push(watcher),
            None => self.groups.push((prefix.into(), vec![watcher])),
        }
        Ok(Watch { backlog, live })
    }

    /// Shows `event` to everybody it concerns. Who has no room any more is closed; nobody is waited for.
    pub(crate) fn publish(&mut self, event: Event) {
        let event = Arc::new(event);
        for (prefix, watchers) in &mut self.groups {
            if event.key.starts_with(&**prefix) {
                watchers.retain(|watcher| event.revision <= watcher.after || watcher.sender.try_send(event.clone()).is_ok());
            }
        }
        self.recent_bytes += event.weight();
        self.recent.push_back(event);
        while self.recent.len() > REMEMBERED_EVENTS || (self.recent_bytes > REMEMBERED_BYTES && self.recent.len() > 1) {
            if let Some(oldest) = self.recent.pop_front() {
                self.recent_bytes -= oldest.weight();
                self.floor = oldest.revision;
            }
        }
    }

    /// Forgets watchers whose readers have gone. Called now and then, since a prefix without writes would keep them.
    pub(crate) fn sweep(&mut self) {
        for (_, watchers) in &mut self.groups {
            watchers.retain(|watcher| !watcher.sender.is_closed());
        }
        self.groups.retain(|(_, watchers)| !watchers.is_empty());
    }

    /// Ends every watch.
    pub(crate) fn close(&mut self) {
        self.groups.clear();
    }
}
