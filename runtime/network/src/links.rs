//! Links, addresses, routes and neighbours over netlink.

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_bindings::rt_addr::{self, Ifaddrmsg};
use netlink_bindings::rt_link::{self, Ifinfomsg};
use netlink_bindings::rt_neigh::{self, Ndmsg};
use netlink_bindings::rt_route::{self, Rtmsg};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::{finalize_nested_header, push_nested_header};

use crate::netlink::Socket;

const AF_INET: u8 = 2;
const FLAG_UP: u32 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const TYPE_UNICAST: u8 = 1;
const STATE_PERMANENT: u16 = 0x80;

/// A link comes up within microseconds; on a machine that has much to do it may take longer.
const SENDING_LIMIT: Duration = Duration::from_secs(5);
const SENDING_LOOK: Duration = Duration::from_micros(100);

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// A link as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    pub alias: String,
    pub mtu: u32,
}

/// A veth pair to make.
pub(crate) struct Veth<'a> {
    pub name: &'a str,
    pub host_mac: Mac,
    pub pod_mac: Mac,
    pub pod_name: &'a str,
    pub pod_namespace: BorrowedFd<'a>,
    pub mtu: u32,
}

/// A route by link; `via` makes it a route through a gateway.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    pub to: Ipv4Addr,
    pub prefix: u8,
    pub via: Option<Ipv4Addr>,
    pub link: u32,
    pub source: Option<Ipv4Addr>,
}

/// All links, or those of one name.
pub(crate) fn list(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let mut found = Vec::new();
    socket.dump(&rt_link::Request::new().op_getlink_dump(&Ifinfomsg::new()), |payload| found.extend(read(payload)))?;
    Ok(found)
}

/// A link's index.
pub(crate) fn index(socket: &mut Socket, name: &str) -> io::Result<u32> {
    let mut request = rt_link::Request::new().op_getlink_do(&Ifinfomsg::new());
    let _ = request.encode().push_ifname_bytes(name.as_bytes());
    let mut found = None;
    socket.dump(&request, |payload| found = found.take().or_else(|| read(payload)))?;
    found.map(|link: Link| link.index).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn read(payload: &[u8]) -> Option<Link> {
    const NAME: u16 = 3;
    const MTU: u16 = 4;
    const ALIAS: u16 = 20;
    let header = payload.get(..Ifinfomsg::len())?;
    let index = i32::from_ne_bytes(header.get(4..8)?.try_into().ok()?);
    let attributes = payload.get(Ifinfomsg::len()..)?;
    let text = |kind: u16| {
        let bytes = netlink_bindings::utils::find_attr(attributes, kind).unwrap_or_default();
        String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
    };
    let mtu = netlink_bindings::utils::find_attr(attributes, MTU).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
    Some(Link { index: u32::try_from(index).ok()?, name: text(NAME), alias: text(ALIAS), mtu })
}

/// Makes a link that leads nowhere and sets it up: a dummy, or a bridge without ports where the kernel has no dummies. One
/// that is there already stays.
pub(crate) fn add_holder(socket: &mut Socket, name: &str) -> io::Result<u32> {
    let mut made = Ok(());
    for kind in [c"dummy", c"bridge"] {
        let mut request = rt_link::Request::new().set_create().set_excl().op_newlink_do(&Ifinfomsg::new());
        let _ = request.encode().push_ifname_bytes(name.as_bytes()).nested_linkinfo().push_kind(kind).end_nested();
        made = socket.request(&request);
        if !made.as_ref().is_err_and(|error| error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error())) {
            break;
        }
    }
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let index = index(socket, name)?;
    set_up(socket, index)?;
    Ok(index)
}

