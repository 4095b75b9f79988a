//! The name server on its address, asked from a pod over UDP and TCP, with and without resolvers behind it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Instant;

use hickory_server::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::{Name, RData, RecordType};
use strake_network::{Protocol, ZoneEndpoint, ZonePort, ZoneService};

use crate::inside::{PATIENCE, inside, own_namespaces, serve_udp, with_network};

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn ask(namespace: &Path, name: &'static str, kind: RecordType) -> Message {
    inside(namespace, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(&question(name, kind), "10.43.0.10:53").unwrap();
        let mut buffer = [0; 1500];
        let (read, peer) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(peer.to_string(), "10.43.0.10:53");
        Message::from_vec(&buffer[..read]).unwrap()
    })
}

fn ask_by_tcp(namespace: &Path, name: &'static str, kind: RecordType) -> Message {
    inside(namespace, move || {
        let mut stream = TcpStream::connect("10.43.0.10:53").unwrap();
        let query = question(name, kind);
        stream.write_all(&[&(query.len() as u16).to_be_bytes(), query.as_slice()].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        Message::from_vec(&answer).unwrap()
    })
}

fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    message.answers.iter().filter_map(|record| if let RData::A(address) = &record.data { Some(address.0) } else { None }).collect()
}

#[test]
fn names_are_answered_to_pods() {
    if !own_namespaces("dns::names_are_answered_to_pods") {
        return;
    }
    with_network(|network, folder| async move {
        let pod = network.attach("a").unwrap();
        let port = ZonePort { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80 };
        let endpoints = (5..25).map(|last| ZoneEndpoint { address: Ipv4Addr::new(10, 42, 0, last), hostname: None }).collect();
        let web = ZoneService {
            namespace: "demo".to_owned(),
            name: "web".to_owned(),
            cluster_ip: Some(Ipv4Addr::new(10, 43, 0, 50)),
            external_name: None,
            ports: vec![port],
            endpoints: vec![],
        };
        let headless = ZoneService { name: "db".to_owned(), cluster_ip: None, endpoints, ..web.clone() };
        let alias = ZoneService { name: "alias".to_owned(), external_name: Some("web.demo.svc.cluster.local".to_owned()), ..web.clone() };
        let mut builder = network.zone_builder();
        builder.service(&web).service(&headless).service(&alias);
        network.set_zone(builder.finish());
        network.program(&[]).unwrap();

        let found = ask(&pod.namespace, "web.demo.svc.cluster.local.", RecordType::A);
        assert_eq!(addresses(&found), [Ipv4Addr::new(10, 43, 0, 50)]);
        assert!(found.metadata.authoritative && found.metadata.recursion_available);
        assert_eq!(addresses(&ask(&pod.namespace, "alias.demo.svc.cluster.local.", RecordType::A)), [Ipv4Addr::new(10, 43, 0, 50)], "an alias is followed");
        let ports = ask(&pod.namespace, "_http._tcp.web.demo.svc.cluster.local.", RecordType::SRV);
        assert_eq!((ports.answers.len(), ports.additionals.len()), (1, 1));
        let pointer = ask(&pod.namespace, "50.0.43.10.in-addr.arpa.", RecordType::PTR);
        assert!(pointer.answers[0].data.to_string().starts_with("web.demo.svc.cluster.local"));
        let none = ask(&pod.namespace, "web.demo.svc.cluster.local.", RecordType::AAAA);
        assert_eq!((none.metadata.response_code, none.answers.len(), none.authorities.len()), (ResponseCode::NoError, 0, 1), "NODATA with an SOA");
        let wrong = ask(&pod.namespace, "nobody.demo.svc.cluster.local.", RecordType::A);
        assert_eq!((wrong.metadata.response_code, wrong.authorities.len()), (ResponseCode::NXDomain, 1));
        assert_eq!(addresses(&ask_by_tcp(&pod.namespace, "db.demo.svc.cluster.local.", RecordType::A)).len(), 20);
        let failed = ask(&pod.namespace, "example.org.", RecordType::A);
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail, "nobody to ask");
        // A resolver that hands everything back to us.
        std::fs::write(folder.path().join("resolv.conf"), "nameserver 10.43.0.10\n").unwrap();
        assert_eq!(ask(&pod.namespace, "example.net.", RecordType::A).metadata.response_code, ResponseCode::ServFail, "our own address is never asked");
    });
}

#[test]
fn an_answer_is_timed() {
    if !own_namespaces("dns::an_answer_is_timed") {
        return;
    }
    with_network(|network, _folder| async move {
        let pod = network.attach("a").unwrap();
        let mut times = inside(&pod.namespace, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect("10.43.0.10:53").unwrap();
            let query = question("10-42-0-9.default.pod.cluster.local.", RecordType::A);
            let one = || {
                let began = Instant::now();
                socket.send(&query).unwrap();
                let mut buffer = [0; 512];
                let read = socket.recv(&mut buffer).unwrap();
                let took = began.elapsed();
                assert_eq!(addresses(&Message::from_vec(&buffer[..read]).unwrap()), [Ipv4Addr::new(10, 42, 0, 9)]);
                took
            };
            (0..200).map(|_| one()).collect::<Vec<_>>()
        });
        times.sort_unstable();
        eprintln!("an answer: {:?} to {:?}, mostly {:?}", times[0], times[199], times[100]);
    });
}

#[test]
fn other_names_are_asked_elsewhere() {
    if !own_namespaces("dns::other_names_are_asked_elsewhere") {
        return;
    }
    with_network(|network, folder| async move {
        let pod = network.attach("a").unwrap();
        network.program(&[]).unwrap();
        // A resolver of the machine: it answers everything with one address.
        let resolver = UdpSocket::bind("127.0.0.1:53").unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((read, peer)) = resolver.recv_from(&mut buffer) {
                let mut message = Message::from_vec(&buffer[..read]).unwrap();
                let name = message.queries[0].name().clone();
                message.metadata.message_type = MessageType::Response;
                let data = RData::A(hickory_server::proto::rr::rdata::A(Ipv4Addr::new(192, 0, 2, 44)));
                message.answers.push(hickory_server::proto::rr::Record::from_rdata(name, 60, data));
                let _ = resolver.send_to(&message.to_vec().unwrap(), peer);
            }
        });
        std::fs::write(folder.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        assert_eq!(addresses(&ask(&pod.namespace, "example.org.", RecordType::A)), [Ipv4Addr::new(192, 0, 2, 44)]);
        serve_udp(&pod.namespace, 9, "x");
    });
}
