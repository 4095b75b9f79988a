//! What goes wrong before a container runs, and how it is told.

use strake_pod::rehearsal::Behaviour;
use strake_pod::{PullFailure, Refusal};

use crate::bench::{Bench, simple};

#[test]
fn a_pull_that_fails_is_told_then_backed_off_then_cured() {
    let failing = Behaviour { pull_failure: Some((PullFailure::Pull, "manifest unknown".to_owned())), ..Behaviour::default() };
    let mut bench = Bench::new(simple(), &[("app", failing)]);
    bench.run_to(1000);
    assert_eq!(bench.waiting("app"), ("ErrImagePull".to_owned(), "manifest unknown".to_owned()));
    bench.run_to(5000);
    let (reason, message) = bench.waiting("app");
    assert_eq!(reason, "ImagePullBackOff");
    assert_eq!(message, "Back-off pulling image \"web:1\": ErrImagePull: manifest unknown");
    assert_eq!(bench.phase(), "Pending");
    bench.run_to(100_000);
    let pulls = bench.times(|action| matches!(action, strake_pod::PodAction::PullImage { .. }));
    assert_eq!(pulls.len(), 4, "at 0, 10, 30 and 70 seconds: {pulls:?}");
    let failed = bench.events().into_iter().filter(|(reason, _)| *reason == "Failed").count();
    assert_eq!(failed, 4, "each failure is told once");
    bench.node.behave("app", Behaviour::default());
    bench.run_to_ready(200_000);
}

#[test]
fn images_that_can_never_be_had_say_so() {
    for (failure, reason, message) in [
        (PullFailure::NeverPull, "ErrImageNeverPull", "Container image \"web:1\" is not present with pull policy of Never"),
        (PullFailure::InvalidName, "InvalidImageName", "Failed to apply default image tag \"web:1\": bad"),
    ] {
        let failing = Behaviour { pull_failure: Some((failure, "bad".to_owned())), ..Behaviour::default() };
        let mut bench = Bench::new(simple(), &[("app", failing)]);
        bench.run_to(1000);
        assert_eq!(bench.waiting("app"), (reason.to_owned(), message.to_owned()));
    }
}

#[test]
fn a_container_whose_configuration_is_missing_waits_for_it() {
    let missing = Behaviour { refusal: Some((Refusal::Config, "secret \"db\" not found".to_owned())), ..Behaviour::default() };
    let mut bench = Bench::new(simple(), &[("app", missing)]);
    bench.run_to(30_000);
    assert_eq!(bench.waiting("app"), ("CreateContainerConfigError".to_owned(), "secret \"db\" not found".to_owned()));
    assert_eq!(bench.container("app").restart_count, 0, "it never ran");
    let tries = bench.times(|action| matches!(action, strake_pod::PodAction::CreateContainer { .. }));
    assert!((4..=7).contains(&tries.len()), "{tries:?}");
    bench.node.behave("app", Behaviour::default());
    let ms = bench.run_to_ready(60_000);
    assert!(ms < 52_000, "{ms}");
    assert_eq!(bench.container("app").restart_count, 0);
}

#[test]
fn a_program_that_cannot_be_started_is_a_crash() {
    let broken = Behaviour { refusal: Some((Refusal::Start, "exec: \"/nope\": no such file".to_owned())), ..Behaviour::default() };
    let mut bench = Bench::new(simple(), &[("app", broken.clone())]);
    bench.run_to(1000);
    assert_eq!(bench.waiting("app"), ("RunContainerError".to_owned(), "exec: \"/nope\": no such file".to_owned()));
    bench.run_to(5000);
    assert_eq!(bench.waiting("app").0, "CrashLoopBackOff");
    let last = bench.container("app").last_state.clone().unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (128, Some("StartError")));

    let mut spec = simple();
    spec["restartPolicy"] = serde_json::json!("Never");
    let mut bench = Bench::new(spec, &[("app", broken)]);
    bench.run_to(5000);
    assert_eq!(bench.phase(), "Failed");
}
