//! What the rest of the machine does to a cluster: a full disk, a flushed firewall, taken ports, damaged files.

use std::net::TcpListener;
use std::process::{Child, Stdio};

use strake_tests::{PATIENCE, World, find, needs, pod, skip, until};

fn config_map(name: &str, bytes: usize) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{text: \"{}\"}}\n", "x".repeat(bytes))
}

#[test]
fn a_full_disk_refuses_writes_and_the_service_recovers_when_there_is_space() {
    needs!("mount", "busybox");
    let world = World::new();
    let root = world.root();
    std::fs::create_dir_all(&root).expect("a folder");
    let root_text = root.to_str().expect("UTF-8").to_owned();
    world.run("mount", &["-t", "tmpfs", "-o", "size=24m", "tmpfs", &root_text]).ok();
    world.import_busybox();
    world.serve();
    world.apply("web", &pod("web", "sleep 22222", "")).ok();
    let inside = |name: &str| format!("{root_text}/{name}");
    // dd ends when nothing more fits.
    assert_ne!(world.run("dd", &["if=/dev/zero", &format!("of={}", inside("filler")), "bs=64k"]).code, 0);
    // What the file has room for may still be written; in the end it is refused, in words.
    let refused = (0..40).map(|number| world.apply(&format!("more-{number}"), &config_map(&format!("more-{number}"), 200_000))).find(|ran| ran.code != 0);
    let refused = refused.expect("a full disk refuses writes");
    assert!(refused.stderr.contains("No space left"), "{}", refused.stderr);
    assert!(refused.stderr.contains("state.redb"), "{}", refused.stderr);
    // Reading goes on, and so does the pod.
    world.strake(&["get", "pods"]).ok();
    assert_eq!(world.get("pod", "web")["status"]["phase"], "Running");
    assert_eq!(world.processes(&["sleep", "22222"]).len(), 1);
    world.run("rm", &[&inside("filler")]).ok();
    let works = || world.apply("after", &config_map("after", 200_000)).code == 0;
    assert!(until(PATIENCE, works), "{}", world.server_log());
    // And what was acknowledged is there after a crash.
    world.kill_server();
    world.serve();
    assert_eq!(world.get("configmap", "after")["data"]["text"].as_str().map(str::len), Some(200_000));
    world.eventually("the pod is adopted", || world.container("web", "main")["ready"] == true);
    assert_eq!(world.container("web", "main")["restartCount"], 0);
    world.strake(&["stop"]).ok();
    world.run("umount", &[&root_text]).ok();
    world.nothing_left();
}

#[test]
fn a_flushed_firewall_is_restored() {
    needs!("busybox", "curl");
    if find("nft").is_none() {
        skip(module_path!(), "nft is not installed: nothing else here can flush the firewall");
        return;
    }
    let world = World::with_busybox();
    let page = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www";
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, clusterIP: 10.43.7.7, ports: [{port: 80}]}\n";
    world.apply("web", &(pod("web", page, "") + service)).ok();
    let answers = || world.run("curl", &["-s", "-m", "30", "http://10.43.7.7/"]).stdout == "hello\n";
    assert!(until(PATIENCE, answers), "{}", world.run("nft", &["list", "ruleset"]).all());
    let rules = world.run("nft", &["list", "ruleset"]).ok().stdout;
    let table = rules.lines().find(|line| line.starts_with("table ") && line.contains("strake")).expect("our table").trim_end_matches(" {").to_owned();
    let words: Vec<&str> = table.split_whitespace().collect();
    let whole = rules.lines().filter(|line| line.contains("chain ")).count();
    for flush in [vec!["flush", "ruleset"], [&["delete"], &words[..]].concat()] {
        world.run("nft", &flush).ok();
        // Nothing but the kernel's notice of it brings the table back: nothing else here changes.
        let restored = || world.run("nft", &["list", "ruleset"]).stdout.lines().filter(|line| line.contains("chain ")).count() == whole;
        assert!(until(PATIENCE, restored), "{flush:?}");
        assert!(until(PATIENCE, answers), "{flush:?}");
    }
    world.stop();
    assert!(!world.run("nft", &["list", "ruleset"]).stdout.contains("strake"));
}

