//! The nftables table: constant chains and rules, and maps that change. Every change is one transaction.

use std::ffi::{CStr, CString};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use netlink_bindings::nftables::{Chained, PushSetelemAttrs, PushSetelemListAttrs, PushSetelemListElemAttrs, SetFlags, VerdictCode};

use crate::NetworkError;
use crate::address::Cidr;
use crate::conntrack::{self, Scope};
use crate::names::Names;
use crate::netlink::Socket;
use crate::rule::{Field, Rule, Way, append, family};
use crate::services::{Difference, Elements, Portal, Table};

const SERVICES: &CStr = c"services";
const NODE_PORTS: &CStr = c"node-ports";
const ENDPOINTS: &CStr = c"endpoints";
const REFUSED: &CStr = c"refused";
const HAIRPINS: &CStr = c"hairpins";

/// One netlink attribute holds at most 64 KiB; an element takes about a hundred bytes.
const ELEMENTS_A_MESSAGE: usize = 400;

/// Type numbers that `nft list` shows names by.
const TYPE_VERDICT: u32 = 0xffff_ff00;
const TYPE_ADDRESS: u32 = 7;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;
/// A slot is shown as a mark: what nft calls an integer has no length, and its list of such a set aborts.
const TYPE_MARK: u32 = 19;

/// Facts that the constant rules hold.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub names: Names,
    pub pods: Cidr,
    pub services: Cidr,
    pub node: Ipv4Addr,
}

/// The table and what it is known to hold.
pub(crate) struct Firewall {
    socket: Socket,
    facts: Facts,
    table: CString,
    /// `None` until the first write: what an earlier life left is replaced in the same transaction, not removed before.
    held: Option<Table>,
    /// The kernel's number for the table we wrote: one made anew under its name has another.
    handle: Option<u64>,
}

type ElementList<'a> = PushSetelemListElemAttrs<PushSetelemListAttrs<&'a mut Vec<u8>>>;

impl Firewall {
    pub(crate) fn new(facts: Facts) -> Result<Self, NetworkError> {
        let table = CString::new(facts.names.table.clone())
            .map_err(|error| NetworkError::WriteTable { table: facts.names.table.clone(), source: io::Error::other(error) })?;
        Ok(Firewall { socket: Socket::netfilter().map_err(NetworkError::OpenSocket)?, facts, table, held: None, handle: None })
    }

