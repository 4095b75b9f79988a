//! Following git repositories: what a Sync says while it goes on, what it puts back, which cluster it may deploy to, and webhooks over TLS.

use rustix::process::Signal;
use serde_json::Value;
use strake_tests::{Follow, PATIENCE, World, needs, until};

use crate::repositories::{Server, sh};
use crate::sync::{URL, following, is_wrong, push, reaches, ready, runs, set_value, shop, status, value};

/// The condition of a type.
fn condition(object: &Value, kind: &str) -> Value {
    let mut all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
}

fn has_drifted(object: &Value) -> bool {
    condition(object, "Drifted")["status"] == "True"
}

fn change_by_hand(world: &World, value: &str) {
    world.kubectl(&["patch", "configmap", "app", "--type", "merge", "-p", &format!("{{\"data\":{{\"value\":\"{value}\"}}}}")]).ok();
}

#[test]
fn drift_is_told_in_status_and_events_and_put_back_when_that_is_wanted() {
    needs!("git", "kubectl");
    let (world, server, _) = following(&[]);
    let describes = |words: &[&str]| {
        let mut text = String::new();
        let told = until(PATIENCE, || {
            text = world.kubectl(&["describe", "sync", "shop"]).stdout;
            let events = text.split_once("\nEvents:").map_or("", |(_, events)| events);
            events.lines().any(|line| words.iter().all(|word| line.contains(word)))
        });
        assert!(told, "no event with {words:?}: {text}");
    };
    describes(&["Normal", "Deployed", "strake-sync"]);
    change_by_hand(&world, "by hand");
    let object = reaches(&world, "shop", "drift is told", has_drifted);
    let message = condition(&object, "Drifted")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("configmap/app") && message.contains("data.value"), "{message}");
    describes(&["Warning", "Drifted", "configmap/app"]);
    assert!(world.strake(&["sync", "status", "shop"]).all().contains("data.value"), "a person sees it too");
    assert_eq!(value(&world), "by hand", "it is told, and left as it is");
    // Whoever wants it back has it back, whatever was done to it.
    world.kubectl(&["patch", "sync", "shop", "--type", "merge", "-p", "{\"spec\":{\"selfHeal\":true}}"]).ok();
    reaches(&world, "shop", "it is put back", |object| value(&world) == "one" && !has_drifted(object));
    world.strake(&["delete", "configmap", "app"]).ok();
    reaches(&world, "shop", "what was deleted is made anew", |object| value(&world) == "one" && !has_drifted(object));
    change_by_hand(&world, "by hand");
    reaches(&world, "shop", "it is put back again", |object| value(&world) == "one" && !has_drifted(object));
    // What goes wrong and what is well again are events as well.
    world.write("work/shop/deploy/app.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndat: {value: two}\n");
    push(&world, "shop", ":");
    is_wrong(&world, "shop", "ManifestsInvalid");
    describes(&["Warning", "Refused", "deploy/app.yaml:4"]);
    let good = set_value(&world, "shop", "two");
    runs(&world, "shop", &good);
    describes(&["Normal", "Recovered"]);
    describes(&["Normal", "Deployed", &good[..12]]);
    drop(server);
    world.stop();
}

#[test]
fn a_sync_in_the_foreground_tells_drift_and_puts_it_back_when_that_is_wanted() {
    needs!("git", "kubectl");
    let world = World::new();
    shop(&world, "shop");
    let server = Server::git(&world);
    world.serve();
    let kubeconfig = world.root().join("cluster/kubeconfig").display().to_string();
    let other = world.path("other").display().to_string();
    let args = ["--root", &other, "sync", URL, "--ref", "main", "--path", "deploy/", "--interval", "1s", "--kubeconfig", &kubeconfig];
    let at = || -> Value { serde_json::from_str(&world.strake(&["--root", &other, "sync", "status", "shop", "-o", "json"]).stdout).unwrap_or_default() };
    let follow = |more: &[&str]| Follow::start(world.strake_command(&[&args[..], more].concat()));
    let end = |mut foreground: Follow| {
        foreground.signal(Signal::INT);
        assert_eq!(foreground.end().code, 130);
    };
    let foreground = follow(&[]);
    foreground.says("that it runs", |said| said.contains("ready"));
    change_by_hand(&world, "by hand");
    assert!(until(PATIENCE, || has_drifted(&at())), "{:#}", at());
    assert_eq!(value(&world), "by hand");
    end(foreground);
    let foreground = follow(&["--self-heal"]);
    assert!(until(PATIENCE, || value(&world) == "one" && !has_drifted(&at())), "{:#}", at());
    change_by_hand(&world, "by hand");
    assert!(until(PATIENCE, || value(&world) == "one"), "{:#}", at());
    end(foreground);
    drop(server);
    world.stop();
}

