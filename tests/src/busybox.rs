//! A cluster with an image of a shell, and short ways to ask about what runs in it.

use serde_json::Value;

use crate::{PATIENCE, Ran, World, find, until};

/// Applets that the tests' scripts use.
const APPLETS: [&str; 40] = [
    "sh", "cat", "echo", "id", "ls", "mkdir", "touch", "test", "rm", "ln", "sleep", "env", "stat", "wget", "httpd", "nc", "nslookup", "dd", "head", "tail",
    "grep", "hostname", "mount", "umount", "chmod", "chown", "date", "seq", "true", "false", "kill", "ps", "readlink", "awk", "sed", "ip", "ping", "df", "wc",
    "[",
];

impl World {
    /// A started cluster whose store has the image `busybox:1`; the test must have asked for `busybox`.
    pub fn with_busybox() -> World {
        let world = World::new();
        world.import_busybox();
        world.serve();
        // Before the node has registered, a pod's first warning is that there is none.
        world.node();
        world
    }

    /// Brings the image `busybox:1` into the store; the test must have asked for `busybox`.
    pub fn import_busybox(&self) {
        let world = self;
        let busybox = find("busybox").expect("found by needs!");
        for dir in ["base/bin", "base/etc", "base/tmp", "base/www"] {
            std::fs::create_dir_all(world.path(dir)).expect("a folder");
        }
        std::fs::copy(busybox, world.path("base/bin/busybox")).expect("copied");
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", world.path(&format!("base/bin/{applet}"))).expect("a link");
        }
        world.write("base/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n");
        world.write("base/etc/group", "root:x:0:\napp:x:1001:\n");
        world.strake(&["image", "import", "base", "busybox:1"]).ok();
    }

    /// Applies manifests as the set `name` and waits until they are healthy.
    pub fn apply(&self, name: &str, manifests: &str) -> Ran {
        self.write(&format!("{name}/app.yaml"), manifests);
        self.strake(&["apply", name, "--timeout", "120"])
    }

    /// Applies manifests as the set `name` and returns at once.
    #[track_caller]
    pub fn apply_no_wait(&self, name: &str, manifests: &str) {
        self.write(&format!("{name}/app.yaml"), manifests);
        self.strake(&["apply", name, "--no-wait"]).ok();
    }

    /// A shell script in a pod's first container.
    pub fn sh(&self, pod: &str, script: &str) -> Ran {
        self.strake(&["exec", pod, "--", "sh", "-c", script])
    }

    /// An object as the API has it, or null.
    pub fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.strake(&["get", kind, name, "-o", "json"]).stdout).unwrap_or(Value::Null)
    }

    /// All objects of a kind in the default namespace.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.strake(&["get", kind, "-o", "json"]).stdout).unwrap_or(Value::Null);
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// The node, once it is ready: the API answers before the node has registered.
    #[track_caller]
    pub fn node(&self) -> Value {
        let ready =
            |node: &Value| node["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
        let mut found = Value::Null;
        self.eventually("the node is ready", || {
            found = self.list("nodes").into_iter().find(ready).unwrap_or_default();
            found.is_object()
        });
        found
    }

    /// The status of a pod's container.
    pub fn container(&self, pod: &str, container: &str) -> Value {
        let pod = self.get("pod", pod);
        let status = &pod["status"];
        let all = status["containerStatuses"].as_array().into_iter().chain(status["initContainerStatuses"].as_array()).flatten();
        all.into_iter().find(|one| one["name"] == container).cloned().unwrap_or(Value::Null)
    }

    /// The messages of all events with this reason, a line each.
    pub fn events(&self, reason: &str) -> String {
        let events = self.list("events");
        let messages = events.iter().filter(|event| event["reason"] == reason).filter_map(|event| event["message"].as_str());
        messages.collect::<Vec<_>>().join("\n")
    }

    /// Waits as long as [`PATIENCE`], and shows the cluster when it was in vain.
    #[track_caller]
    pub fn eventually(&self, what: &str, holds: impl FnMut() -> bool) {
        if !until(PATIENCE, holds) {
            let pods = self.strake(&["get", "pods", "-A", "-o", "wide"]).all();
            let events = self.strake(&["get", "events"]).all();
            let log = std::fs::read_to_string(self.root().join("run/serve.log")).unwrap_or_default();
            panic!("never: {what}\n{pods}\n{events}\n{log}");
        }
    }

    /// Waits until a pod has this phase.
    #[track_caller]
    pub fn phase(&self, pod: &str, phase: &str) {
        self.eventually(&format!("{pod} is {phase}"), || self.get("pod", pod)["status"]["phase"] == phase);
    }
}

/// A pod of one container that runs a script with the image `busybox:1`; `more` are further fields of its specification, indented by two.
pub fn pod(name: &str, script: &str, more: &str) -> String {
    let script = serde_json::to_string(script).expect("JSON");
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  terminationGracePeriodSeconds: 0\n{more}  containers:\n    - name: main\n      image: busybox:1\n      command: [sh, -c, {script}]\n"
    )
}