    /// Makes the table hold exactly this, and has the kernel forget what it remembers otherwise.
    pub(crate) fn program(&mut self, wanted: Table) -> Result<(), NetworkError> {
        let table = self.table.clone();
        let whole = self.held.is_none();
        let change = Difference::between(self.held.as_ref().unwrap_or(&Table::default()), &wanted);
        let done = match &self.held {
            Some(_) if change.is_empty() => return Ok(()),
            Some(_) => self.socket.transact(|batch| write_change(batch, &table, &change)),
            None => {
                let facts = &self.facts;
                self.socket.transact(|batch| {
                    replace_table(batch, &table);
                    write_sets(batch, &table);
                    write_chains(batch, &table);
                    write_rules(batch, &table, facts);
                    write_change(batch, &table, &change);
                })
            }
        };
        // After a failure the kernel's state is the old one, unless another program took the table away: write it whole next time.
        if let Err(source) = done {
            self.held = None;
            return Err(self.failed(source));
        }
        if whole {
            self.handle = self.current_handle();
        }
        let scope = Scope { touched: change.touched(), all_of: whole.then_some(self.facts.services) };
        match conntrack::forget_stale(&mut self.socket, scope, &wanted) {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "UDP connections to endpoints that went are forgotten"),
            // A kernel without this interface routes all the same.
            Err(error) => tracing::warn!(%error, "UDP connections to endpoints that went cannot be forgotten"),
        }
        self.held = Some(wanted);
        Ok(())
    }

    /// Whether the table we wrote stands, not another program's copy of it; no when there is none.
    pub(crate) fn stands(&mut self) -> bool {
        let current = self.current_handle();
        current.is_some() && current == self.handle
    }

    fn current_handle(&mut self) -> Option<u64> {
        const HANDLE: u16 = 4;
        const HEADER: usize = 4;
        let mut request = netlink_bindings::nftables::Request::new().op_gettable_do(&family());
        let _ = request.encode().push_name(&self.table);
        let mut handle = None;
        let read = self.socket.dump(&request, |payload| {
            let bytes = netlink_bindings::utils::find_attr(payload.get(HEADER..).unwrap_or_default(), HANDLE);
            handle = handle.or_else(|| bytes.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes));
        });
        read.ok().and(handle)
    }

    /// Writes the table anew with what it should hold; nothing when it was never written or was removed.
    pub(crate) fn restore(&mut self) -> Result<(), NetworkError> {
        match self.held.take() {
            Some(table) => self.program(table),
            None => Ok(()),
        }
    }

    /// The table's name.
    pub(crate) fn table(&self) -> &str {
        &self.facts.names.table
    }

    /// The kernel's number for our socket: notices of changes carry it.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Removes the table; none is fine.
    pub(crate) fn remove(&mut self) -> Result<(), NetworkError> {
        let table = self.table.clone();
        self.held = None;
        self.socket
            .transact(|batch| {
                add_table(batch, &table);
                let _ = batch.request().op_deltable_do(&family()).encode().push_name(&table);
            })
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> NetworkError {
        NetworkError::WriteTable { table: self.facts.names.table.clone(), source }
    }
}

fn add_table(batch: &mut Chained<'_>, table: &CStr) {
    let _ = batch.request().set_create().op_newtable_do(&family()).encode().push_name(table);
}

/// Makes the table, removes it and makes it again: whether or not it was there, it is empty afterwards.
fn replace_table(batch: &mut Chained<'_>, table: &CStr) {
    add_table(batch, table);
    let _ = batch.request().op_deltable_do(&family()).encode().push_name(table);
    add_table(batch, table);
}

struct Set {
    name: &'static CStr,
    key: &'static [u32],
    data: Option<(u32, u32)>,
}

const PORTAL: [u32; 3] = [TYPE_ADDRESS, TYPE_PROTOCOL, TYPE_PORT];

const SETS: [Set; 5] = [
    Set { name: SERVICES, key: &PORTAL, data: Some((TYPE_VERDICT, 0)) },
    Set { name: NODE_PORTS, key: &PORTAL, data: Some((TYPE_VERDICT, 0)) },
    Set { name: ENDPOINTS, key: &[TYPE_ADDRESS, TYPE_PROTOCOL, TYPE_PORT, TYPE_MARK], data: Some((concatenated(&[TYPE_ADDRESS, TYPE_PORT]), 8)) },
    Set { name: REFUSED, key: &PORTAL, data: None },
    Set { name: HAIRPINS, key: &[TYPE_ADDRESS, TYPE_ADDRESS], data: None },
];

const fn concatenated(types: &[u32]) -> u32 {
    let mut number = 0;
    let mut at = 0;
    while at < types.len() {
        number = number << 6 | types[at];
        at += 1;
    }
    number
}

fn write_sets(batch: &mut Chained<'_>, table: &CStr) {
    for (id, set) in (1..).zip(&SETS) {
        let flags = if set.data.is_some() { SetFlags::Map as u32 } else { 0 };
        let mut operation = batch.request().set_create().op_newset_do(&family());
        let fields = u32::try_from(set.key.len()).unwrap_or(0);
        let attributes = operation.encode().push_table(table).push_name(set.name).push_flags(flags).push_id(id);
        let attributes = attributes.push_key_type(concatenated(set.key)).push_key_len(4 * fields);
        let _ = match set.data {
            None => attributes,
            Some((kind, 0)) => attributes.push_data_type(kind),
            Some((kind, length)) => attributes.push_data_type(kind).push_data_len(length),
        };
    }
}

