//! What the machine is and has: read once at the start.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Pods that a node takes.
const MOST_PODS: u32 = 110;
/// Kept from pods, for the machine itself.
const RESERVED_MEMORY_BYTES: u64 = 100 << 20;
/// The Kubernetes version whose node strake is.
const VERSION: &str = "v1.33.0+strake";

/// Facts of the machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub cpu_milli: u64,
    pub memory_bytes: u64,
    pub storage_bytes: u64,
    kernel: String,
    os_image: String,
    machine_id: String,
    system_uuid: String,
    boot_id: String,
}

impl Machine {
    /// Reads the machine; `root` says which file system counts as its storage.
    pub(crate) fn read(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let uname = rustix::system::uname();
        let storage = rustix::fs::statvfs(root).map_or(0, |facts| facts.f_blocks.saturating_mul(facts.f_frsize));
        Machine {
            cpu_milli: 1000 * std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory_bytes: memory(&text("/proc/meminfo")),
            storage_bytes: storage,
            kernel: uname.release().to_string_lossy().into_owned(),
            os_image: os_image(&text("/etc/os-release")),
            machine_id: text("/etc/machine-id"),
            system_uuid: text("/sys/class/dmi/id/product_uuid"),
            boot_id: crate::sandbox::boot_id(),
        }
    }

    /// Memory that pods may have.
    pub(crate) fn allocatable_memory_bytes(&self) -> u64 {
        self.memory_bytes.saturating_sub(RESERVED_MEMORY_BYTES)
    }

    fn resources(&self, memory_bytes: u64) -> Value {
        let mut resources = Map::new();
        resources.insert("cpu".to_owned(), (self.cpu_milli / 1000).to_string().into());
        resources.insert("memory".to_owned(), format!("{}Ki", memory_bytes / 1024).into());
        resources.insert("ephemeral-storage".to_owned(), format!("{}Ki", self.storage_bytes / 1024).into());
        resources.insert("pods".to_owned(), MOST_PODS.to_string().into());
        Value::Object(resources)
    }

    /// The labels that say what it is.
    pub(crate) fn labels(&self, name: &str) -> Value {
        json!({
            "kubernetes.io/hostname": name,
            "kubernetes.io/arch": architecture(),
            "kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": architecture(),
            "beta.kubernetes.io/os": "linux",
        })
    }

    /// The node's status; `ready` says whether it takes pods.
    pub(crate) fn status(&self, name: &str, addresses: &[String], ready: bool, transition: &str, now: &str) -> Value {
        let condition = |kind: &str, on: bool, reason: &str, message: &str| {
            let status = if on { "True" } else { "False" };
            json!({"type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now, "lastTransitionTime": transition})
        };
        let (reason, message) = if ready { ("KubeletReady", "strake is running pods") } else { ("NodeStopped", "strake was stopped") };
        let mut known: Vec<Value> = addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
        known.push(json!({"type": "Hostname", "address": name}));
        json!({
            "capacity": self.resources(self.memory_bytes),
            "allocatable": self.resources(self.allocatable_memory_bytes()),
            "conditions": [
                condition("MemoryPressure", false, "KubeletHasSufficientMemory", "there is enough memory"),
                condition("DiskPressure", false, "KubeletHasNoDiskPressure", "there is enough room on the disk"),
                condition("PIDPressure", false, "KubeletHasSufficientPID", "there are enough process numbers"),
                condition("Ready", ready, reason, message),
            ],
            "addresses": known,
            "nodeInfo": {
                "machineID": self.machine_id,
                "systemUUID": self.system_uuid,
                "bootID": self.boot_id,
                "kernelVersion": self.kernel,
                "osImage": self.os_image,
                "containerRuntimeVersion": concat!("strake://", env!("CARGO_PKG_VERSION")),
                "kubeletVersion": VERSION,
                "kubeProxyVersion": VERSION,
                "operatingSystem": "linux",
                "architecture": architecture(),
            },
        })
    }
}

/// Go's name of the architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn os_image(release: &str) -> String {
    let line = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or("Linux", |name| name.trim_matches('"')).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_machine_are_read() {
        assert_eq!(memory("MemTotal:       2048 kB\nMemFree: 1 kB\n"), 2 << 20);
        assert_eq!(memory(""), 0);
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(os_image(""), "Linux");
        let machine = Machine::read(Path::new("/"));
        assert!(machine.cpu_milli >= 1000 && machine.memory_bytes > 0 && machine.storage_bytes > 0);
        let status = machine.status("n", &["192.0.2.1".to_owned()], true, "t", "t");
        assert_eq!(status["conditions"][3]["status"], "True");
        assert_eq!(status["addresses"][1]["address"], "n");
    }
}