/// What a repository says of contexts is for the people who have it: it gives nobody who may push to it a login of the machine.
#[test]
fn a_repository_does_not_choose_the_cluster() {
    needs!("git");
    let world = World::new();
    shop(&world, "shop");
    world.write(
        "work/shop/deploy/strake.yaml",
        "environments:\n  prod: {context: production}\n  push: {registry: \"localhost:5000/shop\"}\n  test: {namespace: default}\n",
    );
    push(&world, "shop", ":");
    let server = Server::git(&world);
    world.serve();
    let follow = ["sync", URL, "--ref", "main", "--path", "deploy/", "--interval", "1s"];
    // A context of this name is there, and would be taken by whoever types `strake apply --env prod`.
    let own = std::fs::read_to_string(world.root().join("cluster/kubeconfig")).expect("a kubeconfig");
    let name = own.lines().find_map(|line| line.trim().strip_prefix("current-context: ")).expect("a context").trim_matches('"').to_owned();
    world.write(".kube/config", own.replace(&name, "production"));
    let is_forbidden = |object: &Value| {
        let message = ready(object)["message"].as_str().unwrap_or_default().to_owned();
        for words in ["deploy/strake.yaml", "`production`", "`prod`", "does not choose the cluster", "--kubeconfig-secret"] {
            assert!(message.contains(words), "{words}: {message}");
        }
    };
    world.strake(&[&follow[..], &["--env", "prod"]].concat()).ok();
    is_forbidden(&is_wrong(&world, "shop", "TargetForbidden"));
    assert!(value(&world).is_null(), "nothing was deployed");
    world.strake(&["sync", "delete", "shop"]).ok();
    // In the foreground it is the same.
    let foreground = Follow::start(world.strake_command(&[&follow[..], &["--env", "prod", "--foreground"]].concat()));
    foreground.says("why not", |said| said.contains("does not choose the cluster"));
    is_forbidden(&is_wrong(&world, "shop", "TargetForbidden"));
    foreground.kill();
    assert!(value(&world).is_null(), "nothing was deployed");
    // Nor where this machine's logins push images to.
    let foreground = Follow::start(world.strake_command(&[&follow[..], &["--env", "push", "--context", "production"]].concat()));
    foreground
        .says("why not", |said| said.contains("does not choose where images are pushed") && said.contains("localhost:5000/shop") && said.contains("--push-to"));
    foreground.kill();
    assert!(value(&world).is_null(), "nothing was deployed");
    // Whoever starts it may name both.
    let mut foreground =
        Follow::start(world.strake_command(&[&follow[..], &["--env", "push", "--context", "production", "--push-to", "localhost:5001"]].concat()));
    assert!(until(PATIENCE, || value(&world) == "one"), "{}{}", foreground.stdout(), foreground.stderr());
    foreground.signal(Signal::INT);
    assert_eq!(foreground.end().code, 130);
    // And the cluster by a context that the repository names.
    let mut foreground = Follow::start(world.strake_command(&[&follow[..], &["--env", "prod", "--context", "production"]].concat()));
    assert!(until(PATIENCE, || value(&world) == "one"), "{}{}", foreground.stdout(), foreground.stderr());
    foreground.signal(Signal::INT);
    assert_eq!(foreground.end().code, 130);
    drop(server);
    world.stop();
}

