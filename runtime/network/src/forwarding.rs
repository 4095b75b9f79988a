//! The kernel's switch for forwarding: turned on for the pods, and put back when the network goes.
//!
//! What was set before is noted before anything is changed, with the boot it belongs to: a crash in between, or a power cut, leaves nothing that
//! a later teardown would put back wrongly.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::NetworkError;

const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";
const ON: &str = "1";

fn note(run_dir: &Path) -> PathBuf {
    run_dir.join("ip_forward.before")
}

/// What names this boot of the machine and this network namespace: a setting of another is not ours to put back.
fn here() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/thread-self/ns/net").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

fn read() -> Result<String, NetworkError> {
    let text = fs::read_to_string(SETTING).map_err(|source| NetworkError::ReadSysctl { path: SETTING.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

fn write(value: &str) -> Result<(), NetworkError> {
    fs::write(SETTING, value).map_err(|source| NetworkError::WriteSysctl { path: SETTING.to_owned(), source })
}

/// What was set before this network, when it was this network that changed it.
fn before(run_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(note(run_dir)).ok()?;
    let (value, place) = text.trim_end().split_once('\n')?;
    (place == here()).then(|| value.to_owned())
}

/// Lets this machine forward.
pub(crate) fn allow(run_dir: &Path) -> Result<(), NetworkError> {
    let now = read()?;
    if now == ON {
        return Ok(());
    }
    let path = note(run_dir);
    let beside = path.with_extension("new");
    let noted = fs::create_dir_all(run_dir).and_then(|()| fs::write(&beside, format!("{now}\n{}\n", here()))).and_then(|()| fs::rename(&beside, &path));
    noted.map_err(|source| NetworkError::NoteSetting { path, source })?;
    write(ON)
}

/// Puts back what was set before, unless somebody else has set it since.
pub(crate) fn restore(run_dir: &Path) -> Result<(), NetworkError> {
    if let Some(before) = before(run_dir)
        && read()? == ON
    {
        write(&before)?;
    }
    let path = note(run_dir);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(NetworkError::NoteSetting { path, source }),
        _ => Ok(()),
    }
}
