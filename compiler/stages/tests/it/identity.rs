//! What is in a step's id, and what steps share.

use crate::bases::{all, plan, request};
use strake_plan::{BuildPlan, Op};
use strake_stages::lower_into;

fn last_id(text: &str) -> strake_plan::StepId {
    let plan = plan(text);
    plan.step(plan.images[0].step).id
}

#[test]
fn metadata_before_a_command_does_not_change_it() {
    let plain = last_id("FROM busybox\nRUN x");
    for same in
        ["FROM busybox\nLABEL a=b\nRUN x", "FROM busybox\nCMD y\nEXPOSE 80\nrun x", "# c\nFROM busybox AS n\nWORKDIR /\nRUN x", "FROM busybox\nRUN x\nUSER u"]
    {
        assert_eq!(last_id(same), plain, "{same}");
    }
    for other in
        ["FROM busybox\nENV a=b\nRUN x", "FROM busybox\nARG a=b\nRUN x", "FROM busybox\nUSER u\nRUN x", "FROM busybox\nRUN x ", "FROM busybox\nRUN  x y"]
    {
        assert_eq!(last_id(other) == plain, other.ends_with("x "), "{other}");
    }
}

#[test]
fn an_argument_without_a_value_changes_nothing() {
    assert_eq!(last_id("FROM busybox\nARG A\nRUN x"), last_id("FROM busybox\nRUN x"));
}

#[test]
fn proxies_reach_a_command_but_not_its_id() {
    let (mut asked, _) = request("FROM busybox\nRUN x\n");
    let without = strake_stages::lower(&asked, &all()).0.expect("a plan");
    asked.build_args.insert("HTTP_PROXY".to_owned(), Some("http://p".to_owned()));
    let with = strake_stages::lower(&asked, &all()).0.expect("a plan");
    let Op::Run(run) = &with.step(with.images[0].step).op else { panic!("a RUN") };
    assert_eq!(run.proxy_env, ["HTTP_PROXY=http://p", "http_proxy=http://p"]);
    assert_eq!(with.step(with.images[0].step).id, without.step(without.images[0].step).id);
    assert_eq!(with.images[0].history, without.images[0].history);
}

#[test]
fn two_dockerfiles_share_steps_in_one_plan() {
    let mut plan = BuildPlan::default();
    for (text, index) in [("FROM busybox\nRUN x\nCMD a\n", 0), ("FROM busybox\nRUN x\nRUN y\n", 1)] {
        let (request, _) = request(text);
        assert_eq!(lower_into(&request, &all(), &mut plan), (Some(index), Vec::new()));
    }
    assert_eq!(plan.steps.len(), 3);
    let (wrong, _) = request("FROM busybox\nRUN z\nEXPOSE no\n");
    let before = plan.clone();
    assert_eq!(lower_into(&wrong, &all(), &mut plan).0, None);
    assert_eq!(plan, before);
}

#[test]
fn inputs_stand_before_the_steps_that_use_them() {
    let plan = plan("FROM busybox AS a\nRUN a\nFROM busybox\nRUN b\nRUN --mount=from=a,target=/a c\nCOPY --from=0 /a /b\n");
    for (index, step) in plan.steps.iter().enumerate() {
        assert!(step.op.inputs().iter().all(|input| input.0 < index));
    }
}

#[test]
fn where_a_cache_is_kept_is_no_part_of_a_command() {
    let with = |options: &str| last_id(&format!("FROM busybox\nRUN --mount=type=cache,target=/x{options} x\n"));
    assert_eq!(with(",id=a"), with(",id=b,sharing=locked"));
    assert_ne!(with(""), with(",mode=0700"));
    assert_ne!(with(""), last_id("FROM busybox\nRUN x\n"));
}
