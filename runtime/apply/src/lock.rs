//! One apply of a set at a time: a Lease in the set's namespace with its holder, a heartbeat, and a number that grows with each holder.
//!
//! A holder that is gone is followed at once when it was a process of this machine, and when its heartbeat has stopped otherwise. What stopped is judged by our own clock: the time in the
//! Lease is another machine's. A holder that was held up for longer than its Lease lasts finds out before its next write, and ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strake_client::{Client, ClientError, DeleteParams, Resource, WriteParams};

use crate::applier::MANAGER;
use crate::{ApplyError, inventory};

/// How long a Lease lasts without a heartbeat.
const LASTS: Duration = Duration::from_secs(15);
/// How often a holder says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How long no heartbeat may come from a holder whose Lease is long over.
const CONFIRMED: Duration = Duration::from_secs(6);
/// How often a Lease is looked at that somebody else holds.
const LOOK: Duration = Duration::from_millis(300);
/// How long the last request of a holder may take.
const RELEASE: Duration = Duration::from_secs(3);
/// The HTTP status of what an account may not do.
const FORBIDDEN: u16 = 403;
const HOLDER: &str = "strake.dev/holder";

/// Who holds a lock, precisely enough to find out whether it still runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Holder {
    /// For people: `user@host`.
    who: String,
    /// The machine since its last start.
    boot: String,
    /// The namespace in which the process has its number.
    pids: String,
    pid: u32,
    /// When the process was started, in the kernel's ticks: numbers are used again.
    started: String,
    /// Locks of one process are told apart by it.
    count: u64,
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// When a process was started; nothing when there is none.
fn started(pid: &str) -> Option<String> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may hold anything, and ends with the last bracket.
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    // A process that has ended and that nobody has asked about holds nothing.
    if fields.first().is_some_and(|state| matches!(*state, "Z" | "X")) {
        return None;
    }
    fields.get(19).map(|ticks| (*ticks).to_owned())
}

fn pid_namespace() -> String {
    std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default()
}

impl Holder {
    fn own() -> Holder {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_else(|| "somebody".to_owned());
        Holder {
            who: format!("{user}@{}", text("/proc/sys/kernel/hostname")),
            boot: text("/proc/sys/kernel/random/boot_id"),
            pids: pid_namespace(),
            pid: std::process::id(),
            started: started("self").unwrap_or_default(),
            count: COUNT.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn identity(&self) -> String {
        format!("{} (pid {}.{})", self.who, self.pid, self.count)
    }

    /// It was a process of this machine, and is no more.
    fn is_dead(&self) -> bool {
        let here = !self.boot.is_empty() && self.boot == text("/proc/sys/kernel/random/boot_id") && self.pids == pid_namespace();
        here && started(&self.pid.to_string()).as_deref() != Some(self.started.as_str())
    }
}

/// Who holds a lock and since when, as its Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// For people: `user@host (pid 12)`.
    pub by: String,
    /// Since when.
    pub since: String,
}

/// A Lease as it is read.
struct Seen {
    version: String,
    identity: String,
    holder: Option<Holder>,
    renewed: String,
    since: String,
    lasts: Duration,
    token: i64,
}

fn read(lease: &Value) -> Seen {
    let spec = &lease["spec"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Seen {
        version: word(&lease["metadata"]["resourceVersion"]),
        identity: word(&spec["holderIdentity"]),
        holder: lease["metadata"]["annotations"][HOLDER].as_str().and_then(|text| serde_json::from_str(text).ok()),
        renewed: word(&spec["renewTime"]),
        since: word(&spec["acquireTime"]),
        lasts: spec["leaseDurationSeconds"].as_u64().map_or(LASTS, Duration::from_secs),
        token: spec["leaseTransitions"].as_i64().unwrap_or(0),
    }
}

impl Seen {
    fn held(&self) -> Option<Held> {
        let by = self.holder.as_ref().map_or_else(|| self.identity.clone(), |holder| format!("{} (pid {})", holder.who, holder.pid));
        (!self.identity.is_empty()).then(|| Held { by, since: self.since.clone() })
    }

    /// Whether nobody is behind it any more; it has looked the same for `unchanged`.
    fn is_abandoned(&self, unchanged: Duration) -> bool {
        if self.identity.is_empty() || self.holder.as_ref().is_some_and(Holder::is_dead) || unchanged >= self.lasts {
            return true;
        }
        self.is_old() && unchanged >= CONFIRMED
    }

    /// Long over by its own time, which may be that of a clock that is wrong: heartbeats that do not come confirm it.
    fn is_old(&self) -> bool {
        let age = self.renewed.parse::<Timestamp>().map_or(Duration::ZERO, |time| Timestamp::now().duration_since(time).unsigned_abs());
        age >= self.lasts * 2
    }
}

/// A lock that is held; to be given back with [`Lock::release`].
pub(crate) struct Lock<'a> {
    client: &'a Client,
    set: &'a str,
    namespace: &'a str,
    holder: Holder,
    since: String,
    /// Grows with each holder.
    pub(crate) token: i64,
    last: Mutex<Last>,
    /// False for one that nobody has taken: the apply goes on without.
    taken: bool,
}

/// The last sign of life that the cluster has taken.
struct Last {
    version: String,
    at: Instant,
}

/// Who holds the lock of a set just now; nobody when its holder is gone.
pub(crate) async fn holder(client: &Client, set: &str, namespace: &str) -> Result<Option<Held>, ClientError> {
    let found = client.get(&Resource::LEASES, Some(namespace), &name(set)).await?;
    Ok(found.as_ref().map(read).filter(|seen| !seen.is_abandoned(HEARTBEAT * 2)).and_then(|seen| seen.held()))
}

/// Where a set's lock is.
fn name(set: &str) -> String {
    inventory::parent_name(set)
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

fn lease(set: &str, namespace: &str, holder: &Holder, since: &str, token: i64, version: Option<&str>) -> Value {
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name(set), "namespace": namespace, "annotations": {HOLDER: serde_json::to_string(holder).unwrap_or_default()}},
        "spec": {
            "holderIdentity": holder.identity(), "leaseDurationSeconds": LASTS.as_secs(),
            "acquireTime": since, "renewTime": now(), "leaseTransitions": token,
        },
    });
    if let Some(version) = version {
        lease["metadata"]["resourceVersion"] = version.into();
    }
    lease
}

