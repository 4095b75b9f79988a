//! What is readable in memory, and the rules of a write: shared by the back ends.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use crate::watch::Hub;
use crate::{Encode, EncodeLast, Entry, Event, Expect, Listing, Revision, StateError, Watch};

/// A write that waits for its turn.
pub(crate) enum Write {
    Put(Encode),
    Delete(EncodeLast),
}

/// A write whose demand held, and its effect.
pub(crate) struct Effect {
    pub(crate) entry: Entry,
    pub(crate) previous: Option<Entry>,
    pub(crate) removed: bool,
}

#[derive(Debug, Default)]
struct Objects {
    entries: BTreeMap<Arc<str>, Entry>,
    revision: Revision,
}

/// The readable state.
#[derive(Debug)]
pub(crate) struct Board {
    objects: RwLock<Objects>,
    hub: Mutex<Hub>,
}

/// Decides one write against what its key holds. `next` is the number the write gets.
pub(crate) fn decide(key: &str, current: Option<&Entry>, expect: Expect, write: Write, next: Revision) -> Result<Effect, StateError> {
    let holds = match (expect, current) {
        (Expect::Absent, found) => found.is_none(),
        (Expect::Revision(wanted), Some(found)) => found.revision == wanted,
        (Expect::Revision(_), None) => false,
        (Expect::Any, _) => true,
    };
    let conflict = || StateError::Conflict { key: key.to_owned(), current: current.cloned() };
    if !holds {
        return Err(conflict());
    }
    match write {
        Write::Put(encode) => {
            let key = current.map_or_else(|| Arc::from(key), |entry| entry.key.clone());
            Ok(Effect { entry: Entry { key, revision: next, value: encode(next) }, previous: current.cloned(), removed: false })
        }
        Write::Delete(encode) => {
            let found = current.ok_or_else(conflict)?;
            let entry = Entry { key: found.key.clone(), revision: next, value: encode(next, found) };
            Ok(Effect { entry, previous: Some(found.clone()), removed: true })
        }
    }
}

impl Board {
    pub(crate) fn new(entries: BTreeMap<Arc<str>, Entry>, revision: Revision) -> Board {
        Board { objects: RwLock::new(Objects { entries, revision }), hub: Mutex::new(Hub::new(revision)) }
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn revision(&self) -> Revision {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).revision
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).entries.get(key).cloned()
    }

    pub(crate) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Listing {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut matching = objects.entries.range::<str, _>((start, Bound::Unbounded)).map(|(_, entry)| entry).take_while(|entry| entry.key.starts_with(prefix));
        let entries: Vec<Entry> = matching.by_ref().take(if limit == 0 { usize::MAX } else { limit }).cloned().collect();
        Listing { entries, revision: objects.revision, remaining: matching.count() }
    }

    pub(crate) fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StateError> {
        let newest = self.revision();
        self.hub().watch(prefix, after, newest)
    }

    /// Makes durable effects readable. They must come in the order of their revisions, from one writer.
    pub(crate) fn apply(&self, effects: &[Effect]) {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        for effect in effects {
            if effect.removed {
                objects.entries.remove(&effect.entry.key);
            } else {
                objects.entries.insert(effect.entry.key.clone(), effect.entry.clone());
            }
            objects.revision = effect.entry.revision;
        }
    }

    /// Shows applied effects to the watchers.
    pub(crate) fn publish(&self, effects: Vec<Effect>) {
        let mut hub = self.hub();
        for Effect { entry, previous, removed } in effects {
            if entry.revision.0 % 1024 == 0 {
                hub.sweep();
            }
            hub.publish(Event { key: entry.key, revision: entry.revision, value: entry.value, removed, previous, encoded: OnceLock::new() });
        }
    }

    pub(crate) fn close(&self) {
        self.hub().close();
    }
}
