//! The indexes of an indexed Job: on its pods, and in its status.

use std::collections::BTreeSet;

use strake_kinds::indexes;
use strake_kinds::meta::ObjectMeta;

/// The label and annotation of a pod's index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the index had failed when the pod was made.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

/// The index of a pod.
pub(super) fn of(meta: &ObjectMeta) -> Option<u32> {
    annotation(meta, INDEX)
}

/// How often the pod's index had failed before.
pub(super) fn failures(meta: &ObjectMeta) -> i32 {
    annotation(meta, FAILURES).unwrap_or(0)
}

fn annotation<T: std::str::FromStr>(meta: &ObjectMeta, name: &str) -> Option<T> {
    meta.annotations.as_ref()?.get(name)?.parse().ok()
}

/// The indexes of a status. What nobody can read is none: every index would be run again, and none is left out.
pub(super) fn read(text: Option<&str>) -> BTreeSet<u32> {
    text.and_then(|text| indexes::parse(text).ok()).unwrap_or_default()
}

/// As a status has them; `None` for no index.
pub(super) fn write(found: &BTreeSet<u32>) -> Option<String> {
    (!found.is_empty()).then(|| indexes::write(found))
}
