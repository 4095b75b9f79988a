//! Forgetting connections without an end. The kernel picks an endpoint once a connection and keeps to it while packets flow; a
//! UDP client that goes on sending from one port would reach an endpoint long gone for ever. TCP ends by itself.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use netlink_bindings::traits::{NetlinkRequest, Protocol as Transport};
use netlink_bindings::utils::{align, find_attr, push_header, push_nested_header};

use crate::address::Cidr;
use crate::netlink::Socket;
use crate::services::{Portal, Protocol, Table};

/// NFNL_SUBSYS_CTNETLINK << 8 and the two messages.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const FLAGS_DUMP: u16 = 0x300;
const AF_INET: u8 = 2;
const HEADER: usize = 4;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;

/// netlink-bindings has no request that deletes a connection: both are written here.
struct Request {
    kind: u16,
    flags: u16,
    payload: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: u16) -> Self {
        // nfgenmsg: the family, version 0, no resource.
        Request { kind, flags, payload: vec![AF_INET, 0, 0, 0] }
    }
}

impl NetlinkRequest for Request {
    type ReplyType<'buf> = ();

    fn protocol(&self) -> Transport {
        const NETLINK_NETFILTER: u16 = 12;
        Transport::Raw { protonum: NETLINK_NETFILTER, request_type: self.kind }
    }

    fn flags(&self) -> u16 {
        self.flags
    }

    fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn decode_reply(_: &[u8]) -> Self::ReplyType<'_> {}
}

/// A connection as its first packet had it, and where its answers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    protocol: u8,
    client: Ipv4Addr,
    asked: SocketAddrV4,
    answers: SocketAddrV4,
    answered_to: Ipv4Addr,
}

impl Flow {
    fn read(attributes: &[u8]) -> Option<Self> {
        let (protocol, client, asked) = tuple(find_attr(attributes, TUPLE_ORIGINAL)?)?;
        let (_, answers, answered_to) = tuple(find_attr(attributes, TUPLE_REPLY)?)?;
        Some(Flow { protocol, client: *client.ip(), asked, answers, answered_to: *answered_to.ip() })
    }

    /// Whether the kernel would send the next packet elsewhere if it didn't remember.
    fn is_stale(&self, scope: &Scope, endpoints: &BTreeSet<(Portal, SocketAddrV4)>) -> bool {
        if self.protocol != Protocol::Udp.number() {
            return false;
        }
        let portal = |address| Portal { address, protocol: Protocol::Udp, port: self.asked.port() };
        let redirected = self.asked != self.answers;
        let of_earlier_life = |portal: Portal| redirected && scope.all_of.is_some_and(|range| range.contains(portal.address));
        let gone = |portal: Portal| (scope.touched.contains(&portal) || of_earlier_life(portal)) && !endpoints.contains(&(portal, self.answers));
        // To the same port of a machine outside: only its source was changed.
        let outward = !redirected && self.client != self.answered_to;
        gone(portal(*self.asked.ip())) || !outward && gone(portal(Ipv4Addr::UNSPECIFIED))
    }
}

/// Which connections to look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Those to these portals.
    pub touched: BTreeSet<Portal>,
    /// Those to any Service: what an earlier life routed isn't known.
    pub all_of: Option<Cidr>,
}

/// (protocol, from, to)
fn tuple(tuple: &[u8]) -> Option<(u8, SocketAddrV4, SocketAddrV4)> {
    let (addresses, ports) = (find_attr(tuple, 1)?, find_attr(tuple, 2)?);
    let address = |kind| <[u8; 4]>::try_from(find_attr(addresses, kind)?).ok().map(Ipv4Addr::from);
    let port = |kind| <[u8; 2]>::try_from(find_attr(ports, kind)?).ok().map(u16::from_be_bytes);
    let protocol = *find_attr(ports, 1)?.first()?;
    Some((protocol, SocketAddrV4::new(address(1)?, port(2)?), SocketAddrV4::new(address(2)?, port(3)?)))
}