/// The other cluster is the same one here, by another way in: what counts is the login that is used.
#[test]
fn another_cluster_is_deployed_to_with_the_kubeconfig_of_a_secret() {
    needs!("git", "kubectl");
    let world = World::new();
    shop(&world, "shop");
    let server = Server::git(&world);
    world.serve();
    let secret = |text: &str| {
        let file = world.write("other.kubeconfig", text).display().to_string();
        let made = world.kubectl(&["create", "secret", "generic", "other", &format!("--from-file=value={file}"), "--dry-run=client", "-o", "yaml"]).ok();
        world.write("secret.yaml", made.stdout);
        world.kubectl(&["apply", "-f", "secret.yaml"]).ok();
    };
    let good = std::fs::read_to_string(world.root().join("cluster/kubeconfig")).expect("a kubeconfig");
    let key = good.lines().find_map(|line| line.trim().strip_prefix("client-key-data: ")).expect("a key").to_owned();
    let address = good.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix("server: ")).expect("an address").to_owned();
    let follow = ["sync", URL, "--ref", "main", "--path", "deploy/", "--interval", "1s", "--kubeconfig-secret", "other"];
    world.strake(&[&follow[..], &["--context", "x"]].concat()).fails(2, "cannot be used with");
    world.strake(&follow).ok();
    let object = is_wrong(&world, "shop", "CredentialsMissing");
    assert!(ready(&object)["message"].as_str().unwrap_or_default().contains("there is no Secret default/other"), "{object:#}");
    // A program that the kubeconfig wants to be run would run as the server's user.
    let marker = world.path("was-run");
    let program = format!("exec: {{apiVersion: client.authentication.k8s.io/v1, command: touch, args: [\"{}\"], interactiveMode: Never}}", marker.display());
    secret(&format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters: [{{name: k, cluster: {{server: {address}}}}}]\nusers: [{{name: u, user: {{{program}}}}}]\n"
    ));
    reaches(&world, "shop", "it is refused", |object| ready(object)["message"].as_str().unwrap_or_default().contains("wants a program to be run"));
    assert!(!marker.exists() && value(&world).is_null());
    secret(&good);
    let first = sh(&world, "git -C work/shop rev-parse HEAD");
    runs(&world, "shop", &first);
    assert_eq!(value(&world), "one");
    // Drift is looked for there as well.
    change_by_hand(&world, "by hand");
    reaches(&world, "shop", "drift is told", has_drifted);
    // A cluster that does not answer, and recovery as soon as the Secret says how to reach it.
    secret(&good.replace(&address, "https://127.0.0.1:1"));
    let second = set_value(&world, "shop", "two");
    let object = is_wrong(&world, "shop", "ClusterUnreachable");
    assert_eq!((value(&world), object["status"]["lastAppliedRevision"].as_str()), ("by hand".into(), Some(first.as_str())));
    secret(&good);
    let object = runs(&world, "shop", &second);
    assert_eq!(value(&world), "two");
    assert!(!object.to_string().contains(&key) && !world.server_log().contains(&key), "the login is told nowhere");
    let left = sh(&world, &format!("grep -rlF '{key}' root/sync root/run || true"));
    assert_eq!(left, "", "and is on no disk but where it was");
    drop(server);
    world.stop();
}

/// A certificate for 127.0.0.1, `NAME.crt` with `NAME.key`.
fn certificate(world: &World, name: &str) {
    sh(
        world,
        &format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} -addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.crt 2>/dev/null"
        ),
    );
}

#[test]
fn webhooks_come_over_tls_with_a_certificate_that_may_be_renewed() {
    needs!("git", "curl", "openssl");
    let world = World::new();
    shop(&world, "shop");
    certificate(&world, "one");
    certificate(&world, "two");
    sh(&world, "cp one.crt hook.crt; cp one.key hook.key");
    let serve =
        |certificate: &str, key: &str| world.strake(&["serve", "--detach", "--hooks", "127.0.0.1:9595", "--hooks-cert", certificate, "--hooks-key", key]);
    assert!(serve("one.crt", "two.key").all().contains("cannot set up TLS"), "a key of another certificate");
    serve("none.crt", "one.key").fails(1, "none.crt");
    world.strake(&["serve", "--detach", "--hooks-cert", "one.crt", "--hooks-key", "one.key"]).fails(2, "--hooks");
    serve("hook.crt", "hook.key").ok();
    let server = Server::git(&world);
    world.write("hook", "s3cret\n");
    let follow = ["sync", URL, "--ref", "main", "--path", "deploy/", "--interval", "24h", "--webhook-secret-file", "hook", "--wait"];
    world.strake(&follow).ok();
    let deliver = |scheme: &str, authority: &str| {
        let address = format!("{scheme}://127.0.0.1:9595/hooks/default/shop");
        let mut args = vec!["-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "60", "-X", "POST", "--cacert", authority];
        args.extend([
            &*address,
            "-H",
            "X-Gitlab-Event: Push Hook",
            "-H",
            "X-Gitlab-Token: s3cret",
            "-H",
            "Content-Type: application/json",
            "--data",
            r#"{"ref":"refs/heads/main"}"#,
        ]);
        world.run("curl", &args).stdout
    };
    let second = set_value(&world, "shop", "two");
    assert_eq!(deliver("http", "one.crt"), "000", "nobody reads what comes without TLS");
    assert_eq!(deliver("https", "two.crt"), "000", "it is the certificate that was given");
    assert_eq!(deliver("https", "one.crt"), "202");
    runs(&world, "shop", &second);
    // The files change, the server is the same.
    sh(&world, "cp two.crt new.crt; cp two.key hook.key; mv new.crt hook.crt");
    let third = set_value(&world, "shop", "three");
    assert_eq!(deliver("https", "two.crt"), "202");
    runs(&world, "shop", &third);
    assert!(!status(&world, "shop").to_string().contains("s3cret"));
    drop(server);
    world.stop();
}
