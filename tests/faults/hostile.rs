//! Images that mean harm, and what a build must never tell: rows S2, S16, S17, S20, S22, S23 and S24 of reference/reliability-and-security.md.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use strake_oci::Digest;
use strake_tests::{World, binary, needs, pod};

const HOST_SECRET: &str = "only-for-the-host";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An OCI layout that says whatever it is told to.
struct Layout(PathBuf);

impl Layout {
    fn new(world: &World, name: &str) -> Layout {
        let dir = world.path(name);
        std::fs::create_dir_all(dir.join("blobs/sha256")).expect("a folder");
        std::fs::write(dir.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").expect("written");
        Layout(dir)
    }

    fn blob(&self, bytes: &[u8]) -> (String, usize) {
        let digest = Digest::of(bytes);
        std::fs::write(self.0.join("blobs/sha256").join(digest.hex()), bytes).expect("written");
        (digest.to_string(), bytes.len())
    }

    /// A descriptor of a document that is stored.
    fn document(&self, media_type: &str, document: &Value) -> Value {
        let (digest, size) = self.blob(document.to_string().as_bytes());
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    /// What an image without layers has.
    fn config(&self) -> Value {
        let config = json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}});
        self.document("application/vnd.oci.image.config.v1+json", &config)
    }

    /// Names the one entry of the index.
    fn index(&self, mut entry: Value) -> &str {
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "docker.io/library/evil:1"});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        std::fs::write(self.0.join("index.json"), index.to_string()).expect("written");
        self.0.to_str().expect("UTF-8")
    }
}

/// It is refused in words and nothing of it is in the store.
#[track_caller]
fn not_taken(world: &World, path: &str, what: &str) {
    let ran = world.strake(&["image", "import", path]);
    assert_eq!(ran.code, 1, "{what}: {}", ran.all());
    assert!(!ran.stderr.contains("panicked") && !ran.all().contains(HOST_SECRET), "{what}: {}", ran.all());
    let listed = world.strake(&["images"]).ok().stdout;
    assert!(!listed.contains("evil"), "{what}: {listed}");
}

#[test]
fn s16_a_document_that_is_two_things_at_once_is_refused() {
    needs!();
    let world = World::new();
    let layout = Layout::new(&world, "layout");
    let config = layout.config();
    let inner = layout.document(MANIFEST, &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}));
    let both = json!({"schemaVersion": 2, "config": config, "layers": [], "manifests": [inner]});
    for media_type in [MANIFEST, INDEX] {
        not_taken(&world, layout.index(layout.document(media_type, &both)), &format!("both, as {media_type}"));
        let mut said = both.clone();
        said["mediaType"] = media_type.into();
        not_taken(&world, layout.index(layout.document(media_type, &said)), &format!("both, saying {media_type}"));
    }
    let manifest = json!({"schemaVersion": 2, "mediaType": INDEX, "config": config, "layers": []});
    not_taken(&world, layout.index(layout.document(MANIFEST, &manifest)), "a manifest that says it is an index");
    let index = json!({"schemaVersion": 2, "mediaType": MANIFEST, "manifests": [inner]});
    not_taken(&world, layout.index(layout.document(INDEX, &index)), "an index that says it is a manifest");
    // The same without a contradiction is taken.
    let honest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
    world.strake(&["image", "import", layout.index(layout.document(MANIFEST, &honest))]).ok();
    world.strake(&["image", "verify"]).ok();
}

