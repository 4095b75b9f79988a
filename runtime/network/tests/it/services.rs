//! Services: addresses, node ports, refusal, hairpin, masquerade, and the difference between two sets of them.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strake_network::{NetworkError, Protocol};

use crate::inside::{PATIENCE, at, call, call_from, inside, own_namespaces, serve, serve_udp, service, sh, with_network};

#[test]
fn a_service_spreads_over_its_endpoints() {
    if !own_namespaces("services::a_service_spreads_over_its_endpoints") {
        return;
    }
    with_network(|network, _folder| async move {
        let pods: Vec<_> = ["a", "b", "c"].map(|pod| network.attach(pod).unwrap()).into_iter().collect();
        for (pod, name) in pods.iter().zip(["a", "b", "c"]) {
            serve(&pod.namespace, 8080, name);
        }
        let two = [at(pods[0].address, 8080), at(pods[1].address, 8080)];
        network.program(&[service("n/web", [10, 43, 0, 50], Protocol::Tcp, None, &two)]).unwrap();
        let ask = |times: usize| (0..times).map(|_| call_from(&pods[2].namespace, at([10, 43, 0, 50], 80)).unwrap()).collect::<BTreeSet<_>>();
        let said = ask(40);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said.contains(&format!("a {}", pods[2].address)), "the client's own address is seen: {said:?}");
        assert_eq!(call(at([10, 43, 0, 50], 80)).unwrap().split(' ').nth(1), Some("10.42.0.1"), "from the node too");
        network.program(&[service("n/web", [10, 43, 0, 50], Protocol::Tcp, None, &two[1..])]).unwrap();
        assert_eq!(ask(10).len(), 1);
        let three = [two[0], two[1], at(pods[2].address, 8080)];
        network.program(&[service("n/web", [10, 43, 0, 50], Protocol::Tcp, None, &three)]).unwrap();
        let hairpin: BTreeSet<String> = ask(60);
        assert!(hairpin.contains("c 10.42.0.1"), "a pod reaches itself through its Service: {hairpin:?}");
        assert_eq!(hairpin.len(), 3);
        let shown = sh("nft list ruleset");
        assert!(shown.contains("10.43.0.50 . tcp . 80 : goto spread-3"), "people can read it: {shown}");
    });
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    if !own_namespaces("services::a_service_without_endpoints_refuses_at_once") {
        return;
    }
    with_network(|network, _folder| async move {
        let pod = network.attach("a").unwrap();
        network.program(&[service("n/none", [10, 43, 0, 60], Protocol::Tcp, Some(30060), &[])]).unwrap();
        // Refused and not timed out: that would be another error.
        let addresses = [at([10, 43, 0, 60], 80), at([10, 43, 7, 7], 1), at([10, 42, 0, 1], 30060)];
        for address in addresses {
            assert_eq!(call_from(&pod.namespace, address).unwrap_err(), ErrorKind::ConnectionRefused, "{address} from a pod");
            assert_eq!(call(address).unwrap_err(), ErrorKind::ConnectionRefused, "{address} from the node");
        }
    });
}

