//! Following git repositories: `strake sync` and the kind Sync, with repositories that behave and others. Each row of what can go wrong is a test by name.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use strake_tests::{PATIENCE, World, needs, until};

use crate::repositories::{Server, repository, sh};

pub fn config(value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: app}}\ndata: {{value: \"{value}\"}}\n")
}

/// A repository `NAME.git` with `deploy/app.yaml`, which says `one`.
pub fn shop(world: &World, name: &str) {
    let folder = format!("work/{name}/deploy/app.yaml");
    world.write(&folder, config("one"));
    repository(world, name, "git add -A; git commit -qm one");
}

/// Changes the work tree by a script, commits and pushes; the new commit.
pub fn push(world: &World, name: &str, script: &str) -> String {
    sh(world, &format!("set -e; cd work/{name}; {script}; git add -A; git commit -qm change; git push -qf ../../served/{name}.git HEAD:main --tags"));
    sh(world, &format!("git -C served/{name}.git update-server-info; git -C work/{name} rev-parse HEAD"))
}

pub fn set_value(world: &World, name: &str, value: &str) -> String {
    world.write(&format!("work/{name}/deploy/app.yaml"), config(value));
    push(world, name, ":")
}

pub fn status(world: &World, name: &str) -> Value {
    serde_json::from_str(&world.strake(&["sync", "status", name, "-o", "json"]).stdout).unwrap_or(Value::Null)
}

pub fn ready(object: &Value) -> Value {
    let mut all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default()
}

#[track_caller]
pub fn reaches(world: &World, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let reached = until(PATIENCE, || {
        last = status(world, name);
        holds(&last)
    });
    assert!(reached, "{what}: {last:#}\n{}", world.server_log());
    last
}

/// Waits until this commit runs and nothing is wrong.
#[track_caller]
pub fn runs(world: &World, name: &str, commit: &str) -> Value {
    reaches(world, name, &format!("{commit} runs"), |object| {
        ready(object)["status"] == "True" && object["status"]["lastAppliedRevision"] == commit && object["status"]["failingSince"].is_null()
    })
}

/// Waits until something is wrong for this reason; it says since when.
#[track_caller]
pub fn is_wrong(world: &World, name: &str, reason: &str) -> Value {
    let object = reaches(world, name, reason, |object| ready(object)["status"] == "False" && ready(object)["reason"] == reason);
    assert!(object["status"]["failingSince"].is_string() && ready(&object)["lastTransitionTime"].is_string(), "{object:#}");
    object
}

pub fn value(world: &World) -> Value {
    world.get("configmap", "app")["data"]["value"].clone()
}

pub const URL: &str = "git://127.0.0.1/shop.git";

/// A cluster that follows `shop.git`, which runs, with its commit.
pub fn following(more: &[&str]) -> (World, Server, String) {
    let world = World::new();
    shop(&world, "shop");
    let server = Server::git(&world);
    world.serve();
    world.strake(&[&["sync", URL, "--ref", "main", "--path", "deploy/", "--interval", "1s", "--wait"], more].concat()).ok();
    assert_eq!(value(&world), "one");
    let commit = sh(&world, "git -C work/shop rev-parse HEAD");
    runs(&world, "shop", &commit);
    (world, server, commit)
}

