//! Tests of strake-deploy: what objects refer to, and the order that follows. Findings are tested with the golden cases of strake-compile.

mod any_order;
mod ordered;
mod restart;

use strake_deploy::{Manifest, Options, images, plan, read, references};
use strake_plan::{Change, ChangeId, Edge, Wanted};
use strake_source::{Diagnostic, Sources};

const APP: &str = "
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: shop}
spec:
  serviceAccountName: robot
  imagePullSecrets: [{name: pull}]
  initContainers:
    - {name: init, image: 'tool:1', envFrom: [{secretRef: {name: first, optional: true}}]}
  containers:
    - name: app
      image: app
      env:
        - {name: A, valueFrom: {configMapKeyRef: {name: settings, key: a}}}
        - {name: B, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  volumes:
    - {name: tls, secret: {secretName: tls, items: [{key: tls.crt, path: crt}, {key: tls.key, path: key}]}}
    - name: all
      projected:
        sources:
          - {secret: {name: part}}
          - {configMap: {name: whole}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot, namespace: shop}
imagePullSecrets: [{name: pull}]
---
apiVersion: v1
kind: Secret
metadata: {name: pull, namespace: shop}
---
apiVersion: v1
kind: Secret
metadata: {name: tls, namespace: elsewhere}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: loose}
";

fn options() -> Options {
    Options { set: "set".to_owned(), namespace: "fallback".to_owned(), ..Options::default() }
}

fn manifests(text: &str) -> (Sources, Vec<Manifest>, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    let file = sources.add("app.yaml", text);
    let (manifests, diagnostics) = read(&sources, &[file], Vec::new(), &options());
    (sources, manifests, diagnostics)
}

#[test]
fn references_of_every_form_are_found() {
    let (_, manifests, diagnostics) = manifests(APP);
    assert_eq!(diagnostics, []);
    let shown: Vec<String> = references(&manifests[0])
        .iter()
        .map(|reference| {
            let key = reference.key.as_deref().map(|key| format!(" key {key}")).unwrap_or_default();
            let optional = if reference.optional { " optional" } else { "" };
            format!("{} {}{key}{optional} at {}", reference.kind.kind(), reference.name, reference.pointer)
        })
        .collect();
    let expected = [
        "ServiceAccount robot at /spec/serviceAccountName",
        "Secret pull at /spec/imagePullSecrets/0/name",
        "Secret first optional at /spec/initContainers/0/envFrom/0/secretRef/name",
        "ConfigMap settings key a at /spec/containers/0/env/0/valueFrom/configMapKeyRef/name",
        "Secret tls key tls.crt at /spec/volumes/0/secret/secretName",
        "Secret tls key tls.key at /spec/volumes/0/secret/secretName",
        "Secret part at /spec/volumes/1/projected/sources/0/secret/name",
        "ConfigMap whole at /spec/volumes/1/projected/sources/1/configMap/name",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn the_order_follows_references_within_a_namespace() {
    let (sources, manifests, _) = manifests(APP);
    let built = |image: &str| (image == "app").then_some(0);
    let (plan, told) = plan(&sources, &manifests, &options(), &built);
    assert_eq!(told, []);
    let after = |change: &Change| change.after.iter().map(|edge| edge.change.0).collect::<Vec<_>>();
    let shown: Vec<String> = plan.changes.iter().map(|change| format!("{} after {:?}", change.id, after(change))).collect();
    let expected = [
        "namespace/shop after []",
        "configmap/loose in fallback after []",
        "secret/tls in elsewhere after []",
        "secret/pull in shop after [0]",
        "serviceaccount/robot in shop after [0, 3]",
        "pod/app in shop after [0, 3, 4]",
    ];
    assert_eq!(shown, expected);
    for (place, change) in plan.changes.iter().enumerate() {
        assert!(change.after.iter().all(|edge| edge.change.0 < place), "edges point backwards");
    }
    assert_eq!(plan.images.len(), 1);
    assert_eq!((plan.images[0].change.0, plan.images[0].pointer.as_str()), (5, "/spec/containers/0/image"));
    assert_eq!(plan.changes[5].origin, "app.yaml:2");
    assert_eq!(plan.changes[1].object["metadata"]["namespace"], "fallback");
}

#[test]
fn images_stand_where_they_were_written() {
    let (sources, manifests, _) = manifests(APP);
    let uses: Vec<String> = images(&manifests).iter().map(|image| format!("{} {} {}", image.image, image.pointer, sources.place(image.span))).collect();
    assert_eq!(uses, ["tool:1 /spec/initContainers/0/image app.yaml:9:27", "app /spec/containers/0/image app.yaml:12:14"]);
}

/// Kinds that strake's own cluster does not run, for a cluster that does.
#[test]
fn another_cluster_takes_every_kind_and_custom_resources() {
    let text = "
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: '0 0 * * *'
  jobTemplate:
    spec:
      template:
        spec: {restartPolicy: Never, containers: [{name: c, image: 'tool:1', envFrom: [{configMapRef: {name: settings}}]}]}
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: w}
spec: {anything: [1]}
---
apiVersion: example.com/v2
kind: Widget
metadata: {name: w}
---
apiVersion: other.example.com/v1
kind: Policy
metadata: {name: p}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgetz.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgetz, singular: widget}
  scope: Cluster
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
";
    let read_for = |foreign: bool| {
        let mut sources = Sources::default();
        let file = sources.add("app.yaml", text);
        let options = Options { foreign, ..options() };
        let (manifests, diagnostics) = read(&sources, &[file], Vec::new(), &options);
        let codes: Vec<&str> = diagnostics.iter().map(|finding| finding.code.0).collect();
        (plan(&sources, &manifests, &options, &|_| None).0, codes.join(" "))
    };
    let (plan, codes) = read_for(true);
    assert_eq!(codes, "unknown-kind custom-resource");
    let shown: Vec<String> = plan.changes.iter().map(|change| format!("{} {}", change.id.resource, change.id.namespace)).collect();
    assert_eq!(shown, ["customresourcedefinitions ", "configmaps fallback", "cronjobs fallback", "widgetz ", "policies fallback"]);
    assert_eq!(plan.changes[2].after, [Edge { change: ChangeId(1), state: Wanted::Present }]);
    assert_eq!(plan.changes[3].after, [Edge { change: ChangeId(0), state: Wanted::Ready }], "a custom resource comes after its definition");
    let (_, codes) = read_for(false);
    assert_eq!(codes, "unsupported-kind unknown-kind unknown-kind unsupported-kind");
}

