//! What an apply has done so far, written beside the inventory: after a crash the next one knows what was going on, and goes on with it.
//!
//! Applying an object is the same as often as it is done, so it needs no note of its own. What is not, has one before it is done: an object that is deleted to be
//! made anew, and a hook that is run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use strake_plan::{DeployPlan, Hook, HookRun, ObjectId};

use crate::inventory::Scope;

/// The annotation of the inventory that holds it.
pub const JOURNAL: &str = "strake.dev/journal";
/// The annotation of a hook's object that says which definition it was made from.
pub const DIGEST: &str = "strake.dev/hook-digest";
/// The version of the form; a later one is not read.
const FORMAT_VERSION: u32 = 1;

/// How an apply ended, or that it has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It goes on, or was killed.
    #[default]
    Running,
    /// Everything is as it should be.
    Done,
    /// Something was refused or is not healthy.
    Failed,
    /// Somebody ended it.
    Interrupted,
}

/// An apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Journal {
    /// Version of the form.
    pub format_version: u32,
    /// How it ended.
    pub status: Status,
    /// The number of the lock that it was written under.
    pub token: i64,
    /// When it began (RFC 3339).
    pub started: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// The digest of all objects of the plan.
    pub input: String,
    /// An apply of the set has reached its end once.
    pub installed: bool,
    /// Objects of the plan.
    pub total: usize,
    /// How many of them are applied.
    pub applied: usize,
    /// Objects that were deleted to be made anew, and are not there again yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replacing: Vec<String>,
    /// Objects that were made anew since the last apply that reached its end: the inventory has the uids of those before them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remade: Vec<String>,
    /// Hooks by their object.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<String, HookRecord>,
}

/// The last run of a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRecord {
    /// The digest of its definition.
    pub digest: String,
    /// How it ended.
    pub status: Status,
    /// The uid of the object that was there before: it is made anew.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub before: String,
}

/// What to do about a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookAction {
    /// Run it.
    Run,
    /// An apply that was killed has started it: wait for its end.
    Follow,
    /// It has nothing to do.
    Leave,
}

/// What counts for a hook besides its own past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occasion {
    /// The set was never deployed to its end.
    pub first: bool,
    /// The apply changes something.
    pub changed: bool,
    /// It is the same as one before that did not reach its end: what that one has finished is not done again.
    pub resumes: bool,
}

/// A name for an object in the journal.
pub fn key(id: &ObjectId) -> String {
    format!("{}.{}/{}/{}", id.kind, id.group, id.namespace, id.name)
}

fn hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of an object as it was written.
pub fn digest(object: &Value) -> String {
    hex(&object.to_string())
}

/// The digest of everything that a plan applies.
pub fn input(plan: &DeployPlan) -> String {
    hex(&plan.changes.iter().map(|change| change.object.to_string()).collect::<Vec<_>>().join("\n"))
}

impl Journal {
    /// The journal that an inventory holds.
    pub fn read(parent: &Value) -> Option<Journal> {
        let text = parent["metadata"]["annotations"][JOURNAL].as_str()?;
        serde_json::from_str::<Journal>(text).ok().filter(|journal| journal.format_version <= FORMAT_VERSION)
    }

    /// The journal of an apply that begins now; `past` is that of the one before, `known` says that the set has an inventory.
    pub fn begin(past: Option<&Journal>, known: bool, plan: &DeployPlan, token: i64, now: String) -> Journal {
        Journal {
            format_version: FORMAT_VERSION,
            status: Status::Running,
            token,
            started: now,
            ended: None,
            input: input(plan),
            // Inventories of before there were journals are of sets that were deployed.
            installed: past.map_or(known, |past| past.installed),
            total: plan.changes.len(),
            applied: 0,
            replacing: past.map(|past| past.replacing.clone()).unwrap_or_default(),
            remade: past.map(|past| past.remade.clone()).unwrap_or_default(),
            hooks: past.map(|past| past.hooks.clone()).unwrap_or_default(),
        }
    }

    /// An object is there again.
    pub fn is_back(&mut self, key: &str) {
        let before = self.replacing.len();
        self.replacing.retain(|other| other != key);
        if self.replacing.len() < before && !self.remade.iter().any(|other| other == key) {
            self.remade.push(key.to_owned());
        }
    }

    /// Takes back what the inventory says of objects that were deleted or made anew since it was written.
    pub fn forget_uids(&self, scope: &mut Scope) {
        if self.replacing.is_empty() && self.remade.is_empty() {
            return;
        }
        for (key, member) in &mut scope.members {
            let dot = if key.group_kind.contains('.') { "" } else { "." };
            let text = format!("{}{dot}/{}/{}", key.group_kind, key.namespace, key.name);
            if self.replacing.contains(&text) || self.remade.contains(&text) {
                member.uid.clear();
            }
        }
    }

    /// Whether the apply before this one did not reach its end, and was of the same objects.
    pub fn resumes(&self, past: Option<&Journal>) -> bool {
        past.is_some_and(|past| past.status != Status::Done && past.input == self.input)
    }
}

