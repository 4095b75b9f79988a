//! What happens to a repository, one thing after the other.

use serde_json::json;
use strake_sync::{AppliedSet, Event, Fetched, Note, Reason, Status, Trouble, notes};

use crate::{World, id, refs};

fn running() -> World {
    let mut world = World::new(json!({}));
    world.tell(Event::Changed);
    assert_eq!(world.settle(), ["ask", "fetch", "deploy"]);
    assert!(world.status.is_ready(), "{:?}", world.ready());
    world
}

#[test]
fn a_commit_runs_once_and_the_next_one_follows() {
    let mut world = running();
    assert_eq!(world.ready().1, "main@aaaaaaaaaaaa runs: 1 created");
    assert_eq!(world.wait(), ["ask"], "nothing new");
    world.refs = Ok(refs('b', &[]));
    // Who waits for the newest commit is not told that all is well before it runs.
    world.request = Some("now".to_owned());
    assert_eq!(world.step(), Some("ask"));
    assert!(!world.status.is_ready() && world.ready().1 == "main@bbbbbbbbbbbb is next");
    assert_eq!(world.settle(), ["fetch", "deploy"]);
    assert_eq!(world.status.last_applied_revision, Some(id('b')));
    let history: Vec<&str> = world.status.history.iter().map(|entry| &entry.revision[..1]).collect();
    assert_eq!(history, ["b", "a"]);
}

#[test]
fn after_a_crash_the_same_revision_is_not_deployed_again() {
    let mut world = running();
    world.restart();
    assert_eq!(world.settle(), ["ask"]);
    // A crash in the middle: whether it has ended nobody knows, so it is done again.
    world.refs = Ok(refs('b', &[]));
    assert_eq!((world.wait_step(), world.step()), (Some("ask"), Some("fetch")));
    world.tell(Event::Started);
    world.restart();
    assert_eq!(world.settle(), ["ask", "fetch", "deploy"]);
    // And when the branch goes back to what ran before, that is deployed too.
    world.refs = Ok(refs('c', &[]));
    assert_eq!((world.wait_step(), world.step()), (Some("ask"), Some("fetch")));
    world.tell(Event::Started);
    world.refs = Ok(refs('b', &[]));
    world.restart();
    assert_eq!(world.settle(), ["ask", "fetch", "deploy"]);
}

impl World {
    fn wait_step(&mut self) -> Option<&'static str> {
        self.now += std::time::Duration::from_secs(120);
        self.step()
    }
}

#[test]
fn what_is_wrong_is_told_with_since_when_until_it_is_right() {
    let mut world = running();
    let good = world.refs.clone();
    world.refs = Err(Trouble::new(Reason::FetchFailed, "git cannot ask"));
    assert_eq!(world.wait(), ["ask"]);
    let since = world.status.failing_since.expect("it is wrong");
    assert_eq!(world.ready(), ("FetchFailed".to_owned(), "git cannot ask; aaaaaaaaaaaa goes on running".to_owned()));
    for _ in 0..3 {
        assert_eq!(world.wait(), ["ask"]);
    }
    assert_eq!((world.status.failures, world.status.failing_since), (4, Some(since)));
    assert!(world.ready().1.contains(&format!("(4 times since {since})")), "{:?}", world.ready());
    world.refs = good;
    assert_eq!(world.wait(), ["ask"], "what runs is what it should be");
    assert!(world.status.is_ready() && world.status.failing_since.is_none());
}

#[test]
fn a_broken_commit_is_tried_again_less_and_less_and_a_good_one_at_once() {
    let mut world = running();
    world.refs = Ok(refs('b', &[]));
    world.deploy = Err(Trouble::new(Reason::ManifestsInvalid, "web.yaml:3: unknown field"));
    assert_eq!(world.wait(), ["ask", "fetch", "deploy"]);
    assert_eq!(world.ready().1, "web.yaml:3: unknown field; aaaaaaaaaaaa goes on running");
    let mut deploys = 0;
    let begun = world.now;
    while world.now < begun + std::time::Duration::from_secs(3600) {
        deploys += world.wait().iter().filter(|step| **step == "deploy").count();
    }
    assert!((10..=20).contains(&deploys), "{deploys} tries in an hour");
    assert_eq!(world.status.history.len(), 2, "one failure that goes on is one result");
    world.refs = Ok(refs('c', &[]));
    world.deploy = Ok(("1 changed".to_owned(), true));
    world.tell(Event::Nudged);
    assert_eq!(world.settle(), ["ask", "fetch", "deploy"]);
    assert!(world.status.is_ready());
}

