//! As whom a pod and its containers run, and what they may do.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Findings, child, items, number, text};
use crate::path::At;

/// User and group ids are 31 bits wide.
const ID_MAX: i64 = i32::MAX as i64;
/// The longest name of a kernel parameter.
const SYSCTL_MAX: usize = 253;

/// A pod's `securityContext`.
pub(super) fn pod(spec: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("securityContext");
    let Some(context) = child(spec, "securityContext") else { return };
    ids(context, &["runAsUser", "runAsGroup", "fsGroup"], &at, findings);
    let groups = context.get("supplementalGroups").and_then(Value::as_array).into_iter().flatten();
    for (index, group) in groups.enumerate() {
        id(group.as_i64().unwrap_or(0), &at.field("supplementalGroups").index(index), findings);
    }
    for (field, allowed) in [("fsGroupChangePolicy", ["OnRootMismatch", "Always"]), ("supplementalGroupsPolicy", ["Merge", "Strict"])] {
        if let Some(policy) = context.get(field).and_then(Value::as_str)
            && !allowed.contains(&policy)
        {
            findings.not_supported(&at.field(field), policy, format!("expected one of {}", allowed.join(", ")));
        }
    }
    seccomp(context, &at, findings);
    let mut seen = BTreeSet::new();
    for (index, sysctl) in items(context, "sysctls") {
        let (list_at, name) = (at.field("sysctls"), text(sysctl, "name"));
        let item_at = list_at.index(index);
        let at = item_at.field("name");
        if name.is_empty() {
            findings.required(&at, "");
        } else if name.len() > SYSCTL_MAX || !is_sysctl(name) {
            findings.invalid(&at, name, format!("must be the name of a kernel parameter of at most {SYSCTL_MAX} characters: parts of lower-case letters, digits, '-' and '_' with '.' or '/' between them"));
        } else if !seen.insert(name.replace('/', ".")) {
            findings.duplicate(&at, name);
        }
    }
}

/// A container's `securityContext`.
pub(super) fn container(container: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("securityContext");
    let Some(context) = child(container, "securityContext") else { return };
    ids(context, &["runAsUser", "runAsGroup"], &at, findings);
    seccomp(context, &at, findings);
    let escalates = context.get("allowPrivilegeEscalation").and_then(Value::as_bool);
    if escalates == Some(false) && context.get("privileged").and_then(Value::as_bool) == Some(true) {
        findings.invalid(&at, Value::Object(context.clone()), "a privileged container cannot have allowPrivilegeEscalation: false");
    }
    let added = child(context, "capabilities").and_then(|capabilities| capabilities.get("add")?.as_array()).into_iter().flatten();
    if escalates == Some(false) && added.into_iter().any(|name| name == "CAP_SYS_ADMIN") {
        findings.invalid(&at, Value::Object(context.clone()), "with CAP_SYS_ADMIN allowPrivilegeEscalation cannot be false");
    }
    if let Some(kind) = context.get("procMount").and_then(Value::as_str)
        && !matches!(kind, "Default" | "Unmasked")
    {
        findings.not_supported(&at.field("procMount"), kind, "expected one of Default, Unmasked");
    }
}

fn ids(context: &Map<String, Value>, fields: &[&str], at: &At<'_>, findings: &mut Findings) {
    for field in fields {
        if let Some(number) = number(context, field) {
            id(number, &at.field(field), findings);
        }
    }
}

fn id(number: i64, at: &At<'_>, findings: &mut Findings) {
    if !(0..=ID_MAX).contains(&number) {
        findings.invalid(at, number, format!("must be between 0 and {ID_MAX}"));
    }
}

fn seccomp(context: &Map<String, Value>, at: &At<'_>, findings: &mut Findings) {
    let at = at.field("seccompProfile");
    let Some(profile) = child(context, "seccompProfile") else { return };
    let (kind, file) = (text(profile, "type"), profile.get("localhostProfile").and_then(Value::as_str));
    findings.one_of(&at.field("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"]);
    let at = at.field("localhostProfile");
    match (kind, file) {
        ("Localhost", None) => findings.required(&at, "the profile's file must be given when type is Localhost"),
        ("Localhost", Some(file)) if file.starts_with('/') || file.split('/').any(|part| part == "..") => {
            findings.invalid(&at, file, "must be relative and without '..'")
        }
        ("Localhost", _) | (_, None) => {}
        (_, Some(file)) => findings.invalid(&at, file, "can be given only when type is Localhost"),
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.split(['.', '/']).all(|part| {
        let bytes = part.as_bytes();
        let ends = bytes.first().zip(bytes.last()).is_some_and(|(first, last)| edge(*first) && edge(*last));
        ends && bytes.iter().all(|byte| edge(*byte) || matches!(byte, b'-' | b'_'))
    })
}
