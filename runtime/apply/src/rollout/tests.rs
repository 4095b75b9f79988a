//! Laws of rollouts, on a small world: pods come and go when they like, processes die between any two actions, people say what they want.

use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use serde_json::json;
use strake_plan::{Check, Strategy};

use super::*;

/// A Deployment and its pods: `ready` of them are.
#[derive(Clone, Copy, Debug)]
struct Workload {
    wanted: i64,
    present: i64,
    ready: i64,
}

impl Workload {
    fn pods(self) -> Pods {
        Pods {
            wanted: self.wanted,
            ready: self.ready.min(self.wanted),
            present: self.present,
            settled: self.ready == self.wanted && self.present == self.wanted,
        }
    }

    /// What a controller and a kubelet do in a while: pods come, get ready, and go.
    fn turn(&mut self, works: bool) {
        if self.present > self.wanted {
            // Those that are not ready go first.
            self.present = self.wanted;
            self.ready = self.ready.min(self.present);
        } else if self.ready < self.present && works {
            self.ready += 1;
        } else if self.present < self.wanted {
            self.present += 1;
        }
    }
}

#[derive(Debug)]
struct World {
    own: Workload,
    own_digest: String,
    goal: String,
    target: i64,
    /// The new pods get ready.
    works: bool,
    /// They pass the check.
    passes: bool,
    track: Option<(Record, Workload)>,
    pointing: Pointing,
    command: Option<Command>,
    checked: Option<Checked>,
    /// Looks at new pods that did not get ready.
    waited: usize,
    now: Timestamp,
    /// Why it went back.
    back: Option<Back>,
    promoted: bool,
}

impl World {
    fn new(rollout: Rollout, replicas: i64, works: bool, passes: bool) -> World {
        let blue_green = rollout.strategy == Strategy::BlueGreen;
        let record = Record {
            format_version: FORMAT_VERSION,
            digest: "new".into(),
            track: "t".into(),
            rollout,
            phase: Phase::Advance,
            step: 0,
            since: None,
            replicas,
            floor: replicas,
            scales: true,
            services: if blue_green { BTreeMap::from([("web".to_owned(), json!({"app": "web"}))]) } else { BTreeMap::new() },
            back: None,
        };
        World {
            own: Workload { wanted: replicas, present: replicas, ready: replicas },
            own_digest: "old".into(),
            goal: "new".into(),
            target: replicas,
            works,
            passes,
            track: Some((record, Workload { wanted: 0, present: 0, ready: 0 })),
            pointing: Pointing::Open,
            command: None,
            checked: None,
            waited: 0,
            now: Timestamp::UNIX_EPOCH,
            back: None,
            promoted: false,
        }
    }

    fn seen(&self) -> Seen {
        let blue_green = self.track.as_ref().is_some_and(|(record, _)| !record.services.is_empty());
        Seen {
            goal: Some(self.goal.clone()),
            own: self.own.pods(),
            own_is_new: self.own_digest == self.goal && self.own.wanted == self.target,
            track: self.track.as_ref().map(|(record, pods)| (record.clone(), pods.pods())),
            command: self.command.clone(),
            services: blue_green.then_some(self.pointing),
            own_is_one: true,
            trouble: (self.waited > 60).then(|| "not ready in time".to_owned()),
            checked: self.checked.clone(),
        }
    }

    /// Pods that answer and are ready.
    fn serving(&self) -> i64 {
        let track = self.track.as_ref().map_or(0, |(_, track)| track.ready);
        match self.pointing {
            Pointing::Open => self.own.ready + track,
            Pointing::Own => self.own.ready,
            Pointing::Track => track,
            Pointing::Mixed => 0,
        }
    }

    fn does(&mut self, action: &Action) {
        let now = self.now;
        match action {
            Action::Nothing | Action::Wait(_) => {}
            Action::Check => {
                let step = self.track.as_ref().map_or(0, |(record, _)| record.step);
                self.checked = Some(Checked { step, at: now, failed: (!self.passes).then(|| "answered 500".to_owned()) });
            }
            Action::Note(record) => {
                if let Some((own, _)) = &mut self.track {
                    *own = (**record).clone();
                }
                self.back.clone_from(&record.back);
            }
            Action::ScaleTrack(replicas) => {
                if let Some((_, track)) = &mut self.track {
                    track.wanted = *replicas;
                }
            }
            Action::ScaleOwn(replicas) => self.own.wanted = *replicas,
            Action::Point(to) => self.pointing = *to,
            // A controller keeps what is ready until there is as much that is new; here all of it is replaced at once, as badly as can be.
            Action::Promote => {
                if self.own_digest != self.goal {
                    self.own.ready = 0;
                }
                self.own_digest.clone_from(&self.goal);
                self.own.wanted = self.target;
                self.promoted = true;
            }
            Action::Drop => self.track = None,
        }
    }