#[test]
fn going_back_to_what_ran_undoes_what_a_failed_apply_has_begun() {
    let mut world = running();
    world.refs = Ok(refs('b', &[]));
    world.deploy = Err(Trouble::new(Reason::Unhealthy, "no pod gets ready"));
    world.wait();
    assert!(world.ready().1.contains("aaaaaaaaaaaa was the last that worked"));
    world.refs = Ok(refs('a', &[]));
    world.deploy = Ok(("1 changed".to_owned(), true));
    world.tell(Event::Nudged);
    assert_eq!(world.settle(), ["ask", "fetch", "deploy"]);
    // But where nothing was touched there is nothing to undo.
    world.refs = Ok(refs('c', &[]));
    world.deploy = Err(Trouble::new(Reason::ManifestsInvalid, "broken"));
    world.wait();
    world.refs = Ok(refs('a', &[]));
    world.tell(Event::Nudged);
    assert_eq!(world.settle(), ["ask"]);
    assert!(world.status.is_ready());
}

#[test]
fn a_pause_holds_everything_and_ends() {
    let mut world = running();
    world.spec.suspend = true;
    world.generation = 2;
    world.tell(Event::Changed);
    world.refs = Ok(refs('b', &[]));
    world.tell(Event::Nudged);
    assert_eq!(world.settle(), [""; 0]);
    assert!(world.status.condition("Suspended").is_some());
    world.spec.suspend = false;
    world.generation = 3;
    world.tell(Event::Changed);
    assert_eq!(world.settle(), ["ask", "fetch", "deploy"]);
    assert!(world.status.condition("Suspended").is_none());
}

#[test]
fn a_request_is_heeded_once() {
    let mut world = running();
    world.request = Some("now".to_owned());
    assert_eq!(world.settle(), ["ask"]);
    world.restart();
    assert_eq!(world.settle(), ["ask"], "by the clock");
    assert_eq!(world.status.last_handled_request.as_deref(), Some("now"));
}

#[test]
fn tags_follow_their_range_and_never_move() {
    let mut world = World::new(json!({"ref": {"semver": ">=1.0 <2"}}));
    world.refs = Ok(refs('a', &[("v1.0.0", '1'), ("v1.2.0", '2'), ("v2.0.0", '3'), ("v1.10.0-rc.1", '4'), ("nightly", '5')]));
    world.tell(Event::Changed);
    world.settle();
    assert_eq!(world.ready().1, "v1.2.0@222222222222 runs: 1 created");
    world.refs = Ok(refs('a', &[("v1.2.0", '6')]));
    world.wait();
    let (reason, message) = world.ready();
    assert_eq!(reason, "TagMoved");
    assert!(message.contains("was 222222222222 and now is 666666666666") && message.contains("222222222222 goes on running"), "{message}");
    world.accepted = Some(id('6'));
    world.tell(Event::Nudged);
    assert_eq!(world.settle(), ["ask", "fetch", "deploy"]);
    world.refs = Ok(refs('a', &[("v1.2.0", '6'), ("v1.3.0", '7')]));
    assert_eq!(world.wait(), ["ask", "fetch", "deploy"]);
    world.refs = Ok(refs('a', &[]));
    world.wait();
    assert_eq!(world.ready().0, "NoVersionFits");
}

#[test]
fn a_force_push_is_followed_and_told() {
    let mut world = running();
    world.refs = Ok(refs('b', &[]));
    world.fetch = Ok(Fetched { rewritten: true });
    world.wait();
    let told = world.status.condition("HistoryRewritten").expect("it is told").message.clone();
    assert_eq!(told, "main was pushed by force: aaaaaaaaaaaa, which ran until now, is no longer part of it");
    assert!(world.status.is_ready());
    world.refs = Ok(refs('c', &[]));
    world.fetch = Ok(Fetched::default());
    world.wait();
    assert_eq!(world.status.condition("HistoryRewritten"), None);
}

#[test]
fn the_forge_learns_every_fate_and_holds_nothing_up() {
    let mut world = World::new(json!({"report": {"provider": "gitea", "secretRef": {"name": "token"}}}));
    world.tell(Event::Changed);
    assert_eq!(world.settle(), ["ask", "fetch", "pending", "deploy", "success"]);
    world.refs = Ok(refs('b', &[]));
    world.report = Err("401".to_owned());
    assert_eq!(world.wait(), ["ask", "fetch", "pending", "deploy", "success"]);
    assert!(world.status.is_ready());
    assert_eq!(world.status.condition("Reported").map(|told| told.status.as_str()), Some("False"));
    world.report = Ok(());
    let mut told = false;
    for _ in 0..10 {
        told = told || world.wait().contains(&"success");
    }
    assert!(told && world.status.reported.as_ref().is_some_and(|told| told.revision == id('b')));
    world.restart();
    assert_eq!(world.settle(), ["ask"], "it is not told twice");
}

