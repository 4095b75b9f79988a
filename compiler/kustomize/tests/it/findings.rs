//! What is said about overlays that are wrong: the code, the place, the words.

use std::fs;

use strake_source::Diagnostic;

/// Files by path; the findings as `file:line code: message`.
fn findings(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let at = folder.path().join(path);
        fs::create_dir_all(at.parent().expect("a parent")).expect("made");
        fs::write(at, text).expect("written");
    }
    let (built, sources, mut diagnostics) = crate::run(folder.path());
    built.trace(&mut diagnostics);
    let line = |finding: &Diagnostic| {
        let place = finding.span.map_or_else(|| "-".to_owned(), |span| sources.place(span));
        let place = place.rsplit_once(':').map_or(place.clone(), |(line, _)| line.to_owned());
        format!("{place} {}: {}", finding.code.0, finding.message)
    };
    diagnostics.iter().map(line).collect()
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";

#[test]
fn mistakes_are_told_at_their_place() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("overlay/kustomization.yaml", "resourses: [a.yaml]\n")],
            "overlay/kustomization.yaml:1 kustomize-field: `resourses` is not a field of a kustomization",
        ),
        (&[("overlay/kustomization.yaml", "resources: [a.yaml]\n")], "overlay/kustomization.yaml:1 kustomize-missing-file: `overlay/a.yaml`: no such file"),
        (
            &[("overlay/kustomization.yaml", "x: 1\nhelmCharts: [{name: x}]\n")],
            "overlay/kustomization.yaml:2 kustomize-unsupported: `helmCharts` is not supported",
        ),
        (
            &[("overlay/kustomization.yaml", "resources:\n- https://example.com/x?ref=1\n")],
            "overlay/kustomization.yaml:2 kustomize-unsupported: `https://example.com/x?ref=1` lies elsewhere, and strake fetches no bases",
        ),
        (
            &[("overlay/kustomization.yaml", "resources:\n- ../base\n"), ("base/kustomization.yaml", "resources: [../overlay]\n")],
            "base/kustomization.yaml:1 kustomize-cycle: this layer stands on itself: overlay/kustomization.yaml -> base/kustomization.yaml -> overlay/kustomization.yaml",
        ),
        (
            &[("overlay/kustomization.yaml", "resources: [../a.yaml]\n"), ("a.yaml", MAP)],
            "overlay/kustomization.yaml:1 kustomize-outside: `../a.yaml` is not inside the directory of overlay/kustomization.yaml",
        ),
        (
            &[("overlay/kustomization.yaml", "resources: [a.yaml, b.yaml]\n"), ("overlay/a.yaml", MAP), ("overlay/b.yaml", MAP)],
            "overlay/b.yaml:3 kustomize-conflict: ConfigMap/a is there twice",
        ),
        (
            &[
                (
                    "overlay/kustomization.yaml",
                    "resources: [a.yaml]\npatches:\n- patch: |-\n    kind: ConfigMap\n    apiVersion: v1\n    metadata: {name: b}\n",
                ),
                ("overlay/a.yaml", MAP),
            ],
            "overlay/kustomization.yaml:6 kustomize-no-target: this patch changes ConfigMap/b, but there is no such object",
        ),
        (
            &[
                (
                    "overlay/kustomization.yaml",
                    "resources: [a.yaml]\npatches:\n- target: {kind: ConfigMap}\n  patch: |-\n    - op: remove\n      path: /data/x\n",
                ),
                ("overlay/a.yaml", MAP),
            ],
            "overlay/kustomization.yaml:6 kustomize-patch: there is nothing at `/data/x`",
        ),
        (
            &[("overlay/kustomization.yaml", "resources: [a.yaml]\nreplicas:\n- {name: web, count: 3}\n"), ("overlay/a.yaml", MAP)],
            "overlay/kustomization.yaml:3 kustomize-no-target: nothing with replicas is called `web`",
        ),
        (
            &[("overlay/kustomization.yaml", "configMapGenerator:\n- name: x\n  literals: [no-value]\n")],
            "overlay/kustomization.yaml:3 kustomize-field: a literal is `KEY=VALUE`",
        ),
        (
            &[("overlay/kustomization.yaml", "configMapGenerator:\n- name: x\n  behavior: merge\n")],
            "overlay/kustomization.yaml:2 kustomize-no-target: there is no ConfigMap/x to change",
        ),
        (&[("overlay/other.yaml", "")], "- kustomize-missing-file: `overlay` holds no kustomization.yaml"),
    ];
    for (files, expected) in cases {
        let found = findings(files);
        assert!(found.iter().any(|line| line == expected), "expected {expected}\nfound {found:#?}");
    }
}

#[test]
fn a_patched_value_shows_what_it_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        fs::create_dir_all(folder.path().join("overlay")).expect("made");
        fs::write(folder.path().join("overlay").join(name), text).expect("written");
    };
    write("kustomization.yaml", "resources: [a.yaml]\npatches:\n- path: p.yaml\n");
    write("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  key: old\n");
    write("p.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  key: new\n");
    let (built, sources, _) = crate::run(folder.path());
    let value = built.objects[0].span_at("/data/key").expect("a value");
    assert!(sources.place(value).starts_with("overlay/p.yaml:5"), "{}", sources.place(value));
    let mut findings = vec![Diagnostic::error("wrong-type", "wrong").at(value)];
    built.trace(&mut findings);
    assert!(sources.place(findings[0].labels[0].span).starts_with("overlay/a.yaml:5"), "{findings:?}");
}

/// Where the real one loses what a patch says, or does it twice, ours does what was meant.
#[test]
fn a_port_keeps_its_name_and_a_tag_gets_its_suffix_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        fs::create_dir_all(folder.path().join("overlay")).expect("made");
        fs::write(folder.path().join("overlay").join(name), text).expect("written");
    };
    write("kustomization.yaml", "resources: [a.yaml]\npatches:\n- path: p.yaml\nimages: [{name: i, tagSuffix: -slim}]\n");
    let head = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";
    write(
        "a.yaml",
        &format!(
            "{head}spec: {{containers: [{{name: c, image: \"i:1\", ports: [{{containerPort: 80, protocol: TCP}}, {{containerPort: 53, protocol: UDP}}]}}]}}\n"
        ),
    );
    write("p.yaml", &format!("{head}spec: {{containers: [{{name: c, ports: [{{containerPort: 80, name: http}}]}}]}}\n"));
    let (built, _, diagnostics) = crate::run(folder.path());
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let container = &built.objects[0].to_json()["spec"]["containers"][0];
    assert_eq!(container["image"], "i:1-slim");
    let expected = serde_json::json!([{"containerPort": 80, "protocol": "TCP", "name": "http"}, {"containerPort": 53, "protocol": "UDP"}]);
    assert_eq!(container["ports"], expected);
}
