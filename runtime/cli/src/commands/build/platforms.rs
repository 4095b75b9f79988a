//! `--platform`: which platforms, and whether this machine runs what they need.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use strake_oci::Platform;
use strake_plan::{BuildPlan, Op};
use strake_source::Sources;
use strake_stages::emulate::{Interpreter, Machine, foreign_runs};

use crate::failure::Failure;

/// Where the kernel shows which interpreters are registered.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// The platforms that are asked for, each once, in the order written; this machine's when there is none.
pub fn wanted(words: &[String]) -> Result<Vec<Platform>, Failure> {
    let mut platforms = Vec::new();
    for word in words.iter().map(|word| word.trim()).filter(|word| !word.is_empty()) {
        let platform =
            if word == "local" { Platform::host() } else { word.parse().map_err(|error| Failure::text(format!("--platform {word}: {error}")).with_code(2))? };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(if platforms.is_empty() { vec![Platform::host()] } else { platforms })
}

/// Refuses a plan with commands that this machine cannot run, before anything runs.
pub fn check(plan: &BuildPlan, sources: &Sources) -> Result<(), Failure> {
    let any = plan.steps.iter().any(|step| matches!(&step.op, Op::Run(run) if run.platform.is_some()));
    if !any {
        return Ok(());
    }
    let foreign = foreign_runs(plan, &Platform::host(), &machine());
    let mut text = String::new();
    for run in &foreign {
        let written = sources.iter().find(|(_, file)| file.name == run.origin.file);
        let line = written.and_then(|(_, file)| file.text.lines().nth(run.origin.line.saturating_sub(1) as usize)).unwrap_or(&run.origin.text);
        text = format!("{text}{}:{}: {run}\n  {:>4} | {line}\n", run.origin.file, run.origin.line, run.origin.line);
    }
    match foreign.first() {
        None => Ok(()),
        Some(first) => Err(Failure::text(format!("{text}  help: {}", first.reason.fix()))),
    }
}

/// What is registered with binfmt_misc. Where it is not mounted, it is mounted out of everybody's sight for as long as it is read; not in a user namespace,
/// which would get a list of its own by that, an empty one.
fn machine() -> Machine {
    let shown = Path::new(BINFMT);
    if shown.join("status").is_file() {
        return read(shown);
    }
    let ids = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if ids.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"] {
        return Machine::default();
    }
    match mounted() {
        Ok(mount) => read(&PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()))),
        Err(error) => {
            tracing::debug!(%error, "binfmt_misc cannot be mounted");
            Machine::default()
        }
    }
}

fn mounted() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

fn read(dir: &Path) -> Machine {
    let text = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name != "status" && name != "register").collect();
    names.sort_unstable();
    let interpreters = names.iter().filter_map(|name| Interpreter::parse(name, &text(name))).collect();
    Machine { visible: text("status").trim() == "enabled", interpreters }
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn platforms_are_read_once_each_in_order() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            wanted(&words).map(|platforms| platforms.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(of(&["linux/arm64/v8", "amd64", "linux/arm64"]).expect("read"), ["linux/arm64", "linux/amd64"]);
        assert_eq!(of(&[]).expect("read").len(), 1);
        assert!(of(&["linux/"]).is_err());
    }
}
