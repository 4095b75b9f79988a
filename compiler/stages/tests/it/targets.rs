//! One graph for several platforms: what they share, what each has for itself, and what cannot run.

use crate::bases::{all, request};
use strake_oci::Platform;
use strake_plan::{BuildPlan, Op, Run};
use strake_stages::emulate::{Machine, Reason, foreign_runs};
use strake_stages::lower_into;

const TEXT: &str = "FROM --platform=$BUILDPLATFORM scratch AS once
RUN once
FROM --platform=$BUILDPLATFORM scratch AS each
ARG TARGETARCH
RUN each
FROM scratch AS tools
COPY --from=once /a /a
FROM scratch
ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM
LABEL all=$TARGETPLATFORM,$TARGETOS,$TARGETARCH,$TARGETVARIANT,$BUILDPLATFORM
COPY --from=each /a /a
COPY --from=tools /a /b
";

fn platform(text: &str) -> Platform {
    text.parse().expect("a platform")
}

fn lowered(text: &str, platforms: &[&str]) -> BuildPlan {
    let mut plan = BuildPlan::default();
    for target in platforms {
        let (mut asked, _) = request(text);
        (asked.build_platform, asked.platform) = (platform("linux/amd64"), platform(target));
        let (image, findings) = lower_into(&asked, &all(), &mut plan);
        assert!(image.is_some() && findings.iter().all(|finding| !finding.is_error()), "{target}: {findings:?}");
    }
    plan
}

fn runs<'p>(plan: &'p BuildPlan, stage: &str) -> Vec<&'p Run> {
    let of = |step: &'p strake_plan::Step| if let Op::Run(run) = &step.op { Some(run).filter(|_| step.stage == stage) } else { None };
    plan.steps.iter().filter_map(of).collect()
}

#[test]
fn stages_of_the_builds_platform_are_shared_unless_they_look_at_the_target() {
    let plan = lowered(TEXT, &["linux/amd64", "linux/arm64/v8", "linux/arm/v7"]);
    assert_eq!((runs(&plan, "once").len(), runs(&plan, "each").len(), plan.images.len()), (1, 3, 3));
    assert!(runs(&plan, "each").iter().all(|run| run.platform.is_none()), "they run on the build's own platform");
    let labels: Vec<&str> = plan.images.iter().map(|image| image.config.config.labels["all"].as_str()).collect();
    let expected = ["linux/amd64,linux,amd64,,linux/amd64", "linux/arm64,linux,arm64,,linux/amd64", "linux/arm/v7,linux,arm,v7,linux/amd64"];
    assert_eq!(labels, expected);
    let platforms: Vec<String> = plan.images.iter().map(|image| image.config.platform().to_string()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64", "linux/arm/v7"]);
    assert_eq!(foreign_runs(&plan, &platform("linux/amd64"), &Machine::default()), Vec::new(), "copying runs nothing");
}

#[test]
fn a_single_platform_has_the_steps_that_it_has_among_several() {
    let several = lowered(TEXT, &["linux/arm64", "linux/amd64"]);
    for (place, target) in ["linux/arm64", "linux/amd64"].iter().enumerate() {
        let alone = lowered(TEXT, &[target]);
        let id = |plan: &BuildPlan, place: usize| plan.step(plan.images[place].step).id;
        assert_eq!(id(&alone, 0), id(&several, place), "{target}");
    }
}

#[test]
fn what_cannot_run_is_named_with_its_stage_and_line() {
    let plan = lowered("FROM scratch AS tools\nCOPY a /a\nRUN make\n\nFROM scratch\nCOPY --from=tools /a /b\n", &["linux/amd64", "linux/s390x", "linux/386"]);
    assert_eq!(runs(&plan, "tools").len(), 3, "what runs is another thing on another platform");
    let seen = Machine { visible: true, interpreters: Vec::new() };
    let foreign = foreign_runs(&plan, &platform("linux/amd64"), &seen);
    let [only] = &foreign[..] else { panic!("one of the three: {foreign:?}") };
    assert_eq!((only.stage.as_str(), only.origin.line, only.platform.to_string().as_str()), ("tools", 3, "linux/s390x"));
    assert_eq!(only.reason, Reason::Unregistered);
    assert_eq!(only.to_string(), "stage tools runs a command of linux/s390x, and this machine cannot: no interpreter for s390x is registered with binfmt_misc");
}
