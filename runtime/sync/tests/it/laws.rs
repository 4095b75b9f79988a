//! The two laws, for whatever happened before: the same facts give the same answer; what is decided is done once, and then it rests.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use strake_sync::{Event, Fetched, Hook, Reason, Trouble, decide, read_hook};

use crate::{World, refs};

#[derive(Clone, Debug)]
enum Step {
    Push(char),
    Tags(Vec<(u8, char)>),
    Lost(bool),
    Broken(Option<Reason>),
    Nudge,
    Pause(bool),
    Edit,
    Request(u8),
    Crash(u8),
    Wait(u32),
    Mute(bool),
    Drift,
    Heal(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let commit = prop::sample::select(vec!['a', 'b', 'c']);
    let reason = prop::sample::select(vec![None, Some(Reason::ManifestsInvalid), Some(Reason::Unhealthy), Some(Reason::ApplyFailed)]);
    prop_oneof![
        commit.clone().prop_map(Step::Push),
        prop::collection::vec((0_u8..4, commit), 0..3).prop_map(Step::Tags),
        any::<bool>().prop_map(Step::Lost),
        reason.prop_map(Step::Broken),
        Just(Step::Nudge),
        any::<bool>().prop_map(Step::Pause),
        Just(Step::Edit),
        any::<u8>().prop_map(Step::Request),
        (0_u8..4).prop_map(Step::Crash),
        (0_u32..1000).prop_map(Step::Wait),
        any::<bool>().prop_map(Step::Mute),
        Just(Step::Drift),
        any::<bool>().prop_map(Step::Heal),
    ]
}

fn take(world: &mut World, step: &Step) {
    match step {
        Step::Push(commit) => world.refs = Ok(refs(*commit, &[])),
        Step::Tags(tags) => {
            let names: Vec<(String, char)> = tags.iter().map(|(minor, commit)| (format!("v1.{minor}.0"), *commit)).collect();
            let names: Vec<(&str, char)> = names.iter().map(|(name, commit)| (name.as_str(), *commit)).collect();
            world.refs = Ok(refs('a', &names));
        }
        Step::Lost(true) => world.refs = Err(Trouble::new(Reason::FetchFailed, "away")),
        Step::Lost(false) => world.fetch = Err(Trouble::new(Reason::PathMissing, "no such folder")),
        Step::Broken(Some(reason)) => world.deploy = Err(Trouble::new(*reason, "broken")),
        Step::Broken(None) => (world.deploy, world.fetch) = (Ok(("1 changed".to_owned(), true)), Ok(Fetched::default())),
        Step::Nudge => world.tell(Event::Nudged),
        Step::Pause(suspend) => {
            world.spec.suspend = *suspend;
            world.generation += 1;
            world.tell(Event::Changed);
        }
        Step::Edit => {
            world.generation += 1;
            world.tell(Event::Changed);
        }
        Step::Request(number) => world.request = Some(number.to_string()),
        // After some steps of the work.
        Step::Crash(steps) => {
            for _ in 0..*steps {
                world.step();
            }
            world.restart();
        }
        Step::Wait(seconds) => world.now += Duration::from_secs(u64::from(*seconds)),
        Step::Drift => world.drift = Some("configmap/app was changed".to_owned()),
        Step::Heal(heal) => world.spec.self_heal = *heal,
        Step::Mute(mute) => world.report = if *mute { Err("away".to_owned()) } else { Ok(()) },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_answers_the_same_and_comes_to_rest(steps in prop::collection::vec((step(), any::<bool>()), 1..30), semver in any::<bool>(), told in any::<bool>()) {
        let mut more = json!({});
        if semver {
            more["ref"] = json!({"semver": "1.x"});
        }
        if told {
            more["report"] = json!({"provider": "github", "secretRef": {"name": "token"}});
        }
        let mut world = World::new(more);
        world.tell(Event::Changed);
        for (step, settle) in steps {
            take(&mut world, &step);
            prop_assert_eq!(decide(&world.facts(), world.now), decide(&world.facts(), world.now));
            if settle {
                world.settle();
                let rest = decide(&world.facts(), world.now);
                prop_assert_eq!(&rest.action, &None);
                prop_assert!(world.spec.suspend || rest.wait.is_some(), "it would never look again");
                prop_assert_eq!(world.status.failing_since.is_some(), world.status.failures > 0);
                // What is kept is read back as it was.
                let text = serde_json::to_string(&world.status).expect("JSON");
                prop_assert_eq!(&serde_json::from_str::<strake_sync::Status>(&text).expect("a status"), &world.status);
            }
        }
        // Whatever has happened: once everything works, it ends well by itself.
        (world.refs, world.fetch, world.deploy, world.report) =
            (Ok(refs('d', &[("v1.9.0", 'd')])), Ok(Fetched::default()), Ok(("1 changed".to_owned(), true)), Ok(()));
        world.spec.suspend = false;
        world.generation += 1;
        world.tell(Event::Changed);
        world.settle();
        world.now += Duration::from_secs(400);
        world.settle();
        prop_assert!(world.status.is_ready(), "{:?}", world.status.conditions);
        prop_assert_eq!(world.status.last_applied_revision, Some(crate::id('d')));
        prop_assert!(!told || world.status.reported.as_ref().is_some_and(|told| told.state == "success"));
    }

    #[test]
    fn no_delivery_is_believed_without_its_proof(headers in prop::collection::vec((0_usize..8, ".{0,80}"), 0..6), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let names = ["x-github-event", "x-hub-signature-256", "x-gitlab-event", "x-gitlab-token", "x-gitea-event", "x-gitea-signature", "x-forgejo-event", "content-type"];
        let header = |name: &str| headers.iter().find(|(index, _)| names[*index] == name).map(|(_, value)| value.clone());
        let answer = read_hook(&Hook { header: &header, body: &body }, b"a secret that nobody guesses in a lifetime");
        prop_assert!(answer.is_err());
    }
}