/// Makes a veth pair with its far end directly inside the pod's namespace. (Moving it there afterwards takes 19 ms.) Both
/// ends stay down: UP in the peer's message makes the kernel wait as well.
pub(crate) fn add_veth(socket: &mut Socket, veth: &Veth<'_>) -> io::Result<()> {
    let name = CString::new(veth.pod_name).map_err(io::Error::other)?;
    let mut request = rt_link::Request::new().set_create().set_excl().op_newlink_do(&Ifinfomsg::new());
    {
        let link = request.encode().push_ifname_bytes(veth.name.as_bytes()).push_address(&veth.host_mac).push_mtu(veth.mtu);
        let mut info = link.nested_linkinfo().push_kind(c"veth");
        let buffer = info.as_vec_mut();
        let data = push_nested_header(buffer, INFO_DATA);
        let peer = push_nested_header(buffer, VETH_PEER);
        buffer.extend_from_slice(Ifinfomsg::new().as_slice());
        let namespace = u32::try_from(veth.pod_namespace.as_raw_fd()).map_err(io::Error::other)?;
        let _ = rt_link::PushLinkAttrs::new(&mut *buffer).push_ifname(&name).push_address(&veth.pod_mac).push_mtu(veth.mtu).push_net_ns_fd(namespace);
        finalize_nested_header(buffer, peer);
        finalize_nested_header(buffer, data);
        let _ = info.end_nested();
    }
    socket.request(&request)
}

/// Sets a link up and says in its alias whose it is. (The message that makes a link cannot give it one.)
pub(crate) fn set_up_for(socket: &mut Socket, index: u32, alias: &str) -> io::Result<()> {
    let mut request = rt_link::Request::new().op_setlink_do(&up(index)?);
    let _ = request.encode().push_ifalias_bytes(alias.as_bytes());
    socket.request(&request)
}

/// Sets a link up.
pub(crate) fn set_up(socket: &mut Socket, index: u32) -> io::Result<()> {
    socket.request(&rt_link::Request::new().op_setlink_do(&up(index)?))
}

/// Waits until the kernel lets a link send. When the other end of a veth comes up, this end learns it from a work queue a moment later; what
/// is sent in between is dropped, and a first question to the name server would be asked again only after five seconds.
pub(crate) fn wait_until_sending(socket: &mut Socket, name: &str) -> io::Result<()> {
    const OPERATIONAL_STATE: u16 = 16;
    const UP: u8 = 6;
    let began = Instant::now();
    loop {
        let mut request = rt_link::Request::new().op_getlink_do(&Ifinfomsg::new());
        let _ = request.encode().push_ifname_bytes(name.as_bytes());
        let mut sends = false;
        socket.dump(&request, |payload| {
            let attributes = payload.get(Ifinfomsg::len()..).unwrap_or_default();
            sends |= netlink_bindings::utils::find_attr(attributes, OPERATIONAL_STATE) == Some(&[UP]);
        })?;
        if sends {
            return Ok(());
        }
        if began.elapsed() > SENDING_LIMIT {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the link did not come up"));
        }
        std::thread::sleep(SENDING_LOOK);
    }
}

fn up(index: u32) -> io::Result<Ifinfomsg> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    Ok(Ifinfomsg { ifi_index: index, ifi_flags: FLAG_UP, ifi_change: FLAG_UP, ..Default::default() })
}

/// Removes a link by name; one that isn't there is fine. The other end of a veth goes with it.
pub(crate) fn remove(socket: &mut Socket, name: &str) -> io::Result<()> {
    let mut request = rt_link::Request::new().op_dellink_do(&Ifinfomsg::new());
    let _ = request.encode().push_ifname_bytes(name.as_bytes());
    match socket.request(&request) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(()),
        answer => answer,
    }
}

/// Gives a link an address with the prefix /32; one it has already is fine.
pub(crate) fn add_address(socket: &mut Socket, index: u32, address: Ipv4Addr) -> io::Result<()> {
    let header = Ifaddrmsg { ifa_index: index, ifa_family: AF_INET, ifa_prefixlen: 32, ..Default::default() };
    let mut request = rt_addr::Request::new().set_create().set_replace().op_newaddr_do(&header);
    let _ = request.encode().push_local(IpAddr::V4(address)).push_address(IpAddr::V4(address));
    socket.request(&request)
}