/// A process that ends with the test, however that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_node_port_answers_on_every_address_of_the_node() {
    if !own_namespaces("services::a_node_port_answers_on_every_address_of_the_node") {
        return;
    }
    sh("ip netns list >/dev/null; ip link add up0 type veth peer name up1; ip addr add 192.0.2.1/24 dev up0; ip link set up0 up");
    with_network(|network, _folder| async move {
        let pod = network.attach("a").unwrap();
        let other = network.attach("b").unwrap();
        serve(&pod.namespace, 8080, "a");
        let services = [service("n/web", [10, 43, 0, 50], Protocol::Tcp, Some(30080), &[at(pod.address, 8080)])];
        assert!(network.program(&services).unwrap().is_empty());
        assert_eq!(call(at([127, 0, 0, 1], 30080)).unwrap(), "a 10.42.0.1", "localhost, by the copying proxy");
        assert_eq!(call(at([192, 0, 2, 1], 30080)).unwrap(), "a 192.0.2.1", "the node's own address");
        assert!(call_from(&other.namespace, at([10, 42, 0, 1], 30080)).unwrap().starts_with("a "), "from a pod");
        // A machine outside: the other end of up0, in a namespace of its own.
        let holder = Command::new("unshare").args(["--net", "sleep", "3600"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let holder = Ended(holder);
        let outside = std::path::PathBuf::from(format!("/proc/{}/ns/net", holder.0.id()));
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        while std::fs::read_link(&outside).is_ok_and(|theirs| theirs == own) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sh(&format!("ip link set up1 netns {}", holder.0.id()));
        let path = outside.clone();
        inside(&path, || {
            sh("ip addr add 192.0.2.9/24 dev up1; ip link set up1 up; ip route add 10.43.0.0/16 via 192.0.2.1; ip route add 127.0.0.7/32 via 192.0.2.1")
        });
        assert_eq!(call_from(&outside, at([192, 0, 2, 1], 30080)).unwrap(), "a 192.0.2.9", "from outside, with its address");
        // Outward: the pod's address stays at home.
        serve(&outside, 7000, "out");
        assert_eq!(call_from(&pod.namespace, at([192, 0, 2, 9], 7000)).unwrap(), "out 192.0.2.1", "masqueraded");
        assert!(network.program(&[]).unwrap().is_empty());
        assert_eq!(call(at([127, 0, 0, 1], 30080)).unwrap_err(), ErrorKind::ConnectionRefused, "gone with the Service, at once");
    });
}

#[test]
fn a_node_port_in_use_is_named() {
    if !own_namespaces("services::a_node_port_in_use_is_named") {
        return;
    }
    with_network(|network, _folder| async move {
        let _taken = std::net::TcpListener::bind("127.0.0.1:30090").unwrap();
        let services = [service("shop/web", [10, 43, 0, 50], Protocol::Tcp, Some(30090), &[at([10, 42, 0, 9], 1)])];
        let failed = network.program(&services).unwrap();
        let [NetworkError::BindNodePort { port: 30090, .. }] = failed.as_slice() else { panic!("{failed:?}") };
        assert_eq!(failed[0].to_string(), "node port 30090 of service shop/web is in use on 127.0.0.1");
    });
}

#[test]
fn a_node_port_on_localhost_comes_and_goes() {
    if !own_namespaces("services::a_node_port_on_localhost_comes_and_goes") {
        return;
    }
    with_network(|network, _folder| async move {
        let pod = network.attach("a").unwrap();
        serve(&pod.namespace, 8080, "a");
        let localhost = at([127, 0, 0, 1], 30070);
        let with = |endpoints: &[_]| [service("n/web", [10, 43, 0, 50], Protocol::Tcp, Some(30070), endpoints)];
        for _ in 0..50 {
            assert!(network.program(&with(&[at(pod.address, 8080)])).unwrap().is_empty());
            assert_eq!(call(localhost).unwrap(), "a 10.42.0.1");
            assert!(network.program(&with(&[])).unwrap().is_empty());
            assert_eq!(call(localhost).unwrap_err(), ErrorKind::ConnectionRefused, "without endpoints");
            assert!(network.program(&with(&[at(pod.address, 8080)])).unwrap().is_empty());
            assert_eq!(call(localhost).unwrap(), "a 10.42.0.1");
            assert!(network.program(&[]).unwrap().is_empty());
            assert_eq!(call(localhost).unwrap_err(), ErrorKind::ConnectionRefused, "without the Service");
        }
    });
}

#[test]
fn a_udp_client_is_moved_from_an_endpoint_that_went() {
    if !own_namespaces("services::a_udp_client_is_moved_from_an_endpoint_that_went") {
        return;
    }
    with_network(|network, folder| async move {
        let [a, b, client] = ["a", "b", "c"].map(|pod| network.attach(pod).unwrap());
        serve_udp(&a.namespace, 5353, "a");
        serve_udp(&b.namespace, 5353, "b");
        let ends = |ends: &[_]| [service("n/u", [10, 43, 0, 70], Protocol::Udp, Some(30053), ends)];
        let (a, b) = (at(a.address, 5353), at(b.address, 5353));
        // Sockets that are never closed, as resolvers and statsd clients have: to the kernel each is one connection.
        let [to_service, to_node_port] = ["10.43.0.70:80", "10.42.0.1:30053"].map(|address| {
            let socket = inside(&client.namespace, || UdpSocket::bind("0.0.0.0:0").unwrap());
            socket.connect(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        });
        let ask = |socket: &UdpSocket| {
            let mut buffer = [0; 16];
            // An earlier refusal is told at the next call.
            let _ = socket.take_error();
            socket.send(b"?").unwrap();
            socket.recv(&mut buffer).map(|read| String::from_utf8_lossy(&buffer[..read]).into_owned()).map_err(|error| error.kind())
        };
        network.program(&[]).unwrap();
        assert_eq!(ask(&to_service), Err(ErrorKind::ConnectionRefused));
        assert_eq!(ask(&to_node_port), Err(ErrorKind::ConnectionRefused));
        for (end, name) in [(a, "a"), (b, "b"), (a, "a")] {
            network.program(&ends(&[end])).unwrap();
            assert_eq!(ask(&to_service).as_deref(), Ok(name));
            assert_eq!(ask(&to_node_port).as_deref(), Ok(name));
        }
        network.program(&ends(&[a, b])).unwrap();
        assert_eq!(ask(&to_service).as_deref(), Ok("a"), "one that stays keeps its clients");
        network.program(&[]).unwrap();
        assert_eq!(ask(&to_service), Err(ErrorKind::ConnectionRefused));
        assert_eq!(ask(&to_node_port), Err(ErrorKind::ConnectionRefused));
        // The same over a restart: what was routed before isn't known.
        network.program(&ends(&[a])).unwrap();
        assert_eq!(ask(&to_service).as_deref(), Ok("a"));
        network.close().await;
        drop(network);
        let network = strake_network::Network::open(crate::inside::options(folder.path())).await.unwrap();
        network.program(&ends(&[b])).unwrap();
        assert_eq!(ask(&to_service).as_deref(), Ok("b"));
    });
}

#[test]
fn udp_goes_the_same_way() {
    if !own_namespaces("services::udp_goes_the_same_way") {
        return;
    }
    with_network(|network, _folder| async move {
        let pod = network.attach("a").unwrap();
        let client = network.attach("b").unwrap();
        serve_udp(&pod.namespace, 5353, "dgram");
        network.program(&[service("n/u", [10, 43, 0, 70], Protocol::Udp, None, &[at(pod.address, 5353)])]).unwrap();
        let said = inside(&client.namespace, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(b"?", "10.43.0.70:80").unwrap();
            let mut buffer = [0; 16];
            let (read, peer) = socket.recv_from(&mut buffer).unwrap();
            (String::from_utf8_lossy(&buffer[..read]).into_owned(), peer.to_string())
        });
        assert_eq!(said, ("dgram".to_owned(), "10.43.0.70:80".to_owned()));
    });
}

/// How often the threads of this process went to sleep: each time something had woken one.
fn sleeps() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
    let count = |status: String| Some(status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().unwrap_or(0));
    tasks.flatten().filter_map(|task| count(of(task))).sum::<u64>()
}

