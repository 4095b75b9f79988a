//! What the network needs of the machine around it: the kernel's switch for forwarding, and a way through firewalls that drop by default.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strake_network::Network;

use crate::inside::{PATIENCE, at, call, call_from, options, own_namespaces, serve, sh};

const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";

fn setting() -> String {
    std::fs::read_to_string(SETTING).unwrap().trim().to_owned()
}

fn run(body: impl AsyncFnOnce(&Path)) {
    sh("ip link set lo up");
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(body(folder.path()));
}

async fn open(folder: &Path) -> Network {
    Network::open(options(folder)).await.unwrap()
}

/// As a crash leaves it.
async fn crash(network: Network) {
    network.close().await;
}

#[test]
fn forwarding_is_put_back_as_it_was() {
    if !own_namespaces("forwarding::forwarding_is_put_back_as_it_was") {
        return;
    }
    run(async |folder| {
        let note = folder.join("run/ip_forward.before");
        std::fs::write(SETTING, "0").unwrap();
        let network = open(folder).await;
        assert_eq!(setting(), "1");
        network.teardown().await.unwrap();
        assert_eq!((setting().as_str(), note.exists()), ("0", false));

        // A crash: the next life knows what was before.
        crash(open(folder).await).await;
        crash(open(folder).await).await;
        assert_eq!(setting(), "1");
        open(folder).await.teardown().await.unwrap();
        assert_eq!((setting().as_str(), note.exists()), ("0", false));

        // Who has set it back meanwhile is left alone, and so is who had it on before.
        let network = open(folder).await;
        std::fs::write(SETTING, "0").unwrap();
        network.teardown().await.unwrap();
        assert_eq!(setting(), "0");
        std::fs::write(SETTING, "1").unwrap();
        open(folder).await.teardown().await.unwrap();
        assert_eq!((setting().as_str(), note.exists()), ("1", false));

        // A note of another boot says nothing about this one.
        let network = open(folder).await;
        std::fs::write(&note, "0\nanother boot\n").unwrap();
        network.teardown().await.unwrap();
        assert_eq!((setting().as_str(), note.exists()), ("1", false));
    });
}

/// Chains as Docker and ufw make them, as a plain nftables.conf does, as firewalld does, and one that lets everything pass.
const FIREWALLS: &str = "
table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; tcp dport 9 counter drop; }; }
table inet plain { chain forward { type filter hook forward priority 10; policy drop; }; }
table inet fire { chain filter_FORWARD { type filter hook forward priority 20; policy accept; ct state established accept; counter reject with icmpx admin-prohibited; }; }
table ip open { chain forward { type filter hook forward priority 30; policy accept; tcp dport 9 drop; }; chain postrouting { type nat hook postrouting priority 100; }; }
";

fn rules() -> String {
    // Counters differ by what has passed.
    sh("nft -s list ruleset")
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}\n{}", rules());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn pods_pass_firewalls_that_drop_by_default() {
    if !own_namespaces("forwarding::pods_pass_firewalls_that_drop_by_default") {
        return;
    }
    run(async |folder| {
        std::fs::write(folder.join("firewalls"), FIREWALLS).unwrap();
        sh(&format!("nft -f {}", folder.join("firewalls").display()));
        let before = rules();
        let network = open(folder).await;
        assert_eq!(network.hindrances(), []);
        let (a, b) = (network.attach("a").unwrap(), network.attach("b").unwrap());
        serve(&b.namespace, 8080, "b");
        network.program(&[]).unwrap();
        assert_eq!(call_from(&a.namespace, at(b.address, 8080)).unwrap(), format!("b {}", a.address));
        assert_eq!(call(at(b.address, 8080)).unwrap(), "b 10.42.0.1");
        let marked = |chain: &str| sh(&format!("nft list chain {chain}")).matches("comment \"strake: ").count();
        for (chain, count) in [("ip filter FORWARD", 2), ("inet plain forward", 2), ("inet fire filter_FORWARD", 2), ("ip open forward", 0)] {
            assert_eq!(marked(chain), count, "{chain}: {}", rules());
        }

        // A reload by its owner, and a firewall that is started later.
        sh("nft flush chain inet plain forward");
        eventually("they are let through again", || marked("inet plain forward") == 2);
        sh("nft add table inet late; nft add chain inet late forward '{ type filter hook forward priority 5; policy drop; }'");
        eventually("and through a new one", || marked("inet late forward") == 2);
        assert!(call_from(&a.namespace, at(b.address, 8080)).is_ok());
        sh("nft delete table inet late");

        // A crash and the next life add nothing twice; the end takes everything away.
        crash(network).await;
        let network = open(folder).await;
        assert_eq!(marked("ip filter FORWARD"), 2, "{}", rules());
        network.repair(&[]).unwrap();
        network.teardown().await.unwrap();
        assert_eq!(rules(), before);
    });
}