/// Whether a hook is run, by its own past, the occasion, and its object as the cluster has it.
pub fn decide(hook: Hook, digest: &str, past: Option<&HookRecord>, occasion: Occasion, live: Option<&Value>) -> HookAction {
    let same = past.filter(|past| past.digest == digest);
    let old = same.map_or("", |past| past.before.as_str());
    let is_new = |live: &Value| live["metadata"]["uid"] != old && live["metadata"]["deletionTimestamp"].is_null();
    let there = live.is_some_and(|live| live["metadata"]["annotations"][DIGEST] == digest && is_new(live));
    match same.map(|past| past.status) {
        Some(Status::Done) if occasion.resumes => return HookAction::Leave,
        Some(Status::Running | Status::Interrupted) if occasion.resumes && there => return HookAction::Follow,
        _ => {}
    }
    let run = match hook.run {
        HookRun::Changed => same.is_none_or(|past| past.status != Status::Done),
        HookRun::Each => occasion.changed,
        HookRun::Install => occasion.first,
        HookRun::Upgrade => occasion.changed && !occasion.first,
    };
    if run { HookAction::Run } else { HookAction::Leave }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use strake_plan::Phase;

    use super::*;

    fn hook(run: HookRun) -> Hook {
        Hook { phase: Phase::Before, run, delete_succeeded: false, delete_failed: false }
    }

    #[test]
    fn hooks_run_on_their_occasions() {
        let record = |digest: &str, status| Some(HookRecord { digest: digest.into(), status, before: "old".into() });
        let (first, again, quiet) =
            (Occasion { first: true, changed: true, resumes: false }, Occasion { changed: true, ..Occasion::default() }, Occasion::default());
        let resumed = Occasion { first: true, changed: true, resumes: true };
        let live = json!({"metadata": {"uid": "new", "annotations": {DIGEST: "a"}}});
        let old = json!({"metadata": {"uid": "old", "annotations": {DIGEST: "a"}}});
        let rows = [
            (HookRun::Changed, None, first, None, HookAction::Run),
            (HookRun::Changed, record("a", Status::Done), again, None, HookAction::Leave),
            (HookRun::Changed, record("b", Status::Done), again, None, HookAction::Run),
            (HookRun::Changed, record("a", Status::Failed), quiet, Some(&live), HookAction::Run),
            (HookRun::Each, record("a", Status::Done), again, Some(&live), HookAction::Run),
            (HookRun::Each, record("a", Status::Done), quiet, Some(&live), HookAction::Leave),
            (HookRun::Install, None, first, None, HookAction::Run),
            (HookRun::Install, None, again, None, HookAction::Leave),
            (HookRun::Upgrade, None, first, None, HookAction::Leave),
            (HookRun::Upgrade, None, again, None, HookAction::Run),
            (HookRun::Upgrade, None, quiet, None, HookAction::Leave),
            // After a crash: what was done is not done again, what runs is followed, what never began is run.
            (HookRun::Each, record("a", Status::Done), resumed, None, HookAction::Leave),
            (HookRun::Each, record("a", Status::Running), resumed, Some(&live), HookAction::Follow),
            (HookRun::Changed, record("a", Status::Interrupted), resumed, Some(&live), HookAction::Follow),
            (HookRun::Each, record("a", Status::Running), resumed, None, HookAction::Run),
            (HookRun::Each, record("a", Status::Failed), resumed, Some(&live), HookAction::Run),
            (HookRun::Each, record("a", Status::Running), resumed, Some(&old), HookAction::Run),
            // Another definition is another hook.
            (HookRun::Each, record("b", Status::Done), resumed, Some(&live), HookAction::Run),
        ];
        for (run, past, occasion, live, expected) in rows {
            assert_eq!(decide(hook(run), "a", past.as_ref(), occasion, live), expected, "{run:?} {past:?} {occasion:?}");
        }
    }

    #[test]
    fn what_was_made_anew_by_an_apply_that_did_not_end_is_ours() {
        use crate::inventory::{Member, MemberKey};
        let id = |group: &str, kind: &str, name: &str| ObjectId {
            group: group.into(),
            kind: kind.into(),
            namespace: "n".into(),
            name: name.into(),
            ..ObjectId::default()
        };
        let (job, map, other) = (id("batch", "Job", "migrate"), id("", "ConfigMap", "c"), id("batch", "Job", "other"));
        let mut journal = Journal { replacing: vec![key(&job), key(&map)], ..Journal::default() };
        journal.is_back(&key(&job));
        journal.is_back(&key(&other));
        assert_eq!((&journal.replacing, &journal.remade), (&vec![key(&map)], &vec![key(&job)]), "what was never gone is not back");
        let member = Member { uid: "1".into(), ..Member::default() };
        let mut scope = Scope { members: [&job, &map, &other].map(|id| (MemberKey::of(id), member.clone())).into(), ..Scope::default() };
        journal.forget_uids(&mut scope);
        let uid = |id: &ObjectId| scope.members[&MemberKey::of(id)].uid.as_str();
        assert_eq!([uid(&job), uid(&map), uid(&other)], ["", "", "1"]);
        let next = Journal::begin(Some(&journal), true, &DeployPlan::default(), 1, String::new());
        assert_eq!(next.remade, journal.remade, "until an apply reaches its end");
    }

    #[test]
    fn an_apply_goes_on_where_one_of_the_same_objects_was_ended() {
        let plan = DeployPlan::default();
        let first = Journal::begin(None, false, &plan, 1, String::new());
        assert!(!first.installed && !first.resumes(None));
        let killed = Journal { replacing: vec!["x".into()], ..first.clone() };
        let next = Journal::begin(Some(&killed), true, &plan, 2, String::new());
        assert!(next.resumes(Some(&killed)) && !next.installed && next.replacing == ["x"]);
        let done = Journal { status: Status::Done, installed: true, ..first };
        let next = Journal::begin(Some(&done), true, &plan, 2, String::new());
        assert!(!next.resumes(Some(&done)) && next.installed);
        assert!(Journal::begin(None, true, &plan, 1, String::new()).installed, "an inventory of before there were journals");
    }
}
