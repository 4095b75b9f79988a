//! Who may do what.

use serde_json::Value;
use strake_deploy::Manifest;

use super::{Example, Level, Out, Rule, View, items};

macro_rules! role {
    ($rule:literal) => {
        Example::Objects(concat!("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r}\nrules: [", $rule, "]\n"))
    };
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "cluster-admin-binding",
        level: Level::Warning,
        title: "somebody may do everything",
        text: "The role cluster-admin has no limits. Bind a role with the verbs and resources that are needed.",
        bad: Example::Objects(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: ServiceAccount, name: a, namespace: n}]\n",
        ),
        good: Example::Objects(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\nsubjects: [{kind: ServiceAccount, name: a, namespace: n}]\n",
        ),
        check: cluster_admin,
    },
    Rule {
        code: "wildcard-rule",
        level: Level::Warning,
        title: "a role with a star",
        text: "`*` among the verbs or resources gives more than anybody reads, and more with each new kind. List what is needed.",
        bad: role!("{apiGroups: [''], resources: ['*'], verbs: [get]}"),
        good: role!("{apiGroups: [''], resources: [pods], verbs: [get]}"),
        check: wildcard,
    },
    Rule {
        code: "secret-access",
        level: Level::Note,
        title: "a role that reads Secrets",
        text: "Who reads all Secrets of a namespace has every password in it. Name the Secrets with resourceNames, or mount them.",
        bad: role!("{apiGroups: [''], resources: [secrets], verbs: [get, list]}"),
        good: role!("{apiGroups: [''], resources: [secrets], verbs: [get], resourceNames: [one]}"),
        check: secrets,
    },
    Rule {
        code: "pod-creation-access",
        level: Level::Note,
        title: "a role that creates pods",
        text: "Who creates pods can use every Secret and ServiceAccount of the namespace. Give it to controllers only.",
        bad: role!("{apiGroups: [''], resources: [pods], verbs: [create]}"),
        good: role!("{apiGroups: [''], resources: [pods], verbs: [get]}"),
        check: create_pods,
    },
    Rule {
        code: "pod-exec-access",
        level: Level::Note,
        title: "a role that enters containers",
        text: "Who may exec into or attach to pods can do what they can do, and read what they read.",
        bad: role!("{apiGroups: [''], resources: [pods/exec], verbs: [create]}"),
        good: role!("{apiGroups: [''], resources: [pods/log], verbs: [get]}"),
        check: exec,
    },
];

fn cluster_admin(view: &View<'_>, out: &mut Out<'_>) {
    for binding in view.of("ClusterRoleBinding").chain(view.of("RoleBinding")) {
        if binding.at("/roleRef/name").and_then(Value::as_str) == Some("cluster-admin") {
            out.at(binding, "/roleRef/name", format!("{} lets its subjects do everything", binding.id));
        }
    }
}

/// Each rule of each role: the object, the pointer, the rule.
fn each_rule(view: &View<'_>, mut look: impl FnMut(&Manifest, &str, &Value)) {
    for role in view.of("Role").chain(view.of("ClusterRole")) {
        for (pointer, rule) in items(role, "/rules") {
            look(role, &pointer, rule);
        }
    }
}

fn lists(rule: &Value, field: &str, words: &[&str]) -> bool {
    let list = rule.get(field).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).any(|word| words.contains(&word))
}

fn wildcard(view: &View<'_>, out: &mut Out<'_>) {
    each_rule(view, |role, pointer, rule| {
        for field in ["verbs", "resources"] {
            if lists(rule, field, &["*"]) {
                out.at(role, &format!("{pointer}/{field}"), format!("{} gives all {field}", role.id));
            }
        }
    });
}

fn secrets(view: &View<'_>, out: &mut Out<'_>) {
    each_rule(view, |role, pointer, rule| {
        let named = rule.get("resourceNames").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
        if lists(rule, "resources", &["secrets"]) && lists(rule, "verbs", &["get", "list", "watch"]) && !named {
            out.at(role, &format!("{pointer}/resources"), format!("{} reads every Secret", role.id));
        }
    });
}

fn create_pods(view: &View<'_>, out: &mut Out<'_>) {
    each_rule(view, |role, pointer, rule| {
        if lists(rule, "resources", &["pods"]) && lists(rule, "verbs", &["create"]) {
            out.at(role, &format!("{pointer}/verbs"), format!("{} creates pods", role.id));
        }
    });
}

fn exec(view: &View<'_>, out: &mut Out<'_>) {
    each_rule(view, |role, pointer, rule| {
        if lists(rule, "resources", &["pods/exec", "pods/attach"]) {
            out.at(role, &format!("{pointer}/resources"), format!("{} enters containers", role.id));
        }
    });
}
