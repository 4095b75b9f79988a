//! `strake.yaml`: environments, values, images, and what is said of mistakes in it.

use std::collections::BTreeMap;

use strake_compile::config::ImageConfig;
use strake_compile::{Dockerfile, Inputs, Manifest, Outcome, compile};

use crate::cases::empty;

const PROJECT: &str = "name: shop
values: {replicas: 2, host: shop.localhost, labels: {team: a}}
environments:
  prod: {values: {replicas: 5}}
lints: {latest-tag: error}
";

fn inputs(project: &str, manifest: &str) -> Inputs {
    let file = |path: &str, text: &str| Manifest { path: path.to_owned(), text: text.to_owned() };
    Inputs { config: Some(file("strake.yaml", project)), manifests: vec![file("a.yaml", manifest)], ..empty() }
}

fn run(inputs: &Inputs) -> (Outcome, Vec<String>) {
    let outcome = compile(inputs, &BTreeMap::new());
    let shown = outcome.diagnostics.iter().map(|finding| {
        let place = finding.span.map(|span| outcome.sources.place(span)).unwrap_or_default();
        format!("{place} {}: {}", finding.code.0, finding.message)
    });
    let shown = shown.collect();
    (outcome, shown)
}

const MAP: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: c, labels: '${{ labels }}'}
data: {url: 'https://${{ host }}:${{ replicas }}/', raw: '$(HOST) ${HOST} {{ host }}'}
";

#[test]
fn values_keep_their_types_and_environments_change_them() {
    let mut inputs = inputs(PROJECT, MAP);
    let object = |inputs: &Inputs| {
        let (outcome, shown) = run(inputs);
        assert!(shown.is_empty(), "{shown:?}");
        outcome.plan.expect("a plan").deploy.changes[0].object.clone()
    };
    let found = object(&inputs);
    assert_eq!(found["metadata"]["labels"], serde_json::json!({"team": "a"}));
    assert_eq!(found["data"], serde_json::json!({"url": "https://shop.localhost:2/", "raw": "$(HOST) ${HOST} {{ host }}"}));
    inputs.options.environment = Some("prod".to_owned());
    assert_eq!(object(&inputs)["data"]["url"], "https://shop.localhost:5/");
    inputs.values.push(Manifest { path: "v.yaml".to_owned(), text: "host: other\nreplicas: 7\n".to_owned() });
    assert_eq!(object(&inputs)["data"]["url"], "https://other:7/");
}

#[test]
fn mistakes_are_told_at_their_place() {
    let told = |project: &str, manifest: &str, expected: &str| {
        let (_, shown) = run(&inputs(project, manifest));
        assert!(shown.iter().any(|line| line == expected), "expected {expected}\nfound {shown:#?}");
    };
    told("nam: x\n", MAP, "strake.yaml:1:1 project-file: `nam` is not a field of strake.yaml");
    told("values: {a: 1}\nenvironments: {p: {values: {b: 1}}}\n", MAP, "strake.yaml:2:32 project-file: the project declares no value `b`");
    told("values: {a: 1}\nenvironments: {p: {values: {a: x}}}\n", MAP, "strake.yaml:2:32 project-file: `a` is text here, and a whole number for the project");
    told("lints: {latest-tga: off}\n", MAP, "strake.yaml:1:9 project-file: there is no lint rule `latest-tga`");
    told("lints: {latest-tag: quiet}\n", MAP, "strake.yaml:1:21 project-file: a level is off, note, warning or error");
    let map = |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{a: '{data}'}}\n");
    told(PROJECT, &map("${{ hst }}"), "a.yaml:4:11 unknown-value: there is no value `hst`");
    told(PROJECT, &map("x ${{ labels }}"), "a.yaml:4:11 value-syntax: `labels` is a mapping, which cannot be a part of a text");
    told(PROJECT, &map("${{ host"), "a.yaml:4:11 value-syntax: `${{` without `}}`");
    told(PROJECT, &map("x"), "strake.yaml:2:29 unused-value: no manifest uses the value `host`");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: nginx}]}\n";
    let (outcome, _) = run(&inputs(PROJECT, pod));
    assert!(outcome.plan.is_none(), "a rule that was made an error stops the plan");
}

