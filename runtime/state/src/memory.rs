//! A state that lives as long as its process: for tests, simulations and plans that are only looked at.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Mutex, PoisonError};

use crate::board::{Board, Write, decide};
use crate::{Ack, Encode, EncodeLast, Entry, Expect, Listing, Revision, State, StateError, Watch};

/// Objects in memory only. Every future it returns is ready at once.
#[derive(Debug)]
pub struct Memory {
    board: Board,
    /// Held for the length of a write: one writer at a time.
    turn: Mutex<()>,
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}

impl Memory {
    /// An empty state.
    pub fn new() -> Memory {
        Memory { board: Board::new(BTreeMap::new(), Revision(0)), turn: Mutex::new(()) }
    }

    fn write(&self, key: &str, expect: Expect, write: Write) -> Result<Entry, StateError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.board.get(key);
        let next = Revision(self.board.revision().0 + 1);
        let effect = decide(key, current.as_ref(), expect, write, next)?;
        let entry = effect.entry.clone();
        let effects = vec![effect];
        self.board.apply(&effects);
        self.board.publish(effects);
        Ok(entry)
    }
}

impl State for Memory {
    fn revision(&self) -> Revision {
        self.board.revision()
    }

    fn get(&self, key: &str) -> Option<Entry> {
        self.board.get(key)
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Listing {
        self.board.list(prefix, after, limit)
    }

    fn put_if(&self, key: &str, expect: Expect, encode: Encode) -> Ack {
        Box::pin(ready(self.write(key, expect, Write::Put(encode))))
    }

    fn delete_if(&self, key: &str, expect: Expect, encode: EncodeLast) -> Ack {
        Box::pin(ready(self.write(key, expect, Write::Delete(encode))))
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StateError> {
        self.board.watch(prefix, after)
    }
}