#[test]
fn s17_what_is_not_what_its_digest_says_is_refused() {
    needs!();
    let world = World::new();
    world.write("host/secret", HOST_SECRET);
    let layout = Layout::new(&world, "layout");
    let config = layout.config();
    let manifest = |config: &Value| layout.document(MANIFEST, &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}));
    let changed = |field: &str, value: Value| {
        let mut config = config.clone();
        config[field] = value;
        config
    };
    let digest = config["digest"].as_str().expect("text").to_owned();
    let hex = digest.trim_start_matches("sha256:").to_owned();
    let (other, _) = layout.blob(b"something else");
    let up = format!("sha256:../../../host/secret{}", "0".repeat(64 - 24));
    let digests = [
        other,
        hex.clone(),
        digest.to_uppercase(),
        format!("sha256:{}", hex.to_uppercase()),
        format!("md5:{}", &hex[..32]),
        format!("sha1:{}", &hex[..40]),
        format!("sha256:{}", &hex[..63]),
        format!("{digest}0"),
        "sha256:".to_owned(),
        "sha256:../../../host/secret".to_owned(),
        up,
    ];
    for digest in digests {
        not_taken(&world, layout.index(manifest(&changed("digest", digest.clone().into()))), &digest);
        let mut entry = manifest(&config);
        entry["digest"] = digest.clone().into();
        not_taken(&world, layout.index(entry), &format!("{digest} in the index"));
    }
    for size in [json!(0), json!(1), json!(1_000_000), json!(-1), json!(u64::MAX), json!("7")] {
        not_taken(&world, layout.index(manifest(&changed("size", size.clone()))), &format!("size {size}"));
    }
    // Names of a docker archive are names in it, and nothing else.
    for name in ["../host/secret", "/etc/passwd", "blobs/../../host/secret"] {
        let text = json!([{"Config": name, "RepoTags": ["evil:1"], "Layers": [name]}]).to_string();
        world.write("docker/manifest.json", text);
        world.run("tar", &["-cf", "docker.tar", "-C", "docker", "."]).ok();
        not_taken(&world, world.path("docker.tar").to_str().expect("UTF-8"), name);
    }
    world.strake(&["image", "verify"]).ok();
}

#[test]
fn s2_the_program_on_the_host_cannot_be_changed_from_a_container() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    // A copy of our own: if it fails, it is the copy that is broken.
    let copy = world.path("strake");
    std::fs::copy(binary(), &copy).expect("copied");
    let before = Digest::of(&std::fs::read(&copy).expect("readable"));
    let strake = |args: &[&str]| world.run(copy.to_str().expect("UTF-8"), &[&["--root", world.root().to_str().expect("UTF-8")][..], args].concat());
    let overwrite = "for exe in /proc/[0-9]*/exe; do case $(readlink $exe) in /bin/busybox|\"\") ;; *) echo pwned > $exe && echo wrote; (exec 9<$exe; sleep 0.2; echo pwned > /proc/self/fd/9) && echo wrote;; esac; done 2>/dev/null; true";
    // A step whose interpreter is the process that starts it, beside one that waits for it.
    world.write("app/run", "#!/proc/self/exe\n");
    world.write("app/loop", format!("#!/bin/sh\ni=0; while [ $i -lt 60 ]; do i=$((i+1)); {overwrite}; done\n"));
    world.run("chmod", &["755", "app/run", "app/loop"]).ok();
    world.write("app/Dockerfile", "FROM busybox:1\nCOPY run loop /\nRUN /loop & for i in 1 2 3 4 5; do /run; done; wait; true\n");
    let ran = strake(&["build", "--progress", "plain", "-t", "evil", "app"]).ok();
    assert!(!ran.all().contains("wrote"), "{}", ran.all());
    world.write("app/Dockerfile", "FROM evil\nRUN [\"/run\", \"version\"]\n");
    assert_ne!(strake(&["build", "--progress", "plain", "app"]).code, 0, "it is no program in there");
    // A pod that waits for commands which are started in it from outside.
    strake(&["serve", "--detach"]).ok();
    world.write("pod/app.yaml", pod("web", "while true; do /loop; done", "").replace("busybox:1", "evil"));
    strake(&["apply", "pod", "--timeout", "20"]).ok();
    for _ in 0..8 {
        strake(&["exec", "web", "--", "/run"]);
        strake(&["exec", "web", "--", "/proc/self/exe", "version"]);
    }
    let said = strake(&["logs", "web"]).ok().stdout;
    strake(&["delete", "pod", "web"]).ok();
    strake(&["stop"]).ok();
    assert!(!said.contains("wrote"), "{said}");
    assert_eq!(Digest::of(&std::fs::read(&copy).expect("readable")), before, "the program is as it was");
    world.nothing_left();
}