/// (name, type, hook, priority): the hooks are prerouting 0, input 1, forward 2, output 3, postrouting 4.
const CHAINS: [(&CStr, &CStr, u32, i32); 7] = [
    (c"guard", c"filter", 0, -300),
    (c"arriving", c"nat", 0, -100),
    (c"local", c"nat", 3, -100),
    (c"leaving", c"nat", 4, 100),
    (c"refuse-input", c"filter", 1, 0),
    (c"refuse-forward", c"filter", 2, 0),
    (c"refuse-output", c"filter", 3, 0),
];

fn write_chains(batch: &mut Chained<'_>, table: &CStr) {
    for (name, kind, hook, priority) in CHAINS {
        let mut operation = batch.request().set_create().op_newchain_do(&family());
        let attributes = operation.encode().push_table(table).push_name(name).nested_hook().push_num(hook).push_priority(priority).end_nested();
        let _ = attributes.push_type(kind);
    }
}

fn write_rules(batch: &mut Chained<'_>, table: &CStr, facts: &Facts) {
    const LOOPBACK: Cidr = Cidr::new(Ipv4Addr::new(127, 0, 0, 0), 8);
    let mut add = |chain: &CStr, write: &dyn Fn(Rule<'_>) -> Rule<'_>| append(batch, table, chain, write);
    // Addresses that cannot come from where they claim: localhost from a wire, pods from anywhere but a pod's link.
    add(c"guard", &|rule| rule.link_is_not(Way::In, "lo").within(Field::Destination, LOOPBACK).drop());
    add(c"guard", &|rule| rule.link_is_not(Way::In, "lo").within(Field::Source, LOOPBACK).drop());
    add(c"guard", &|rule| rule.link_is_not(Way::In, "lo").link_begins_otherwise(Way::In, &facts.names.link_prefix).within(Field::Source, facts.pods).drop());
    for chain in [c"arriving", c"local"] {
        add(chain, &|rule| rule.load_portal(false).go_by_map(SERVICES));
        add(chain, &|rule| rule.destination_local(true).outside(Field::Destination, LOOPBACK).load_portal(true).go_by_map(NODE_PORTS));
    }
    add(c"leaving", &|rule| rule.redirected().load_pair().in_set(HAIRPINS).come_from(facts.node));
    add(c"leaving", &|rule| rule.within(Field::Source, facts.pods).outside(Field::Destination, facts.pods).link_is_not(Way::Out, "lo").masquerade());
    add(c"refuse-input", &|rule| rule.tcp().load_portal(true).in_set(REFUSED).destination_local(true).outside(Field::Destination, LOOPBACK).reset());
    add(c"refuse-input", &|rule| rule.load_portal(true).in_set(REFUSED).destination_local(true).outside(Field::Destination, LOOPBACK).unreachable());
    // Such a packet isn't given its Service's address on the way back: its receiver would know nothing of it and reset.
    add(c"refuse-forward", &|rule| rule.within(Field::Source, facts.pods).of_no_connection().drop());
    // A Service's address that is still the destination here has no endpoint. By address, not by link: the link seen in
    // the output hook is the one from before the destination was changed.
    for chain in [c"refuse-forward", c"refuse-output"] {
        add(chain, &|rule| rule.within(Field::Destination, facts.services).destination_local(false).tcp().reset());
        add(chain, &|rule| rule.within(Field::Destination, facts.services).destination_local(false).unreachable());
    }
}

fn spread_name(node_port: bool, count: u32) -> CString {
    let prefix = if node_port { "node-spread" } else { "spread" };
    CString::new(format!("{prefix}-{count}")).unwrap_or_default()
}

fn write_change(batch: &mut Chained<'_>, table: &CStr, change: &Difference) {
    for (node_port, count) in &change.add_spreads {
        let name = spread_name(*node_port, *count);
        let _ = batch.request().set_create().op_newchain_do(&family()).encode().push_table(table).push_name(&name);
        append(batch, table, &name, |rule| rule.load_portal(*node_port).draw_slot(*count).redirect_by_map(ENDPOINTS));
    }
    write_elements(batch, table, &change.remove, false);
    write_elements(batch, table, &change.add, true);
    for (node_port, count) in &change.remove_spreads {
        let name = spread_name(*node_port, *count);
        // Its rule first: a chain with rules isn't removed.
        let _ = batch.request().op_delrule_do(&family()).encode().push_table(table).push_chain(&name);
        let _ = batch.request().op_delchain_do(&family()).encode().push_table(table).push_name(&name);
    }
}

fn write_elements(batch: &mut Chained<'_>, table: &CStr, elements: &Elements, add: bool) {
    for (set, node_port) in [(SERVICES, false), (NODE_PORTS, true)] {
        let chosen: Vec<(Portal, u32)> = elements.portals.iter().filter(|(portal, _)| portal.is_node_port() == node_port).copied().collect();
        each_message(batch, table, set, add, &chosen, |list, (portal, count)| write_portal(list, portal, *count));
    }
    each_message(batch, table, ENDPOINTS, add, &elements.endpoints, |list, (portal, slot, endpoint)| write_endpoint(list, portal, *slot, *endpoint));
    each_message(batch, table, REFUSED, add, &elements.refused, |list, portal| write_key(list, &portal_key(portal)).end_nested());
    each_message(batch, table, HAIRPINS, add, &elements.hairpins, |list, address| {
        let octets = address.octets();
        write_key(list, &[octets, octets].concat()).end_nested()
    });
}

fn each_message<T>(
    batch: &mut Chained<'_>,
    table: &CStr,
    set: &CStr,
    add: bool,
    elements: &[T],
    write: impl for<'a> Fn(ElementList<'a>, &T) -> ElementList<'a>,
) {
    for part in elements.chunks(ELEMENTS_A_MESSAGE) {
        if add {
            let mut operation = batch.request().set_create().op_newsetelem_do(&family());
            let list = operation.encode().push_table(table).push_set(set).nested_elements();
            let _ = part.iter().fold(list, &write).end_nested();
        } else {
            let mut operation = batch.request().op_delsetelem_do(&family());
            let list = operation.encode().push_table(table).push_set(set).nested_elements();
            let _ = part.iter().fold(list, &write).end_nested();
        }
    }
}

