//! Every lint rule reports its bad example and leaves its good one alone; levels and exceptions.

use std::collections::BTreeMap;

use strake_compile::lint::{Example, Level, Rule, rules};
use strake_compile::{Dockerfile, Inputs, Manifest, compile};
use strake_source::{Diagnostic, Severity};

fn deployment(pod: &str, container: &str, image: &str) -> String {
    let indented = |text: &str, by: usize| text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect::<String>();
    let head = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n";
    format!("{head}{}      containers:\n      - name: web\n        image: {image}\n{}", indented(pod, 6), indented(container, 8))
}

/// An example as inputs for a cluster that serves every kind.
fn inputs(example: Example) -> Inputs {
    let mut inputs = crate::cases::empty();
    inputs.options.foreign = true;
    let text = match example {
        Example::Objects(text) => text.to_owned(),
        Example::Container(fields) => deployment("", fields, "web:1"),
        Example::Pod(fields) => deployment(fields, "", "web:1"),
        Example::Image(dockerfile, fields) => {
            let context = "/project/web".to_owned();
            let file = Dockerfile { path: "web/Dockerfile".to_owned(), text: dockerfile.to_owned(), context, ignore: Vec::new(), optional: false, image: None };
            inputs.dockerfiles.push(file);
            deployment("", fields, "web")
        }
        Example::PodImage(dockerfile, fields) => {
            let context = "/project/web".to_owned();
            let file = Dockerfile { path: "web/Dockerfile".to_owned(), text: dockerfile.to_owned(), context, ignore: Vec::new(), optional: false, image: None };
            inputs.dockerfiles.push(file);
            deployment(fields, "", "web")
        }
    };
    inputs.manifests.push(Manifest { path: "a.yaml".to_owned(), text });
    inputs
}

fn run(inputs: &Inputs, rule: &Rule) -> Vec<Diagnostic> {
    let outcome = compile(inputs, &BTreeMap::new());
    let errors: Vec<&Diagnostic> = outcome.diagnostics.iter().filter(|finding| finding.is_error() && finding.code.0 != rule.code).collect();
    assert!(errors.is_empty(), "{}: the example is not sound: {errors:#?}", rule.code);
    outcome.diagnostics.into_iter().filter(|finding| finding.code.0 == rule.code).collect()
}

#[test]
fn each_rule_reports_its_bad_example_and_leaves_its_good_one_alone() {
    let rules = rules();
    assert!(rules.len() >= 60, "{}", rules.len());
    assert!(rules.windows(2).all(|pair| pair[0].code < pair[1].code), "codes are distinct");
    for rule in rules {
        let at_level = |example: Example| {
            let mut inputs = inputs(example);
            inputs.options.lints.insert(rule.code.to_owned(), Level::Warning);
            run(&inputs, rule)
        };
        let found = at_level(rule.bad);
        assert!(!found.is_empty(), "{}: says nothing about its bad example", rule.code);
        assert!(found.iter().all(|finding| finding.severity == Severity::Warning && finding.span.is_some()), "{}: {found:#?}", rule.code);
        let found = at_level(rule.good);
        assert!(found.is_empty(), "{}: reports its good example: {found:#?}", rule.code);
    }
}

#[test]
fn a_hook_is_not_asked_for_what_only_servers_need() {
    let pod = |annotation: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: smoke, annotations: {{{annotation}}}}}\nspec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 0\n  containers: [{{name: c, image: 'c:1', command: [c]}}]\n"
        )
    };
    let codes = |text: String, config: Option<&str>| {
        let mut inputs = crate::cases::empty();
        inputs.manifests.push(Manifest { path: "a.yaml".into(), text });
        inputs.config = config.map(|text| Manifest { path: "strake.yaml".into(), text: text.to_owned() });
        inputs.options.lints.extend(["bare-pod", "no-grace"].map(|code| (code.to_owned(), Level::Warning)));
        let found = compile(&inputs, &BTreeMap::new()).diagnostics;
        found.iter().map(|finding| finding.code.0).filter(|code| ["bare-pod", "no-grace"].contains(code)).collect::<Vec<_>>()
    };
    assert_eq!(codes(pod(""), None), ["bare-pod", "no-grace"]);
    assert_eq!(codes(pod("strake.dev/hook: after"), None), [""; 0]);
    assert_eq!(codes(pod("helm.sh/hook: post-install"), None), [""; 0]);
    assert_eq!(codes(pod(""), Some("hooks: {after: [pod/smoke]}\n")), [""; 0]);
    assert_eq!(codes(pod(""), Some("hooks: {after: [pod/other]}\n")), ["bare-pod", "no-grace"]);
}

#[test]
fn levels_and_annotations_decide_what_is_told() {
    let rule = rules().into_iter().find(|rule| rule.code == "no-grace").expect("a rule");
    let with = |level: Option<Level>, annotation: &str| {
        let mut inputs = inputs(rule.bad);
        inputs.options.lints.extend(level.map(|level| (rule.code.to_owned(), level)));
        let text =
            inputs.manifests[0].text.replace("metadata: {name: web}", &format!("metadata: {{name: web, annotations: {{strake.dev/allow: '{annotation}'}}}}"));
        inputs.manifests[0].text = text;
        let outcome = compile(&inputs, &BTreeMap::new());
        let found: Vec<(Severity, &str)> = outcome.diagnostics.iter().map(|finding| (finding.severity, finding.code.0)).collect();
        (outcome.plan.is_some(), format!("{found:?}"))
    };
    assert_eq!(with(None, ""), (true, "[(Warning, \"no-grace\")]".to_owned()));
    assert_eq!(with(Some(Level::Error), ""), (false, "[(Error, \"no-grace\")]".to_owned()));
    assert_eq!(with(Some(Level::Note), ""), (true, "[(Note, \"no-grace\")]".to_owned()));
    assert_eq!(with(Some(Level::Off), ""), (true, "[]".to_owned()));
    assert_eq!(with(None, "latest-tag, no-grace"), (true, "[]".to_owned()));
    assert_eq!(with(None, "no-grac"), (true, "[(Warning, \"unknown-rule\"), (Warning, \"no-grace\")]".to_owned()));
}
