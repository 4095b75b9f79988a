//! The way of the pods' packets through other programs' firewalls: Docker, ufw and firewalld drop by default what is forwarded.
//!
//! In nftables every base chain at the forward hook has its say, so a packet that ours would let pass is dropped by theirs. Each of them gets two rules at
//! its head that accept what comes from a pod or goes to one, marked by a comment, written as iptables-nft writes them so that its owner can still list them.
//! They are removed with the network; a flush or a reload by the owner is noticed and they are written again.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;

use netlink_bindings::nftables::{Nfgenmsg, Request};
use netlink_bindings::utils::find_attr;

use crate::address::Cidr;
use crate::netlink::Socket;
use crate::rule::{Field, insert};

const FAMILY_INET: u8 = 1;
const FAMILY_IPV4: u8 = 2;
const HOOK_FORWARD: u32 = 2;
const POLICY_DROP: u32 = 0;
const VERDICT_DROP: u32 = 0;
/// The header before a message's attributes.
const HEADER: usize = 4;

/// A chain of another program that keeps pods from each other and from the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    /// `ip` or `inet`.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Why our rules could not be added.
    pub reason: String,
    /// What a person can type.
    pub remedy: String,
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hindrance { family, table, chain, reason, remedy } = self;
        write!(
            f,
            "another firewall drops what is forwarded (chain {chain} of table {family} {table}) and strake may not add to it ({reason}): pods do not reach each other. Let them \
             through with: {remedy}"
        )
    }
}

/// What to type when this machine has filter rules of the old iptables interface, which nothing but its own program can read; `None` when it has none.
pub(crate) fn old_interface(pods: Cidr) -> Option<String> {
    let names = std::fs::read_to_string("/proc/net/ip_tables_names").ok()?;
    names.lines().any(|name| name == "filter").then(|| {
        format!(
            "this machine has rules of the old iptables interface, which cannot be seen from here: if pods do not reach each other, type: iptables-legacy -I FORWARD -s {pods} -j \
             ACCEPT && iptables-legacy -I FORWARD -d {pods} -j ACCEPT"
        )
    })
}

/// A base chain at the forward hook.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    family: u8,
    table: CString,
    name: CString,
    drops: bool,
}

/// What matters of a rule.
#[derive(Debug, Default)]
struct Seen {
    handle: u64,
    mark: Vec<u8>,
    /// Nothing but an end that refuses everything.
    refuses_all: bool,
}

/// Our rules in the chains of others.
pub(crate) struct Passage {
    socket: Socket,
    pods: Cidr,
    own_table: CString,
}

fn header(family: u8) -> Nfgenmsg {
    Nfgenmsg { nfgen_family: family, ..Default::default() }
}

impl Passage {
    pub(crate) fn new(pods: Cidr, own_table: &str) -> io::Result<Passage> {
        let own_table = CString::new(own_table).map_err(io::Error::other)?;
        Ok(Passage { socket: Socket::netfilter()?, pods, own_table })
    }

    /// The comments that mark our rules, and what each accepts.
    fn marks(&self) -> [(Field, String); 2] {
        let table = self.own_table.to_string_lossy();
        [(Field::Source, format!("{table}: from pods")), (Field::Destination, format!("{table}: to pods"))]
    }

    /// Lets pods through wherever they are not. Gives the chains that could not be changed.
    ///
    /// # Errors
    /// When the chains cannot be listed.
    pub(crate) fn open(&mut self) -> io::Result<Vec<Hindrance>> {
        let mut hindrances = Vec::new();
        for mut chain in self.chains()? {
            let rules = match self.rules(&chain) {
                // Its owner has just removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                rules => rules?,
            };
            chain.drops |= rules.last().is_some_and(|rule| rule.refuses_all);
            let missing: Vec<_> = self.marks().into_iter().filter(|(_, mark)| rules.iter().all(|rule| rule.mark != comment(mark))).collect();
            if !chain.drops || missing.is_empty() {
                continue;
            }
            match self.add(&chain, &missing) {
                Ok(()) => tracing::info!("{}: pods are let through this firewall of another program, which drops what is forwarded", chain.words()),
                Err(error) => hindrances.push(self.hindrance(&chain, &error)),
            }
        }
        Ok(hindrances)
    }

    fn add(&mut self, chain: &Chain, missing: &[(Field, String)]) -> io::Result<()> {
        let pods = self.pods;
        self.socket.transact(|batch| {
            for (field, mark) in missing {
                insert(batch, &header(chain.family), &chain.table, &chain.name, &comment(mark), |rule| {
                    let rule = if chain.family == FAMILY_INET { rule.of_ipv4() } else { rule };
                    rule.within(*field, pods).counted().accept()
                });
            }
        })
    }

    fn hindrance(&self, chain: &Chain, error: &io::Error) -> Hindrance {
        let (family, table, name) = (chain.family_name(), chain.table.to_string_lossy().into_owned(), chain.name.to_string_lossy().into_owned());
        let pods = self.pods;
        let remedy = match table.as_str() {
            "firewalld" => format!("firewall-cmd --permanent --zone=trusted --add-source={pods} && firewall-cmd --reload"),
            _ => format!("nft insert rule {family} {table} {name} ip saddr {pods} accept && nft insert rule {family} {table} {name} ip daddr {pods} accept"),
        };
        Hindrance { family, table, chain: name, reason: error.to_string(), remedy }
    }