const WIDGETS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets, singular: widget}
  scope: Cluster
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, required: [size], properties: {
        size: {type: integer, maximum: 5}, colour: {type: string, enum: [red, green]}, at: {type: string}, rules: {type: integer}},
        x-kubernetes-validations: [{rule: 'self.size != 4', message: four is an unlucky number}, {rule: 'isURL(self.at)'}]}}}}}
    - {name: v0, served: false, storage: false, schema: {openAPIV3Schema: {type: object}}}
";

fn foreign(text: &str, definitions: Vec<strake_kinds::structural::Definition>) -> (Sources, Vec<Manifest>, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    let file = sources.add("app.yaml", text);
    let (manifests, diagnostics) = read(&sources, &[file], Vec::new(), &Options { foreign: true, definitions, ..options() });
    (sources, manifests, diagnostics)
}

fn shown(sources: &Sources, diagnostics: &[Diagnostic]) -> Vec<String> {
    let line = |finding: &Diagnostic| {
        let label = if finding.label.is_empty() { String::new() } else { format!(" ({})", finding.label) };
        let place = finding.span.map(|span| sources.text(span).lines().next().unwrap_or_default().to_owned()).unwrap_or_default();
        format!("{} `{place}`: {}{label}", finding.code.0, finding.message)
    };
    diagnostics.iter().map(line).collect()
}

#[test]
fn custom_resources_are_checked_by_their_definition_with_every_mistake_in_one_run() {
    let wrong = "
apiVersion: example.com/v1
kind: Widget
metadata: {name: w, labels: {a: b/c}}
spec:
  colour: gren
  size: 4
  siz: 9
  at: here
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: x}
spec: {colour: red, at: there}
---
apiVersion: example.com/v0
kind: Widget
metadata: {name: y}
";
    let (sources, manifests, diagnostics) = foreign(&format!("{WIDGETS}---{wrong}"), Vec::new());
    let expected = [
        "unknown-field `siz`: unknown field `siz` in Widget spec (did you mean `size`?)",
        "invalid-value `b/c`: `metadata.labels[a]` cannot be \"b/c\": must be letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
        "invalid-value `gren`: `spec.colour` cannot be \"gren\": expected one of red, green; did you mean green?",
        "invalid-value `colour: gren`: `spec` is not valid: four is an unlucky number",
        "missing-field `spec`: Widget spec has no `size` (`size` must be given)",
        "unknown-kind `example.com/v0`: Widget has no version `v0`",
    ];
    let said = shown(&sources, &diagnostics);
    let (warned, said): (Vec<String>, Vec<String>) = said.into_iter().partition(|line| line.starts_with("server-rule"));
    assert_eq!(said, expected);
    assert!(warned.is_empty(), "what is missing is told first: {warned:?}");
    let right = "\napiVersion: example.com/v1\nkind: Widget\nmetadata: {name: NAME}\nspec: {size: 1, at: here}\n";
    let (sources, _, diagnostics) = foreign(&format!("{WIDGETS}---{}---{}", right.replace("NAME", "a"), right.replace("NAME", "b")), Vec::new());
    let warned = shown(&sources, &diagnostics);
    assert!(matches!(&warned[..], [one] if one.contains("a rule of Widget is left to the server")), "once for a kind: {warned:?}");
    assert!(manifests.iter().skip(1).all(|manifest| !manifest.sound));
}

#[test]
fn what_the_cluster_knows_of_a_kind_counts_when_the_inputs_do_not_define_it() {
    let (_, manifests, diagnostics) = foreign(WIDGETS, Vec::new());
    assert_eq!(diagnostics, []);
    let known = strake_kinds::structural::Definition::of(&manifests[0].value).expect("a definition");
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 9, at: here}\n";
    let (sources, manifests, diagnostics) = foreign(widget, vec![known.clone()]);
    assert!(shown(&sources, &diagnostics)[0].contains("must be at most 5"), "{diagnostics:?}");
    assert_eq!((manifests[0].id.resource.as_str(), manifests[0].id.namespace.as_str()), ("widgets", ""), "names and scope are the cluster's");
    // Discovery alone says what it is called and where it lives.
    let bare = strake_kinds::structural::Version { name: "v1".to_owned(), served: true, schema: None };
    let named = strake_kinds::structural::Definition { plural: "widgetry".to_owned(), versions: vec![bare], ..known };
    let (_, manifests, diagnostics) = foreign(widget, vec![named]);
    assert_eq!(manifests[0].id.resource, "widgetry");
    assert_eq!(diagnostics.iter().map(|finding| finding.code.0).collect::<Vec<_>>(), ["custom-resource"]);
}
