//! A whole apply: the lock, the journal and the inventory first, then each object as soon as what it needs is there, then health, then prune.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use serde_json::{Value, json};
use strake_client::{Patch, Resource, WriteParams};
use strake_plan::{Change, Hook, HookRun, ObjectId, Occasion, Phase, Wanted};
use tokio::sync::Semaphore;

use crate::applier::{CONCURRENCY, WAIT, is_runnable, namespace, resource};
use crate::changes::FieldChange;
use crate::health::{Health, health};
use crate::inventory::{self, Scope};
use crate::journal::{self, HookAction, HookRecord, JOURNAL, Journal, Occasion as Circumstance, Status};
use crate::lock::{Held, Lock};
use crate::occasion::is_of_an_apply;
use crate::prune::{Orphan, Orphans};
use crate::schedule::Schedule;
use crate::{Applied, Applier, ApplyError, Blame, Event, Outcome, Refused, Removed, Report};

/// The field manager of the journal: what is applied beside it does not touch it.
const JOURNAL_MANAGER: &str = "strake-journal";
/// How often progress is written down, where nothing depends on it.
const NOTED: Duration = Duration::from_secs(1);
/// How long the last note of an apply that was ended may take.
const CLOSING: Duration = Duration::from_secs(3);
/// How often something outside of the set is looked at that is not ready yet.
const LOOK: Duration = Duration::from_millis(500);

/// How long it may take until a kind is served whose definition has been accepted.
const SERVED: Duration = Duration::from_secs(60);

/// What a change has come to.
enum Step {
    /// It was sent; `true` when there is nothing to wait for.
    Applied(Box<Result<(Applied, bool), ApplyError>>),
    /// Its health is known.
    Settled(Result<(), Box<Blame>>),
}

/// What was found out before the first object.
#[derive(Default)]
struct Ground {
    /// The namespace of the inventory, when this apply has made it.
    home: Option<(usize, Applied)>,
    occasion: Circumstance,
    /// Objects that an apply before had deleted and not made anew.
    lost: Vec<String>,
    /// Members that go before the rest is applied.
    early: Vec<Orphan>,
}

/// How the objects have ended so far.
#[derive(Default)]
struct Ended {
    done: BTreeMap<usize, Applied>,
    refused: Vec<ApplyError>,
    blames: Vec<Blame>,
    /// What was not begun, and why.
    skipped: Vec<(ObjectId, ObjectId)>,
    noted: Option<Instant>,
}