#[test]
fn an_idle_network_sleeps() {
    if !own_namespaces("services::an_idle_network_sleeps") {
        return;
    }
    with_network(|network, _folder| async move {
        network.attach("a").unwrap();
        let end = at([10, 42, 0, 9], 80);
        network.program(&[]).unwrap();
        let table = sh("nft -a -t list table ip strake | head -1");
        // So many elements that the notices of them don't fit their socket: that is no reason to write the table anew.
        let one = |n: u16| service(&format!("n/s{n}"), [10, 43, 1 + (n >> 8) as u8, n as u8], Protocol::Tcp, (n < 20).then_some(30000 + n), &[end]);
        network.program(&(0..3000).map(one).collect::<Vec<_>>()).unwrap();
        // It may take a while until all notices are read; then nothing wakes it any more.
        let woken = || {
            let before = sleeps();
            std::thread::sleep(Duration::from_secs(1));
            sleeps() - before
        };
        let deadline = Instant::now() + PATIENCE;
        while woken() > 10 {
            assert!(Instant::now() < deadline, "woken {} times in a second of nothing", woken());
        }
        assert_eq!(sh("nft -a -t list table ip strake | head -1"), table, "the very same table");
    });
}

#[test]
fn thousands_of_services_and_a_flush_by_somebody_else() {
    if !own_namespaces("services::thousands_of_services_and_a_flush_by_somebody_else") {
        return;
    }
    with_network(|network, _folder| async move {
        let pod = network.attach("a").unwrap();
        serve(&pod.namespace, 8080, "a");
        let end = at(pod.address, 8080);
        let many = |count: u16| {
            let one = |n: u16| service(&format!("n/s{n}"), [10, 43, 1 + (n >> 8) as u8, n as u8], Protocol::Tcp, None, &[end, at([10, 42, 0, 250], n + 1)]);
            (0..count).map(one).collect::<Vec<_>>()
        };
        let began = Instant::now();
        network.program(&many(3000)).unwrap();
        let first = began.elapsed();
        let began = Instant::now();
        network.program(&many(2999)).unwrap();
        eprintln!("3000 services: {first:?}; one less: {:?}", began.elapsed());
        let began = Instant::now();
        network.program(&many(2998)).unwrap();
        eprintln!("another less: {:?}", began.elapsed());
        network.program(&[service("n/web", [10, 43, 0, 50], Protocol::Tcp, None, &[end])]).unwrap();
        let began = Instant::now();
        network.program(&[service("n/web", [10, 43, 0, 50], Protocol::Tcp, None, &[end, at([10, 42, 0, 200], 1)])]).unwrap();
        network.program(&[service("n/web", [10, 43, 0, 50], Protocol::Tcp, None, &[end])]).unwrap();
        eprintln!("two small changes: {:?}", began.elapsed());
        let began = Instant::now();
        for pod in ["p1", "p2", "p3", "p4"] {
            network.attach(pod).unwrap();
        }
        eprintln!("four pods attached: {:?}", began.elapsed());
        assert!(call(at([10, 43, 0, 50], 80)).is_ok());
        sh("nft flush ruleset");
        let deadline = Instant::now() + PATIENCE;
        while !sh("nft list tables").contains("strake") {
            assert!(Instant::now() < deadline, "the table comes back by itself");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(call(at([10, 43, 0, 50], 80)).is_ok(), "and with what it held");
    });
}
