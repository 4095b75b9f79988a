//! Pods: reaching each other, what they may not, what stays after a crash and after the end.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use strake_network::{KnownPod, Network, Options, Protocol};

use crate::inside::{PATIENCE, at, call, call_from, inside, options, own_namespaces, serve, service, sh, with_network};

#[test]
fn pods_reach_each_other_and_the_node_reaches_them() {
    if !own_namespaces("pods::pods_reach_each_other_and_the_node_reaches_them") {
        return;
    }
    with_network(|network, _folder| async move {
        let a = network.attach("uid-a").unwrap();
        let b = network.attach("uid-b").unwrap();
        assert_eq!((a.address, b.address), (Ipv4Addr::new(10, 42, 0, 2), Ipv4Addr::new(10, 42, 0, 3)));
        assert_eq!(network.attach("uid-a").unwrap(), a, "attaching again changes nothing");
        serve(&b.namespace, 8080, "b");
        assert_eq!(call_from(&a.namespace, at(b.address, 8080)).unwrap(), format!("b {}", a.address));
        assert_eq!(call(at(b.address, 8080)).unwrap(), "b 10.42.0.1", "the node comes from its own address");
        assert_eq!(call_from(&b.namespace, at([127, 0, 0, 1], 8080)).unwrap(), "b 127.0.0.1", "loopback is up");
        assert_eq!(call_from(&a.namespace, at(b.address, 9)).unwrap_err(), ErrorKind::ConnectionRefused);
        network.detach("uid-b").unwrap();
        network.detach("uid-b").unwrap();
        assert!(!b.namespace.exists());
        let links = sh("ip -o link");
        assert_eq!(links.matches("stk").count(), 1, "{links}");
    });
}

#[test]
fn a_pods_first_packet_arrives() {
    if !own_namespaces("pods::a_pods_first_packet_arrives") {
        return;
    }
    with_network(|network, _folder| async move {
        let node = UdpSocket::bind((network.node_address(), 7000)).unwrap();
        node.set_read_timeout(Some(PATIENCE)).unwrap();
        for number in 0..40 {
            let pod = network.attach(&format!("uid-{number}")).unwrap();
            // One datagram as soon as the pod is there: nothing sends it again.
            inside(&pod.namespace, || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"first", "10.42.0.1:7000").unwrap());
            let (read, peer) = node.recv_from(&mut [0; 16]).unwrap_or_else(|error| panic!("pod {number}: {error}"));
            assert_eq!((read, peer.ip()), (5, pod.address.into()));
        }
    });
}

