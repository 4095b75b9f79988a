//! Images of one plan that are contexts of others.

use std::collections::BTreeMap;

use strake_plan::{BuildPlan, CopySource, Op};
use strake_stages::lower_into;

use crate::bases::{all, request};

#[test]
fn an_image_of_the_plan_is_a_base_and_a_source_of_files() {
    let mut plan = BuildPlan::default();
    let (first, _) = request("FROM scratch\nENV A=1\nCOPY x /x\nONBUILD ENV B=2\n");
    let (place, findings) = lower_into(&first, &all(), &mut plan);
    assert_eq!((place, findings.is_empty()), (Some(0), true));
    let (mut second, _) = request("FROM mine AS end\nCOPY --from=mine /x /y\n");
    second.named_builds = BTreeMap::from([("mine".to_owned(), vec![0])]);
    let (place, findings) = lower_into(&second, &all(), &mut plan);
    assert!(findings.is_empty(), "{findings:?}");
    let image = &plan.images[place.expect("an image")];
    // It goes on from where the other ends: one step more, and nothing of it is done twice.
    assert_eq!(plan.steps.len(), 3);
    let Op::Copy(copy) = &plan.step(image.step).op else { panic!("a COPY") };
    assert_eq!(copy.parent, plan.images[0].step);
    assert_eq!(copy.from, CopySource::Step { step: plan.images[0].step });
    assert_eq!((image.config.env("A"), image.config.env("B")), (Some("1"), Some("2")));
    let rows: Vec<&str> = image.history.iter().map(|row| row.created_by.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(rows, ["ENV", "COPY", "ENV", "COPY"]);
}