#[test]
fn firewalls_that_drop_what_is_forwarded_are_passed_or_told() {
    needs!("busybox");
    if find("nft").is_none() {
        skip(module_path!(), "nft is not installed: nothing else here makes another firewall");
        return;
    }
    let world = World::new();
    world.import_busybox();
    // As Docker leaves a machine.
    let nft = |words: &str| world.run("nft", &["-s", words]).ok().stdout;
    nft("table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }");
    let before = nft("list ruleset");
    let started = world.strake(&["serve", "--detach"]).ok();
    assert!(!started.stderr.contains("warning"), "{}", started.stderr);
    let page = "echo hello > /www/index.html; exec httpd -f -p 80 -h /www";
    world.apply("web", &(pod("web", page, "") + &pod("client", "sleep 12121", ""))).ok();
    let address = world.get("pod", "web")["status"]["podIP"].as_str().expect("an address").to_owned();
    world.eventually("pods reach each other", || world.sh("client", &format!("wget -q -O - http://{address}/")).stdout == "hello\n");
    world.kill_server();
    world.stop_but_for(&["rules: table ip filter"]);
    assert_eq!(nft("list ruleset"), before, "nothing of ours is in their table");
    nft("delete table ip filter");

    // One that nobody else may change.
    if world.run("nft", &["table inet probe { flags owner; }"]).code != 0 {
        skip(module_path!(), "this kernel or nft knows no tables that belong to a process");
        return;
    }
    let mut command = world.command("nft");
    let mut owner = command.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("nft runs");
    let table = b"add table inet mine { flags owner; chain forward { type filter hook forward priority 0; policy drop; }; }\n";
    std::io::Write::write_all(owner.stdin.as_mut().expect("a pipe"), table).expect("told");
    assert!(until(PATIENCE, || nft("list tables").contains("mine")));
    let started = world.strake(&["serve", "--detach"]).ok();
    for words in ["warning:", "chain forward of table inet mine", "nft insert rule inet mine forward ip saddr 10.42.0.0/16 accept"] {
        assert!(started.stderr.contains(words), "{words} in {}", started.stderr);
        assert!(words == "warning:" || world.server_log().contains(words), "{}", world.server_log());
    }
    world.eventually("an event", || world.events("ForwardingDropped").contains("table inet mine"));
    owner.kill().expect("ended");
    owner.wait().expect("ended");
    world.stop();
}

#[test]
fn rules_of_the_old_iptables_are_told_in_the_log() {
    needs!("busybox");
    let world = World::new();
    if find("iptables-legacy").is_none() || world.run("iptables-legacy", &["-P", "FORWARD", "ACCEPT"]).code != 0 {
        skip(module_path!(), "there is no old iptables here");
        return;
    }
    world.serve();
    assert!(world.server_log().contains("type: iptables-legacy -I FORWARD -s 10.42.0.0/16 -j ACCEPT"), "{}", world.server_log());
    world.stop();
}