#[test]
fn nothing_is_asked_by_arp_and_a_foreign_source_is_dropped() {
    if !own_namespaces("pods::nothing_is_asked_by_arp_and_a_foreign_source_is_dropped") {
        return;
    }
    with_network(|network, _folder| async move {
        let a = network.attach("uid-a").unwrap();
        let b = network.attach("uid-b").unwrap();
        serve(&b.namespace, 8080, "b");
        call_from(&a.namespace, at(b.address, 8080)).unwrap();
        let states = sh("ip neigh show");
        assert_eq!(states.lines().filter(|line| line.contains("stk")).filter(|line| line.contains("PERMANENT")).count(), 2, "{states}");
        assert!(!states.contains("REACHABLE") && !states.contains("STALE"), "{states}");
        // The setting of all links overrules the link's own: "loose", which some systems set, has to be as good as "strict". It is,
        // for a link that has no address.
        sh("sysctl -qw net.ipv4.conf.all.rp_filter=2");
        network.program(&[]).unwrap();
        // Another pod's address as one's own, and one of nobody: not even the request passes.
        let c = network.attach("uid-c").unwrap();
        let receiver = inside(&b.namespace, || UdpSocket::bind("0.0.0.0:7000").unwrap());
        inside(&a.namespace, || sh("ip addr add 10.42.0.77/32 dev eth0; ip addr add 10.42.0.4/32 dev eth0"));
        for (source, passes) in [(a.address, true), (c.address, false), (Ipv4Addr::new(10, 42, 0, 77), false)] {
            // Only what passes is waited for; what comes late would be seen at the next turn.
            receiver.set_read_timeout(Some(if passes { PATIENCE } else { Duration::from_millis(200) })).unwrap();
            inside(&a.namespace, move || UdpSocket::bind((source, 0)).unwrap().send_to(b"?", (b.address, 7000)).unwrap());
            assert_eq!(receiver.recv_from(&mut [0; 4]).is_ok(), passes, "from {source}");
        }
        let name = sh("ip -o link").lines().find_map(|line| line.split(": ").nth(1).filter(|name| name.starts_with("stk")).map(str::to_owned)).unwrap();
        let name = name.split('@').next().unwrap();
        let setting = |path: &str| std::fs::read_to_string(path).unwrap().trim().to_owned();
        assert_eq!(setting(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")), "1");
        assert_eq!(setting(&format!("/proc/sys/net/ipv6/conf/{name}/accept_ra")), "0");
    });
}

#[test]
fn a_crash_is_repaired_and_teardown_leaves_nothing() {
    if !own_namespaces("pods::a_crash_is_repaired_and_teardown_leaves_nothing") {
        return;
    }
    let before = (sh("ip -o addr; ip route; nft list ruleset"), sh("grep -c nsfs /proc/self/mountinfo || true"));
    let mut started = String::new();
    with_network(|network, folder| {
        started.push_str(&sh("ip -o link"));
        async move {
            let kept = network.attach("uid-kept").unwrap();
            network.attach("uid-gone").unwrap();
            network.program(&[]).unwrap();
            serve(&kept.namespace, 8080, "kept");
            // A crash: the daemon's sockets end, the kernel's state stays.
            network.close().await;
            drop(network);
            let network = Network::open(options(folder.path())).await.unwrap();
            let known =
                [KnownPod { uid: "uid-kept".to_owned(), address: kept.address }, KnownPod { uid: "uid-lost".to_owned(), address: Ipv4Addr::new(10, 42, 0, 9) }];
            let repair = network.repair(&known).unwrap();
            assert_eq!(repair.whole, ["uid-kept"]);
            assert_eq!(repair.broken, ["uid-lost"]);
            assert_eq!(repair.removed.len(), 2, "a link and a namespace: {repair:?}");
            assert_eq!(network.attach("uid-kept").unwrap(), kept, "the same address, the same namespace");
            assert_eq!(call(at(kept.address, 8080)).unwrap(), "kept 10.42.0.1", "it never noticed");
            assert_ne!(network.attach("uid-new").unwrap().address, kept.address);
            network.program(&[]).unwrap();
            network.teardown().await.unwrap();
            network.teardown().await.unwrap();
        }
    });
    assert!(started.contains("strake0"));
    let after = (sh("ip -o addr; ip route; nft list ruleset"), sh("grep -c nsfs /proc/self/mountinfo || true"));
    let without_loopback = |text: &str| text.lines().filter(|line| !line.contains(" lo ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((without_loopback(&before.0), &before.1), (without_loopback(&after.0), &after.1));
}

/// One life that never ends by itself: pods come and go, Services too.
fn live(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let network = Network::open(options(folder)).await.unwrap();
        network.repair(&[KnownPod { uid: "uid-kept".to_owned(), address: KEPT }]).unwrap();
        for turn in 0.. {
            for pod in 0..4 {
                network.attach(&format!("uid-{pod}")).unwrap();
                network.program(&[service("n/web", [10, 43, 0, 50], Protocol::Tcp, Some(30080), &[at(KEPT, 8080), at([10, 42, 0, 99], pod)])]).unwrap();
            }
            if turn == 0 {
                std::io::stdout().write_all(b"ready\n").unwrap();
            }
            (0..4).for_each(|pod| network.detach(&format!("uid-{pod}")).unwrap());
        }
    });
}

const KEPT: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 2);

#[test]
fn a_killed_life_is_taken_up_wherever_it_was() {
    if !own_namespaces("pods::a_killed_life_is_taken_up_wherever_it_was") {
        return;
    }
    const FOLDER: &str = "STRAKE_TEST_LIFE";
    if let Some(folder) = std::env::var_os(FOLDER) {
        return live(Path::new(&folder));
    }
    with_network(|network, folder| async move {
        let kept = network.attach("uid-kept").unwrap();
        assert_eq!(kept.address, KEPT);
        serve(&kept.namespace, 8080, "kept");
        let web = [service("n/web", [10, 43, 0, 50], Protocol::Tcp, Some(30080), &[at(KEPT, 8080)])];
        let mut network = Some(network);
        for life in 0..12 {
            network.take().unwrap().close().await;
            let own = std::env::current_exe().unwrap();
            let test = "pods::a_killed_life_is_taken_up_wherever_it_was";
            let mut child = Command::new(own).args([test, "--exact", "--nocapture"]).env(FOLDER, folder.path()).stdout(Stdio::piped()).spawn().unwrap();
            let said = BufReader::new(child.stdout.take().unwrap()).lines().find(|line| line.as_ref().is_ok_and(|line| line == "ready"));
            assert!(said.is_some(), "the life began");
            // Each time at another point of what it does.
            std::thread::sleep(Duration::from_micros(1700 * life));
            child.kill().unwrap();
            child.wait().unwrap();
            let next = Network::open(options(folder.path())).await.unwrap();
            let repair = next.repair(&[KnownPod { uid: "uid-kept".to_owned(), address: KEPT }]).unwrap();
            assert_eq!((repair.whole.as_slice(), repair.broken.len()), (["uid-kept".to_owned()].as_slice(), 0), "life {life}");
            let left = sh("ip -o link");
            assert_eq!(left.matches("stk").count(), 1, "what belonged to nobody is gone: {left}");
            assert!(next.program(&web).unwrap().is_empty(), "the node port is free again");
            assert_eq!(next.attach("uid-kept").unwrap(), kept);
            let new = next.attach("uid-1").unwrap();
            assert_eq!(call_from(&new.namespace, at([10, 43, 0, 50], 80)).unwrap(), format!("kept {}", new.address));
            assert_eq!(call(at([127, 0, 0, 1], 30080)).unwrap(), "kept 10.42.0.1");
            next.detach("uid-1").unwrap();
            network = Some(std::sync::Arc::new(next));
        }
    });
}

#[test]
fn pods_may_ping_without_raw_sockets() {
    if !own_namespaces("pods::pods_may_ping_without_raw_sockets") {
        return;
    }
    with_network(|network, _folder| async move {
        let pod = network.attach("a").unwrap();
        // /proc/sys/net shows the settings of the thread's namespace.
        let range = inside(&pod.namespace, || std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap());
        assert_eq!(range.split_whitespace().collect::<Vec<_>>(), ["0", "2147483647"]);
    });
}

/// A TCP header from port 9 to port 8080, with its checksum or a wrong one.
fn segment(from: Ipv4Addr, to: Ipv4Addr, right: bool) -> Vec<u8> {
    const SYN: u8 = 2;
    let mut header = vec![0, 9, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, SYN, 0xff, 0xff, 0, 0, 0, 0];
    let covered = [&from.octets()[..], &to.octets(), &[0, 6, 0, 20], &header].concat();
    let sum: u32 = covered.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[16..18].copy_from_slice(&(if right { sum } else { sum ^ 1 }).to_be_bytes());
    header
}

#[test]
fn packets_of_no_connection_stay_with_their_pod() {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket, sockopt};
    if !own_namespaces("pods::packets_of_no_connection_stay_with_their_pod") {
        return;
    }
    with_network(|network, _folder| async move {
        let a = network.attach("a").unwrap();
        let b = network.attach("b").unwrap();
        network.program(&[]).unwrap();
        let [sender, receiver] = [&a, &b].map(|pod| inside(&pod.namespace, || socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::TCP)).unwrap()));
        for right in [false, true] {
            let limit = if right { PATIENCE } else { Duration::from_millis(200) };
            sockopt::set_socket_timeout(&receiver, sockopt::Timeout::Recv, Some(limit)).unwrap();
            sendto(&sender, &segment(a.address, b.address, right), SendFlags::empty(), &at(b.address, 0)).unwrap();
            let arrived = recv(&receiver, &mut [0; 64], RecvFlags::empty()).is_ok();
            assert_eq!(arrived, right, "a segment with a right checksum passes, one that the kernel can't place doesn't");
        }
    });
}

#[test]
fn errors_name_the_thing() {
    if !own_namespaces("pods::errors_name_the_thing") {
        return;
    }
    with_network(|network, folder| async move {
        let error = Network::open(Options { ..options(folder.path()) }).await.err().expect("the name server's address is taken");
        assert_eq!(error.to_string(), "cannot bind the name server to 10.43.0.10:53");
        assert_eq!(network.internal_address(), network.node_address(), "there is no way outside here");
    });
}
