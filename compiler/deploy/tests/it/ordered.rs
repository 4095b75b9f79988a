//! Order as people say it: each tool's annotations, and what is made of them.

use strake_deploy::{Manifest, Options, plan, read};
use strake_plan::{DeployPlan, HookRun, Phase};
use strake_source::{Diagnostic, FileId, Sources, Span, Spanned};

/// For a cluster that has every kind.
fn options() -> Options {
    Options { foreign: true, ..crate::options() }
}

fn manifests(text: &str) -> (Sources, Vec<Manifest>, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    let file = sources.add("app.yaml", text);
    let (manifests, diagnostics) = read(&sources, &[file], Vec::new(), &options());
    (sources, manifests, diagnostics)
}

fn map(name: &str, annotations: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  annotations: {{{annotations}}}\n")
}

fn job(name: &str, annotations: &str) -> String {
    format!(
        "---\napiVersion: batch/v1\nkind: Job\nmetadata:\n  name: {name}\n  annotations: {{{annotations}}}\nspec:\n  template:\n    spec: {{restartPolicy: Never, containers: [{{name: c, image: 'tool:1'}}]}}\n"
    )
}

fn planned(text: &str) -> (DeployPlan, Vec<Diagnostic>) {
    let (sources, manifests, diagnostics) = manifests(text);
    assert!(!diagnostics.iter().any(Diagnostic::is_error), "{diagnostics:?}");
    plan(&sources, &manifests, &options(), &|_| None)
}

/// `NAME stage: NAME=STATE …` of each change.
fn shown(text: &str) -> Vec<String> {
    let (plan, told) = planned(text);
    assert_eq!(told, [], "nothing to say");
    lines(&plan)
}

fn lines(plan: &DeployPlan) -> Vec<String> {
    let name = |place: usize| plan.changes[place].id.name.as_str();
    let line = |change: &strake_plan::Change| {
        let after: Vec<String> = change.after.iter().map(|edge| format!(" {}={}", name(edge.change.0), edge.state.word())).collect();
        format!("{} {}:{}", change.id.name, change.stage, after.concat())
    };
    plan.changes.iter().map(line).collect()
}

#[test]
fn each_tools_words_for_one_after_the_other_are_read() {
    // By name alone, `a` would come first.
    let rows = [
        ("strake.dev/depends-on: 'cm/b'", "", "b=ready"),
        ("strake.dev/depends-on: 'fallback/ConfigMap/b=present'", "", "b=present"),
        ("config.kubernetes.io/depends-on: '/namespaces/fallback/ConfigMap/b'", "", "b=ready"),
        ("kapp.k14s.io/change-rule: upsert after upserting first", "kapp.k14s.io/change-group: first", "b=ready"),
        ("kapp.k14s.io/change-rule.x: 'upsert after upserting {kind}-b'", "kapp.k14s.io/change-group.y: '{kind}-{name}'", "b=ready"),
        ("", "kapp.k14s.io/change-rule: upsert before upserting g", "b=ready"),
    ];
    for (a, b, edge) in rows {
        let a = if a.is_empty() { "kapp.k14s.io/change-group: g" } else { a };
        assert_eq!(shown(&(map("a", a) + &map("b", b))), ["b 0:".to_owned(), format!("a 0: {edge}")], "{a} / {b}");
    }
    assert_eq!(shown(&(job("z", "") + &map("a", "strake.dev/depends-on: job/z=complete"))), ["z 0:", "a 0: z=complete"]);
}