#[test]
fn s20_s22_volumes_and_labels_of_an_image_are_only_what_they_say() {
    needs!("busybox");
    let world = World::with_busybox();
    world.write("host/secret", HOST_SECRET);
    let place = world.path("host").display().to_string();
    let labels = [
        "io.kubernetes.pod.name",
        "io.kubernetes.container.logPath",
        "io.containerd.runc.v2.group",
        "strake.dev/set",
        "org.opencontainers.image.ref.name",
        "io.kubernetes.cri.container-type",
        "privileged",
        "annotations",
    ];
    let labels: Vec<String> = labels.iter().map(|label| format!("LABEL \"{label}\"=\"/bin/sh -c 'touch {place}/written'\"")).collect();
    world.write(
        "app/Dockerfile",
        format!(
            "# image: evil\nFROM busybox:1\n{}\nRUN ln -s {place} /x && ln -s ../../../../../../../..{place} /up\nVOLUME /x /up /x/deep ../../..{place}\nENV STRAKE_ROOT={place} LD_PRELOAD=/x/secret\nCMD [\"sh\", \"-c\", \"ls -lR /x/ /up/; cat /x/secret /up/secret; echo ready; exec sleep 1000\"]\n",
            labels.join("\n")
        ),
    );
    world.write(
        "app/app.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: evil}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers: [{name: main, image: evil}]\n",
    );
    let ran = world.strake(&["apply", "app", "--timeout", "20"]);
    assert!(ran.code == 0 || ran.code == 1, "{}", ran.all());
    world.eventually("its log says so", || world.strake(&["logs", "evil"]).stdout.contains("ready"));
    let said = world.strake(&["logs", "evil"]).ok().all();
    assert!(!said.contains(HOST_SECRET), "{said}");
    let object = world.get("pod", "evil");
    assert!(!object["metadata"].to_string().contains("written"), "labels of the image are not those of the pod: {object:#}");
    assert_eq!(std::fs::read_dir(world.path("host")).expect("readable").count(), 1, "nothing was written beside the secret");
    world.strake(&["down", "app"]).ok();
    world.stop();
}

#[test]
fn s23_a_link_in_the_place_of_a_log_is_not_followed() {
    needs!("busybox");
    let world = World::with_busybox();
    let secret = world.write("host/secret", HOST_SECRET);
    world.apply("web", &pod("web", "echo a line; exec sleep 1000", "")).ok();
    world.eventually("a line", || world.strake(&["logs", "web"]).stdout.contains("a line"));
    let mut logs = Vec::new();
    find(&world.root().join("pods"), &mut logs);
    logs.retain(|path| path.extension().is_some_and(|end| end == "log"));
    assert!(!logs.is_empty(), "a pod's log is a file");
    for log in logs {
        std::fs::remove_file(&log).expect("removed");
        symlink(&secret, &log).expect("a link");
    }
    for words in [&["logs", "web"][..], &["logs", "web", "--tail", "5"], &["describe", "pod", "web"]] {
        let ran = world.strake(words);
        assert!(!ran.all().contains(HOST_SECRET), "{words:?}: {}", ran.all());
    }
    world.strake(&["delete", "pod", "web"]).ok();
    assert_eq!(std::fs::read_to_string(&secret).expect("text"), HOST_SECRET, "and what it leads to is not removed");
    world.stop();
}

fn find(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => find(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

/// Files below a directory that have one of these texts in them, as they are or as gzip.
fn holders(dir: &Path, values: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    find(dir, &mut files);
    assert!(files.len() > 3, "{} has files to look at", dir.display());
    let mut holders = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let mut plain = Vec::new();
        // What follows the first member, or is cut off, is looked at as far as it can be read.
        let _ = flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain);
        for value in values {
            let holds = |bytes: &[u8]| bytes.windows(value.len()).any(|window| window == value.as_bytes());
            if holds(&bytes) || holds(&plain) || file.display().to_string().contains(value) {
                holders.push((file.clone(), (*value).to_owned()));
            }
        }
    }
    holders
}