#[test]
fn the_rules_are_ones_that_iptables_lists() {
    if !own_namespaces("forwarding::the_rules_are_ones_that_iptables_lists") {
        return;
    }
    let version = Command::new("iptables").arg("-V").output();
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("nf_tables")) {
        eprintln!("SKIPPED: there is no iptables of nftables here");
        return;
    }
    run(async |folder| {
        sh("iptables -P FORWARD DROP; iptables -A FORWARD -p tcp --dport 9 -j REJECT");
        let before = sh("iptables -S FORWARD");
        let network = open(folder).await;
        let listed = sh("iptables -S FORWARD");
        // Newer ones show the comment too.
        let accepts = |what: &str| listed.lines().any(|line| line.starts_with(&format!("-A FORWARD {what} 10.42.0.0/16 ")) && line.ends_with(" -j ACCEPT"));
        assert!(accepts("-s") && accepts("-d") && listed.contains("-P FORWARD DROP"), "{listed}");
        network.teardown().await.unwrap();
        assert_eq!(sh("iptables -S FORWARD"), before);
        // The usual rule of a distribution that rejects at the end.
        sh(
            "iptables -F FORWARD; iptables -P FORWARD ACCEPT; iptables -A FORWARD -m state --state ESTABLISHED -j ACCEPT; iptables -A FORWARD -j REJECT --reject-with icmp-host-prohibited",
        );
        let network = open(folder).await;
        assert!(sh("iptables -S FORWARD").contains("-s 10.42.0.0/16 "), "{}", sh("iptables -S FORWARD"));
        network.teardown().await.unwrap();
    });
}

/// An nft that owns a table for as long as it lives: nobody else may change it.
struct Owner(Child);

impl Owner {
    fn start() -> Owner {
        let mut child = Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let chain = "chain forward { type filter hook forward priority 0; policy drop; }";
        let table = format!("add table inet mine {{ flags owner; {chain}; }}\n");
        child.stdin.as_mut().unwrap().write_all(table.as_bytes()).unwrap();
        eventually("the table is there", || sh("nft list tables").contains("mine"));
        Owner(child)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_firewall_that_cannot_be_changed_is_told_with_what_to_type() {
    if !own_namespaces("forwarding::a_firewall_that_cannot_be_changed_is_told_with_what_to_type") {
        return;
    }
    if !Command::new("nft").arg("table inet probe { flags owner; }").status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: this kernel or nft knows no tables that belong to a process");
        return;
    }
    run(async |folder| {
        let owner = Owner::start();
        let network = open(folder).await;
        let [hindrance] = network.hindrances() else { panic!("{:?}", network.hindrances()) };
        let said = hindrance.to_string();
        for words in ["chain forward of table inet mine", "not permitted", "nft insert rule inet mine forward ip saddr 10.42.0.0/16 accept"] {
            assert!(said.contains(words), "{words} in {said}");
        }
        drop(owner);
        network.teardown().await.unwrap();
    });
}