#[test]
fn waves_and_hooks_are_stages() {
    let wave = |name: &str, wave: i64| map(name, &format!("argocd.argoproj.io/sync-wave: '{wave}'"));
    assert_eq!(shown(&(wave("a", 2) + &map("b", "") + &wave("c", -1))), ["c 0:", "b 1:", "a 2:"]);
    let text = map("plain", "")
        + &job("last", "helm.sh/hook: 'post-install, post-upgrade', helm.sh/hook-delete-policy: 'hook-succeeded,before-hook-creation'")
        + &job("second", "helm.sh/hook: pre-upgrade, helm.sh/hook-weight: '5'")
        + &job("first", "helm.sh/hook: pre-install, helm.sh/hook-weight: '-5', helm.sh/hook-delete-policy: hook-failed")
        + &job("own", "strake.dev/hook: before, strake.dev/hook-run: each")
        + &job("sync", "argocd.argoproj.io/hook: PreSync, argocd.argoproj.io/hook-delete-policy: HookSucceeded");
    let (plan, told) = planned(&text);
    assert_eq!(told, []);
    assert_eq!(lines(&plan), ["first 0:", "own 1:", "sync 1:", "second 2:", "plain 3:", "last 4:"]);
    let hook = |name: &str| plan.changes.iter().find(|change| change.id.name == name).and_then(|change| change.hook).expect("a hook");
    let shown = |name: &str| (hook(name).phase, hook(name).run, hook(name).delete_succeeded, hook(name).delete_failed);
    assert_eq!(shown("first"), (Phase::Before, HookRun::Install, false, true));
    assert_eq!(shown("second"), (Phase::Before, HookRun::Upgrade, false, false));
    assert_eq!(shown("own"), (Phase::Before, HookRun::Each, false, false));
    assert_eq!(shown("sync"), (Phase::Before, HookRun::Each, true, false));
    assert_eq!(shown("last"), (Phase::After, HookRun::Each, true, false));
}

#[test]
fn hooks_for_other_occasions_are_kept_apart_in_their_order() {
    let text = map("a", "")
        + &job("check", "helm.sh/hook: 'test,test-success'")
        + &job("gone", "argocd.argoproj.io/hook: Skip")
        + &job("late", "helm.sh/hook: pre-delete, helm.sh/hook-weight: '5', helm.sh/hook-delete-policy: hook-failed")
        + &job("early", "helm.sh/hook: 'pre-delete,post-delete', helm.sh/hook-weight: '-5'")
        + &job("both", "helm.sh/hook: 'post-install,post-rollback'")
        + &job("back", "helm.sh/hook: pre-rollback")
        + &job("alarm", "argocd.argoproj.io/hook: SyncFail, argocd.argoproj.io/hook-delete-policy: 'HookSucceeded,HookFailed'")
        + &job("argo", "argocd.argoproj.io/hook: 'PreDelete,PostDelete'");
    let (plan, told) = planned(&text);
    assert_eq!(told, []);
    assert_eq!(lines(&plan), ["a 0:", "both 1:"]);
    let found: Vec<String> = plan.occasions.iter().map(|hook| format!("{} {} {}", hook.when.word(), hook.weight, hook.change.id.name)).collect();
    let expected = [
        "pre-delete -5 early",
        "pre-delete 0 argo",
        "pre-delete 5 late",
        "post-delete -5 early",
        "post-delete 0 argo",
        "pre-rollback 0 back",
        "post-rollback 0 both",
        "sync-fail 0 alarm",
        "test 0 check",
    ];
    assert_eq!(found, expected);
    let policy = |name: &str| {
        let hook = plan.occasions.iter().find(|hook| hook.change.id.name == name).and_then(|hook| hook.change.hook).expect("a hook");
        (hook.delete_succeeded, hook.delete_failed)
    };
    assert_eq!([policy("late"), policy("alarm"), policy("early")], [(false, true), (true, true), (false, false)]);
    // What no occasion is known for is told, and so is a misspelt policy, once.
    let codes = |text: &str| planned(&(map("a", "") + text)).1.iter().map(|finding| finding.code.0).collect::<Vec<_>>();
    assert_eq!(codes(&job("x", "helm.sh/hook: test-failure")), ["hook-not-run"]);
    assert_eq!(codes(&job("x", "helm.sh/hook: 'pre-delete,post-install', helm.sh/hook-delete-policy: hook-succeded")), ["order-annotation"]);
    assert_eq!(codes(&job("x", "helm.sh/hook: pre-delte")), ["order-annotation"]);
}

#[test]
fn the_projects_file_names_hooks_in_their_order() {
    let text = job("a", "") + &job("b", "") + &job("c", "") + &map("m", "");
    let (sources, manifests, _) = manifests(&text);
    let word = |phase, text: &str| (phase, Spanned::new(text.to_owned(), Span::new(FileId(0), 0, 0)));
    let hooks = vec![word(Phase::Before, "job/b"), word(Phase::Before, "job/a"), word(Phase::After, "job/c")];
    let (plan, told) = plan(&sources, &manifests, &Options { hooks, ..options() }, &|_| None);
    assert_eq!(told, []);
    assert_eq!(lines(&plan), ["b 0:", "a 1:", "m 2:", "c 3:"]);
    let (_, told) = strake_deploy::plan(&sources, &manifests, &Options { hooks: vec![word(Phase::Before, "job/aa")], ..options() }, &|_| None);
    assert_eq!((told[0].code.0, told[0].label.as_str()), ("unknown-dependency", "did you mean `job/a`?"));
}