/// Adds a route, or replaces the one to the same place.
pub(crate) fn add_route(socket: &mut Socket, route: Route) -> io::Result<()> {
    let header = Rtmsg {
        rtm_family: AF_INET,
        rtm_dst_len: route.prefix,
        rtm_table: TABLE_MAIN,
        rtm_protocol: PROTOCOL_STATIC,
        rtm_scope: if route.via.is_some() { SCOPE_UNIVERSE } else { SCOPE_LINK },
        rtm_type: TYPE_UNICAST,
        ..Default::default()
    };
    let mut request = rt_route::Request::new().set_create().set_replace().op_newroute_do(&header);
    let mut route_attributes = request.encode();
    if route.prefix > 0 {
        route_attributes = route_attributes.push_dst(IpAddr::V4(route.to));
    }
    if let Some(gateway) = route.via {
        route_attributes = route_attributes.push_gateway(IpAddr::V4(gateway));
    }
    if let Some(source) = route.source {
        route_attributes = route_attributes.push_prefsrc(IpAddr::V4(source));
    }
    let _ = route_attributes.push_oif(route.link);
    socket.request(&request)
}

/// Writes down a neighbour for good, so that nobody ever asks by ARP.
pub(crate) fn add_neighbour(socket: &mut Socket, index: u32, address: Ipv4Addr, mac: Mac) -> io::Result<()> {
    let header = Ndmsg {
        ndm_family: AF_INET,
        ndm_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        ndm_state: STATE_PERMANENT,
        ndm_type: TYPE_UNICAST,
        ..Default::default()
    };
    let mut request = rt_neigh::Request::new().set_create().set_replace().op_newneigh_do(&header);
    let _ = request.encode().push_dst(IpAddr::V4(address)).push_lladdr(&mac);
    socket.request(&request)
}

/// The address and MTU of the link that the default route leaves by: what the outside knows this machine as.
pub(crate) fn outward(socket: &mut Socket) -> io::Result<Option<(Ipv4Addr, u32)>> {
    let mut routes = Vec::new();
    let header = Rtmsg { rtm_family: AF_INET, ..Default::default() };
    socket.dump(&rt_route::Request::new().op_getroute_dump(&header), |payload| routes.extend(default_route_link(payload)))?;
    routes.sort_unstable();
    let Some((_, link)) = routes.first().copied() else { return Ok(None) };
    let mut found = None;
    let header = Ifaddrmsg { ifa_family: AF_INET, ..Default::default() };
    socket.dump(&rt_addr::Request::new().op_getaddr_dump(&header), |payload| found = found.or_else(|| address_of(payload, link)))?;
    let mtu = list(socket)?.into_iter().find(|known| known.index == link).map(|known| known.mtu);
    Ok(found.zip(mtu))
}

/// (metric, link) when the message is a default route of the main table.
fn default_route_link(payload: &[u8]) -> Option<(u32, u32)> {
    const OUT: u16 = 4;
    const PRIORITY: u16 = 6;
    let (header, attributes) = payload.split_at_checked(Rtmsg::len())?;
    if header[1] != 0 || header[4] != TABLE_MAIN || header[7] != TYPE_UNICAST {
        return None;
    }
    let word = |kind| Some(u32::from_ne_bytes(netlink_bindings::utils::find_attr(attributes, kind)?.try_into().ok()?));
    Some((word(PRIORITY).unwrap_or(0), word(OUT)?))
}

fn address_of(payload: &[u8], link: u32) -> Option<Ipv4Addr> {
    const LOCAL: u16 = 2;
    let (header, attributes) = payload.split_at_checked(Ifaddrmsg::len())?;
    let index = u32::from_ne_bytes(header.get(4..8)?.try_into().ok()?);
    let bytes: [u8; 4] = netlink_bindings::utils::find_attr(attributes, LOCAL)?.try_into().ok()?;
    (index == link).then(|| Ipv4Addr::from(bytes))
}
