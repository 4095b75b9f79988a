//! Against docker-registry, filled by skopeo.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strake_registry::{Progress, PullOptions, RegistryError};
use strake_store::{Compression, Destination, Store};
use tempfile::TempDir;

use crate::{installed, open, pull, sample, text};

/// A running registry; ended and removed when dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) host: String,
    _dir: TempDir,
}

impl Registry {
    /// Nothing when it is not installed.
    pub(crate) fn start() -> Option<Self> {
        if !installed("docker-registry") || !installed("skopeo") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = dir.path().join("config.yml");
        let root = dir.path().join("data");
        std::fs::write(&config, format!("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n", root.display())).unwrap();
        let child = Command::new("docker-registry").args(["serve", text(&config)]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let registry = Registry { child, host, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(120);
        while std::net::TcpStream::connect(&registry.host).is_err() {
            assert!(Instant::now() < deadline, "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    /// Pushes what a store exports.
    fn push(&self, store: &Store, name: &str, compression: Compression) {
        let dir = tempfile::tempdir().unwrap();
        store.export_oci("docker.io/library/app:1", &Destination::Directory(dir.path().to_owned()), compression).unwrap();
        let target = format!("docker://{}/{name}", self.host);
        let source = format!("oci:{}:1", text(dir.path()));
        let output =
            Command::new("skopeo").args(["--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false", &source, &target]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_pushed_is_pulled() {
    let Some(registry) = Registry::start() else { return };
    let (_dir, source) = open();
    let image = sample(&source, "docker.io/library/app:1");
    for (name, compression) in [("group/app:gzip", Compression::Gzip), ("app:zstd", Compression::Zstd), ("app:none", Compression::None)] {
        registry.push(&source, name, compression);
        let (_other, store) = open();
        let reference = format!("{}/{name}", registry.host);
        let (pulled, seen) = pull(&reference, &store, PullOptions::default()).await;
        let pulled = pulled.unwrap();
        assert_eq!((pulled.config_digest, &pulled.config), (image.config_digest, &image.config));
        assert_eq!(store.unpack(&pulled).unwrap(), image.chain());
        assert_eq!(store.image(&reference).unwrap(), pulled);
        assert!(store.verify().unwrap().is_empty());
        assert!(matches!(seen[0], Progress::Resolved { total_bytes, .. } if total_bytes == pulled.size_bytes()));
        let fetched = |seen: &[Progress]| seen.iter().filter(|progress| matches!(progress, Progress::Complete { fetched: true, .. })).count();
        assert_eq!(fetched(&seen), 3);
        let (again, seen) = pull(&reference, &store, PullOptions::default()).await;
        assert_eq!((again.unwrap(), fetched(&seen)), (pulled.clone(), 0));
        let by_digest = format!("{}/{}@{}", registry.host, name.split(':').next().unwrap(), pulled.digest().unwrap());
        assert_eq!(pull(&by_digest, &store, PullOptions::default()).await.0.unwrap().digest().unwrap(), pulled.digest().unwrap());
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let Some(registry) = Registry::start() else { return };
    let (_dir, store) = open();
    for name in ["absent:1", "group/absent:latest"] {
        let error = pull(&format!("{}/{name}", registry.host), &store, PullOptions::default()).await.0.unwrap_err();
        assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(store.images().unwrap().is_empty());
}
