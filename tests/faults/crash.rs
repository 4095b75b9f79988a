//! kill -9 at any moment: what was acknowledged is there, what ran goes on, nothing is there twice, and nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use strake_tests::{Dice, Follow, PATIENCE, World, needs, until};

/// How many pods the Deployment wants.
const REPLICAS: usize = 3;
/// Objects beside it, so that the server dies between the writes of one apply.
const SETTINGS: usize = 12;

fn manifests(version: usize) -> String {
    let mut text = format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {REPLICAS}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: web
        imagePullPolicy: IfNotPresent
        env:
        - {{name: VERSION, value: \"{version}\"}}
        - {{name: PORT, value: \"8080\"}}
        readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
        resources: {{limits: {{memory: 64Mi}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"
    );
    for number in 0..SETTINGS {
        text.push_str(&format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings-{number}}}\ndata: {{version: \"{version}\"}}\n"));
    }
    text
}

struct Crash {
    world: World,
    dice: Dice,
    version: usize,
    /// Objects whose creation was acknowledged.
    acknowledged: BTreeSet<String>,
    /// The containers that ran when the server died last.
    before: BTreeMap<String, i64>,
}

impl Crash {
    fn new() -> Crash {
        let world = World::new();
        world.program("app/guestbook");
        world.write("app/Dockerfile", "# image: web\nFROM scratch\nCOPY guestbook /crash-web\nSTOPSIGNAL SIGKILL\nCMD [\"/crash-web\", \"store\"]\n");
        Crash { world, dice: Dice::new(1), version: 0, acknowledged: BTreeSet::new(), before: BTreeMap::new() }
    }

    fn write(&mut self) {
        self.version += 1;
        self.world.write("app/app.yaml", manifests(self.version));
    }

    /// An apply that runs while something else happens.
    fn begin_apply(&self) -> Child {
        let mut command = self.world.strake_command(&["apply", "app", "--progress", "plain", "--timeout", "120"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("strake runs")
    }

    /// Takes down what it was told had been written.
    fn end_apply(&mut self, apply: Child) {
        let output = apply.wait_with_output().expect("ended");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let created = text.lines().filter_map(|line| line.strip_prefix("created").or_else(|| line.strip_prefix("changed")));
        self.acknowledged.extend(created.map(|id| id.trim().to_owned()));
    }

    /// The server dies while it starts.
    fn while_starting(&mut self) {
        let delay = self.dice.millis(400);
        let mut server = self.world.strake_command(&["serve"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strake runs");
        sleep(delay);
        server.kill().expect("killed");
        server.wait().expect("ended");
    }

    /// The server dies while an apply speaks to it, and is started again while that waits.
    fn while_applying(&mut self, limit: u64) {
        self.write();
        let apply = self.begin_apply();
        sleep(self.dice.millis(limit));
        self.world.kill_server();
        self.before = self.world.running_containers();
        self.world.serve();
        self.end_apply(apply);
    }

    /// The server dies while it stops; `strake stop` still ends well.
    fn while_stopping(&mut self) {
        let mut stop = self.world.strake_command(&["stop"]).stdout(Stdio::null()).spawn().expect("strake runs");
        sleep(self.dice.millis(150));
        self.world.kill_server();
        let ended = until(PATIENCE, || stop.try_wait().expect("waited").is_some());
        assert!(ended && stop.wait().expect("ended").success(), "stop ends well");
        self.nothing_runs("after a stop whose server was killed");
    }

    /// Checks everything that must hold after a restart.
    fn recovered(&mut self, what: &str) {
        for id in &self.acknowledged {
            let (kind, name) = id.split_once('/').unwrap_or_else(|| panic!("{id}"));
            let name = name.split_whitespace().next().unwrap_or(name);
            let found = self.world.strake(&["get", kind, name, "-o", "json"]);
            assert_eq!(found.code, 0, "{what}: {id} was acknowledged, now: {}\n{}", found.all(), self.world.server_log());
        }
        let applied = self.world.strake(&["apply", "app", "--timeout", "120"]);
        assert_eq!(applied.code, 0, "{what}: {}\n{}", applied.all(), self.world.server_log());
        self.settled(what);
        let now = self.world.running_containers();
        for (id, before, pid) in now.iter().filter_map(|(id, pid)| Some((id, self.before.get(id)?, pid))) {
            assert_eq!(before, pid, "{what}: {id} went on");
        }
    }

    /// Exactly the wanted pods of the newest version, one container each, none of them started twice.
    fn settled(&self, what: &str) {
        let version = self.version.to_string();
        let good = || {
            let pods = self.world.list("pods");
            pods.len() == REPLICAS && pods.iter().all(|pod| pod["spec"]["containers"][0]["env"][0]["value"] == version.as_str())
        };
        self.world.eventually(&format!("{what}: {REPLICAS} pods of version {version}"), good);
        let pods = self.world.list("pods");
        let wanted: BTreeSet<String> = pods.iter().map(|pod| format!("{}_web_0", pod["metadata"]["uid"].as_str().expect("a uid"))).collect();
        let same = || self.world.running_containers().into_keys().collect::<BTreeSet<_>>() == wanted && self.processes() == REPLICAS;
        let state = || format!("{what}: wanted {wanted:?}, there are {:?}, {} processes", self.world.running_containers(), self.processes());
        let statuses = || self.world.list("pods").iter().map(|pod| format!("{:#}", pod["status"]["containerStatuses"])).collect::<String>();
        assert!(until(PATIENCE, same), "{}\n{}\n{}", state(), statuses(), self.world.server_log());
        for pod in pods {
            assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{what}: {pod:#}");
        }
    }

    fn processes(&self) -> usize {
        self.world.processes(&["/crash-web", "store"]).len()
    }

    #[track_caller]
    fn nothing_runs(&self, what: &str) {
        self.world.nothing_left();
        assert!(until(PATIENCE, || self.processes() == 0), "{what}: {} processes", self.processes());
        for name in ["containers", "containers-fs", "pods", "run/netns"] {
            let left: Vec<_> = std::fs::read_dir(self.world.root().join(name)).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
            assert!(left.is_empty(), "{what}: {name} holds {left:?}");
        }
    }
}

#[test]
fn kill_9_of_the_server_at_any_moment_loses_nothing_doubles_nothing_and_leaves_nothing() {
    needs!();
    let mut crash = Crash::new();
    let mut checked = 0;
    for round in 0..4 {
        crash.while_starting();
        crash.world.serve();
        crash.while_applying(400);
        crash.recovered(&format!("round {round}, apply"));

        crash.world.kill_server();
        crash.before = crash.world.running_containers();
        crash.while_starting();
        crash.world.serve();
        crash.recovered(&format!("round {round}, start"));
        assert_eq!(crash.world.running_containers(), crash.before, "the same containers go on");

        crash.while_applying(1200);
        crash.recovered(&format!("round {round}, rollout"));

        crash.while_stopping();
        crash.world.serve();
        checked += crash.acknowledged.len();
        crash.world.strake(&["down", "app"]).ok();
        crash.acknowledged.clear();
        crash.world.stop();
        crash.nothing_runs(&format!("round {round}"));
    }
    assert!(checked > SETTINGS, "acknowledgements were read");
}

/// Copies of everything that a process has open: what a program that it is just starting has, until it is executed.
fn inherited(pid: Pid) -> Vec<OwnedFd> {
    let process = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
    let numbers = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_pid())).expect("its descriptors").flatten();
    let copies = numbers.filter_map(|entry| pidfd_getfd(&process, entry.file_name().to_str()?.parse().ok()?, PidfdGetfdFlags::empty()).ok());
    copies.collect()
}

#[test]
fn what_a_killed_server_was_about_to_start_keeps_its_successor_waiting_and_no_more() {
    needs!();
    let world = World::new();
    world.serve();
    let next = |args: &[&str]| {
        let copies = inherited(world.server().expect("a server"));
        assert!(copies.len() > 8, "its sockets, its state, its lock");
        world.kill_server();
        let begun = Follow::start(world.strake_command(args));
        sleep(Duration::from_millis(400));
        drop(copies);
        begun.end().ok()
    };
    next(&["serve", "--detach"]);
    world.node();
    let stopped = next(&["stop"]);
    assert!(stopped.stdout.contains("no server ran"), "{}", stopped.all());
    world.nothing_left();
}

/// Steps that take a while each, with a program of their own name; `$ROUND` makes them new.
const STEPS: &str = "FROM busybox:1 AS a
ARG ROUND
COPY guestbook /crash-build
RUN sleep 0.1; echo a$ROUND > /a
FROM busybox:1
ARG ROUND
RUN mkdir -p /deep/er && echo b$ROUND > /deep/er/b && sleep 0.1
COPY --from=a /a /crash-build /
RUN sleep 0.1; cat /a /deep/er/b > /c; rm /a
";

fn build_world() -> World {
    let world = World::new();
    world.import_busybox();
    world.program("app/guestbook");
    world.write("app/Dockerfile", STEPS);
    world
}

/// The image's digest.
fn build(world: &World, root: &str, round: u64) -> String {
    let root = world.path(root);
    let round = format!("ROUND={round}");
    world.strake(&["--root", root.to_str().expect("UTF-8"), "build", "--quiet", "--build-arg", &round, "-t", "x", "app"]).ok().stdout
}

#[test]
fn kill_9_of_a_build_at_any_moment_leaves_a_store_that_builds_the_same() {
    needs!("busybox");
    let world = build_world();
    let mut dice = Dice::new(2);
    for round in 0..20 {
        let argument = format!("ROUND={round}");
        let mut command = world.strake_command(&["build", "--progress", "plain", "--build-arg", &argument, "-t", "x", "app"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strake runs");
        sleep(dice.millis(700));
        child.kill().expect("killed");
        child.wait().expect("ended");
        if round % 5 == 4 {
            world.nothing_left();
            let digest = build(&world, "root", round);
            world.strake(&["image", "verify"]).ok();
            nothing_of_builds(&world, round);
            assert_eq!(digest, clean_build(&world, round), "round {round}: the build after the crash is right");
        }
    }
    world.nothing_left();
}

/// The same build in a store that has never seen a crash.
fn clean_build(world: &World, round: u64) -> String {
    let name = format!("clean-{round}");
    let root = world.path(&name);
    world.strake(&["--root", root.to_str().expect("UTF-8"), "image", "import", "base", "busybox:1"]).ok();
    build(world, &name, round)
}

fn nothing_of_builds(world: &World, round: u64) {
    for name in ["containers", "containers-fs"] {
        let left: Vec<_> = std::fs::read_dir(world.root().join(name)).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
        assert!(left.is_empty(), "round {round}: {name} holds {left:?}");
    }
    let sessions: Vec<_> = std::fs::read_dir(world.root().join("tmp")).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()).collect();
    assert!(sessions.is_empty(), "round {round}: temporaries of dead builds: {sessions:?}");
}

#[test]
fn two_builds_at_once_share_their_steps() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    // What it makes is never the same twice: equal images mean that it ran once.
    world.write("app/Dockerfile", "FROM busybox:1\nRUN sleep 0.5; cat /proc/sys/kernel/random/uuid > /id\nRUN cat /id /id > /twice\n");
    let begin = || world.strake_command(&["build", "--quiet", "app"]).stdout(Stdio::piped()).spawn().expect("strake runs");
    let both = [begin(), begin()].map(|child| child.wait_with_output().expect("ended"));
    let [first, second] = both.map(|output| (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()));
    assert!(first.0 && first.1.starts_with("sha256:"), "{first:?}");
    assert_eq!(first, second);
    world.strake(&["image", "verify"]).ok();
    world.nothing_left();
}