fn write_key<'a>(list: ElementList<'a>, key: &[u8]) -> PushSetelemAttrs<ElementList<'a>> {
    list.nested_elem().nested_key().push_value(key).end_nested()
}

fn write_portal<'a>(list: ElementList<'a>, portal: &Portal, count: u32) -> ElementList<'a> {
    let name = spread_name(portal.is_node_port(), count);
    let data = write_key(list, &portal_key(portal)).nested_data().nested_verdict().push_code(VerdictCode::Goto as u32).push_chain(&name);
    data.end_nested().end_nested().end_nested()
}

fn write_endpoint<'a>(list: ElementList<'a>, portal: &Portal, slot: u32, endpoint: SocketAddrV4) -> ElementList<'a> {
    let mut key = [0; 16];
    key[..12].copy_from_slice(&portal_key(portal));
    key[12..].copy_from_slice(&slot.to_ne_bytes());
    let mut data = [0; 8];
    data[..4].copy_from_slice(&endpoint.ip().octets());
    data[4..6].copy_from_slice(&endpoint.port().to_be_bytes());
    write_key(list, &key).nested_data().push_value(&data).end_nested().end_nested()
}

/// Every field of a concatenated key is padded to four bytes.
fn portal_key(portal: &Portal) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&portal.address.octets());
    key[4] = portal.protocol.number();
    key[8..10].copy_from_slice(&portal.port.to_be_bytes());
    key
}