/// From a commit to a pod of an image that the commit builds, seen by the real kubectl.
#[test]
fn a_commit_becomes_a_running_pod_and_kubectl_sees_it() {
    needs!("git", "kubectl", "busybox");
    let world = World::with_busybox();
    let manifest = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers: [{name: web, image: web, command: [sh, -c, 'cat /text; exec sleep 100000']}]\n";
    world.write("work/shop/deploy/web.yaml", manifest);
    world.write("work/shop/deploy/web/Dockerfile", "FROM busybox:1\nCOPY text /text\n");
    world.write("work/shop/deploy/web/text", "first\n");
    repository(&world, "shop", "git add -A; git commit -qm one");
    let server = Server::git(&world);
    let first = sh(&world, "git -C work/shop rev-parse HEAD");
    world.strake(&["sync", URL, "--ref", "main", "--path", "deploy/", "--interval", "1s", "--wait"]).ok();
    let logs = || world.strake(&["logs", "deployment/web"]).stdout;
    assert!(until(PATIENCE, || logs().contains("first")), "{}", logs());
    let table = world.kubectl(&["get", "syncs"]).ok().stdout;
    let words: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(words, ["NAME", "READY", "REVISION", "AGE", "MESSAGE"]);
    assert!(table.contains("True") && table.contains(&first[..12]), "{table}");
    let described = world.kubectl(&["describe", "sync", "shop"]).ok().stdout;
    assert!(described.contains("Last Applied Revision:") && described.contains(&first) && described.contains("Succeeded"), "{described}");

    let second = push(&world, "shop", "echo second > deploy/web/text");
    runs(&world, "shop", &second);
    assert!(until(PATIENCE, || logs().contains("second")), "{}", logs());
    // What kubectl writes is heeded; what is wrong is refused with the field.
    world.kubectl(&["patch", "sync", "shop", "--type", "merge", "-p", r#"{"spec":{"suspend":true}}"#]).ok();
    world.kubectl(&["annotate", "sync", "shop", "strake.dev/sync-requested-at=x"]).ok();
    assert_eq!(world.get("sync", "shop")["spec"]["prune"], true, "defaults are filled in");
    let refused = world.kubectl(&["patch", "sync", "shop", "--type", "merge", "-p", r#"{"spec":{"interval":"often"}}"#]);
    assert!(refused.code != 0 && refused.stderr.contains("spec.interval"), "{refused:?}");
    let unknown = world.kubectl(&["patch", "sync", "shop", "--type", "merge", "-p", r#"{"spec":{"branch":"main"}}"#, "--field-manager", "x"]);
    assert!(unknown.all().contains("unknown field") || unknown.code != 0, "{unknown:?}");
    assert!(world.kubectl(&["get", "sync", "shop"]).ok().stdout.contains("paused; "));
    // Who follows no longer has everything still.
    world.strake(&["sync", "delete", "shop"]).ok();
    world.strake(&["sync", "list"]).ok();
    assert!(world.get("deployment", "web")["status"]["readyReplicas"] == 1);
    world.strake(&["down", "--set", "shop"]).ok();
    drop(server);
    world.stop();
}

#[test]
fn a_repository_that_cannot_be_fetched() {
    needs!("git");
    let (world, server, first) = following(&[]);
    drop(server);
    let object = is_wrong(&world, "shop", "FetchFailed");
    let message = ready(&object)["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("git cannot ask git://127.0.0.1/shop.git") && message.contains(&format!("{} goes on running", &first[..12])), "{message}");
    assert_eq!(value(&world), "one");
    let since = object["status"]["failingSince"].clone();
    let later = reaches(&world, "shop", "another try", |object| object["status"]["failures"].as_i64() > Some(1));
    assert_eq!(later["status"]["failingSince"], since, "since the first failure");
    let second = set_value(&world, "shop", "two");
    let server = Server::git(&world);
    runs(&world, "shop", &second);
    assert_eq!(value(&world), "two");
    drop(server);
    world.stop();
}

#[test]
fn a_force_push() {
    needs!("git");
    let (world, server, first) = following(&[]);
    let second = set_value(&world, "shop", "two");
    let object = runs(&world, "shop", &second);
    assert!(!object["status"]["conditions"].to_string().contains("HistoryRewritten"), "an ordinary push: {object:#}");
    world.write("work/shop/deploy/app.yaml", config("three"));
    let third = push(&world, "shop", &format!("git reset -q --soft {first}; git commit -q --amend -m other"));
    let object = runs(&world, "shop", &third);
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let told = conditions.iter().find(|condition| condition["type"] == "HistoryRewritten").cloned().unwrap_or_default();
    assert!(told["message"].as_str().unwrap_or_default().contains(&format!("{}, which ran until now", &second[..12])), "{object:#}");
    assert_eq!(value(&world), "three");
    drop(server);
    world.stop();
}

#[test]
fn a_broken_manifest_on_main() {
    needs!("git");
    let (world, server, first) = following(&[]);
    world.write("work/shop/deploy/app.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndat: {value: two}\n");
    let broken = push(&world, "shop", ":");
    let object = is_wrong(&world, "shop", "ManifestsInvalid");
    let message = ready(&object)["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("deploy/app.yaml:4") && message.contains("`dat`"), "{message}");
    let last = &object["status"]["history"][0];
    assert_eq!((last["revision"].as_str(), last["result"].as_str()), (Some(broken.as_str()), Some("Failed")));
    assert!(last["detail"].as_str().unwrap_or_default().contains("dat: {value: two}"), "the lines are shown: {last:#}");
    assert!(!object.to_string().contains("/sync/"), "where it was fetched to is nobody's business: {object:#}");
    assert_eq!((value(&world), object["status"]["lastAppliedRevision"].as_str()), ("one".into(), Some(first.as_str())));
    world.strake(&["sync", "status", "shop"]).fails(1, "");
    let good = set_value(&world, "shop", "three");
    runs(&world, "shop", &good);
    assert_eq!(value(&world), "three");
    drop(server);
    world.stop();
}

#[test]
fn a_deleted_file_and_a_deleted_folder() {
    needs!("git");
    let (world, server, _) = following(&[]);
    let other = config("x").replace("app", "other");
    world.write("work/shop/deploy/other.yaml", other);
    let both = push(&world, "shop", ":");
    runs(&world, "shop", &both);
    assert!(world.get("configmap", "other").is_object());
    let one = push(&world, "shop", "git rm -q deploy/other.yaml");
    runs(&world, "shop", &one);
    assert!(world.get("configmap", "other").is_null(), "what left the repository is pruned");
    push(&world, "shop", "git mv deploy elsewhere");
    let object = is_wrong(&world, "shop", "PathMissing");
    assert!(ready(&object)["message"].as_str().unwrap_or_default().contains("no folder `deploy`"), "{object:#}");
    assert_eq!(value(&world), "one");
    let back = push(&world, "shop", "git mv elsewhere deploy");
    runs(&world, "shop", &back);
    drop(server);
    world.stop();
}

#[test]
fn an_empty_render_is_refused() {
    needs!("git");
    let (world, server, _) = following(&[]);
    world.write("work/shop/deploy/app.yaml", "apiVersion: v1\nkind: List\nitems: []\n");
    push(&world, "shop", ":");
    let object = is_wrong(&world, "shop", "NothingRendered");
    assert!(ready(&object)["message"].as_str().unwrap_or_default().contains("strake down --set"), "{object:#}");
    assert_eq!(value(&world), "one");
    // No manifest at all is the same.
    push(&world, "shop", "git rm -qf deploy/app.yaml; mkdir -p deploy; echo x > deploy/notes.txt");
    reaches(&world, "shop", "it is told", |object| ready(object)["message"].as_str().unwrap_or_default().contains("neither a Dockerfile nor a manifest"));
    assert_eq!(value(&world), "one");
    let good = set_value(&world, "shop", "two");
    runs(&world, "shop", &good);
    drop(server);
    world.stop();
}

#[test]
fn a_link_out_of_the_repository_is_refused() {
    needs!("git");
    let (world, server, _) = following(&[]);
    push(&world, "shop", "ln -s /etc/passwd deploy/more.yaml");
    let object = is_wrong(&world, "shop", "LinkLeavesRepository");
    assert!(!object.to_string().contains("root:"), "nothing of the file is told");
    let good = push(&world, "shop", "git rm -q deploy/more.yaml");
    runs(&world, "shop", &good);
    drop(server);
    world.stop();
}

#[test]
fn an_unreachable_cluster_in_the_middle() {
    needs!("git");
    let world = World::new();
    shop(&world, "shop");
    let server = Server::git(&world);
    world.serve();
    let kubeconfig = world.root().join("cluster/kubeconfig").display().to_string();
    let other = world.path("other").display().to_string();
    let args = ["--root", &other, "sync", URL, "--ref", "main", "--path", "deploy/", "--interval", "1s", "--kubeconfig", &kubeconfig];
    let follow = || world.strake_command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strake runs");
    let mut foreground = follow();
    let at = || -> Value { serde_json::from_str(&world.strake(&["--root", &other, "sync", "status", "shop", "-o", "json"]).stdout).unwrap_or_default() };
    let is = |reason: &str| until(PATIENCE, || ready(&at())["reason"] == reason);
    assert!(is("Succeeded"), "{:#}", at());
    assert_eq!(value(&world), "one");
    world.kill_server();
    let second = set_value(&world, "shop", "two");
    assert!(is("ClusterUnreachable"), "{:#}", at());
    assert!(at()["status"]["failingSince"].is_string());
    world.serve();
    assert!(until(PATIENCE, || at()["status"]["lastAppliedRevision"] == second.as_str()), "{:#}", at());
    assert!(is("Succeeded") && at()["status"]["failingSince"].is_null(), "{:#}", at());
    assert_eq!(value(&world), "two");
    // Two that follow the same would undo each other's bookkeeping.
    world.strake(&args).fails(1, "is followed already");
    let end = |child: &mut std::process::Child| {
        kill_process(Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid"), Signal::INT).expect("it runs");
        child.wait().expect("it ends").code()
    };
    assert_eq!(end(&mut foreground), Some(130));
    // It goes on with what it knows.
    let results = at()["status"]["history"].as_array().map(Vec::len);
    let mut foreground = follow();
    let third = set_value(&world, "shop", "three");
    assert!(until(PATIENCE, || at()["status"]["lastAppliedRevision"] == third.as_str()), "{:#}", at());
    assert_eq!(at()["status"]["history"].as_array().map(Vec::len), results.map(|count| count + 1));
    assert_eq!(end(&mut foreground), Some(130));
    drop(server);
    world.stop();
}

#[test]
fn an_expired_token() {
    needs!("git", "python3");
    let world = World::new();
    shop(&world, "shop");
    let server = "import http.server as h, functools, base64\nclass S(h.SimpleHTTPRequestHandler):\n  def do_GET(self):\n    want = 'Basic ' + base64.b64encode(b'x-access-token:' + open('valid', 'rb').read().strip()).decode()\n    if self.headers['Authorization'] != want: self.send_error(401); return\n    super().do_GET()\nh.ThreadingHTTPServer(('127.0.0.1', 8000), functools.partial(S, directory='served')).serve_forever()\n";
    world.write("server.py", server);
    world.write("valid", "t0ken-one");
    world.write("token", "t0ken-one\n");
    let server = Server::start(&world, "python3", &["server.py"], 8000);
    world.serve();
    let url = "http://127.0.0.1:8000/shop.git";
    world.strake(&["sync", url, "--ref", "main", "--path", "deploy/", "--interval", "1s", "--token-file", "token", "--wait"]).ok();
    assert_eq!(value(&world), "one");
    world.write("valid", "t0ken-two");
    let object = is_wrong(&world, "shop", "Unauthorized");
    assert!(ready(&object)["message"].as_str().unwrap_or_default().contains("still valid?"), "{object:#}");
    let second = set_value(&world, "shop", "two");
    assert_eq!(value(&world), "one");
    // A new token in the Secret is all that it needs.
    world.write("token", "t0ken-two\n");
    world.strake(&["sync", url, "--ref", "main", "--path", "deploy/", "--interval", "1s", "--token-file", "token"]).ok();
    let object = runs(&world, "shop", &second);
    assert!(!object.to_string().contains("t0ken") && !world.server_log().contains("t0ken"), "the token is told nowhere");
    // A Secret that is gone is told by its name.
    world.strake(&["delete", "secret", "shop-git"]).ok();
    is_wrong(&world, "shop", "CredentialsMissing");
    drop(server);
    world.stop();
}

/// Whoever lists processes sees no key, and no file on the disk has it.
#[test]
fn an_ssh_key_from_a_secret_is_used_and_seen_nowhere() {
    needs!("git");
    let world = World::new();
    shop(&world, "shop");
    // Stands for ssh: it notes what it was given, and runs what it is asked to run.
    let script = "#!/bin/sh\nwhile [ $# -gt 1 ]; do case $1 in -i) key=$2;; *UserKnownHostsFile=*) hosts=${1#*=};; esac; args=\"$args $1\"; shift; done\n\
        { echo \"$args\"; cat \"$key\"; cat \"$hosts\"; stat -L -c %a \"$key\"; } > \"$0.log\"\ncd \"${0%/*}/../served\"\nexec sh -c \"$1\"\n";
    world.write("bin/ssh", script);
    sh(&world, "chmod 755 bin/ssh");
    world.write("key", "PRIVATE-KEY");
    world.write("hosts", "forge ssh-ed25519 AAAA");
    let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let served = world.strake_command(&["serve", "--detach"]).env("PATH", &path).output().expect("strake runs");
    assert!(served.status.success(), "{served:?}");
    world.strake(&["sync", "git@forge:shop.git", "--ref", "main", "--path", "deploy/", "--ssh-key", "key", "--known-hosts", "hosts", "--wait"]).ok();
    assert_eq!(value(&world), "one");
    let log = std::fs::read_to_string(world.path("bin/ssh.log")).expect("a log");
    assert!(log.contains("PRIVATE-KEY\n") && log.contains("forge ssh-ed25519 AAAA\n600\n"), "{log}");
    let line = log.lines().next().unwrap_or_default();
    assert!(line.contains("IdentitiesOnly=yes") && line.contains("StrictHostKeyChecking=yes") && !line.contains("PRIVATE"), "{line}");
    let left = sh(&world, "grep -rl PRIVATE-KEY root/sync root/run || true");
    assert_eq!(left, "");
    world.stop();
}

#[test]
fn it_pauses_and_resumes() {
    needs!("git");
    let (world, server, _) = following(&[]);
    world.strake(&["sync", "pause", "shop"]).ok();
    reaches(&world, "shop", "it is paused", |object| object["status"]["conditions"].to_string().contains("Suspended"));
    let second = set_value(&world, "shop", "two");
    world.strake(&["sync", "now", "shop"]).fails(1, "strake sync resume shop");
    assert!(world.strake(&["sync", "list"]).ok().stdout.contains("Paused"));
    assert_eq!(value(&world), "one");
    world.strake(&["sync", "resume", "shop"]).ok();
    runs(&world, "shop", &second);
    assert_eq!(value(&world), "two");
    world.strake(&["sync", "now", "shoop"]).fails(1, "did you mean shop?");
    drop(server);
    world.stop();
}

fn curl(world: &World, headers: &[&str], body: &str) -> String {
    let mut args = vec![
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-X",
        "POST",
        "http://127.0.0.1:9595/hooks/default/shop",
        "--data-binary",
        body,
        "-H",
        "Content-Type: application/json",
    ];
    headers.iter().for_each(|header| args.extend(["-H", header]));
    world.run("curl", &args).stdout
}

#[test]
fn a_webhook_is_heeded_at_once_and_a_forged_one_is_refused() {
    needs!("git", "curl", "openssl");
    let world = World::new();
    shop(&world, "shop");
    let server = Server::git(&world);
    world.strake(&["serve", "--detach", "--hooks", "127.0.0.1:9595"]).ok();
    world.write("hook", "s3cret\n");
    // By the clock alone it would take a day.
    let follow = ["sync", URL, "--ref", "main", "--path", "deploy/", "--interval", "24h", "--webhook-secret-file", "hook", "--wait"];
    world.strake(&follow).ok();
    let body = r#"{"ref":"refs/heads/main"}"#;
    let sign = |secret: &str| sh(&world, &format!("printf %s '{body}' | openssl dgst -sha256 -hmac {secret} | sed 's/.* //'"));
    let (good, bad) = (sign("s3cret"), sign("other"));
    let mut last = String::new();
    for (value_now, headers) in [
        ("two", vec!["X-GitHub-Event: push".to_owned(), format!("X-Hub-Signature-256: sha256={good}")]),
        ("three", vec!["X-Gitlab-Event: Push Hook".to_owned(), "X-Gitlab-Token: s3cret".to_owned()]),
        ("four", vec!["X-Gitea-Event: push".to_owned(), format!("X-Gitea-Signature: {good}")]),
    ] {
        last = set_value(&world, "shop", value_now);
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        assert_eq!(curl(&world, &headers, body), "202");
        runs(&world, "shop", &last);
        assert_eq!(value(&world), value_now);
    }
    let next = set_value(&world, "shop", "five");
    let forged = format!("X-Hub-Signature-256: sha256={bad}");
    assert_eq!(curl(&world, &["X-GitHub-Event: push", &forged], body), "401");
    assert_eq!(curl(&world, &["X-GitHub-Event: push"], body), "401");
    assert_eq!(curl(&world, &["X-Gitlab-Event: Push Hook", "X-Gitlab-Token: guess"], body), "401");
    assert_eq!(curl(&world, &["X-Gitea-Event: push", &format!("X-Gitea-Signature: {bad}")], body), "401");
    assert_eq!(curl(&world, &[], body), "400");
    assert_eq!(status(&world, "shop")["status"]["lastAppliedRevision"], last.as_str(), "nobody was heeded");
    let ran = world.strake(&["sync", "now", "shop", "--wait"]).ok();
    assert!(ran.stdout.contains(&next[..12]), "it waits for the newest commit: {}", ran.stdout);
    runs(&world, "shop", &next);
    assert!(!world.server_log().contains("s3cret"));
    drop(server);
    world.stop();
}

#[test]
fn ten_repositories_at_once() {
    needs!("git");
    let world = World::new();
    let _served = std::fs::create_dir_all(world.path("served"));
    let names: Vec<String> = (0..10).map(|number| format!("shop{number}")).collect();
    for name in &names {
        world.write(&format!("work/{name}/deploy/app.yaml"), config("one").replace("app", name));
        repository(&world, name, "git add -A; git commit -qm one");
    }
    let server = Server::git(&world);
    world.serve();
    for name in &names {
        world.strake(&["sync", &format!("git://127.0.0.1/{name}.git"), "--ref", "main", "--path", "deploy/", "--interval", "1s"]).ok();
    }
    let mut heads: Vec<String> = names.iter().map(|name| sh(&world, &format!("git -C work/{name} rev-parse HEAD"))).collect();
    names.iter().zip(&heads).for_each(|(name, head)| drop(runs(&world, name, head)));
    // One that is broken does not hold up the others.
    for (name, head) in names.iter().zip(&mut heads) {
        let text = if name == "shop3" { "kind: [".to_owned() } else { config("two").replace("app", name) };
        world.write(&format!("work/{name}/deploy/app.yaml"), text);
        *head = push(&world, name, ":");
    }
    for (name, head) in names.iter().zip(&heads).filter(|(name, _)| *name != "shop3") {
        runs(&world, name, head);
        assert_eq!(world.get("configmap", name)["data"]["value"], "two");
    }
    is_wrong(&world, "shop3", "ManifestsInvalid");
    assert_eq!(world.get("configmap", "shop3")["data"]["value"], "one");
    let list: Value = serde_json::from_str(&world.strake(&["sync", "list", "-o", "json"]).ok().stdout).expect("JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(10));
    drop(server);
    world.stop();
}

#[test]
fn after_kill_9_the_same_revision_is_not_deployed_again() {
    needs!("git", "busybox");
    let world = World::with_busybox();
    let manifest = |value: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers: [{{name: web, image: busybox:1, env: [{{name: V, value: \"{value}\"}}], command: [sh, -c, 'exec sleep 100000']}}]\n"
        )
    };
    world.write("work/shop/deploy/web.yaml", manifest("one"));
    repository(&world, "shop", "git add -A; git commit -qm one");
    let server = Server::git(&world);
    world.strake(&["sync", URL, "--ref", "main", "--path", "deploy/", "--interval", "1s", "--wait"]).ok();
    let pods = || -> Vec<Value> { world.list("pods").iter().map(|pod| pod["metadata"]["uid"].clone()).collect() };
    let (before, history) = (pods(), status(&world, "shop")["status"]["history"].clone());
    world.kill_server();
    world.serve();
    world.strake(&["sync", "now", "shop", "--wait"]).ok();
    assert_eq!((pods(), status(&world, "shop")["status"]["history"].clone()), (before, history), "the same pods, and no new result");
    // In the middle of a deployment: it goes on by itself.
    world.write("work/shop/deploy/web.yaml", manifest("two"));
    let second = push(&world, "shop", ":");
    reaches(&world, "shop", "it has begun", |object| object["status"]["lastAttemptedRevision"] == second.as_str());
    world.kill_server();
    world.serve();
    runs(&world, "shop", &second);
    let value = || world.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"].clone();
    assert_eq!(value(), "two");
    drop(server);
    world.stop();
}

#[test]
fn tags_follow_their_range_and_a_moved_tag_is_refused() {
    needs!("git");
    let world = World::new();
    shop(&world, "shop");
    let server = Server::git(&world);
    let first = push(&world, "shop", "echo 1 > n; git add n; git commit -qm n; git tag -a -m v1 v1.0.0; git tag v2.0.0; echo 2 > n");
    let _ = first;
    world.serve();
    world.strake(&["sync", URL, "--semver", "1.x", "--path", "deploy/", "--interval", "1s", "--wait"]).ok();
    let tagged = sh(&world, "git -C work/shop rev-parse 'v1.0.0^{commit}'");
    let object = runs(&world, "shop", &tagged);
    assert_eq!(object["status"]["lockedTag"], json!({"name": "v1.0.0", "revision": tagged}));
    assert!(world.strake(&["get", "syncs"]).ok().stdout.contains(&format!("v1.0.0@{}", &tagged[..12])));
    world.write("work/shop/deploy/app.yaml", config("two"));
    let moved = push(&world, "shop", "git add -A; git commit -qm two; git tag -f v1.0.0; git push -qf ../../served/shop.git v1.0.0; echo 3 > n");
    let _ = moved;
    let object = is_wrong(&world, "shop", "TagMoved");
    assert_eq!((value(&world), object["status"]["lastAppliedRevision"].as_str()), ("one".into(), Some(tagged.as_str())));
    world.strake(&["sync", "now", "shop", "--accept-moved-tag", "--wait"]).ok();
    assert_eq!(value(&world), "two");
    world.write("work/shop/deploy/app.yaml", config("three"));
    push(&world, "shop", "git add -A; git commit -qm three; git tag v1.1.0; git push -q ../../served/shop.git v1.1.0; echo 4 > n");
    let next = sh(&world, "git -C work/shop rev-parse v1.1.0");
    runs(&world, "shop", &next);
    assert_eq!(value(&world), "three");
    drop(server);
    world.stop();
}

#[test]
fn each_forge_is_told_how_a_commit_fares() {
    needs!("git", "python3");
    let world = World::new();
    shop(&world, "shop");
    let server = Server::git(&world);
    let forge = "import http.server as h, json, os\nclass S(h.BaseHTTPRequestHandler):\n  def do_POST(self):\n    body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))\n    down = os.path.exists('down')\n    if not down:\n      token = self.headers['Authorization'] or self.headers['Private-Token']\n      open('told', 'a').write(json.dumps({'path': self.path, 'token': token, 'state': body['state'], 'name': body.get('context') or body.get('name')}) + '\\n')\n    self.send_response(500 if down else 201); self.end_headers(); self.wfile.write(b'{}')\nh.ThreadingHTTPServer(('127.0.0.1', 8100), S).serve_forever()\n";
    world.write("forge.py", forge);
    let forge_server = Server::start(&world, "python3", &["forge.py"], 8100);
    world.write("token", "f0rge\n");
    world.serve();
    let told = || -> Vec<Value> {
        let text = std::fs::read_to_string(world.path("told")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    for (kind, path, token, words) in [
        ("github", "/repos/team/shop/statuses/", "Bearer f0rge", ["pending", "success", "failure"]),
        ("gitlab", "/projects/team%2Fshop/statuses/", "f0rge", ["running", "success", "failed"]),
        ("gitea", "/repos/team/shop/statuses/", "token f0rge", ["pending", "success", "failure"]),
    ] {
        let _ = std::fs::remove_file(world.path("told"));
        let good = set_value(&world, "shop", kind);
        let follow = [
            "sync",
            URL,
            "--name",
            kind,
            "--set",
            "shop",
            "--ref",
            "main",
            "--path",
            "deploy/",
            "--interval",
            "1s",
            "--report",
            kind,
            "--report-url",
            "http://127.0.0.1:8100",
            "--report-project",
            "team/shop",
            "--report-token-file",
            "token",
            "--wait",
        ];
        world.strake(&follow).ok();
        let expect = |state: &str, commit: &str| {
            let wanted = json!({"path": format!("{path}{commit}"), "token": token, "state": state, "name": format!("strake/{kind}")});
            assert!(until(PATIENCE, || told().contains(&wanted)), "{wanted} in {:#?}\n{:#}", told(), status(&world, kind));
        };
        expect(words[0], &good);
        expect(words[1], &good);
        // A forge that is away holds nothing up, and learns it later.
        world.write("down", "");
        let next = set_value(&world, "shop", &format!("{kind}-next"));
        runs(&world, kind, &next);
        std::fs::remove_file(world.path("down")).expect("removed");
        expect(words[1], &next);
        world.write("work/shop/deploy/app.yaml", "kind: [");
        let broken = push(&world, "shop", ":");
        expect(words[2], &broken);
        world.strake(&["sync", "delete", kind]).ok();
    }
    assert!(!world.server_log().contains("f0rge"));
    drop(forge_server);
    drop(server);
    world.stop();
}

/// What an image's tag means changes by a commit that changes the lock file, never by itself.
#[test]
fn images_are_those_of_the_lock_file() {
    needs!("git", "busybox");
    let world = World::with_busybox();
    let base = |text: &str| {
        world.write("base/etc/marker", text);
        world.strake(&["image", "import", "base", "busybox:1"]).ok();
    };
    base("old");
    let manifest = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers: [{name: web, image: web, command: [sh, -c, 'cat /etc/marker /text; exec sleep 100000']}]\n";
    world.write("work/shop/deploy/web.yaml", manifest);
    world.write("work/shop/deploy/web/Dockerfile", "FROM busybox:1\nCOPY text /text\n");
    world.write("work/shop/deploy/web/text", "first\n");
    world.strake(&["image", "lock", "--offline", "work/shop/deploy"]).ok();
    repository(&world, "shop", "git add -A; git commit -qm one");
    let server = Server::git(&world);
    world.strake(&["sync", URL, "--ref", "main", "--path", "deploy/", "--interval", "1s", "--wait"]).ok();
    let says = |words: &str| until(PATIENCE, || world.strake(&["logs", "deployment/web"]).stdout.contains(words));
    assert!(says("oldfirst"));
    base("new");
    let second = push(&world, "shop", "echo second > deploy/web/text");
    runs(&world, "shop", &second);
    assert!(says("oldsecond"), "the tag means something else now, and the lock file does not say so");
    world.strake(&["image", "lock", "--offline", "work/shop/deploy"]).ok();
    let third = push(&world, "shop", ":");
    runs(&world, "shop", &third);
    assert!(says("newsecond"));
    drop(server);
    world.stop();
}
