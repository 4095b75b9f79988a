//! RUN for another machine, by an interpreter that is registered with the kernel.
//!
//! What is registered here is for the whole machine: a RUN's process has the user namespace of the machine, and in one of its own no device node could be
//! made for it. So what is registered fits the test's own file only (programs that begin nowhere and have neither segments nor sections are none), and the
//! process that holds it takes it back as soon as the test is gone, however it ends.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use strake_tests::{World, find, needs, skip};

/// An architecture that no machine runs tests on, and few have an emulator for.
const PLATFORM: &str = "linux/mips64";
/// Where a program's type stands in its header: its lowest bit tells the two types of programs apart.
const TYPE: usize = 17;
/// As much of the header as a registration looks at: the entry point and the places of segments and sections included.
const LOOKED_AT: usize = 48;

/// The header of a program for [`PLATFORM`]: 64 bits, big-endian, machine 8, and nothing in it.
fn header() -> [u8; 64] {
    let mut header = [0; 64];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 2, 1]);
    (header[TYPE], header[19], header[23]) = (2, 8, 1);
    header
}

/// An interpreter that is registered for as long as this lives: a shell, which runs what follows the header.
struct Registered(Child);

impl Registered {
    /// `flags` as the kernel has them, `on` or switched off.
    fn new(world: &World, flags: &str, on: bool) -> Result<Self, String> {
        let shell = world.path("interpreter/sh");
        std::fs::create_dir_all(world.path("interpreter")).expect("a folder");
        std::fs::copy(find("busybox").expect("found by needs!"), &shell).expect("copied");
        let mut mask = [0xff; LOOKED_AT];
        mask[TYPE] = 0xfe;
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let name = format!("strake-test-{}", std::process::id());
        let line = format!(":{name}:M:0:{}:{}:{}:{flags}", hex(&header()[..LOOKED_AT]), hex(&mask), shell.display());
        // The pipe closes with the test, also when that is killed: then `read` ends.
        let script = "at=/proc/sys/fs/binfmt_misc; mount -t binfmt_misc none $at && printf %s \"$1\" > $at/register || exit 1
            echo $3 > $at/$2; echo ready; read -r word; echo -1 > $at/$2";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", &line, &name, if on { "1" } else { "0" }]);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take().expect("a pipe")).read_line(&mut said).map_err(|error| error.to_string())?;
        if said == "ready\n" {
            return Ok(Registered(holder));
        }
        holder.wait().expect("ended");
        holder.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        Err(said)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_foreign_run_needs_an_interpreter_and_is_run_by_it() {
    needs!("busybox");
    let world = World::new();
    let program = [&header()[..], b"\necho \"$0 $* $WORD\" > /out\n"].concat();
    let path = world.write("app/foreign", program);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let lines =
        "FROM scratch AS made\nENV WORD=three\nCOPY foreign /bin/foreign\nRUN [\"/bin/foreign\", \"one\", \"two\"]\nFROM scratch\nCOPY --from=made /out /out\n";
    world.write("app/Dockerfile", lines);
    let build = |more: &[&str]| world.strake(&[&["build", "--progress", "plain", "--platform", PLATFORM], more, &["app"]].concat());
    let plain = build(&[]);
    if plain.code == 0 {
        return skip(module_path!(), "this machine has an interpreter for mips64 of its own");
    }
    let refused = plain.fails(1, "app/Dockerfile:4: stage made runs a command of linux/mips64, and this machine cannot: ");
    assert!(refused.stderr.contains("register an emulator with flag F"), "{}", refused.stderr);
    let register = |flags: &str, on: bool| Registered::new(&world, flags, on);
    let unfixed = match register("", true) {
        Ok(registered) => registered,
        Err(why) => return skip(module_path!(), &format!("no interpreter can be registered: {why}")),
    };
    build(&[]).fails(1, "is registered without flag F, so that");
    drop(unfixed);
    build(&[]).fails(1, "no interpreter for mips64 is registered with binfmt_misc");
    let off = register("F", false).expect("registered");
    build(&[]).fails(1, "is switched off in binfmt_misc");
    drop(off);
    let registered = register("F", true).expect("registered");
    build(&["-o", "out", "-t", "foreign:1", "--target", "made"]).ok();
    assert_eq!(std::fs::read_to_string(world.path("out/out")).expect("written by the RUN"), "/bin/foreign one two three\n");
    let inspected = world.strake(&["image", "inspect", "foreign:1"]).ok().stdout;
    let image: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
    assert_eq!(image["config"]["architecture"], "mips64");
    let again = build(&[]).ok().stderr;
    assert!(again.lines().any(|line| line.contains("RUN [\"/bin/foreign\"") && line.contains("CACHED")), "{again}");
    drop(registered);
    build(&[]).fails(1, "no interpreter for mips64 is registered with binfmt_misc");
    world.nothing_left();
}