/// Forgets UDP connections whose endpoint isn't their portal's in `table`; gives how many.
pub(crate) fn forget_stale(socket: &mut Socket, mut scope: Scope, table: &Table) -> io::Result<usize> {
    scope.touched.retain(|portal| portal.protocol == Protocol::Udp);
    if scope.touched.is_empty() && scope.all_of.is_none() {
        return Ok(0);
    }
    let datagrams = table.endpoints.iter().filter(|((portal, _), _)| portal.protocol == Protocol::Udp);
    let endpoints: BTreeSet<(Portal, SocketAddrV4)> = datagrams.map(|((portal, _), endpoint)| (*portal, *endpoint)).collect();
    let mut stale = Vec::new();
    socket.dump(&Request::new(GET, FLAGS_DUMP), |payload| {
        let attributes = payload.get(HEADER..).unwrap_or_default();
        if Flow::read(attributes).is_some_and(|flow| flow.is_stale(&scope, &endpoints)) {
            stale.push(deletion(attributes));
        }
    })?;
    for request in &stale {
        match socket.request(request) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(stale.len())
}

/// Names a connection by what the list said of it.
fn deletion(attributes: &[u8]) -> Request {
    let mut request = Request::new(DELETE, 0);
    for kind in [TUPLE_ORIGINAL, ID, ZONE] {
        let Some(value) = find_attr(attributes, kind) else { continue };
        let at = if kind == TUPLE_ORIGINAL { push_nested_header(&mut request.payload, kind) } else { push_header(&mut request.payload, kind, 0) };
        request.payload.extend_from_slice(value);
        let length = u16::try_from(request.payload.len() - at).unwrap_or(u16::MAX);
        request.payload[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        align(&mut request.payload);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 7);
    const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn at(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(address, port)
    }

    fn pod(last: u8) -> SocketAddrV4 {
        at(Ipv4Addr::new(10, 42, 0, last), 5353)
    }

    #[test]
    fn what_is_stale() {
        let service = Portal { address: SERVICE, protocol: Protocol::Udp, port: 53 };
        let node_port = Portal { address: Ipv4Addr::UNSPECIFIED, protocol: Protocol::Udp, port: 30053 };
        let known = Scope { touched: BTreeSet::from([service, node_port]), all_of: None };
        let first = Scope { all_of: Some(Cidr::new(SERVICE, 16)), ..known.clone() };
        let endpoints = BTreeSet::from([(service, pod(2)), (node_port, pod(2))]);
        let client = *pod(9).ip();
        let flow = |asked, answers| Flow { protocol: 17, client, asked, answers, answered_to: client };
        let outward = at(Ipv4Addr::new(198, 51, 100, 1), 30053);
        let table = [
            (flow(at(SERVICE, 53), pod(2)), false, "an endpoint that stays"),
            (flow(at(SERVICE, 53), pod(3)), true, "an endpoint that went"),
            (flow(at(SERVICE, 53), at(SERVICE, 53)), true, "from before there were any"),
            (flow(at(SERVICE, 54), pod(3)), false, "another port"),
            (flow(at(NODE, 30053), pod(2)), false, "a node port's endpoint that stays"),
            (flow(at(NODE, 30053), pod(3)), true, "a node port's that went"),
            (flow(at(NODE, 30053), at(NODE, 30053)), true, "to the node itself, from before"),
            (Flow { answered_to: NODE, ..flow(outward, outward) }, false, "to the same port of the world, masqueraded"),
            (flow(pod(2), pod(2)), false, "past the Service"),
            (Flow { protocol: 6, ..flow(at(SERVICE, 53), pod(3)) }, false, "TCP"),
        ];
        for (flow, stale, what) in table {
            assert_eq!(flow.is_stale(&known, &endpoints), stale, "{what}");
        }
        let forgotten = flow(at(SERVICE, 54), pod(3));
        assert!(forgotten.is_stale(&first, &endpoints), "to a Service that went while nobody watched");
        assert!(!flow(at(SERVICE, 55), at(SERVICE, 55)).is_stale(&first, &endpoints), "the name server answers itself");
        assert!(!flow(at(SERVICE, 53), pod(2)).is_stale(&first, &endpoints));
    }
}
