//! Giving up: a flag that any thread can raise, and that wakes those who wait for something else.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Callback = Box<dyn FnOnce() + Send>;

/// Raised once, never lowered. Clones are the same flag.
#[derive(Clone, Default)]
pub struct CancelFlag {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    raised: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    callbacks: BTreeMap<u64, Callback>,
}

/// Takes the callback back when dropped.
#[must_use = "the callback is forgotten when this is dropped"]
pub struct OnCancel {
    inner: Arc<Inner>,
    key: u64,
}

impl CancelFlag {
    /// A flag that is not raised.
    pub fn new() -> Self {
        CancelFlag::default()
    }

    /// Raises the flag and runs the callbacks, in this thread. Not for signal handlers: wake a thread from those.
    pub fn cancel(&self) {
        self.inner.raised.store(true, Ordering::SeqCst);
        let callbacks = std::mem::take(&mut self.inner.lock().callbacks);
        callbacks.into_values().for_each(|callback| callback());
    }

    /// Whether it was raised.
    pub fn is_cancelled(&self) -> bool {
        self.inner.raised.load(Ordering::SeqCst)
    }

    /// Runs `callback` when the flag is raised, at once if it was raised before.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) -> OnCancel {
        let mut waiting = self.inner.lock();
        waiting.next += 1;
        let key = waiting.next;
        if self.is_cancelled() {
            drop(waiting);
            callback();
        } else {
            waiting.callbacks.insert(key, Box::new(callback));
        }
        OnCancel { inner: Arc::clone(&self.inner), key }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OnCancel {
    fn drop(&mut self) {
        self.inner.lock().callbacks.remove(&self.key);
    }
}

impl fmt::Debug for CancelFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelFlag").field(&self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::CancelFlag;

    #[test]
    fn callbacks_run_once_and_only_while_they_are_held() {
        let (sender, receiver) = mpsc::channel();
        let flag = CancelFlag::new();
        let say = |word: &'static str| {
            let sender = sender.clone();
            move || sender.send(word).unwrap()
        };
        drop(flag.on_cancel(say("dropped")));
        let _held = flag.on_cancel(say("held"));
        flag.clone().cancel();
        flag.cancel();
        let _late = flag.on_cancel(say("late"));
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["held", "late"]);
    }
}
