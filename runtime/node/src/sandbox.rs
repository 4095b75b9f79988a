//! A pod's sandbox: its directory, its volumes, its network. What is needed after a crash is written down beside it.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strake_kinds::core::Pod;

use crate::env::Facts;
use crate::names::{self, Surroundings};
use crate::shared::Shared;
use crate::volumes;

/// The note in a pod's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// `None` on the node's network.
    pub address: Option<Ipv4Addr>,
    /// The run of the machine it was made in: memory volumes and namespaces don't outlive it.
    pub boot_id: String,
}

const NOTE: &str = "sandbox.json";
const POD: &str = "pod.json";

/// A pod's directory.
pub(crate) fn directory(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

/// Where the log of one attempt of a container is.
pub(crate) fn log_path(root: &Path, uid: &str, container: &str, attempt: u32) -> PathBuf {
    directory(root, uid).join("logs").join(container).join(format!("{attempt}.log"))
}

/// Where a container writes its last words.
pub(crate) fn termination_path(root: &Path, uid: &str, container: &str, attempt: u32) -> PathBuf {
    directory(root, uid).join("termination").join(format!("{container}.{attempt}"))
}

/// The run of the machine.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Makes a sandbox and gives its addresses. What is there already stays.
///
/// # Errors
/// In words for the event.
pub(crate) fn prepare(shared: &Shared, pod: &Pod, facts: &Facts) -> Result<Vec<String>, String> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let directory = directory(&shared.root, uid);
    let said = |what: &Path| {
        let what = what.display().to_string();
        move |error: io::Error| format!("{what}: {error}")
    };
    let etc = directory.join("etc");
    fs::DirBuilder::new().recursive(true).mode(0o711).create(&etc).map_err(said(&etc))?;
    let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let address = if on_host { None } else { Some(shared.network.attach(uid).map_err(|error| crate::images::text(&error))?.address) };
    let addresses = address.map_or_else(|| shared.host_ips.clone(), |address| vec![address.to_string()]);
    write_etc(shared, pod, &etc, &addresses).map_err(said(&etc))?;
    let facts = Facts { pod_ips: addresses.clone(), ..facts.clone() };
    volumes::set_up(pod, &directory, &facts, &stamp()).map_err(|failed| {
        let message = format!("MountVolume.SetUp failed for volume \"{}\" : {}", failed.volume, failed.message);
        shared.events.pod(pod, None, "Warning", "FailedMount", message.clone());
        message
    })?;
    for message in crate::spec::unsupported(pod) {
        shared.events.pod(pod, None, "Warning", "UnsupportedField", message);
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let note = Note { uid: uid.to_owned(), namespace: text(&pod.metadata.namespace), name: text(&pod.metadata.name), address, boot_id: boot_id() };
    keep(&directory.join(POD), pod).and_then(|()| keep(&directory.join(NOTE), &note)).map_err(said(&directory))?;
    Ok(addresses)
}

/// The name of a new directory of files.
pub(crate) fn stamp() -> String {
    jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S_%f").to_string()
}

fn write_etc(shared: &Shared, pod: &Pod, etc: &Path, addresses: &[String]) -> io::Result<()> {
    let host_hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let host_resolv_conf = fs::read_to_string(&shared.network.options().resolv_conf).unwrap_or_default();
    let around = Surroundings {
        pod_ips: addresses,
        dns: shared.network.options().dns_address,
        domain: &shared.network.options().domain,
        node_name: &shared.name,
        host_hosts: &host_hosts,
        host_resolv_conf: &host_resolv_conf,
    };
    fs::write(etc.join("hosts"), names::hosts(pod, &around))?;
    fs::write(etc.join("resolv.conf"), names::resolv_conf(pod, &around))?;
    fs::write(etc.join("hostname"), names::hostname(pod, &shared.name) + "\n")
}

/// Written whole or not at all: a crash in between leaves the old one.
fn keep<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    let next = path.with_extension("next");
    fs::write(&next, bytes)?;
    fs::rename(&next, path)
}

/// Gives the address back and removes the volumes; logs stay until [`remove_directory`].
///
/// # Errors
/// In words for the log.
pub(crate) fn tear_down(shared: &Shared, uid: &str) -> Result<(), String> {
    let directory = directory(&shared.root, uid);
    shared.network.detach(uid).map_err(|error| crate::images::text(&error))?;
    volumes::tear_down(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    match fs::remove_file(directory.join(NOTE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!("{}: {error}", directory.display())),
        _ => Ok(()),
    }
}

/// Removes a pod's directory with all that is in it.
pub(crate) fn remove_directory(root: &Path, uid: &str) -> io::Result<()> {
    let directory = directory(root, uid);
    volumes::tear_down(&directory)?;
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The note of a pod, when its sandbox stood in this run of the machine.
pub(crate) fn note(root: &Path, uid: &str) -> Option<Note> {
    let bytes = fs::read(directory(root, uid).join(NOTE)).ok()?;
    serde_json::from_slice::<Note>(&bytes).ok()
}

/// The pod as it was when its sandbox was made.
pub(crate) fn kept_pod(root: &Path, uid: &str) -> Option<Pod> {
    let bytes = fs::read(directory(root, uid).join(POD)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The uids of all pods that have a directory.
pub(crate) fn known(root: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(root.join("pods")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()),
    }
}