#[test]
fn what_others_change_is_told_and_put_back_where_that_is_wanted() {
    let mut world = running();
    world.drift = Some("1 of 1 objects is not as it was applied: configmap/app".to_owned());
    assert_eq!(world.wait(), ["ask"]);
    let drifted = world.status.condition("Drifted").expect("it is told").clone();
    assert!(drifted.status == "True" && drifted.message.contains("configmap/app") && drifted.message.contains("spec.selfHeal"), "{drifted:?}");
    assert!(world.status.is_ready(), "what was applied is what the repository says");
    world.wait();
    assert_eq!(world.status.condition("Drifted").expect("still").last_transition_time, drifted.last_transition_time);

    world.spec.self_heal = true;
    assert_eq!(world.wait(), ["ask", "fetch", "deploy"]);
    assert!(world.status.condition("Drifted").is_none() && world.status.is_ready());
    assert_eq!(world.wait(), ["ask"], "once is enough");

    // What cannot be put back is tried again, later each time, and told meanwhile.
    world.drift = Some("configmap/app".to_owned());
    world.deploy = Err(Trouble::new(Reason::ApplyFailed, "refused"));
    assert_eq!(world.wait(), ["ask", "fetch", "deploy"]);
    assert!(!world.status.is_ready() && world.status.failures == 1);
    while world.status.failures < 3 {
        assert!(!world.wait().is_empty());
        assert_eq!(world.ready().0, "ApplyFailed", "it does not look well in between");
    }
    assert_eq!(world.status.history[0].count, 3);
    world.deploy = Ok(("1 changed".to_owned(), true));
    while !world.status.is_ready() {
        world.wait();
    }
    assert!(world.status.condition("Drifted").is_none());
    // Nobody who may not look says that all is well.
    world.tell(Event::Checked(Err("forbidden".to_owned())));
    assert_eq!(world.status.condition("Drifted").map(|condition| condition.status.as_str()), Some("Unknown"));
    world.tell(Event::Named(AppliedSet { name: "shop".to_owned(), namespace: "default".to_owned() }));
    assert_eq!(world.status.applied_set.as_ref().map(|set| set.name.as_str()), Some("shop"));
}

#[test]
fn an_outage_is_one_result_with_its_count_and_its_beginning() {
    let mut world = running();
    let begun = world.now;
    for outage in 1..3_usize {
        world.refs = Err(Trouble::new(Reason::FetchFailed, "cannot reach git.example"));
        for _ in 0..5 {
            assert_eq!(world.wait(), ["ask"]);
        }
        let entry = world.status.history[0].clone();
        assert_eq!((entry.count, entry.reason.as_deref(), entry.revision.as_str()), (5, Some("FetchFailed"), ""));
        assert!(entry.start_time > Some(begun) && entry.start_time < entry.completion_time && entry.start_time == world.status.failing_since, "{entry:?}");
        world.refs = Ok(refs('a', &[]));
        assert_eq!(world.wait(), ["ask"]);
        assert!(world.status.is_ready());
        assert_eq!(world.status.history.len(), 1 + outage, "another outage is another result");
    }
    // What failed before goes on waiting for its time, whatever the way did meanwhile.
    world.refs = Ok(refs('b', &[]));
    world.deploy = Err(Trouble::new(Reason::BuildFailed, "no"));
    assert_eq!(world.wait(), ["ask", "fetch", "deploy"]);
    world.refs = Err(Trouble::new(Reason::FetchFailed, "away"));
    world.tell(Event::Asked(world.refs.clone()));
    world.refs = Ok(refs('b', &[]));
    world.tell(Event::Asked(world.refs.clone()));
    assert_eq!(world.ready().0, "BuildFailed");
    assert_eq!(world.step(), None, "it is too early");
}

#[test]
fn events_tell_what_became_different() {
    let told = |before: &Status, after: &Status| -> Vec<(&str, String)> {
        notes(before, after).into_iter().map(|Note { reason, message, .. }| (reason, message)).collect()
    };
    let mut world = World::new(json!({}));
    world.tell(Event::Changed);
    let mut before = world.status.clone();
    let mut step = |world: &World| {
        let found = told(&before, &world.status);
        before = world.status.clone();
        found
    };
    assert_eq!(step(&world), []);
    world.settle();
    assert_eq!(step(&world), [("Deployed", "aaaaaaaaaaaa runs: 1 created".to_owned())]);
    world.refs = Err(Trouble::new(Reason::Unauthorized, "the token has expired"));
    for _ in 0..3 {
        world.wait();
        assert_eq!(step(&world), [("FetchFailed", "the token has expired".to_owned())], "the same each time, so that it is counted");
    }
    world.refs = Ok(refs('a', &[]));
    world.wait();
    assert_eq!(step(&world), [("Recovered", "all is as the repository says again after Unauthorized: aaaaaaaaaaaa runs".to_owned())]);
    world.refs = Ok(refs('b', &[]));
    world.deploy = Err(Trouble::new(Reason::ManifestsInvalid, "a.yaml:1: no"));
    world.wait();
    assert_eq!(step(&world), [("Refused", "a.yaml:1: no".to_owned())]);
    world.deploy = Ok(("1 changed".to_owned(), true));
    world.wait();
    let last = step(&world);
    assert_eq!(last.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), ["Deployed", "Recovered"], "{last:?}");
    world.drift = Some("configmap/app".to_owned());
    world.wait();
    assert_eq!(step(&world)[0].0, "Drifted");
    world.wait();
    assert_eq!(step(&world), [], "nothing is different");
}