#[test]
fn forwarding_is_off_again_after_stop() {
    needs!("busybox");
    let world = World::new();
    let setting = || world.run("cat", &["/proc/sys/net/ipv4/ip_forward"]).stdout;
    assert_eq!(setting(), "0\n");
    world.serve();
    assert_eq!(setting(), "1\n");
    world.stop();
    assert_eq!(setting(), "0\n");
    // After a crash too, and also when a second life came in between.
    world.serve();
    world.kill_server();
    world.serve();
    world.kill_server();
    assert_eq!(setting(), "1\n");
    world.stop();
    assert_eq!(setting(), "0\n");
    // Who had it on before has it on afterwards.
    world.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).ok();
    world.serve();
    world.strake(&["stop"]).ok();
    assert_eq!(setting(), "1\n");
    world.run("sh", &["-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]).ok();
    world.nothing_left();
}

/// A program that has a TCP port of the world's localhost.
struct Taken(Child);

impl Taken {
    fn new(world: &World, port: u16) -> Taken {
        let mut command = world.command("busybox");
        command.args(["httpd", "-f", "-h", "/", "-p", &format!("127.0.0.1:{port}")]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("busybox runs");
        let pid = child.id().to_string();
        let listens = || world.run("ss", &["-Hltnp"]).stdout.lines().any(|line| line.contains(&format!(":{port}")) && line.contains(&format!("pid={pid},")));
        assert!(until(PATIENCE, listens), "port {port} is taken: {}", world.run("ss", &["-ltnp"]).all());
        Taken(child)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_node_port_that_is_in_use_is_named_with_its_service() {
    needs!("busybox", "ss");
    let world = World::with_busybox();
    let taken = Taken::new(&world, 30123);
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec:\n  type: NodePort\n  selector: {app: shop}\n  ports: [{port: 80, nodePort: 30123}]\n";
    world.apply_no_wait("shop", service);
    world.eventually("a warning", || !world.events("NodePortInUse").is_empty());
    let message = world.events("NodePortInUse");
    assert!(message.contains("30123") && message.contains("shop"), "{message}");
    let event = world.list("events").into_iter().find(|event| event["reason"] == "NodePortInUse").expect("there");
    assert_eq!((event["type"].as_str(), event["involvedObject"]["kind"].as_str()), (Some("Warning"), Some("Service")), "{event:#}");
    drop(taken);
    world.stop();
}

#[test]
fn what_keeps_a_server_from_starting_is_said_and_leaves_nothing() {
    needs!("busybox", "ss", "mount");
    let world = World::new();
    let taken = Taken::new(&world, 6443);
    for args in [&["serve"][..], &["serve", "--detach"]] {
        let ran = world.strake(args).fails(1, "127.0.0.1:6443");
        assert!(ran.stderr.contains("--listen"), "{}", ran.stderr);
        world.nothing_left();
    }
    drop(taken);
    // A directory that cannot be written.
    let place = world.path("read-only");
    std::fs::create_dir_all(&place).expect("a folder");
    let place = place.to_str().expect("UTF-8");
    world.run("mount", &["-t", "tmpfs", "-o", "ro", "tmpfs", place]).ok();
    let root = format!("{place}/root");
    for args in [&["serve"][..], &["serve", "--detach"], &["build", "app"]] {
        world.write("app/Dockerfile", "FROM scratch\n");
        let ran = world.strake(&[&["--root", &root], args].concat()).fails(1, "Read-only file system");
        assert!(ran.stderr.contains(&root), "{}", ran.stderr);
    }
    world.run("umount", &[place]).ok();
    world.nothing_left();
}

#[test]
fn a_damaged_state_names_its_file_and_the_way_out() {
    needs!("busybox");
    let world = World::with_busybox();
    world.apply("web", &pod("web", "sleep 11111", "")).ok();
    world.kill_server();
    let file = world.root().join("cluster/state.redb");
    let good = std::fs::read(&file).expect("the state");
    let mut bytes = good.clone();
    bytes.iter_mut().skip(64).step_by(97).for_each(|byte| *byte ^= 0x5a);
    std::fs::write(&file, &bytes).expect("written");
    for args in [&["serve"][..], &["serve", "--detach"]] {
        let ran = world.strake(args).fails(1, file.to_str().expect("UTF-8"));
        for words in ["strake stop", "copy", "empty cluster"] {
            assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        }
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
    assert_eq!(world.processes(&["sleep", "11111"]).len(), 1, "the pod is not touched");
    // Not a database at all, and one that was cut off.
    for bytes in [b"hello".to_vec(), good[..good.len() / 2].to_vec()] {
        std::fs::write(&file, bytes).expect("written");
        world.strake(&["serve"]).fails(1, "state.redb");
    }
    // Each way out works.
    std::fs::write(&file, &good).expect("written");
    world.serve();
    world.eventually("the pod is adopted", || world.container("web", "main")["ready"] == true);
    world.kill_server();
    std::fs::write(&file, b"hello").expect("written");
    world.stop();
    std::fs::rename(&file, world.path("state.broken")).expect("moved");
    world.serve();
    assert!(world.list("pods").is_empty());
    world.stop();
}

#[test]
fn a_root_of_a_newer_version_is_refused() {
    needs!();
    let world = World::new();
    world.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    world.strake(&["build", "app"]).ok();
    let version = world.root().join("version");
    assert!(version.is_file());
    std::fs::write(&version, "99\n").expect("written");
    for args in [&["build", "app"][..], &["serve"], &["serve", "--detach"], &["images"]] {
        let ran = world.strake(args).fails(1, "99");
        assert!(ran.stderr.contains("newer") || ran.stderr.contains("later"), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(world.root().to_str().expect("UTF-8")), "{args:?}: {}", ran.stderr);
    }
    world.nothing_left();
}

#[test]
fn a_damaged_blob_of_a_pods_image_is_an_event_and_not_a_running_pod() {
    needs!("busybox");
    let world = World::with_busybox();
    let blobs = std::fs::read_dir(world.root().join("blobs/sha256")).expect("blobs").flatten();
    for blob in blobs {
        let mut bytes = std::fs::read(blob.path()).expect("readable");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x20;
        std::fs::write(blob.path(), bytes).expect("written");
    }
    world.apply_no_wait("web", &pod("web", "sleep 10101", "").replace("image: busybox:1", "image: busybox:1\n      imagePullPolicy: Never"));
    let told = || {
        let events = world.list("events").into_iter().filter(|event| event["type"] == "Warning" && event["involvedObject"]["name"] == "web");
        events.filter_map(|event| event["message"].as_str().map(str::to_owned)).any(|message| message.contains("sha256:"))
    };
    world.eventually("the blob is named", told);
    assert!(world.processes(&["sleep", "10101"]).is_empty());
    world.strake(&["delete", "pod", "web"]).ok();
    world.stop();
}

/// The ports above are the world's own: nothing of this machine has them.
#[test]
fn worlds_do_not_share_ports() {
    needs!("busybox", "ss");
    let Ok(here) = TcpListener::bind("127.0.0.1:0") else { return };
    let port = here.local_addr().expect("bound").port();
    let world = World::new();
    drop(Taken::new(&world, port));
}