    /// Removes our rules from every chain.
    ///
    /// # Errors
    /// The first chain that could not be listed or changed; the rest is tried all the same.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        let marks = self.marks().map(|(_, mark)| comment(&mark));
        let mut result = Ok(());
        for chain in self.chains()? {
            let removed = self.rules(&chain).and_then(|rules| {
                let own: Vec<u64> = rules.iter().filter(|rule| marks.contains(&rule.mark)).map(|rule| rule.handle).collect();
                self.socket.transact(|batch| {
                    for handle in &own {
                        let mut operation = batch.request().op_delrule_do(&header(chain.family));
                        let _ = operation.encode().push_table(&chain.table).push_chain(&chain.name).push_handle(*handle);
                    }
                })
            });
            // A chain that its owner has just removed has no rules of ours.
            result = result.and(removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }));
        }
        result
    }

    /// Other programs' base chains at the forward hook that see IPv4.
    fn chains(&mut self) -> io::Result<Vec<Chain>> {
        let mut found = Vec::new();
        self.socket.dump(&Request::new().op_getchain_dump(&header(0)), |payload| found.extend(read_chain(payload)))?;
        found.retain(|chain: &Chain| chain.table != self.own_table);
        Ok(found)
    }

    fn rules(&mut self, chain: &Chain) -> io::Result<Vec<Seen>> {
        let mut request = Request::new().op_getrule_dump(&header(chain.family));
        let _ = request.encode().push_table(&chain.table).push_chain(&chain.name);
        let mut found = Vec::new();
        self.socket.dump(&request, |payload| found.extend(read_rule(payload, chain)))?;
        Ok(found)
    }

    /// The kernel's number for our socket: notices of changes carry it.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }
}

impl Chain {
    fn family_name(&self) -> &'static str {
        if self.family == FAMILY_INET { "inet" } else { "ip" }
    }

    fn words(&self) -> String {
        format!("table {} {}, chain {}", self.family_name(), self.table.to_string_lossy(), self.name.to_string_lossy())
    }
}

/// A rule's comment as nft and iptables keep it: a tag, a length, a text with its end.
fn comment(text: &str) -> Vec<u8> {
    const COMMENT: u8 = 0;
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[COMMENT, length], text.as_bytes(), &[0]].concat()
}

fn text(attributes: &[u8], kind: u16) -> Option<CString> {
    CStr::from_bytes_until_nul(find_attr(attributes, kind)?).ok().map(CStr::to_owned)
}

fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(find_attr(attributes, kind)?.get(..4)?.try_into().ok()?))
}

/// A chain at the forward hook whose packets may be IPv4; `None` for every other.
fn read_chain(payload: &[u8]) -> Option<Chain> {
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    const HOOK_NUMBER: u16 = 1;
    let family = *payload.first()?;
    let attributes = payload.get(HEADER..)?;
    let forward = number(find_attr(attributes, HOOK)?, HOOK_NUMBER)? == HOOK_FORWARD;
    let filters = text(attributes, TYPE)?.as_c_str() == c"filter";
    if !forward || !filters || !matches!(family, FAMILY_INET | FAMILY_IPV4) {
        return None;
    }
    let drops = number(attributes, POLICY) == Some(POLICY_DROP);
    Some(Chain { family, table: text(attributes, TABLE)?, name: text(attributes, NAME)?, drops })
}

fn read_rule(payload: &[u8], chain: &Chain) -> Option<Seen> {
    const TABLE: u16 = 1;
    const CHAIN: u16 = 2;
    const HANDLE: u16 = 3;
    const EXPRESSIONS: u16 = 4;
    const USERDATA: u16 = 7;
    let attributes = payload.get(HEADER..)?;
    if text(attributes, TABLE)? != chain.table || text(attributes, CHAIN)? != chain.name {
        return None;
    }
    let handle = u64::from_be_bytes(find_attr(attributes, HANDLE)?.try_into().ok()?);
    let expressions = find_attr(attributes, EXPRESSIONS).unwrap_or_default();
    Some(Seen { handle, mark: find_attr(attributes, USERDATA).unwrap_or_default().to_vec(), refuses_all: refuses_all(expressions) })
}

/// Whether a rule matches everything and refuses it.
fn refuses_all(mut expressions: &[u8]) -> bool {
    let mut refuses = false;
    while let Some(length) = expressions.get(..2).map(|bytes| usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]))) {
        let Some(element) = expressions.get(4..length.max(4)) else { return false };
        match expression(element) {
            Some(Expression::Passes) => {}
            Some(Expression::Refuses) => refuses = true,
            None => return false,
        }
        expressions = expressions.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    refuses
}

enum Expression {
    /// It counts or writes a log.
    Passes,
    Refuses,
}

fn expression(element: &[u8]) -> Option<Expression> {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    const TARGET_NAME: u16 = 1;
    let data = find_attr(element, DATA).unwrap_or_default();
    match text(element, NAME)?.to_bytes() {
        b"counter" | b"log" => Some(Expression::Passes),
        b"reject" => Some(Expression::Refuses),
        // What iptables has no native form for.
        b"target" if text(data, TARGET_NAME)?.as_c_str() == c"REJECT" => Some(Expression::Refuses),
        b"immediate" if verdict(data)? == VERDICT_DROP => Some(Expression::Refuses),
        _ => None,
    }
}

fn verdict(immediate: &[u8]) -> Option<u32> {
    const DATA: u16 = 2;
    const VERDICT: u16 = 2;
    const CODE: u16 = 1;
    number(find_attr(find_attr(immediate, DATA)?, VERDICT)?, CODE)
}