    fn turn(&mut self) {
        self.now += SignedDuration::from_millis(700);
        self.own.turn(true);
        if let Some((record, track)) = &mut self.track {
            let before = track.ready;
            track.turn(self.works);
            let waits = record.phase == Phase::Advance && track.ready < track.wanted && track.ready == before;
            self.waited = if waits { self.waited + 1 } else { 0 };
        }
    }
}

/// What happens besides.
#[derive(Clone, Debug)]
enum Chance {
    Turn,
    Act,
    /// The action is done, and done again, as after a crash that lost the answer.
    Twice,
    /// The process dies before it acts, and forgets what it has seen.
    Crash,
    Promote,
    Abort,
}

fn chances() -> impl proptest::strategy::Strategy<Value = Vec<Chance>> {
    proptest::collection::vec(
        prop_oneof![
            6 => Just(Chance::Turn), 6 => Just(Chance::Act), 2 => Just(Chance::Twice), 1 => Just(Chance::Crash), 1 => Just(Chance::Promote),
            1 => prop_oneof![9 => Just(Chance::Act), 1 => Just(Chance::Abort)],
        ],
        0..200,
    )
}

fn rollouts() -> impl proptest::strategy::Strategy<Value = Rollout> {
    let canary = proptest::collection::btree_set(1..100_u8, 0..4).prop_flat_map(|weights| {
        let count = weights.len() + 1;
        (Just(weights), proptest::collection::vec(prop_oneof![Just(None), Just(Some(None)), (1..20_000_u64).prop_map(|millis| Some(Some(millis)))], count))
    });
    let canary = canary.prop_map(|(weights, pauses)| {
        let steps = weights.into_iter().chain([100]).zip(pauses);
        let steps = steps.flat_map(|(weight, pause)| std::iter::once(Step::Weight(weight)).chain(pause.map(Step::Pause))).collect();
        Rollout { strategy: Strategy::Canary, steps, check: Some(Check::Exec("true".into())) }
    });
    let green = prop_oneof![
        Just(vec![Step::Switch]),
        Just(vec![Step::Pause(None), Step::Switch, Step::Pause(Some(9000))]),
        Just(vec![Step::Switch, Step::Pause(None)])
    ];
    let green = green.prop_map(|steps| Rollout { strategy: Strategy::BlueGreen, steps, check: None });
    prop_oneof![canary, green]
}

proptest! {
    #[test]
    fn as_many_answer_as_were_wanted_and_every_rollout_ends(
        rollout in rollouts(), replicas in 1..12_i64, works in any::<bool>(), passes in any::<bool>(), chances in chances(),
    ) {
        let checks = rollout.check.is_some();
        let mut world = World::new(rollout, replicas, works, passes);
        for chance in chances {
            match chance {
                Chance::Turn => world.turn(),
                Chance::Crash => {
                    world.checked = None;
                    world.waited = 0;
                }
                Chance::Promote => {
                    let step = world.track.as_ref().map_or(0, |(record, _)| record.step);
                    world.command = Some(Command::Promote(step));
                }
                Chance::Abort => world.command = Some(Command::Abort("somebody".into())),
                Chance::Act | Chance::Twice => {
                    let action = decide(&world.seen(), world.now);
                    world.does(&action);
                    if matches!(chance, Chance::Twice) {
                        world.does(&action);
                    }
                }
            }
            prop_assert!(world.serving() >= replicas, "{world:?}");
        }
        // From here on nobody dies, and whoever is waited for says so.
        for _ in 0..4000 {
            if world.track.is_none() {
                break;
            }
            let action = decide(&world.seen(), world.now);
            if matches!(&action, Action::Wait(why) if why.starts_with("pauses until")) && world.command.is_none() {
                world.command = Some(Command::PromoteAll);
            }
            if world.command.as_ref().is_some_and(|command| matches!(command, Command::Promote(_))) {
                world.command = Some(Command::PromoteAll);
            }
            world.does(&action);
            world.turn();
            prop_assert!(world.serving() >= replicas, "{action:?} {world:?}");
        }
        prop_assert!(world.track.is_none(), "it ends: {world:?}");
        prop_assert_eq!(world.pointing, Pointing::Open);
        prop_assert_eq!(decide(&world.seen(), world.now), Action::Nothing);
        let good = works && (passes || !checks);
        match &world.back {
            None => prop_assert!(world.promoted && good && world.own_digest == "new"),
            Some(Back::Aborted(_)) => prop_assert!(!world.promoted && world.own_digest == "old" && world.own.wanted == replicas),
            Some(_) => prop_assert!(!world.promoted && !good && world.own_digest == "old" && world.own.wanted == replicas),
        }
    }

    #[test]
    fn the_same_view_gives_the_same_answer(rollout in rollouts(), replicas in 1..12_i64, acts in 0..40_usize) {
        let mut world = World::new(rollout, replicas, true, true);
        for _ in 0..acts {
            let action = decide(&world.seen(), world.now);
            prop_assert_eq!(&action, &decide(&world.seen(), world.now));
            world.does(&action);
            // What is done needs not be done again at once.
            if !matches!(action, Action::Wait(_) | Action::Nothing) {
                prop_assert_ne!(&action, &decide(&world.seen(), world.now));
            }
            world.turn();
        }
    }
}

