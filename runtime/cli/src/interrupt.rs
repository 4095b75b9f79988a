//! Ctrl-C and SIGTERM: at once, and cleanly, whatever the program is doing.
//!
//! One thread waits for the signals from the program's start. Work that has something to clean up says how it is told ([`when`]); without any such work the
//! program simply ends, and so it does at a second interrupt. A signal is never lost between two pieces of work: the next one learns of it when it begins.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use strake_build::CancelFlag;
use tokio::sync::{Notify, watch};

use crate::failure::Failure;
use crate::output::{Paint, note};

/// The exit code of something that was interrupted (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

struct Interrupts {
    raised: bool,
    work: Vec<(u64, Arc<dyn Fn() + Send + Sync>)>,
    next: u64,
}

static INTERRUPTS: Mutex<Interrupts> = Mutex::new(Interrupts { raised: false, work: Vec::new(), next: 0 });

fn interrupts() -> MutexGuard<'static, Interrupts> {
    INTERRUPTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens from now on, for the whole program. To be called once, before any work.
pub fn listen() -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let thread = std::thread::Builder::new().name("signals".to_owned());
    #[expect(clippy::exit, reason = "an interrupt that nobody is there to heed")]
    let heed = move || {
        if signals.forever().any(|_| !raise()) {
            note(Paint::stderr().red("interrupted"));
            std::process::exit(i32::from(INTERRUPTED));
        }
    };
    thread.spawn(heed)?;
    Ok(())
}

/// Tells the work; `false` when there is none, or when it was told before and hangs: then the program ends as it is. What that leaves is no more than
/// after a crash, and the next start removes it.
fn raise() -> bool {
    let (again, work): (bool, Vec<_>) = {
        let mut interrupts = interrupts();
        let again = std::mem::replace(&mut interrupts.raised, true);
        (again, interrupts.work.iter().map(|(_, tell)| Arc::clone(tell)).collect())
    };
    work.iter().for_each(|tell| tell());
    !again && !work.is_empty()
}

/// Work that ends itself when told; taken back when dropped.
#[must_use = "the work is not told any more when this is dropped"]
pub struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        interrupts().work.retain(|(key, _)| *key != self.0);
    }
}

/// Calls `tell` at every interrupt while the result is held, from another thread; at once when there was one before.
pub fn when(tell: impl Fn() + Send + Sync + 'static) -> Told {
    let tell = Arc::new(tell);
    let mut interrupts = interrupts();
    interrupts.next += 1;
    let key = interrupts.next;
    interrupts.work.push((key, tell.clone()));
    let raised = interrupts.raised;
    drop(interrupts);
    if raised {
        tell();
    }
    Told(key)
}

/// Whether there was an interrupt.
pub fn raised() -> bool {
    interrupts().raised
}

/// The interrupt was what ended the work, and was meant to: what comes after it is not interrupted by it.
pub fn heeded() {
    interrupts().raised = false;
}

/// Runs a command that speaks to a cluster; an interrupt ends it.
pub fn wait<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    wait_or("", command)
}

/// The same; `words` say what an interrupt leaves behind.
pub fn wait_or<T>(words: &str, command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let interrupted = Arc::new(Notify::new());
    let told = when({
        let interrupted = Arc::clone(&interrupted);
        move || interrupted.notify_one()
    });
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            () = interrupted.notified() => Err(Failure::interrupted(words)),
            result = command => result,
        }
    });
    drop(told);
    // A read of the terminal that still waits must not hold the program.
    runtime.shutdown_background();
    result
}

/// How long a command may take to end by itself once it was told.
const GRACE: Duration = Duration::from_secs(10);

/// Runs a command that ends itself in order: what it is given becomes true at an interrupt. `words` say what is left when it does not end.
pub fn gracefully<T>(words: &str, command: impl AsyncFnOnce(watch::Receiver<bool>) -> Result<T, Failure>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (tell, stop) = watch::channel(false);
    let interrupted = Arc::new(Notify::new());
    let told = when({
        let interrupted = Arc::clone(&interrupted);
        move || {
            tell.send_replace(true);
            interrupted.notify_one();
        }
    });
    let result = runtime.block_on(async {
        let mut command = std::pin::pin!(command(stop));
        tokio::select! {
            biased;
            () = interrupted.notified() => {}
            result = &mut command => return result,
        }
        tokio::time::timeout(GRACE, command).await.unwrap_or_else(|_| Err(Failure::interrupted(words)))
    });
    drop(told);
    runtime.shutdown_background();
    result
}

/// Raises the flag at an interrupt.
pub fn raises(flag: &CancelFlag) -> Told {
    let flag = flag.clone();
    when(move || flag.cancel())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_work_is_told_and_work_that_begins_later_too() {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = || {
            let count = Arc::clone(&count);
            when(move || {
                count.fetch_add(1, Ordering::SeqCst);
            })
        };
        drop(counter());
        let _first = counter();
        let _second = counter();
        assert!(raise());
        assert_eq!(count.load(Ordering::SeqCst), 2);
        let _late = counter();
        assert_eq!(count.load(Ordering::SeqCst), 3);
        let ended = wait_or("it stays", async {
            std::future::pending::<()>().await;
            Ok(())
        });
        let failure = ended.expect_err("interrupted before it began");
        assert_eq!((failure.code(), failure.to_string().contains("it stays")), (INTERRUPTED, true));
    }
}
