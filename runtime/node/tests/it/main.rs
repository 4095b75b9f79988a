//! The node with a real API in memory, real containers and a real network; each test in network and mount namespaces of its own.
//! Needs root, `unshare` and a static busybox; says so loudly where one is missing.
//!
//! This has a main of its own, because the test binary is also what is executed again as monitor and exec helper.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test binary whose main is its own")]

mod lives;
mod networked;
mod scripted;
mod stage;

use std::process::{Command, ExitCode};

use stage::Stage;

type Test = (&'static str, fn(Stage));

const MARK: &str = "STRAKE_TEST_INSIDE";

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if let Some(code) = strake_container::intercept(&args) {
        return ExitCode::from(code as u8);
    }
    let tests: Vec<Test> = [scripted::TESTS, lives::TESTS, networked::TESTS].concat();
    if std::env::args().any(|arg| arg == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Some(name) = std::env::var_os(MARK) {
        let found = tests.iter().find(|(test, _)| name == *test);
        let (_, test) = found.expect("the outer run names a test");
        test(Stage::new());
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = stage::missing() {
        println!("\nSKIPPED: the node's kernel tests did not run: {reason}\n");
        return ExitCode::SUCCESS;
    }
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, _) in tests.iter().filter(|(name, _)| wanted(name)) {
        if run_alone(name) {
            passed += 1;
        } else {
            failed.push(*name);
        }
    }
    println!("\ntest result: {passed} passed; {} failed {failed:?}\n", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one test in a process with namespaces of its own.
fn run_alone(name: &str) -> bool {
    let own = std::env::current_exe().unwrap();
    let done = Command::new("unshare").args(["--net", "--mount", "--propagation", "private"]).arg(own).env(MARK, name).output().unwrap();
    let ok = done.status.success();
    println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if !ok || std::env::args().any(|arg| arg == "--nocapture") {
        println!("{said}");
    }
    ok
}
