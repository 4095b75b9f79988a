//! The same files give the same plan, byte for byte, whatever the order in which they are read.

use proptest::prelude::*;
use strake_deploy::{Options, plan, read};
use strake_source::Sources;

/// Files with references of every strength, hooks, waves, and custom resources.
fn files() -> Vec<(String, String)> {
    let mut files = vec![
        ("ns".to_owned(), "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n".to_owned()),
        ("crd".to_owned(), crate::WIDGETS.to_owned()),
        ("widget".to_owned(), "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 1, at: here}\n".to_owned()),
    ];
    for name in ["a", "b", "c", "d"] {
        let other = if name == "a" { "d" } else { "a" };
        let map = |suffix: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}{suffix}, namespace: shop}}\ndata: {{x: {name}}}\n");
        let secret = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: shop}}\nstringData: {{x: {name}}}\n");
        let web = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: shop, annotations: {{argocd.argoproj.io/sync-wave: '{}'}}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      containers: [{{name: c, image: '{other}:1', envFrom: [{{configMapRef: {{name: {name}}}}}, {{configMapRef: {{name: {other}}}}}, {{secretRef: {{name: {name}}}}}]}}]\n",
            u8::from(name == "c")
        );
        let job = format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}, namespace: shop, annotations: {{strake.dev/hook: before}}}}\nspec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: 'x:1'}}]}}}}}}\n"
        );
        files.extend(
            [("map", map("")), ("other", map("-2")), ("secret", secret), ("web", web), ("job", job)].map(|(kind, text)| (format!("{name}-{kind}"), text)),
        );
    }
    files
}

/// The plan and every finding, as text.
fn outcome(files: &[(String, String)]) -> String {
    let mut sources = Sources::default();
    let ids: Vec<_> = files.iter().map(|(name, text)| sources.add(format!("{name}.yaml"), text.as_str())).collect();
    let options = Options { set: "set".to_owned(), namespace: "default".to_owned(), foreign: true, ..Options::default() };
    let (manifests, mut findings) = read(&sources, &ids, Vec::new(), &options);
    let (plan, told) = plan(&sources, &manifests, &options, &|image| image.starts_with("a:").then_some(0));
    findings.extend(told);
    let mut said: Vec<String> = findings.iter().map(|finding| format!("{} {}", finding.code.0, finding.message)).collect();
    said.sort();
    format!("{}\n{said:?}", serde_json::to_string_pretty(&plan).expect("a plan is JSON"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_plan_is_the_same_whatever_the_order_of_files(shuffled in Just(files()).prop_shuffle()) {
        prop_assert_eq!(outcome(&shuffled), outcome(&files()));
    }
}
