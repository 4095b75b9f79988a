//! Ctrl-C and SIGTERM at any moment: 130 at once, a word about what stays, nothing left.

use std::thread::sleep;

use rustix::process::{Pid, Signal, kill_process};
use strake_tests::{Dice, Follow, PATIENCE, Ran, World, needs, pod, until};

/// Starts strake and waits until it hears signals: before that, the kernel itself ends it.
#[track_caller]
fn begin(world: &World, args: &[&str]) -> Follow {
    let mut command = Follow::start(world.strake_command(args));
    assert!(command.hears(), "{args:?} has ended: {:#?}", command.end());
    command
}

/// Sends the signal; gives what it had said. All these commands would wait for hours if nobody interrupted them.
#[track_caller]
fn interrupt(mut command: Follow, signal: Signal) -> Ran {
    command.signal(signal);
    let ran = command.end();
    assert_eq!(ran.code, 130, "{signal:?}: {ran:#?}");
    assert!(!ran.stderr.contains("panicked"), "{ran:#?}");
    ran
}

fn either(dice: &mut Dice) -> Signal {
    if dice.below(2) == 0 { Signal::INT } else { Signal::TERM }
}

#[track_caller]
fn none_of(world: &World, words: &[&str]) {
    assert!(until(PATIENCE, || world.processes(words).is_empty()), "{words:?} goes on");
}

#[track_caller]
fn one_of(world: &World, words: &[&str]) {
    assert!(until(PATIENCE, || !world.processes(words).is_empty()), "{words:?} does not run");
}

#[test]
fn a_build_at_any_moment() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    world.program("app/guestbook");
    let mut dice = Dice::new(3);
    for round in 0..8 {
        let steps = format!("FROM busybox:1\nCOPY guestbook /x\nRUN sleep 0.2; echo {round} > /y\nRUN sleep 77777\n");
        world.write("app/Dockerfile", steps);
        let build = begin(&world, &["build", "--progress", "plain", "app"]);
        sleep(dice.millis(700));
        let said = interrupt(build, either(&mut dice)).stderr;
        assert!(said.contains("interrupted"), "round {round}: {said}");
        world.nothing_left();
        none_of(&world, &["sleep", "77777"]);
    }
    let build = begin(&world, &["build", "--progress", "plain", "app"]);
    one_of(&world, &["sleep", "77777"]);
    let said = interrupt(build, Signal::INT).stderr;
    assert!(said.contains("interrupted") && said.contains("given up"), "{said}");
    world.strake(&["image", "verify"]).ok();
    world.nothing_left();
}

/// The process that owns the step's container is stopped, so that the build waits for it in vain after the first Ctrl-C.
#[test]
fn a_build_that_hangs_on_its_first_interrupt_ends_at_its_second() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    world.write("app/Dockerfile", "FROM busybox:1\nRUN sleep 88888\n");
    let mut build = begin(&world, &["build", "--progress", "plain", "app"]);
    one_of(&world, &["sleep", "88888"]);
    let monitor = world.processes(&["strake", "__monitor"]);
    let [monitor] = monitor.as_slice() else { panic!("one step, one monitor: {monitor:?}") };
    let monitor = Pid::from_raw(*monitor).expect("a process");
    kill_process(monitor, Signal::STOP).expect("stopped");
    build.signal(Signal::INT);
    none_of(&world, &["sleep", "88888"]);
    assert!(!build.has_ended(), "it waits for the step's end: {}", build.stderr());
    let ran = interrupt(build, Signal::INT);
    assert!(ran.stderr.contains("interrupted"), "{ran:#?}");
    kill_process(monitor, Signal::CONT).expect("it goes on");
    // What that left is removed by the next build, as after a crash.
    none_of(&world, &["strake", "__monitor"]);
    world.write("app/Dockerfile", "FROM busybox:1\nRUN true\n");
    world.strake(&["build", "app"]).ok();
    let left: Vec<_> = std::fs::read_dir(world.root().join("containers")).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    world.strake(&["image", "verify"]).ok();
    world.nothing_left();
}

#[test]
fn up_at_any_moment_also_while_the_cluster_starts() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    world.write("app/Dockerfile", "# image: web\nFROM busybox:1\nRUN echo hello > /hello\nSTOPSIGNAL SIGKILL\nCMD [\"sleep\", \"66666\"]\n");
    // Never ready: an up that is not interrupted would wait.
    let never = "  initContainers: [{name: first, image: busybox:1, command: [sleep, \"66666\"]}]\n";
    world.write("app/app.yaml", pod("web", "sleep 66666", never));
    let up = || begin(&world, &["up", "app", "--progress", "plain", "--timeout", "3600"]);
    let mut dice = Dice::new(4);
    for round in 0..7 {
        let up = up();
        sleep(dice.millis(if round % 2 == 0 { 350 } else { 1500 }));
        let said = interrupt(up, either(&mut dice)).stderr;
        assert!(said.contains("interrupted"), "round {round}: {said}");
        if said.contains("starting was stopped") {
            let none = world.strake(&["get", "pods"]).fails(1, "no cluster runs");
            assert!(none.stdout.is_empty());
            world.nothing_left();
        }
        world.stop();
        none_of(&world, &["sleep", "66666"]);
    }
    // While the cluster starts, for sure: the moment its log appears. After it has started too: the moment that is told.
    let _ = std::fs::remove_file(world.root().join("run/serve.log"));
    let starting = up();
    assert!(until(PATIENCE, || world.root().join("run/serve.log").exists()));
    let said = interrupt(starting, Signal::INT).stderr;
    assert!(said.contains("interrupted"), "{said}");
    world.stop();
    let started = up();
    started.says("that it started the cluster", |said| said.contains("the cluster in"));
    let said = interrupt(started, Signal::INT).stderr;
    assert!(said.contains("interrupted"), "{said}");
    world.stop();
}

