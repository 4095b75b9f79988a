//! Shells in steps: after a failure, and in the place of a step, through a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Child;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use strake_tests::{World, needs};

/// A build on a terminal of its own.
struct Session {
    child: Child,
    master: File,
    seen: String,
}

impl Session {
    fn start(world: &World, args: &[&str]) -> Session {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("unlocked");
        let slave: OwnedFd = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("its other side");
        let copy = || slave.try_clone().expect("a copy");
        let mut command = world.strake_command(args);
        command.env("TERM", "vt100").stdin(copy()).stdout(copy()).stderr(copy());
        let child = command.spawn().expect("strake runs");
        Session { child, master: File::from(master), seen: String::new() }
    }

    /// Reads until a text is there; the end of the program is an error.
    #[track_caller]
    fn until(&mut self, text: &str) {
        while !self.seen.contains(text) {
            assert!(self.more(), "never {text:?} in:\n{}", self.seen);
        }
    }

    fn more(&mut self) -> bool {
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        let limit = Timespec { tv_sec: 120, tv_nsec: 0 };
        assert!(poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0), "nothing is said any more:\n{}", self.seen);
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
                true
            }
        }
    }

    fn say(&mut self, line: &str) {
        self.master.write_all(line.as_bytes()).and_then(|()| self.master.write_all(b"\n")).expect("typed");
    }

    /// Reads to the end and gives the exit code.
    fn end(mut self) -> (Option<i32>, String) {
        while self.more() {}
        (self.child.wait().expect("ended").code(), self.seen)
    }
}

const DOCKERFILE: &str = "FROM busybox:1 AS base\nENV GREETING=hello\nWORKDIR /work\nCOPY <<EOF /copied\ntext\nEOF\n\
    RUN --mount=type=secret,id=tok,target=/tok,env=TOK --mount=type=tmpfs,target=/memory echo made > /made; exit 3\n\
    FROM base AS last\nRUN echo never\n";

#[test]
fn a_failed_step_is_looked_at_where_it_failed() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    world.write("app/Dockerfile", DOCKERFILE);
    world.write("secret", "se-cret");
    let args = ["build", "-t", "x", "--on-error", "shell", "--secret", "id=tok,src=secret", "app"];
    let mut session = Session::start(&world, &args);
    session.until("what you change here is thrown away");
    session.say("echo A$(cat /made)B$GREETING-$(pwd)-$(cat /tok)-$TOK-$TERM; grep -c ' /memory tmpfs' /proc/mounts; touch /mine; echo done$((1+1))");
    session.until("done2");
    assert!(session.seen.contains("AmadeBhello-/work-se-cret-se-cret-vt100"), "{}", session.seen);
    assert!(session.seen.contains("\n1\r"), "{}", session.seen);
    session.say("exit 7");
    let (code, seen) = session.end();
    assert_eq!(code, Some(1), "{seen}");
    assert!(seen.contains("the command ended with exit code 3"), "{seen}");
    // Nothing of it is remembered, and without a terminal there is no shell.
    let ran = world.strake(&args);
    assert!(ran.code == 1 && ran.stderr.contains("no shell will be opened") && ran.stderr.contains("exit code 3"), "{}", ran.stderr);
    assert!(!world.strake(&["images"]).ok().stdout.contains("x:latest"));
    world.nothing_left();
}

#[test]
fn a_shell_takes_the_place_of_a_step() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    world.write("app/Dockerfile", DOCKERFILE);
    // A RUN has not run; after anything else it is done; a stage's name is its end.
    for (place, command, expected) in [
        (":7", "ls /made; echo A$(cat /copied)$(pwd)B$((1+1))", "Atext/workB2"),
        ("Dockerfile:3", "ls /copied; echo A$(pwd)$GREETING-B$((1+1))", "A/workhello-B2"),
        ("2", "echo A$(cat /copied)B$((1+1))", "AtextB2"),
        ("base", "echo A$(cat /copied)B$((1+1))", "AtextB2"),
    ] {
        let mut session = Session::start(&world, &["build", "-t", "x", "--debug-step", place, "app"]);
        session.until("what you change here is thrown away");
        session.say(command);
        session.until(expected);
        session.say("exit");
        let (code, seen) = session.end();
        assert_eq!(code, Some(0), "{place}: {seen}");
        assert_eq!(seen.contains("No such file"), place.ends_with(":7") || place.ends_with(":3"), "{place}: {seen}");
    }
    assert!(!world.strake(&["images"]).ok().stdout.contains("x:latest"));
    world.strake(&["build", "--debug-step", "base", "app"]).fails(2, "needs a terminal");
    for (place, said) in [("nowhere", "the stages are base, last"), (":0", "no instruction stands on line 0"), ("99", "counted from 0")] {
        let (code, seen) = Session::start(&world, &["build", "--debug-step", place, "app"]).end();
        assert!(code == Some(2) && seen.contains(said), "{place}: {seen}");
    }
    // What has no shell says so.
    world.write("bare/Dockerfile", "FROM scratch\nCOPY <<EOF /x\nEOF\n");
    let (_, seen) = Session::start(&world, &["build", "--debug-step", ":2", "bare"]).end();
    assert!(seen.contains("no shell is opened"), "{seen}");
    world.nothing_left();
}
