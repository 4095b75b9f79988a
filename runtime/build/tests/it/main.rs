//! Builds on the real store, the real overlay and, where a busybox is, in real containers. Needs root; says so loudly where it is missing.
//!
//! This has a main of its own, because the test binary is also what is executed again as a container's monitor.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests without the usual harness: clippy does not see that they are tests")]

mod add;
mod cache;
mod copy;
mod ends;
mod outside;
mod room;
mod run;
mod same;
mod speed;
mod travel;
mod vary;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// A test: its name, whether it needs containers, and what it does.
pub type Test = (&'static str, Needs, fn());

/// What a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Root and overlayfs.
    Root,
    /// A static busybox at /bin/busybox as well.
    Containers,
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if let Some(code) = strake_container::intercept(&args) {
        return ExitCode::from(code as u8);
    }
    if ends::intercept(&args) || std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        println!("\nSKIPPED: no build test ran: they need root\n");
        return ExitCode::SUCCESS;
    }
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let tests: Vec<Test> =
        [copy::TESTS, add::TESTS, cache::TESTS, same::TESTS, run::TESTS, ends::TESTS, outside::TESTS, travel::TESTS, room::TESTS, vary::TESTS, speed::TESTS]
            .concat();
    let (mut passed, mut skipped, mut failed) = (0, 0, Vec::new());
    for (name, needs, test) in tests {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        if needs == Needs::Containers && !world::has_busybox() {
            println!("test {name} ... SKIPPED: it needs a static busybox at /bin/busybox");
            skipped += 1;
            continue;
        }
        let result = catch_unwind(AssertUnwindSafe(test));
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        match result {
            Ok(()) => passed += 1,
            Err(_) => failed.push(name),
        }
    }
    println!("\ntest result: {passed} passed; {skipped} skipped; {} failed {failed:?}\n", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