#[test]
fn a_cycle_is_told_with_every_place() {
    let needs = |other: &str| format!("strake.dev/depends-on: cm/{other}");
    let (_, told) = planned(&(map("a", &needs("b")) + &map("b", &needs("c")) + &map("c", &needs("a"))));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        told[0].message,
        "these come after each other: configmap/a in fallback -> configmap/b in fallback -> configmap/c in fallback -> configmap/a in fallback"
    );
    assert_eq!(told[0].labels.len(), 2, "a place for each edge");
    let (_, told) = planned(&map("a", &needs("a")));
    assert_eq!(told[0].message, "configmap/a in fallback depends on itself");
    // A wish against the waves is one too.
    let wave = |more: &str, wave: i64| format!("argocd.argoproj.io/sync-wave: '{wave}'{more}");
    let (_, told) = planned(&(map("a", &wave(", strake.dev/depends-on: cm/b", 0)) + &map("b", &wave("", 1))));
    assert_eq!((told[0].code.0, told[0].labels[0].message.contains("sync-wave 1 comes after sync-wave 0")), ("dependency-cycle", true), "{told:?}");
}

#[test]
fn what_is_not_in_the_set_is_of_the_cluster_or_a_mistake() {
    let of = |annotation: &str| planned(&(map("settings", "") + &map("a", &format!("strake.dev/depends-on: '{annotation}'"))));
    let (plan, told) = of("deploy/db, other/job/seed=complete");
    assert_eq!(told, []);
    let external: Vec<String> = plan
        .changes
        .iter()
        .flat_map(|change| &change.external)
        .map(|external| format!("{} {} {}", external.id, external.id.resource, external.state.word()))
        .collect();
    assert_eq!(external, ["deployment/db in fallback deployments ready", "job/seed in other jobs complete"]);
    let rows = [
        ("cm/setings", "external-dependency", "did you mean `cm/settings`?"),
        ("deploymnt/settings", "unknown-dependency", "did you mean `configmap/settings`?"),
        ("configmapp/other", "unknown-dependency", "did you mean `configmap/other`?"),
        ("settings", "order-annotation", ""),
        ("cm/settings=healthy", "order-annotation", ""),
        ("cm/settings=complete", "order-annotation", ""),
    ];
    for (annotation, code, label) in rows {
        let (_, told) = of(annotation);
        assert_eq!(told.iter().map(|finding| (finding.code.0, finding.label.as_str())).collect::<Vec<_>>(), [(code, label)], "{annotation}: {told:?}");
    }
}

#[test]
fn what_refers_to_something_comes_after_it() {
    let text = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db-service
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      serviceAccountName: robot
      priorityClassName: high
      containers: [{name: c, image: 'tool:1'}]
      volumes: [{name: v, persistentVolumeClaim: {claimName: claim}}]
---
{apiVersion: v1, kind: Service, metadata: {name: db-service}, spec: {selector: {app: db}, ports: [{port: 1}]}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: claim}, spec: {storageClassName: fast, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: fast}, provisioner: x}
---
{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: high}, value: 1}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: bind}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: role}, subjects: [{kind: ServiceAccount, name: robot, namespace: fallback}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: role}, rules: []}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: hook}
webhooks:
  - {name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {service: {name: db-service, namespace: fallback}}}
";
    let (sources, manifests, _) = manifests(text);
    let (plan, told) = plan(&sources, &manifests, &options(), &|_| None);
    assert_eq!(told, []);
    let found = |name: &str| lines(&plan).into_iter().find(|line| line.starts_with(name)).expect("there");
    assert_eq!(found("db 0"), "db 0: high=present robot=present bind=present claim=present db-service=present");
    assert_eq!(found("claim"), "claim 0: fast=present");
    assert_eq!(found("bind"), "bind 0: robot=present role=present");
    assert_eq!(found("hook"), "hook 0: db-service=ready db=ready");
}