#[test]
fn an_interrupted_start_leaves_the_pods_of_an_earlier_life_alone() {
    needs!("busybox");
    let world = World::with_busybox();
    world.apply("web", &pod("web", "exec sleep 58585", "")).ok();
    let before = world.running_containers();
    let mut dice = Dice::new(6);
    for _ in 0..3 {
        world.kill_server();
        let mut start = Follow::start(world.strake_command(&["serve", "--detach"]));
        start.hears();
        sleep(dice.millis(60));
        start.signal(either(&mut dice));
        // It may have started before it heard.
        let ran = start.end();
        assert!(ran.code == 130 && ran.stderr.contains("interrupted") || ran.code == 0, "{ran:#?}");
        assert_eq!(world.running_containers(), before);
        if ran.code == 130 {
            world.serve();
        }
    }
    world.eventually("it is adopted", || world.container("web", "main")["ready"] == true);
    assert_eq!(world.container("web", "main")["restartCount"], 0);
    world.stop();
    none_of(&world, &["sleep", "58585"]);
}

#[test]
fn commands_that_wait_for_a_cluster() {
    needs!("busybox");
    let world = World::with_busybox();
    world.apply("good", &pod("web", "while true; do echo tick; sleep 0.1; done", "")).ok();

    let apply_world = pod("late", "sleep 55555", "  initContainers: [{name: first, image: busybox:1, command: [sleep, \"55555\"]}]\n");
    world.write("late/app.yaml", apply_world);
    let apply = begin(&world, &["apply", "late", "--progress", "plain", "--timeout", "3600"]);
    world.eventually("it waits", || world.get("pod", "late")["status"]["phase"] == "Pending");
    let said = interrupt(apply, Signal::TERM).stderr;
    assert!(said.contains("interrupted") && said.contains("run it again"), "{said}");

    let logs = begin(&world, &["logs", "-f", "web"]);
    logs.says("what the pod says", |said| said.contains("tick"));
    assert_eq!(interrupt(logs, Signal::INT).stderr, "");

    let watch = begin(&world, &["get", "pods", "-w"]);
    watch.says("the pod", |said| said.contains("web"));
    assert_eq!(interrupt(watch, Signal::INT).stderr, "");

    let exec = begin(&world, &["exec", "web", "--", "sleep", "44444"]);
    one_of(&world, &["sleep", "44444"]);
    interrupt(exec, Signal::INT);
    none_of(&world, &["sleep", "44444"]);

    // A pod that does not heed SIGTERM keeps `down` waiting for its grace.
    world.apply("deaf", &pod("deaf", "trap '' TERM; while true; do sleep 1; done", "").replace("GracePeriodSeconds: 0", "GracePeriodSeconds: 3600")).ok();
    let down = begin(&world, &["down", "deaf"]);
    world.eventually("it is being deleted", || world.get("pod", "deaf")["metadata"]["deletionTimestamp"].is_string());
    let said = interrupt(down, Signal::INT).stderr;
    assert!(said.contains("run it again"), "{said}");
    // It ends in order: the next one does not have to find out that nobody holds the lock.
    assert_eq!(world.get("lease", "strake-set-deaf")["spec"]["holderIdentity"].as_str().unwrap_or_default(), "", "the lock was given back");
    world.strake(&["delete", "pod", "deaf", "late", "web", "--grace-period", "0"]).ok();
    world.stop();
}

#[test]
fn a_server_in_the_foreground_ends_well_and_its_pods_go_on() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    let answers = || world.strake(&["get", "nodes"]).code == 0;
    let serve = || begin(&world, &["serve"]);
    let end = |mut server: Follow, signal: Signal| {
        server.signal(signal);
        let ran = server.end();
        assert_eq!(ran.code, 0, "{signal:?}: {ran:#?}");
        ran.stderr
    };
    let server = serve();
    assert!(until(PATIENCE, answers), "{}", server.stderr());
    world.apply("web", &pod("web", "sleep 33333", "")).ok();
    let before = world.running_containers();
    assert_eq!(before.len(), 1);
    let said = end(server, Signal::INT);
    assert!(said.contains("the pods go on"), "{said}");
    assert_eq!(world.running_containers(), before);
    // At any moment of the start too: the pods are not touched.
    let mut dice = Dice::new(5);
    for _ in 0..5 {
        let server = serve();
        sleep(dice.millis(250));
        end(server, either(&mut dice));
        assert_eq!(world.processes(&["sleep", "33333"]).len(), 1);
    }
    let server = serve();
    assert!(until(PATIENCE, answers), "{}", server.stderr());
    let status = || world.container("web", "main");
    world.eventually("it is adopted", || status()["ready"] == true);
    assert_eq!(status()["restartCount"], 0);
    assert_eq!(world.running_containers(), before);
    end(server, Signal::TERM);
    world.stop();
    none_of(&world, &["sleep", "33333"]);
}
