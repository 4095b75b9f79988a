//! Passwords where others read them.

use serde_json::Value;

use super::{Example, Level, Out, Rule, View, items, text};

pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "secret-in-env",
        level: Level::Warning,
        title: "a password in the manifest",
        text: "The value stands in the repository and in the pod's description. Put it into a Secret, and refer to that with secretKeyRef.",
        bad: Example::Container("env: [{name: DB_PASSWORD, value: hunter2}]"),
        good: Example::Container("env: [{name: DB_PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password, optional: true}}}]"),
        check: in_env,
    },
    Rule {
        code: "secret-in-config-map",
        level: Level::Warning,
        title: "a password in a ConfigMap",
        text: "ConfigMaps are shown to everybody who may look at the namespace. Put the value into a Secret.",
        bad: Example::Objects("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {db-password: hunter2}\n"),
        good: Example::Objects("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {db-host: db}\n"),
        check: in_config_map,
    },
    Rule {
        code: "secret-as-env",
        level: Level::Off,
        title: "a Secret in the environment",
        text: "Environment variables end up in crash reports and child processes. A mounted file does not, and follows when the Secret changes.",
        bad: Example::Container("env: [{name: A, valueFrom: {secretKeyRef: {name: db, key: a, optional: true}}}]"),
        good: Example::Container("env: [{name: A, value: x}]"),
        check: as_env,
    },
];

/// Whether a name is one that people give to secrets. Names of files and of other things about secrets are not.
pub(super) fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase().replace(['-', '.'], "_");
    let about = ["_file", "_path", "_dir", "_name", "_url", "_host", "_length", "_policy", "_ttl", "_id", "_enabled", "_expiry", "_header"];
    if about.iter().any(|end| lower.ends_with(end)) {
        return false;
    }
    let words: Vec<&str> = lower.split('_').collect();
    let single = ["password", "passwd", "secret", "token", "apikey", "passphrase", "credentials", "pgpassword"];
    let pairs = [["api", "key"], ["private", "key"], ["access", "key"], ["secret", "key"], ["encryption", "key"], ["signing", "key"]];
    words.iter().any(|word| single.contains(word)) || words.windows(2).any(|pair| pairs.iter().any(|known| known == pair))
}

fn in_env(view: &View<'_>, out: &mut Out<'_>) {
    for place in view.containers() {
        for (pointer, variable) in items(place.manifest, &format!("{}/env", place.pointer)) {
            let (name, value) = (text(variable, "name"), text(variable, "value"));
            // A reference to another variable is none, and an empty value is not secret.
            if is_secret(name) && !value.is_empty() && !value.starts_with("$(") {
                out.with(place.manifest, &format!("{pointer}/name"), format!("the value of `{name}` stands in the manifest"), |finding| {
                    finding.help("put it into a Secret, and refer to it with valueFrom.secretKeyRef")
                });
            }
        }
    }
}

fn in_config_map(view: &View<'_>, out: &mut Out<'_>) {
    for map in view.of("ConfigMap") {
        for (key, value) in map.value.get("data").and_then(Value::as_object).into_iter().flatten() {
            let short = value.as_str().is_some_and(|value| !value.is_empty() && !value.contains('\n'));
            if is_secret(key) && short {
                let pointer = format!("/data/{}", key.replace('~', "~0").replace('/', "~1"));
                out.at(map, &pointer, format!("`{key}` of {} looks like a secret", map.id));
            }
        }
    }
}

fn as_env(view: &View<'_>, out: &mut Out<'_>) {
    for place in view.containers() {
        for (pointer, variable) in items(place.manifest, &format!("{}/env", place.pointer)) {
            if variable.pointer("/valueFrom/secretKeyRef").is_some() {
                out.at(place.manifest, &format!("{pointer}/name"), format!("`{}` comes from a Secret", text(variable, "name")));
            }
        }
    }
}