/// Steps that use a secret in every way there is; each checks that it has it.
const USES: &str = "FROM busybox:1
RUN --mount=type=secret,id=key test \"$(cat /run/secrets/key)\" = swordfish-of-a-$(echo file)
RUN --mount=type=secret,id=key,target=/etc/key,mode=0444 --mount=type=secret,id=word,env=WORD cp /etc/key /tmp/copy && rm /tmp/copy && test \"$WORD\" = swordfish-of-a-$(echo variable)
RUN --mount=type=secret,id=key,target=/deep/er/key cat /deep/er/key > /dev/null
RUN --mount=type=ssh test -S $SSH_AUTH_SOCK
RUN test -n \"$HTTP_PROXY\"
RUN echo done > /done
";

#[test]
fn s24_a_secret_of_a_build_is_in_no_blob_no_layer_no_record_and_no_output() {
    needs!("busybox");
    let world = World::new();
    world.import_busybox();
    const FILE: &str = "swordfish-of-a-file";
    const VARIABLE: &str = "swordfish-of-a-variable";
    const PROXY: &str = "swordfish-of-a-proxy";
    world.write("outside/key", FILE);
    let socket = world.path("outside/agent-swordfish");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    world.write("app/Dockerfile", USES);
    let key = format!("id=key,src={}", world.path("outside/key").display());
    let ssh = format!("default={}", socket.display());
    let proxy = format!("HTTP_PROXY=http://user:{PROXY}@127.0.0.1:9/");
    let words = [
        "-v",
        "-v",
        "build",
        "--progress",
        "plain",
        "--secret",
        &key,
        "--secret",
        "id=word,env=THE_WORD",
        "--ssh",
        &ssh,
        "--build-arg",
        &proxy,
        "-t",
        "kept",
        "--provenance=mode=max",
        "--sbom",
        "--metadata-file",
        "out/metadata.json",
        "--cache-to",
        "type=local,dest=out/cache,mode=max",
        "-o",
        "type=oci,dest=out/oci.tar",
        "-o",
        "type=local,dest=out/files",
        "app",
    ];
    std::fs::create_dir_all(world.path("out")).expect("a folder");
    let mut command = world.strake_command(&words);
    let output = command.env("THE_WORD", VARIABLE).env("RUST_LOG", "trace").output().expect("strake runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    for value in [FILE, VARIABLE, PROXY] {
        assert!(!said.contains(value), "{value} is shown:\n{said}");
    }
    // A step that fails with it at hand keeps nothing either.
    world.write("app/Dockerfile", "FROM busybox:1\nRUN --mount=type=secret,id=key cp /run/secrets/key /kept && false\n");
    world.strake(&["build", "--secret", &key, "app"]).fails(1, "exit code 1");
    for words in
        [&["image", "history", "kept"][..], &["image", "inspect", "kept"], &["image", "save", "-o", "out/saved.tar", "kept"], &["plan", "app", "-o", "json"]]
    {
        let ran = world.strake(words);
        assert!([FILE, VARIABLE, PROXY].iter().all(|value| !ran.all().contains(value)), "{words:?}: {}", ran.all());
    }
    let values = [FILE, VARIABLE, PROXY, "agent-swordfish"];
    assert_eq!(holders(&world.root(), &values), [], "the state directory");
    assert_eq!(holders(&world.path("out"), &values), [], "what was written out");
    // The search finds what is there: the same with a file that is copied.
    world.write("app/file", FILE);
    world.write("app/Dockerfile", "FROM busybox:1\nCOPY file /file\n");
    world.strake(&["build", "-t", "open", "app"]).ok();
    assert_ne!(holders(&world.root(), &values), [], "a value that is in an image is found");
    world.nothing_left();
}
