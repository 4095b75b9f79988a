//! Changed configuration restarts what uses it, and nothing else.

use serde_json::Value;
use strake_deploy::{CHECKSUM, Options, plan, read};
use strake_plan::DeployPlan;
use strake_source::{Diagnostic, Sources};

const RULE: &str = "
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: COLOUR, size: '1'}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: TOKEN}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
data: {unused: OTHER}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {ANNOTATION}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - {name: web, image: 'web:1', envFrom: [{configMapRef: {name: settings}}], env: [{name: T, valueFrom: {secretKeyRef: {name: keys, key: token}}}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: plain}
spec:
  selector: {matchLabels: {app: plain}}
  template:
    metadata: {labels: {app: plain}}
    spec: {containers: [{name: web, image: 'web:1', envFrom: [{configMapRef: {name: elsewhere, optional: true}}]}]}
";

fn planned(text: &str, options: &Options) -> DeployPlan {
    let mut sources = Sources::default();
    let file = sources.add("app.yaml", text);
    let (manifests, diagnostics) = read(&sources, &[file], Vec::new(), options);
    assert!(!diagnostics.iter().any(Diagnostic::is_error), "{diagnostics:?}");
    plan(&sources, &manifests, options, &|_| None).0
}

fn checksum(plan: &DeployPlan, name: &str) -> Option<String> {
    let change = plan.changes.iter().find(|change| change.id.kind == "Deployment" && change.id.name == name)?;
    change.object["spec"]["template"]["metadata"]["annotations"].get(CHECKSUM).and_then(Value::as_str).map(str::to_owned)
}

/// The checksum with these words in the manifests.
fn with(words: &[(&str, &str)]) -> Option<String> {
    let mut text = RULE.to_owned();
    for (from, to) in words.iter().chain(&[("COLOUR", "red"), ("TOKEN", "abc"), ("OTHER", "x"), ("ANNOTATION", "")]) {
        text = text.replace(from, to);
    }
    checksum(&planned(&text, &crate::options()), "web")
}

#[test]
fn complaint_11_changed_configuration_changes_the_pods_that_use_it_and_no_others() {
    let before = with(&[]).expect("a checksum");
    assert_eq!(before.len(), 20, "{before}");
    assert_eq!(with(&[]), Some(before.clone()), "the same content gives the same checksum");
    assert_ne!(with(&[("COLOUR", "blue")]), Some(before.clone()));
    assert_ne!(with(&[("TOKEN", "xyz")]), Some(before.clone()));
    assert_eq!(with(&[("OTHER", "y")]), Some(before.clone()), "nothing of the pods' changed");
    assert_eq!(with(&[("colour: COLOUR, size: '1'", "size: '1', colour: red")]), Some(before.clone()), "the order of keys is no content");
    assert_eq!(with(&[("stringData: {token: TOKEN}", "data: {token: YWJj}")]), Some(before), "one content in two forms");
}

#[test]
fn who_uses_nothing_of_the_set_has_no_checksum() {
    let plan = planned(&RULE.replace("ANNOTATION", ""), &crate::options());
    assert!(checksum(&plan, "web").is_some());
    assert_eq!(checksum(&plan, "plain"), None);
}

#[test]
fn restarts_can_be_declined_and_fixed_content_never_causes_one() {
    assert_eq!(with(&[("ANNOTATION", "strake.dev/restart-on-config: 'false'")]), None);
    let quiet = planned(&RULE.replace("ANNOTATION", ""), &Options { keep_pods: true, ..crate::options() });
    assert_eq!(checksum(&quiet, "web"), None);
    let fixed = [
        ("data: {colour: COLOUR, size: '1'}", "immutable: true\ndata: {colour: COLOUR}"),
        ("stringData: {token: TOKEN}", "immutable: true\nstringData: {token: t}"),
    ];
    assert_eq!(with(&fixed), None);
    // A name that kustomize made has the content in it.
    assert_eq!(with(&[("settings", "settings-5h7k2m9b4t"), ("keys", "keys-2222tttt44")]), None);
    assert!(with(&[("settings", "settings-production")]).is_some());
}