fn canary(steps: &[Step]) -> Rollout {
    Rollout { strategy: Strategy::Canary, steps: steps.to_vec(), check: None }
}

/// Runs until the first wait of a pause.
fn until_pause(world: &mut World) {
    for _ in 0..500 {
        let action = decide(&world.seen(), world.now);
        if matches!(&action, Action::Wait(why) if why.starts_with("pauses")) {
            return;
        }
        world.does(&action);
        world.turn();
    }
    panic!("no pause: {world:?}");
}

#[test]
fn weights_are_shares_of_the_replicas() {
    let mut world =
        World::new(canary(&[Step::Weight(10), Step::Pause(None), Step::Weight(55), Step::Pause(None), Step::Weight(100), Step::Pause(None)]), 10, true, true);
    let mut seen = Vec::new();
    for _ in 0..3 {
        until_pause(&mut world);
        let (record, track) = world.track.clone().expect("it goes on");
        seen.push((world.own.wanted, track.wanted));
        world.command = Some(Command::Promote(record.step));
        let action = decide(&world.seen(), world.now);
        world.does(&action);
    }
    assert_eq!(seen, [(9, 1), (4, 6), (0, 10)], "a part of a pod is a pod");
    // One replica that is all there is stays until the new one is all.
    let mut world = World::new(canary(&[Step::Weight(50), Step::Pause(None), Step::Weight(100)]), 1, true, true);
    until_pause(&mut world);
    assert_eq!((world.own.wanted, world.track.as_ref().map(|(_, track)| track.wanted)), (1, Some(1)));
    // Where somebody else says how many there are, they are left.
    let mut world = World::new(canary(&[Step::Weight(50), Step::Pause(None), Step::Weight(100)]), 4, true, true);
    world.track.as_mut().expect("it goes on").0.scales = false;
    until_pause(&mut world);
    assert_eq!((world.own.wanted, world.track.as_ref().map(|(_, track)| track.wanted)), (4, Some(2)));
}

#[test]
fn a_promotion_is_for_the_pause_that_was_seen() {
    let mut world = World::new(canary(&[Step::Weight(50), Step::Pause(None), Step::Weight(60), Step::Pause(None), Step::Weight(100)]), 2, true, true);
    until_pause(&mut world);
    world.command = Some(Command::Promote(1));
    let action = decide(&world.seen(), world.now);
    world.does(&action);
    until_pause(&mut world);
    assert_eq!(world.track.as_ref().map(|(record, _)| record.step), Some(3), "the next pause waits for its own");
}

#[test]
fn what_is_wanted_by_now_comes_first() {
    let mut world = World::new(canary(&[Step::Weight(50), Step::Pause(None), Step::Weight(100)]), 2, true, true);
    until_pause(&mut world);
    world.goal = "newer".into();
    for _ in 0..100 {
        let action = decide(&world.seen(), world.now);
        world.does(&action);
        world.turn();
        assert!(world.serving() >= 2);
    }
    assert_eq!((&world.track.is_none(), &world.back), (&true, &Some(Back::Superseded)));
}

#[test]
fn commands_are_read_as_they_are_written() {
    for command in [Command::Promote(3), Command::PromoteAll, Command::Abort("ann@host".into())] {
        assert_eq!(Command::read(&command.text()), Some(command));
    }
    assert_eq!(Command::read("promote x"), None);
    assert_eq!(Command::read("halt"), None);
}