impl<'a> Lock<'a> {
    /// None at all: for who may not write Leases. It is never lost, and keeps nobody out.
    pub(crate) fn without(client: &'a Client, set: &'a str, namespace: &'a str) -> Self {
        let last = Mutex::new(Last { version: String::new(), at: Instant::now() });
        Lock { client, set, namespace, holder: Holder::default(), since: String::new(), token: 0, last, taken: false }
    }

    /// Takes the lock of a set; waits for another holder as long as `patience`, and tells each that it waits for.
    ///
    /// # Errors
    /// [`ApplyError::Locked`] when it is still held then; [`ApplyError::LockForbidden`] when the account may not have it.
    pub(crate) async fn take(
        client: &'a Client,
        set: &'a str,
        namespace: &'a str,
        patience: Duration,
        waits: &(dyn Fn(Held) + Sync),
    ) -> Result<Self, ApplyError> {
        let began = Instant::now();
        let holder = Holder::own();
        let failed = |source: ClientError| match source.status().map(|status| status.code) {
            Some(FORBIDDEN) => ApplyError::LockForbidden { set: set.to_owned(), lease: name(set), namespace: namespace.to_owned(), source: Box::new(source) },
            _ => ApplyError::Refused { object: format!("the lock lease/{}", name(set)), origin: "strake".to_owned(), source },
        };
        let mut known: Option<(String, Instant)> = None;
        let mut told: Option<Held> = None;
        loop {
            let found = client.get(&Resource::LEASES, Some(namespace), &name(set)).await.map_err(failed)?;
            let since = now();
            let (token, sent) = match found.as_ref().map(read) {
                None => {
                    let wanted = lease(set, namespace, &holder, &since, 1, None);
                    (1, client.create(&Resource::LEASES, Some(namespace), &wanted, &WriteParams::manager(MANAGER)).await)
                }
                Some(seen) => {
                    if known.as_ref().is_none_or(|(version, _)| *version != seen.version) {
                        known = Some((seen.version.clone(), Instant::now()));
                    }
                    let unchanged = known.as_ref().map_or(Duration::ZERO, |(_, at)| at.elapsed());
                    if let Some(held) = seen.held().filter(|_| !seen.is_abandoned(unchanged)) {
                        // Whether an old one is abandoned is known in a moment: who has no patience has that much.
                        let confirming = seen.is_old() && unchanged < CONFIRMED;
                        if began.elapsed() >= patience && !confirming {
                            return Err(ApplyError::Locked { set: set.to_owned(), by: held.by, since: held.since });
                        }
                        if told.as_ref() != Some(&held) {
                            waits(held.clone());
                            told = Some(held);
                        }
                        tokio::time::sleep(LOOK).await;
                        continue;
                    }
                    let token = seen.token + 1;
                    let wanted = lease(set, namespace, &holder, &since, token, Some(&seen.version));
                    (token, client.replace(&Resource::LEASES, Some(namespace), &wanted, None, &WriteParams::manager(MANAGER)).await)
                }
            };
            match sent {
                Ok(taken) => {
                    let last = Mutex::new(Last { version: read(&taken).version, at: Instant::now() });
                    return Ok(Lock { client, set, namespace, holder, since, token, last, taken: true });
                }
                // Somebody was faster; or it was deleted meanwhile.
                Err(error) if error.is_conflict() || error.is_already_exists() || (found.is_some() && error.is_not_found()) => {}
                Err(source) => return Err(failed(source)),
            }
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that we are there. `false` when somebody else has the lock.
    async fn renew(&self) -> Result<bool, ClientError> {
        let version = self.last().version.clone();
        let sent_at = Instant::now();
        let wanted = lease(self.set, self.namespace, &self.holder, &self.since, self.token, Some(&version));
        let sent = self.client.replace(&Resource::LEASES, Some(self.namespace), &wanted, None, &WriteParams::manager(MANAGER)).await;
        let renewed = match sent {
            Ok(renewed) => renewed,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) if error.is_conflict() => {
                // An answer of ours that was lost, or another holder.
                let Some(there) = self.client.get(&Resource::LEASES, Some(self.namespace), &name(self.set)).await? else { return Ok(false) };
                if read(&there).token != self.token || read(&there).identity != self.holder.identity() {
                    return Ok(false);
                }
                there
            }
            Err(error) => return Err(error),
        };
        *self.last() = Last { version: read(&renewed).version, at: sent_at };
        Ok(true)
    }

    /// Keeps the lock, and returns when it is lost.
    pub(crate) async fn keep(&self) {
        if !self.taken {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            match self.renew().await {
                Ok(true) => {}
                Ok(false) => return,
                // A server that starts again keeps its Leases; who does not answer for as long as they last may have given it to somebody else.
                Err(_) if self.last().at.elapsed() < LASTS => {}
                Err(_) => return,
            }
        }
    }

    /// Whether a write may be made: the cluster has heard of us within the time that the lock lasts.
    ///
    /// # Errors
    /// [`ApplyError::LockLost`] when we were held up for so long that somebody else may have it.
    pub(crate) async fn check(&self) -> Result<(), ApplyError> {
        let fresh = !self.taken || self.last().at.elapsed() < LASTS - HEARTBEAT;
        if fresh || self.renew().await.unwrap_or(false) { Ok(()) } else { Err(ApplyError::LockLost(self.set.to_owned())) }
    }

    /// Gives it back. What cannot be told to the cluster is found out by the next who wants it.
    pub(crate) async fn release(self) {
        if !self.taken {
            return;
        }
        let mut free = lease(self.set, self.namespace, &self.holder, &self.since, self.token, Some(&self.last().version));
        free["spec"]["holderIdentity"] = "".into();
        free["metadata"]["annotations"] = json!({});
        let write = WriteParams::manager(MANAGER);
        let sent = async { self.client.replace(&Resource::LEASES, Some(self.namespace), &free, None, &write).await };
        let _ = tokio::time::timeout(RELEASE, sent).await;
    }

    /// Gives it back for ever: the set is gone.
    pub(crate) async fn remove(self) {
        if !self.taken {
            return;
        }
        let sent = async { self.client.delete(&Resource::LEASES, Some(self.namespace), &name(self.set), &DeleteParams::default()).await };
        let _ = tokio::time::timeout(RELEASE, sent).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: Option<Holder>) -> Seen {
        let identity = holder.as_ref().map_or_else(|| "other".to_owned(), Holder::identity);
        Seen { version: "1".into(), identity, holder, renewed: now(), since: now(), lasts: LASTS, token: 1 }
    }

    #[test]
    fn a_dead_process_of_this_machine_holds_nothing_and_a_living_one_does() {
        let own = Holder::own();
        assert!(!own.is_dead());
        assert!(!seen(Some(own.clone())).is_abandoned(Duration::ZERO));
        let mut child = std::process::Command::new("true").spawn().expect("it runs");
        let gone = Holder { pid: child.id(), started: "1".into(), ..own.clone() };
        child.wait().expect("ended");
        assert!(gone.is_dead() && seen(Some(gone.clone())).is_abandoned(Duration::ZERO));
        // The number is somebody else's by now.
        assert!(Holder { started: "1".into(), ..own.clone() }.is_dead());
        // Of another machine, or of another container, nothing can be said.
        assert!(!Holder { boot: "another".into(), ..gone.clone() }.is_dead());
        assert!(!Holder { pids: "another".into(), ..gone }.is_dead());
    }

    #[test]
    fn a_heartbeat_that_has_stopped_gives_the_lock_away_by_our_own_clock() {
        let fresh = seen(None);
        assert!(!fresh.is_abandoned(Duration::ZERO) && !fresh.is_abandoned(LASTS - HEARTBEAT));
        assert!(fresh.is_abandoned(LASTS));
        // An old time alone may be a clock that is wrong.
        let old = Seen { renewed: "2020-01-01T00:00:00.000000Z".into(), ..seen(None) };
        assert!(!old.is_abandoned(HEARTBEAT) && old.is_abandoned(HEARTBEAT * 2));
        assert!(Seen { identity: String::new(), ..seen(None) }.is_abandoned(Duration::ZERO));
    }
}
