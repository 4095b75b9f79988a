//! Containers on the real kernel. Needs root and a static busybox; says so loudly where either is missing.
//!
//! This has a main of its own, because the test binary is also what is executed again as monitor and exec helper. After every test nothing may be left:
//! no mount, no cgroup, no process, no directory.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test binary whose main is its own")]

mod confinement;
mod contract;
mod daemon;
mod lifecycle;
mod output;
mod speed;
mod stage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use stage::Stage;

type Test = (&'static str, fn(&Stage));

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if let Some(code) = strake_container::intercept(&args) {
        return ExitCode::from(code as u8);
    }
    if let Some(code) = daemon::intercept(&args) {
        return ExitCode::from(code);
    }
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = stage::missing() {
        println!("\nSKIPPED: container kernel tests did not run: {reason}\n");
        return ExitCode::SUCCESS;
    }
    let tests: Vec<Test> = [contract::TESTS, lifecycle::TESTS, output::TESTS, confinement::TESTS, daemon::TESTS, speed::TESTS].concat();
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, test) in tests {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let stage = Stage::new();
        let result = catch_unwind(AssertUnwindSafe(|| {
            test(&stage);
            stage.assert_nothing_left();
        }));
        stage.clean_up();
        match result {
            Ok(()) => passed += 1,
            Err(_) => failed.push(name),
        }
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
    }
    println!("\ntest result: {passed} passed; {} failed {failed:?}\n", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