impl Applier<'_> {
    /// Applies the plan and waits for health.
    ///
    /// # Errors
    /// What was refused or is not healthy, with everything that was not begun because of it. Prune happens only after everything is ready. Another apply of the
    /// same set that does not end in time is [`ApplyError::Locked`].
    pub async fn apply(&self) -> Result<Report, ApplyError> {
        let home = tokio::select! {
            biased;
            () = self.stopped() => Err(ApplyError::Interrupted),
            home = self.home() => home,
        }?;
        let lock = self.take_lock().await?;
        let result = self.locked(&lock, home).await;
        lock.release().await;
        result
    }

    /// Deletes the members of the set, as [`Applier::take_down`] does, while nothing else is done with it.
    ///
    /// # Errors
    /// As [`Applier::take_down`], and [`ApplyError::Locked`].
    pub async fn down(&self, timeout: Duration, protected_too: bool) -> Result<Removed, ApplyError> {
        let lock = match self.take_lock().await {
            Ok(lock) => lock,
            // Without its namespace there is nothing of it that could be held.
            Err(ApplyError::Refused { source, .. }) if source.is_not_found() => return self.take_down(timeout, protected_too).await,
            Err(error) => return Err(error),
        };
        let result = tokio::select! {
            biased;
            () = self.stopped() => Err(ApplyError::Interrupted),
            () = lock.keep() => Err(ApplyError::LockLost(self.plan.set.clone())),
            result = self.take_down(timeout, protected_too) => result,
        };
        if result.as_ref().is_ok_and(|removed| removed.kept.is_empty()) {
            lock.remove().await
        } else {
            lock.release().await
        }
        let mut removed = result?;
        self.leave_home(&mut removed, timeout).await?;
        Ok(removed)
    }

    pub(crate) async fn take_lock(&self) -> Result<Lock<'_>, ApplyError> {
        if !self.options.lock {
            return Ok(Lock::without(self.client, &self.plan.set, &self.plan.namespace));
        }
        let waits = |held: Held| (self.events)(Event::Locked { by: held.by, since: held.since });
        tokio::select! {
            biased;
            () = self.stopped() => Err(ApplyError::Interrupted),
            lock = Lock::take(self.client, &self.plan.set, &self.plan.namespace, self.options.lock_wait, &waits) => lock,
        }
    }

    /// Comes back when somebody wants it to end.
    pub(crate) async fn stopped(&self) {
        if let Some(mut stop) = self.options.stop.clone()
            && stop.wait_for(|stop| *stop).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// Lock and inventory live in a namespace; when the set itself makes it, it is made before them.
    async fn home(&self) -> Result<Option<(usize, Applied)>, ApplyError> {
        let is_home = |change: &Change| change.id.kind == "Namespace" && change.id.group.is_empty() && change.id.name == self.plan.namespace;
        let Some(place) = self.plan.changes.iter().position(is_home) else { return Ok(None) };
        let there = self.client.get(&Resource::NAMESPACES, None, &self.plan.namespace).await;
        let there = there.map_err(|source| ApplyError::Read { what: format!("namespace {}", self.plan.namespace), source })?;
        if there.is_some_and(|there| there["metadata"]["deletionTimestamp"].is_null()) {
            return Ok(None);
        }
        Ok(Some((place, self.object(&self.plan.changes[place], false).await?)))
    }

    async fn locked(&self, lock: &Lock<'_>, home: Option<(usize, Applied)>) -> Result<Report, ApplyError> {
        let begun = self.begin_revision().await?;
        let result = tokio::select! {
            biased;
            () = self.stopped() => Err(ApplyError::Interrupted),
            () = lock.keep() => Err(ApplyError::LockLost(self.plan.set.clone())),
            result = self.run(lock, home) => result,
        };
        if let Err(error) = &result {
            tokio::select! {
                biased;
                () = self.stopped() => {}
                () = lock.keep() => {}
                () = self.after_failure(error) => {}
            }
        }
        // Who has the lock now has begun a journal of its own.
        if !matches!(result, Err(ApplyError::LockLost(_))) {
            let _ = tokio::time::timeout(CLOSING, self.close(&result)).await;
        }
        let told = self.end_revision(begun, &result).await;
        result.and_then(|report| told.map(|()| report))
    }

    async fn run(&self, lock: &Lock<'_>, home: Option<(usize, Applied)>) -> Result<Report, ApplyError> {
        let (before, past) = self.parent().await?;
        let known = past.is_some() || before != Scope::default();
        let now = Scope::of(self.plan);
        let mut report = Report::default();
        // Refused before anything is done: what would delete most of the set.
        let early = self.early(&before, &report).await?;
        let mut union = before.union(&now);
        // Before anything else: a crash leaves nothing that nobody looks for.
        if !known || union != before {
            union = self.write_scope(&union).await?;
        }
        let journal = Journal::begin(past.as_ref(), known, self.plan, lock.token, Timestamp::now().to_string());
        if let Some(past) = past.as_ref().filter(|past| past.status != Status::Done) {
            (self.events)(Event::Resumed { since: past.started.clone(), status: past.status });
        }
        let same = past.as_ref().is_some_and(|past| past.status == Status::Done && past.input == journal.input);
        let ground = Ground {
            home,
            occasion: Circumstance { first: !journal.installed, changed: !same, resumes: journal.resumes(past.as_ref()) },
            lost: journal.replacing.clone(),
            early,
        };
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner) = Some(journal);
        // What was deployed like this before most likely has nothing to be done: nothing is written until there is.
        if !same {
            self.noted(|_| ()).await?;
        }
        let ground = self.look_around(ground, &before).await?;
        if self.options.skip_hooks {
            self.occasion(&self.plan.occasions, Occasion::PreRollback).await?;
        }
        report.applied = self.objects(lock, ground, &mut report).await?;
        if self.options.skip_hooks {
            self.occasion(&self.plan.occasions, Occasion::PostRollback).await?;
        }
        lock.check().await?;
        let orphans = if self.options.prune { self.orphans(&union, &report).await? } else { Orphans::default() };
        self.prune(orphans, &mut report).await?;
        self.record(&union, &report).await?;
        Ok(report)
    }

    /// Finds out whether anything is to be done, where hooks want to know it before.
    async fn look_around(&self, mut ground: Ground, before: &Scope) -> Result<Ground, ApplyError> {
        let asks = |change: &Change| change.hook.is_some_and(|hook| matches!(hook.run, HookRun::Each | HookRun::Upgrade));
        if !ground.occasion.changed && self.plan.changes.iter().any(asks) {
            let report = Report { applied: self.rehearse().await?, ..Report::default() };
            ground.occasion.changed = self.is_changed(&report) || (self.options.prune && !self.orphans(before, &report).await?.is_empty());
        }
        Ok(ground)
    }

    /// Whether anything but hooks differs.
    fn is_changed(&self, report: &Report) -> bool {
        let mut pairs = self.plan.changes.iter().zip(&report.applied);
        pairs.any(|(change, applied)| change.hook.is_none() && applied.outcome != Outcome::Unchanged)
    }

    /// What hooks would do in the apply of which this is the dry run.
    pub(crate) fn rehearse_hooks(&self, report: &mut Report, past: Option<&Journal>, known: bool) {
        let journal = Journal::begin(past, known, self.plan, 0, String::new());
        let same = past.is_some_and(|past| past.status == Status::Done && past.input == journal.input);
        let changed = !same || !report.pruned.is_empty() || self.is_changed(report);
        let occasion = Circumstance { first: !journal.installed, changed, resumes: journal.resumes(past) };
        let mut refused = Vec::new();
        for applied in &mut report.applied {
            // What was refused is not among them.
            let Some(change) = self.plan.changes.iter().find(|change| change.id == applied.id) else { continue };
            let Some(hook) = change.hook else { continue };
            let record = journal.hooks.get(&journal::key(&change.id));
            let action = self.decide(hook, &journal::digest(&change.object), record, occasion, applied.before.as_ref());
            if action == HookAction::Run
                && let Err(error) = self.may_run(change, applied.before.as_ref())
            {
                refused.push(Refused { id: Some(change.id.clone()), origin: change.origin.clone(), message: error.to_string() });
            }
            match action {
                HookAction::Leave => {
                    applied.outcome = Outcome::Unchanged;
                    applied.changes.clear();
                    applied.fixed.clear();
                }
                HookAction::Run | HookAction::Follow if applied.outcome == Outcome::Unchanged => {
                    applied.outcome = Outcome::Configured;
                    applied.changes = vec![FieldChange { path: "hook".to_owned(), before: None, after: Some("is run again".into()), ..FieldChange::default() }];
                }
                HookAction::Run | HookAction::Follow => {}
            }
        }
        report.refused.extend(refused);
    }

    /// Changes the journal and writes it down before anything else is done.
    pub(crate) async fn noted(&self, change: impl FnOnce(&mut Journal)) -> Result<(), ApplyError> {
        let text = {
            let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(journal) = journal.as_mut() else { return Ok(()) };
            change(journal);
            serde_json::to_string(journal).unwrap_or_default()
        };
        let name = inventory::parent_name(&self.plan.set);
        let patch = Patch::Merge(json!({"metadata": {"annotations": {JOURNAL: text}}}));
        let sent = self.client.patch(&Resource::SECRETS, Some(&self.plan.namespace), &name, &patch, None, &WriteParams::manager(JOURNAL_MANAGER)).await;
        sent.map_err(|source| ApplyError::Refused { object: format!("the journal of secret/{name}"), origin: "strake".to_owned(), source })?;
        Ok(())
    }

    /// Changes the journal; what is not written yet goes with the next note.
    fn remembered(&self, change: impl FnOnce(&mut Journal)) {
        if let Some(journal) = self.journal.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            change(journal);
        }
    }

    /// Writes down how it ended.
    async fn close(&self, result: &Result<Report, ApplyError>) {
        let status = match result {
            Ok(_) => Status::Done,
            Err(ApplyError::Interrupted) => Status::Interrupted,
            Err(_) => Status::Failed,
        };
        // Nothing was done and nothing has to be told.
        let past = self.parent().await.ok().and_then(|(_, past)| past);
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let quiet = past.is_some_and(|past| {
            let unchanged = |now: &Journal| now.input == past.input && now.hooks == past.hooks && now.hooks.keys().all(|key| is_of_an_apply(key));
            status == Status::Done && past.status == Status::Done && journal.as_ref().is_none_or(unchanged)
        });
        if quiet {
            return;
        }
        let known: Vec<String> = self.plan.changes.iter().map(|change| journal::key(&change.id)).collect();
        let closed = self.noted(|journal| {
            journal.status = status;
            journal.ended = Some(Timestamp::now().to_string());
            if status == Status::Done {
                journal.installed = true;
                journal.replacing.clear();
                journal.remade.clear();
                // What was left alone is not run again by the next apply that has it.
                journal.hooks.retain(|key, _| self.options.skip_hooks && is_of_an_apply(key) || known.contains(key));
            }
        });
        if let Err(error) = closed.await {
            tracing::debug!(%error, "the end of the apply could not be written down");
        }
    }

    /// Applies every object as soon as what it needs is there, and waits until each is as somebody wants it.
    async fn objects(&self, lock: &Lock<'_>, mut ground: Ground, report: &mut Report) -> Result<Vec<Applied>, ApplyError> {
        self.outside_is_there().await?;
        let mut schedule = Schedule::new(self.plan);
        let slots = Semaphore::new(CONCURRENCY);
        let mut steps: FuturesUnordered<BoxFuture<'_, (usize, Step)>> = FuturesUnordered::new();
        let mut ended = Ended::default();
        loop {
            // A hook that fails before the rest has changed nothing of it.
            if !ground.early.is_empty() && self.hooks_before().all(|place| schedule.is_ready(place)) {
                lock.check().await?;
                self.prune_early(std::mem::take(&mut ground.early), report).await?;
            }
            for place in schedule.next() {
                let made = ground.home.take_if(|(home, _)| *home == place).map(|(_, applied)| applied);
                let (slots, occasion) = (&slots, ground.occasion);
                steps.push(async move { (place, Step::Applied(Box::new(self.begin(place, lock, slots, made, occasion).await))) }.boxed());
            }
            let Some((place, step)) = steps.next().await else { break };
            let change = &self.plan.changes[place];
            match step {
                Step::Applied(result) => match *result {
                    Ok((applied, settled)) => {
                        self.arrived(change, &applied, &ground, &mut ended).await?;
                        schedule.present(place);
                        match self.goal(&schedule, place).filter(|_| !settled) {
                            Some(goal) => {
                                let waited = applied.clone();
                                steps.push(async move { (place, Step::Settled(self.settle(&waited, goal).await)) }.boxed());
                            }
                            None => schedule.ready(place),
                        }
                        ended.done.insert(place, applied);
                    }
                    Err(error) if error.ends_everything() => return Err(error),
                    Err(error) => {
                        match error {
                            // A rollout that has gone back.
                            ApplyError::Unhealthy { blames } => ended.blames.extend(blames),
                            error => ended.refused.push(error),
                        }
                        self.failed(&mut schedule, place, &mut ended).await?;
                    }
                },
                Step::Settled(Ok(())) => {
                    self.hook_ended(change, Status::Done).await?;
                    schedule.ready(place);
                }
                Step::Settled(Err(blame)) => {
                    ended.blames.push(*blame);
                    self.failed(&mut schedule, place, &mut ended).await?;
                }
            }
        }
        for (place, cause) in schedule.left() {
            self.skip(place, cause, &mut ended);
        }
        self.finish(ended).await
    }

    /// The hooks that run before the rest.
    fn hooks_before(&self) -> impl Iterator<Item = usize> {
        let is_before = |change: &Change| change.hook.is_some_and(|hook| hook.phase == Phase::Before);
        self.plan.changes.iter().enumerate().filter(move |(_, change)| is_before(change)).map(|(place, _)| place)
    }

    /// How far a change has to come before anything else is done; `None` when nobody waits for it.
    fn goal(&self, schedule: &Schedule, place: usize) -> Option<Wanted> {
        let hook = self.plan.changes[place].hook.map(|_| Wanted::Complete);
        hook.max(schedule.wanted(place)).max(self.options.wait.map(|_| Wanted::Ready))
    }

    async fn begin(
        &self,
        place: usize,
        lock: &Lock<'_>,
        slots: &Semaphore,
        made: Option<Applied>,
        occasion: Circumstance,
    ) -> Result<(Applied, bool), ApplyError> {
        let change = &self.plan.changes[place];
        self.outside_is_ready(change).await?;
        if let (Some(rollout), None) = (&change.rollout, &made) {
            // It may take long, and is mostly waiting.
            return self.roll_out(change, rollout, lock).await;
        }
        let _slot = slots.acquire().await;
        lock.check().await?;
        match (change.hook, made) {
            (Some(hook), _) => self.hook(change, hook, occasion).await,
            (None, Some(applied)) => Ok((applied, false)),
            (None, None) => Ok((self.served(change).await?, false)),
        }
    }

    /// Applies an object. One of a kind that this apply has defined is tried again while it is not served: each of a cluster's API servers learns of a new kind
    /// by itself, so that the next request may come to one that has not yet.
    async fn served(&self, change: &Change) -> Result<Applied, ApplyError> {
        let (deadline, mut told) = (Instant::now() + SERVED, false);
        loop {
            match self.object(change, false).await {
                Err(ApplyError::Refused { source, .. }) if source.is_not_found() && self.defines(&change.id) && Instant::now() < deadline => {
                    if !std::mem::replace(&mut told, true) {
                        (self.events)(Event::Waiting { id: change.id.clone(), reason: "the cluster does not serve its new kind yet".to_owned() });
                    }
                    tokio::time::sleep(LOOK).await;
                }
                result => return result,
            }
        }
    }

    /// Whether the plan itself brings the definition of an object's kind.
    fn defines(&self, id: &ObjectId) -> bool {
        let names = |spec: &Value| spec["group"] == id.group.as_str() && spec["names"]["kind"] == id.kind.as_str();
        self.plan.changes.iter().any(|change| change.id.kind == "CustomResourceDefinition" && names(&change.object["spec"]))
    }

    /// Tells and writes down what was sent.
    async fn arrived(&self, change: &Change, applied: &Applied, ground: &Ground, ended: &mut Ended) -> Result<(), ApplyError> {
        let id = &applied.id;
        (self.events)(Event::Applied { id: id.clone(), outcome: applied.outcome });
        let key = journal::key(&change.id);
        if applied.outcome == Outcome::Created && ground.lost.contains(&key) {
            (self.events)(Event::Recreated { id: id.clone() });
        }
        self.remembered(|journal| {
            journal.applied += 1;
            journal.is_back(&key);
        });
        if applied.outcome != Outcome::Unchanged && ended.noted.is_none_or(|at| at.elapsed() >= NOTED) {
            ended.noted = Some(Instant::now());
            self.noted(|_| ()).await?;
        }
        Ok(())
    }

    /// What needs it is not begun.
    async fn failed(&self, schedule: &mut Schedule, place: usize, ended: &mut Ended) -> Result<(), ApplyError> {
        self.hook_ended(&self.plan.changes[place], Status::Failed).await?;
        for (place, cause) in schedule.failed(place) {
            self.skip(place, cause, ended);
        }
        Ok(())
    }

    fn skip(&self, place: usize, cause: usize, ended: &mut Ended) {
        let (id, because) = (self.plan.changes[place].id.clone(), self.plan.changes[cause].id.clone());
        (self.events)(Event::Skipped { id: id.clone(), because: because.clone() });
        ended.skipped.push((id, because));
    }

    async fn finish(&self, ended: Ended) -> Result<Vec<Applied>, ApplyError> {
        self.clear_hooks(&ended).await?;
        let Ended { done, mut refused, blames, skipped, .. } = ended;
        match (refused.len(), blames.len()) {
            (0, 0) => Ok(done.into_values().collect()),
            (0, _) if skipped.is_empty() => Err(ApplyError::Unhealthy { blames }),
            (1, 0) if skipped.is_empty() => Err(refused.remove(0)),
            _ => Err(ApplyError::Incomplete { refused, blames, skipped }),
        }
    }

    fn decide(&self, hook: Hook, digest: &str, past: Option<&HookRecord>, occasion: Circumstance, live: Option<&Value>) -> HookAction {
        if self.options.skip_hooks { HookAction::Leave } else { journal::decide(hook, digest, past, occasion, live) }
    }

    /// Runs a hook, when it is its time.
    async fn hook(&self, change: &Change, hook: Hook, occasion: Circumstance) -> Result<(Applied, bool), ApplyError> {
        let id = &change.id;
        let live = self.client.get(&resource(id), namespace(id), &id.name).await;
        let live = live.map_err(|source| ApplyError::Refused { object: id.to_string(), origin: change.origin.clone(), source })?;
        let (key, digest) = (journal::key(id), journal::digest(&change.object));
        let record = self.journal.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|journal| journal.hooks.get(&key).cloned());
        let applied = |outcome, object: &Value| Applied {
            id: id.clone(),
            outcome,
            changes: Vec::new(),
            fixed: Vec::new(),
            object: object.clone(),
            before: live.clone(),
            origin: change.origin.clone(),
            left: Vec::new(),
        };
        match (self.decide(hook, &digest, record.as_ref(), occasion, live.as_ref()), &live) {
            (HookAction::Leave, live) => Ok((applied(Outcome::Unchanged, live.as_ref().unwrap_or(&change.object)), true)),
            (HookAction::Follow, Some(live)) => Ok((applied(Outcome::Configured, live), false)),
            (HookAction::Run | HookAction::Follow, live) => {
                let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                let before = live.as_ref().map(uid).unwrap_or_default();
                // Before anything is written or deleted: whose it is.
                self.claimed(change, live.as_ref()).await?;
                self.may_run(change, live.as_ref())?;
                self.noted(|journal| {
                    journal.hooks.insert(key, HookRecord { digest, status: Status::Running, before });
                })
                .await?;
                if let Some(live) = live.as_ref().filter(|_| is_runnable(id)) {
                    self.remove(id, live).await?;
                }
                (self.events)(Event::Hook { id: id.clone() });
                Ok((self.object(change, false).await?, false))
            }
        }
    }

    /// Whether a hook may be run where this stands in its place: what runs to an end is deleted before it is run again.
    fn may_run(&self, change: &Change, live: Option<&Value>) -> Result<(), ApplyError> {
        let ours = |live: &Value| inventory::set_of(live) == Some(self.set_id().as_str());
        match live.filter(|live| is_runnable(&change.id) && !self.options.adopt && !ours(live)) {
            Some(_) => Err(ApplyError::NotOfTheSet { object: change.id.to_string(), origin: change.origin.clone() }),
            None => Ok(()),
        }
    }

    /// Writes down how a hook ended.
    async fn hook_ended(&self, change: &Change, status: Status) -> Result<(), ApplyError> {
        let key = journal::key(&change.id);
        let runs = |journal: &Journal| journal.hooks.get(&key).is_some_and(|record| record.status == Status::Running);
        let is_running = change.hook.is_some() && self.journal.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(runs);
        if !is_running {
            return Ok(());
        }
        self.noted(|journal| {
            if let Some(record) = journal.hooks.get_mut(&key) {
                record.status = status;
            }
        })
        .await
    }

    /// Deletes hooks that do not want to stay.
    async fn clear_hooks(&self, ended: &Ended) -> Result<(), ApplyError> {
        let hooks = self.journal.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|journal| journal.hooks.clone()).unwrap_or_default();
        for (place, applied) in &ended.done {
            let change = &self.plan.changes[*place];
            let (Some(hook), Some(record)) = (change.hook, hooks.get(&journal::key(&change.id))) else { continue };
            let goes = match record.status {
                Status::Done => hook.delete_succeeded,
                Status::Failed => hook.delete_failed,
                Status::Running | Status::Interrupted => false,
            };
            if goes && applied.object["metadata"]["uid"].is_string() {
                self.remove(&change.id, &applied.object).await?;
            }
        }
        Ok(())
    }

    /// What objects need of the cluster is there; said before anything is changed.
    async fn outside_is_there(&self) -> Result<(), ApplyError> {
        for change in &self.plan.changes {
            for external in &change.external {
                self.outside(change, &external.id).await?;
            }
        }
        Ok(())
    }

    async fn outside(&self, change: &Change, id: &ObjectId) -> Result<Value, ApplyError> {
        let found = self.client.get(&resource(id), namespace(id), &id.name).await;
        let found = found.map_err(|source| ApplyError::Read { what: id.to_string(), source })?;
        found.ok_or_else(|| ApplyError::NotThere { object: change.id.to_string(), origin: change.origin.clone(), needs: id.to_string() })
    }

    async fn outside_is_ready(&self, change: &Change) -> Result<(), ApplyError> {
        let deadline = Instant::now() + self.options.wait.unwrap_or(WAIT);
        let mut said = String::new();
        for external in change.external.iter().filter(|external| external.state != Wanted::Present) {
            loop {
                let object = self.outside(change, &external.id).await?;
                let reason = match crate::wait::reaching(health(&object), &object, external.state) {
                    state if state.is_settled() => break,
                    Health::Failed(reason) => format!("it has failed: {reason}"),
                    other if Instant::now() < deadline => {
                        let reason = format!("waits for {}: {}", external.id, other.reason());
                        if reason != said {
                            (self.events)(Event::Waiting { id: change.id.clone(), reason: reason.clone() });
                            said = reason;
                        }
                        tokio::time::sleep(LOOK).await;
                        continue;
                    }
                    other => format!("it is not {} in time: {}", external.state.word(), other.reason()),
                };
                let (object, origin) = (change.id.to_string(), change.origin.clone());
                return Err(ApplyError::NotReady { object, origin, needs: external.id.to_string(), reason });
            }
        }
        Ok(())
    }
}
