//! Hooks that run at other occasions than an apply: when a set is deleted, goes back, has failed, or is tried. One after another, in the plan's order; the first that
//! fails ends them. They are no members of the set: what their delete policies do not take away stays, as it does with the tools whose words they are.

use std::sync::PoisonError;

use serde_json::Value;
use strake_plan::{Change, ObjectId, Occasion, OccasionalHook, Wanted};

use crate::applier::{is_runnable, namespace, resource};
use crate::inventory;
use crate::journal::{self, HookRecord, Status};
use crate::{Applied, Applier, ApplyError, Event, Outcome};

/// The label of what a hook of a set has made.
const HOOK_OF: &str = "strake.dev/hook-of";

/// The name of a hook's run in the journal.
fn key(hook: &OccasionalHook) -> String {
    format!("{}:{}", hook.when.word(), journal::key(&hook.change.id))
}

/// Whether a journal's hook is one of an apply.
pub(crate) fn is_of_an_apply(key: &str) -> bool {
    !key.contains(':')
}

impl Applier<'_> {
    /// Runs the hooks of an occasion; those that a deletion which was interrupted has run to their end are not run again.
    ///
    /// # Errors
    /// The first hook that is refused or fails.
    pub(crate) async fn occasion(&self, hooks: &[OccasionalHook], when: Occasion) -> Result<Vec<ObjectId>, ApplyError> {
        let mut ran = Vec::new();
        for hook in hooks.iter().filter(|hook| hook.when == when) {
            let (key, digest) = (key(hook), journal::digest(&hook.change.object));
            let once = matches!(when, Occasion::PreDelete | Occasion::PostDelete);
            let past = self.journal.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|journal| journal.hooks.get(&key).cloned());
            if once && past.is_some_and(|past| past.status == Status::Done && past.digest == digest) {
                continue;
            }
            self.run_hook(hook).await?;
            if once {
                self.noted(|journal| {
                    journal.hooks.insert(key, HookRecord { digest, status: Status::Done, before: String::new() });
                })
                .await?;
            }
            ran.push(hook.change.id.clone());
        }
        Ok(ran)
    }

    async fn run_hook(&self, hook: &OccasionalHook) -> Result<(), ApplyError> {
        let (change, id) = (&hook.change, &hook.change.id);
        let read = self.client.get(&resource(id), namespace(id), &id.name).await;
        let live = read.map_err(|source| ApplyError::Read { what: id.to_string(), source })?;
        self.claimed(change, live.as_ref()).await?;
        self.may_make(change, live.as_ref())?;
        let live = match live {
            // What runs to an end is made anew.
            Some(live) if is_runnable(id) => {
                self.remove(id, &live).await?;
                None
            }
            live => live,
        };
        (self.events)(Event::Hook { id: id.clone() });
        let mut wanted = change.object.clone();
        wanted["metadata"]["labels"][HOOK_OF] = Value::String(self.set_id());
        let made = self.send(change, live.as_ref(), &wanted, false).await?;
        let refused = |source| ApplyError::Refused { object: id.to_string(), origin: change.origin.clone(), source };
        let object = made.result.map_err(refused)?;
        let outcome = if live.is_some() { Outcome::Configured } else { Outcome::Created };
        let origin = change.origin.clone();
        let applied = Applied { id: id.clone(), outcome, changes: Vec::new(), fixed: Vec::new(), object, before: live, origin, left: Vec::new() };
        let ended = self.settle(&applied, Wanted::Complete).await;
        let policy = change.hook.map_or((false, false), |hook| (hook.delete_succeeded, hook.delete_failed));
        if if ended.is_ok() { policy.0 } else { policy.1 } {
            self.remove(id, &applied.object).await?;
        }
        ended.map_err(|blame| ApplyError::Unhealthy { blames: vec![*blame] })
    }

    /// Running a hook deletes what has its name: only what a hook of this set, or the set, has made.
    fn may_make(&self, change: &Change, live: Option<&Value>) -> Result<(), ApplyError> {
        let set = self.set_id();
        let ours = |live: &Value| inventory::set_of(live) == Some(set.as_str()) || live["metadata"]["labels"][HOOK_OF] == set.as_str();
        match live.filter(|live| is_runnable(&change.id) && !self.options.adopt && !ours(live)) {
            Some(_) => Err(ApplyError::NotOfTheSet { object: change.id.to_string(), origin: change.origin.clone() }),
            None => Ok(()),
        }
    }

    /// After an apply that failed: its error is what is told, and that of a hook is only said.
    pub(crate) async fn after_failure(&self, error: &ApplyError) {
        if !error.is_of_objects() || self.options.skip_hooks {
            return;
        }
        let hooks = &self.plan.occasions;
        if let Err(failed) = self.occasion(hooks, Occasion::SyncFail).await {
            let name = hooks.iter().find(|hook| hook.when == Occasion::SyncFail).map(|hook| hook.change.id.clone()).unwrap_or_default();
            (self.events)(Event::HookFailed { id: name, reason: failed.to_string() });
        }
    }

    /// Runs the hooks that are tests, while nothing else is done with the set: which ones ran.
    ///
    /// # Errors
    /// The first one that fails; [`ApplyError::Locked`].
    pub async fn test(&self) -> Result<Vec<ObjectId>, ApplyError> {
        let lock = self.take_lock().await?;
        let result = tokio::select! {
            biased;
            () = self.stopped() => Err(ApplyError::Interrupted),
            () = lock.keep() => Err(ApplyError::LockLost(self.plan.set.clone())),
            result = self.occasion(&self.plan.occasions, Occasion::Test) => result,
        };
        lock.release().await;
        result
    }
}