#[test]
fn the_health_of_a_kind_becomes_annotations_of_its_objects() {
    let database = |annotations: &str| format!("apiVersion: example.org/v1\nkind: Database\nmetadata: {{name: d{annotations}}}\nspec: {{size: 1}}\n");
    let project = "keepRevisions: 3\nenvironments: {prod: {keepRevisions: 0}}\nhealth:\n  Database.example.org: {failed: 'status.phase == \"Lost\"', current: status.ready}\n";
    let mut with = inputs(project, &database(""));
    with.options.foreign = true;
    let plan = |inputs: &Inputs| {
        let (outcome, shown) = run(inputs);
        outcome.plan.unwrap_or_else(|| panic!("{shown:#?}")).deploy
    };
    let annotations = |inputs: &Inputs| plan(inputs).changes[0].object["metadata"]["annotations"].clone();
    let said = serde_json::json!({"strake.dev/health-failed": "status.phase == \"Lost\"", "strake.dev/health-current": "status.ready"});
    assert_eq!(annotations(&with), said);
    assert_eq!(plan(&with).keep_revisions, Some(3));
    with.options.environment = Some("prod".to_owned());
    assert_eq!(plan(&with).keep_revisions, Some(0));
    // An object's own words count more, all of them together.
    let own = "annotations: {strake.dev/health-current: spec.done}";
    with.manifests[0].text = database(&format!(", {own}"));
    assert_eq!(annotations(&with), serde_json::json!({"strake.dev/health-current": "spec.done"}));

    let told = |project: &str, manifest: &str, expected: &str| {
        let mut inputs = inputs(project, manifest);
        inputs.options.foreign = true;
        let (_, shown) = run(&inputs);
        assert!(shown.iter().any(|line| line.contains(expected)), "expected {expected}\nfound {shown:#?}");
    };
    let plain = database("");
    told("health: {database: {current: 'true'}}\n", &plain, "strake.yaml:1:10 project-file: `database` is no kind");
    told("health: {Database.example.org: {ready: 'true'}}\n", &plain, "`ready` is not a field of the health of `Database.example.org`");
    told("health: {Database.example.org: {current: 'a =='}}\n", &plain, "project-file: the expression cannot be used");
    told("health: {Database.exmple.org: {current: 'true'}}\n", &plain, "strake.yaml:1:10 project-file: no object is a Database.exmple.org");
    told("keepRevisions: -1\n", &plain, "strake.yaml:1:16 project-file: `keepRevisions` is a whole number from 0 on, found -1");
    told(
        "name: x\n",
        &database(", annotations: {strake.dev/health-failed: 'status.'}"),
        "a.yaml:3:61 health-expression: the expression of strake.dev/health-failed",
    );
}

#[test]
fn an_image_is_built_as_the_file_says() {
    let mut inputs = inputs("images: {web: {target: a}}\n", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: web}]}\n");
    let args = BTreeMap::from([("V".to_owned(), "2".to_owned())]);
    let image = ImageConfig { target: Some("a".to_owned()), args, ..ImageConfig::default() };
    inputs.dockerfiles.push(Dockerfile {
        path: "other/Dockerfile".to_owned(),
        text: "FROM scratch AS a\nARG V\nENV V=$V\nCMD [\"/x\"]\nFROM scratch\nENV LAST=1\n".to_owned(),
        context: "/project/other".to_owned(),
        ignore: Vec::new(),
        optional: false,
        image: Some(("web".to_owned(), image)),
    });
    let (outcome, shown) = run(&inputs);
    let plan = outcome.plan.unwrap_or_else(|| panic!("{shown:?}"));
    assert_eq!(plan.build.images[0].config.config.env.last().map(String::as_str), Some("V=2"));
    assert_eq!(plan.deploy.images.len(), 1);
}
