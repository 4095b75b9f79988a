//! The development loop: a save and the new code answers, whatever else happens meanwhile.

use rustix::process::Signal;
use serde_json::Value;
use strake_tests::{Follow, World, needs};

const DOCKERFILE: &str = "FROM busybox:1
RUN ln -s busybox /bin/tar
COPY www /www
STOPSIGNAL SIGKILL
CMD [\"sh\", \"-c\", \"echo hello from the log; httpd -f -p 8080 -h /www; exit 1\"]
";

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: web
          ports: [{containerPort: 8080}]
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 8080}]
";

/// A world with the app, and no cluster yet.
fn world() -> World {
    let world = World::new();
    world.import_busybox();
    world.write("app/Dockerfile", DOCKERFILE);
    world.write("app/www/index.html", "one");
    world.write("app/web.yaml", WEB);
    world
}

/// A running loop.
struct Loop {
    follow: Follow,
}

impl Loop {
    #[track_caller]
    fn start(world: &World, more: &[&str]) -> Loop {
        let args = [&["up", "app", "--watch", "--progress", "json"], more].concat();
        let found = Loop { follow: Follow::start(world.strake_command(&args)) };
        found.says("that it answers", |events| events.iter().any(|event| event["event"] == "answering"));
        found
    }

    fn events(&self) -> Vec<Value> {
        self.follow.stderr().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    #[track_caller]
    fn says(&self, what: &str, mut holds: impl FnMut(&[Value]) -> bool) {
        self.follow.says(what, |_| holds(&self.events()));
    }

    /// How often an event has come.
    fn count(&self, name: &str) -> usize {
        self.events().iter().filter(|event| event["event"] == name).count()
    }

    #[track_caller]
    fn fails(&self, stage: &str, words: &str) {
        let failed =
            |event: &Value| event["event"] == "failed" && event["stage"] == stage && event["message"].as_str().is_some_and(|text| text.contains(words));
        self.says(&format!("that {stage} failed with {words:?}"), |events| events.iter().any(failed));
    }

    /// Where an object's port is on this machine.
    #[track_caller]
    fn local(&self, object: &str) -> String {
        let mut found = None;
        self.says(&format!("where {object} is"), |events| {
            let entry = events.iter().rev().find(|event| event["event"] == "forwarding" && event["object"] == object);
            found = entry.and_then(|event| event["local"].as_str().map(str::to_owned));
            found.is_some()
        });
        found.expect("it was said")
    }

    /// Ends it as a person does.
    #[track_caller]
    fn interrupt(mut self) -> strake_tests::Ran {
        self.follow.signal(Signal::INT);
        let ran = self.follow.end();
        assert_eq!(ran.code, 130, "{ran:#?}");
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran
    }
}

fn page(world: &World, local: &str, path: &str) -> String {
    world.run("curl", &["-s", "-m", "60", &format!("http://{local}/{path}")]).stdout
}

#[track_caller]
fn answers(world: &World, running: &Loop, local: &str, text: &str) {
    let mut last = String::new();
    let held = strake_tests::until(strake_tests::PATIENCE, || {
        last = page(world, local, "");
        last == text
    });
    assert!(held, "expected {text:?}, found {last:?}:\n{}", running.follow.stderr());
}

fn pods(world: &World) -> Vec<String> {
    let living = world.list("pods").into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    living.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_save_answers_and_what_is_broken_is_survived() {
    needs!("busybox", "curl");
    let world = world();
    let running = Loop::start(&world, &[]);
    let local = running.local("service/web");
    answers(&world, &running, &local, "one");
    running.says("what the container says", |events| events.iter().any(|event| event["event"] == "log" && event["text"] == "hello from the log"));

    world.write("app/www/index.html", "two");
    answers(&world, &running, &local, "two");
    running.says("all stations in their order", |events| {
        let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
        let mut rest = names.iter().skip_while(|name| **name != "saved");
        ["saved", "building", "built", "rolled", "answering"].iter().all(|wanted| rest.any(|name| name == wanted))
    });

    // A build that fails, and a Dockerfile that is none: what runs goes on, and the loop too.
    world.write("app/Dockerfile", DOCKERFILE.replace("COPY", "RUN echo it is broken; false\nCOPY"));
    running.fails("build", "it is broken");
    assert_eq!(page(&world, &local, ""), "two");
    world.write("app/Dockerfile", DOCKERFILE.replace("FROM", "FORM"));
    running.fails("compile", "FORM");
    assert_eq!(page(&world, &local, ""), "two");
    world.write("app/www/index.html", "three");
    // An editor writes beside the file and renames over it.
    let beside = world.write("app/.Dockerfile.swp", DOCKERFILE);
    std::fs::rename(beside, world.path("app/Dockerfile")).expect("renamed");
    answers(&world, &running, &local, "three");

    // A rollout that cannot work is told, the old pod serves, and the save that mends it is not kept waiting.
    world.write("app/Dockerfile", DOCKERFILE.replace("httpd -f", "exit 3; httpd -f"));
    world.eventually("a new pod fails", || world.list("pods").iter().any(|pod| pod["status"]["containerStatuses"][0]["ready"] == false));
    assert_eq!(page(&world, &local, ""), "three");
    world.write("app/www/index.html", "four");
    world.write("app/Dockerfile", DOCKERFILE);
    answers(&world, &running, &local, "four");
    assert!(running.interrupt().stderr.contains("the app stays up"));
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn nothing_that_is_saved_is_lost() {
    needs!("busybox", "curl");
    let world = world();
    world.write("app/.dockerignore", "*.log\n");
    let running = Loop::start(&world, &[]);
    let local = running.local("service/web");
    let saved = running.count("saved");
    // What is ignored disturbs nobody; what follows shows that it was seen.
    world.write("app/noise.log", "x");
    for number in 0..60 {
        world.write(&format!("app/www/file-{}", number % 7), format!("{number}"));
        world.write("app/www/index.html", format!("{number}"));
    }
    answers(&world, &running, &local, "59");
    assert_eq!((page(&world, &local, "file-3"), page(&world, &local, "file-2")), ("59".to_owned(), "58".to_owned()));
    assert!(running.count("saved") > saved);
    assert!(!running.follow.stderr().contains("noise.log"), "{}", running.follow.stderr());

    // Files in directories that are new, and files that go.
    world.write("app/www/new/deep/page.html", "deep");
    world.eventually("a file in a new directory arrives", || page(&world, &local, "new/deep/page.html") == "deep");
    world.write("app/www/new/deep/page.html", "deeper");
    world.eventually("and is watched", || page(&world, &local, "new/deep/page.html") == "deeper");
    std::fs::remove_dir_all(world.path("app/www/new")).expect("removed");
    world.eventually("it goes", || !page(&world, &local, "new/deep/page.html").contains("deep"));

    // A manifest comes, is forwarded, and goes.
    world.write(
        "app/more/other.yaml",
        WEB.split("---\n").nth(1).expect("the Service").replace("name: web", "name: other").replace("{port: 8080}", "{port: 9090, targetPort: 8080}"),
    );
    let other = running.local("service/other");
    assert!(other.ends_with(":9090"), "{other}");
    answers(&world, &running, &other, "59");
    std::fs::remove_file(world.path("app/more/other.yaml")).expect("removed");
    world.eventually("it is deleted", || world.get("service", "other").is_null());
    world.eventually("and forwarded no more", || world.run("curl", &["-s", "-m", "60", &format!("http://{other}/")]).code == 7);
    answers(&world, &running, &local, "59");

    // Nothing of the loop is left; the app is.
    running.interrupt();
    assert_eq!(world.run("curl", &["-s", "-m", "60", &format!("http://{local}/")]).code, 7);
    assert_eq!(world.get("deployment", "web")["status"]["availableReplicas"], 1);
    let again = world.strake(&["up", "app"]).ok();
    assert!(again.stdout.contains("nothing to change"), "{}", again.all());
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn files_are_put_into_containers_and_the_next_up_deploys_them() {
    needs!("busybox", "curl");
    let world = world();
    let running = Loop::start(&world, &["--sync"]);
    let local = running.local("service/web");
    let before = pods(&world);
    world.write("app/www/index.html", "two");
    running.says("that it was synced", |events| events.iter().any(|event| event["event"] == "synced" && event["deployed"] == false));
    answers(&world, &running, &local, "two");
    world.write("app/www/sub/page", "there");
    world.eventually("a new directory arrives", || page(&world, &local, "sub/page") == "there");
    std::fs::remove_dir_all(world.path("app/www/sub")).expect("removed");
    world.eventually("what is removed goes", || page(&world, &local, "sub/page") != "there");
    assert_eq!(pods(&world), before, "no pod was replaced");
    assert_eq!(world.get("pod", &before[0])["metadata"]["labels"]["strake.dev/synced"], "true");
    let status = world.strake(&["status", "app"]).stdout;
    assert!(status.contains("synced, not deployed"), "{status}");
    assert_eq!(running.count("building"), 1, "{:?}", running.events());

    // A container that starts again has lost them: the loop makes an image.
    world.sh(&before[0], "kill -9 -1");
    running.says("that it builds", |events| events.iter().filter(|event| event["event"] == "building").count() >= 2);
    answers(&world, &running, &local, "two");
    world.eventually("the pod is another", || pods(&world).len() == 1 && pods(&world) != before);

    running.says("that it answers again", |events| events.iter().filter(|event| event["event"] == "answering").count() >= 2);

    // What was synced and is taken back is in no image and must not stay in a pod.
    world.write("app/www/index.html", "three");
    answers(&world, &running, &local, "three");
    let synced = pods(&world);
    assert!(running.interrupt().stderr.contains("in no image"));
    world.write("app/www/index.html", "two");
    world.strake(&["up", "app"]).ok();
    world.eventually("it is replaced", || !pods(&world).contains(&synced[0]));
    let pod = pods(&world).pop().expect("a pod");
    assert_eq!(world.sh(&pod, "cat /www/index.html").ok().stdout, "two");
    assert!(world.get("pod", &pod)["metadata"]["labels"]["strake.dev/synced"].is_null());
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn another_cluster_is_developed_against_in_the_same_way_and_left_empty_when_asked() {
    needs!("busybox", "curl");
    let world = world();
    world.serve();
    world.node();
    let kubeconfig = world.strake(&["kubeconfig", "--path"]).ok().stdout.trim().to_owned();
    let rule = "dev: {sync: [{image: web, from: www, to: /www, run: [sh, -c, 'echo ran > /www/ran']}]}\n";
    world.write("app/strake.yaml", rule);
    // A port that is taken is not.
    let blocker = Follow::start({
        let mut command = world.command("busybox");
        command.args(["httpd", "-f", "-p", "127.0.0.1:8080"]);
        command
    });
    world.eventually("the port is taken", || world.run("sh", &["-c", "grep -q ':1F90 00000000:0000 0A' /proc/net/tcp"]).code == 0);
    let running = Loop::start(&world, &["--kubeconfig", &kubeconfig, "--context", "strake", "--down-on-exit"]);
    let local = running.local("service/web");
    assert!(!local.ends_with(":8080"), "{local}");
    blocker.kill();
    answers(&world, &running, &local, "one");
    world.write("app/www/index.html", "two");
    answers(&world, &running, &local, "two");
    world.eventually("the project's command has run", || page(&world, &local, "ran") == "ran\n");

    let mut running = running;
    running.follow.signal(Signal::INT);
    let ran = running.follow.end();
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(world.get("deployment", "web").is_null() && world.get("service", "web").is_null());
    world.stop();
}

#[test]
fn a_round_that_the_cluster_did_not_answer_is_made_up_for_without_another_save() {
    needs!("busybox", "curl");
    let world = world();
    let running = Loop::start(&world, &[]);
    let local = running.local("service/web");
    answers(&world, &running, &local, "one");
    world.strake(&["stop"]).ok();
    world.write("app/www/index.html", "two");
    running.says("that there is no cluster", |events| events.iter().any(|event| event["event"] == "failed" && event["stage"] == "apply"));
    world.serve();
    running.says("that it answers again", |events| events.iter().any(|event| event["event"] == "again"));
    answers(&world, &running, &local, "two");
    running.interrupt();
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn a_save_reaches_another_cluster_by_way_of_its_registry() {
    needs!("busybox", "curl");
    let world = world();
    world.serve();
    let root = world.path("hub").display().to_string();
    let args = ["--root", &root, "registry", "serve", "--listen", "127.0.0.1:5000"];
    let registry = crate::repositories::Server::start(&world, &strake_tests::binary().display().to_string(), &args, 5000);
    let kubeconfig = world.strake(&["kubeconfig", "--path"]).ok().stdout.trim().to_owned();
    // To strake a cluster that is named is another one.
    let running = Loop::start(&world, &["--kubeconfig", &kubeconfig, "--push-to", "localhost:5000/dev"]);
    let local = running.local("service/web");
    answers(&world, &running, &local, "one");
    let image = || world.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned();
    let first = image();
    assert!(first.starts_with("localhost:5000/dev/web:latest@sha256:"), "{first}");
    world.write("app/www/index.html", "two");
    answers(&world, &running, &local, "two");
    assert!(image().starts_with("localhost:5000/dev/web:latest@sha256:") && image() != first, "{}", image());
    // A registry that is away is told, and what runs goes on.
    drop(registry);
    world.write("app/www/index.html", "three");
    running.fails("push", "localhost:5000");
    assert_eq!(page(&world, &local, ""), "two");
    running.interrupt();
    world.strake(&["down", "app"]).ok();
    world.stop();
}
