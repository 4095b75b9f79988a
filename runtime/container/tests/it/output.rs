//! Where output goes: pipe, log file, terminal.

use std::fs;
use std::path::PathBuf;

use strake_container::{ContainerSpec, Executor, Output};

use crate::Test;
use crate::stage::{Stage, eventually, read_all};

pub const TESTS: &[Test] = &[
    ("a_pipe_carries_both_streams", a_pipe_carries_both_streams),
    ("the_log_has_the_cri_format", the_log_has_the_cri_format),
    ("a_terminal_goes_to_log_or_pipe", a_terminal_goes_to_log_or_pipe),
    ("stdin_is_empty_or_kept_open", stdin_is_empty_or_kept_open),
    ("a_full_log_rotates", a_full_log_rotates),
    ("no_descriptor_leaks_in", no_descriptor_leaks_in),
    ("standard_streams_belong_to_the_user", standard_streams_belong_to_the_user),
    ("the_hosts_null_device_stays_out", the_hosts_null_device_stays_out),
];

fn logged(stage: &Stage, mut spec: ContainerSpec, max_bytes: u64, max_files: u32) -> (ContainerSpec, PathBuf) {
    let path = stage.extra("logs").join(format!("{}.log", spec.id));
    spec.output = Output::Log { path: path.clone(), max_bytes, max_files };
    (spec, path)
}

fn a_pipe_carries_both_streams(stage: &Stage) {
    assert_eq!(stage.says("echo one; echo two >&2; printf three"), "one\ntwo\nthree");
    let big = stage.says("head -c 3000000 /dev/zero | tr '\\0' x");
    assert_eq!(big.len(), 3_000_000);
}

/// (stream, tag, text) of every entry, after checking the time.
fn entries(text: &str) -> Vec<(String, String, String)> {
    let entry = |line: &str| {
        let mut parts = line.splitn(4, ' ').map(str::to_owned);
        let time = parts.next().unwrap();
        assert!(time.len() == 30 && time.ends_with('Z') && time.starts_with("20") && time.as_bytes()[10] == b'T', "{time}");
        (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
    };
    text.lines().map(entry).collect()
}

fn the_log_has_the_cri_format(stage: &Stage) {
    let script = "echo one; echo oops >&2; head -c 20000 /dev/zero | tr '\\0' x; echo; printf end";
    let (spec, path) = logged(stage, stage.shell(script), 0, 1);
    let (record, text) = stage.run(&spec);
    assert_eq!((record.code, text.as_str()), (0, ""));
    let entries = entries(&fs::read_to_string(&path).unwrap());
    let of = |stream: &str| -> Vec<(String, usize)> {
        entries.iter().filter(|entry| entry.0 == stream).map(|(_, tag, text)| (format!("{tag} {}", &text[..text.len().min(4)]), text.len())).collect()
    };
    let expected = [("F one", 3), ("P xxxx", 16384), ("F xxxx", 3616), ("P end", 3)].map(|(start, length)| (start.to_owned(), length));
    assert_eq!(of("stdout"), expected);
    assert_eq!(of("stderr"), [("F oops".to_owned(), 4)]);
}

fn a_terminal_goes_to_log_or_pipe(stage: &Stage) {
    let script = "tty; test -t 0 && test -t 1 && test -t 2 && echo all; ls -l /dev/console | cut -c1; echo $TERM";
    let expected = ["/dev/pts/0", "all", "c", "xterm"];
    let (mut spec, path) = logged(stage, stage.shell(script), 0, 1);
    spec.terminal = true;
    assert_eq!(stage.run(&spec).0.code, 0);
    let texts: Vec<String> = entries(&fs::read_to_string(&path).unwrap()).into_iter().map(|entry| entry.2.trim_end().to_owned()).collect();
    assert_eq!(texts, expected);
    let mut spec = stage.shell(script);
    spec.terminal = true;
    let (_, text) = stage.run(&spec);
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

fn stdin_is_empty_or_kept_open(stage: &Stage) {
    assert_eq!(stage.says("cat; echo end"), "end\n");
    let mut spec = stage.shell("cat; echo end");
    spec.stdin = true;
    let created = stage.executor.create(&spec).unwrap();
    stage.executor.start(&spec.id).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(matches!(stage.executor.status(&spec.id).unwrap(), strake_container::ContainerStatus::Running { .. }));
    stage.executor.signal(&spec.id, libc::SIGKILL).unwrap();
    assert_eq!(read_all(created.output.unwrap()), "");
    stage.executor.remove(&spec.id).unwrap();
}

fn a_full_log_rotates(stage: &Stage) {
    let (spec, path) = logged(stage, stage.shell("i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); done; sleep 1000"), 4000, 3);
    stage.start(&spec);
    let read = |suffix: &str| fs::read_to_string(format!("{}{suffix}", path.display())).unwrap_or_default();
    eventually("the last line is there", || read("").contains("line 399\n"));
    let all = read(".2") + &read(".1") + &read("");
    let lines: Vec<String> = entries(&all).into_iter().map(|entry| entry.2).collect();
    let first = 400 - lines.len();
    assert_eq!(lines, (first..400).map(|number| format!("line {number}")).collect::<Vec<_>>());
    assert!(lines.len() > 100 && read(".3").is_empty() && read("").len() <= 4000);
    stage.executor.remove(&spec.id).unwrap();
}

fn no_descriptor_leaks_in(stage: &Stage) {
    // A descriptor without close-on-exec in the creator must not reach the container either.
    let leak = fs::File::open("/etc").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let listing = "ls /proc/self/fd | tr '\\n' ' '";
    assert_eq!(stage.says(listing), "0 1 2 3 ", "3 is the listing's own");
    let spec = stage.spec(&["sleep", "1000"]);
    stage.start(&spec);
    let mut process = stage.exec(&spec.id, &["sh", "-c", listing]);
    assert_eq!(read_all(process.stdout.take().unwrap()), "0 1 2 3 ");
    drop(process);
    stage.executor.remove(&spec.id).unwrap();
}

fn standard_streams_belong_to_the_user(stage: &Stage) {
    let script = "echo a >/dev/stdout; echo b >/dev/stderr; echo c >>/proc/self/fd/1";
    for terminal in [false, true] {
        let mut spec = stage.shell(script);
        spec.user.uid = 1000;
        spec.terminal = terminal;
        let (record, text) = stage.run(&spec);
        assert_eq!((record.code, text.replace('\r', "").as_str()), (0, "a\nb\nc\n"));
    }
    let mut spec = stage.spec(&["sleep", "1000"]);
    spec.user.uid = 1000;
    stage.start(&spec);
    let mut process = stage.exec(&spec.id, &["sh", "-c", script]);
    assert_eq!(read_all(process.stdout.take().unwrap()), "a\nc\n");
    drop(process);
    stage.executor.remove(&spec.id).unwrap();
}

fn the_hosts_null_device_stays_out(stage: &Stage) {
    use std::os::unix::fs::MetadataExt;
    let before = fs::metadata("/dev/null").unwrap();
    let script = "chmod 600 /proc/self/fd/0; chown 7 /dev/null; stat -c %a /dev/null";
    assert_eq!(stage.says(script), "600\n");
    let spec = stage.spec(&["sleep", "1000"]);
    stage.start(&spec);
    assert_eq!(stage.exec(&spec.id, &["sh", "-c", script]).wait().unwrap(), 0);
    stage.executor.remove(&spec.id).unwrap();
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
}
