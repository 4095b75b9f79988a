//! One nftables rule, written expression by expression.

use std::ffi::CStr;
use std::net::Ipv4Addr;

use netlink_bindings::nftables::{
    Chained, CmpOps, CtKeys, FibFlags, MetaKeys, Nfgenmsg, PayloadBase, PushExprListAttrs, PushRuleAttrs, RejectTypes, VerdictCode,
};

use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::push_header;

use crate::address::Cidr;

/// The first of the 32-bit registers; a concatenated key takes the ones from here on.
pub(crate) const KEY: u32 = 8;
const SCRATCH: u32 = 16;
const VERDICT: u32 = 0;
const RANDOM: u32 = 1;
const SOURCE_NAT: u32 = 0;
const DESTINATION_NAT: u32 = 1;
const FAMILY_IPV4: u32 = 2;
/// NFT_FIB_RESULT_ADDRTYPE: netlink-bindings 0.3 counts these from the wrong number.
const ADDRESS_TYPE: u32 = 3;
const LOCAL: u32 = 2;
const PORT_UNREACHABLE: u8 = 3;
const PROTOCOL_TCP: u8 = 6;

/// Where a chain's matches look.
#[derive(Clone, Copy)]
pub(crate) enum Field {
    Source,
    Destination,
}

impl Field {
    const fn offset(self) -> u32 {
        match self {
            Field::Source => 12,
            Field::Destination => 16,
        }
    }
}

/// Where a packet comes in or goes out.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    In,
    Out,
}

/// The header of every message about our table: IPv4.
pub(crate) fn family() -> Nfgenmsg {
    Nfgenmsg { nfgen_family: 2, ..Default::default() }
}

/// A rule being written; it is whole when dropped.
pub(crate) struct Rule<'a>(PushExprListAttrs<PushRuleAttrs<&'a mut Vec<u8>>>);

/// Appends one rule to a chain.
pub(crate) fn append(batch: &mut Chained<'_>, table: &CStr, chain: &CStr, write: impl FnOnce(Rule<'_>) -> Rule<'_>) {
    let mut operation = batch.request().set_create().set_append().op_newrule_do(&family());
    let attributes = operation.encode().push_table(table).push_chain(chain);
    let _ = write(Rule(attributes.nested_expressions())).0.end_nested();
}

/// Puts one rule at the head of a chain of any table, with data that its owner finds it by.
pub(crate) fn insert(batch: &mut Chained<'_>, header: &Nfgenmsg, table: &CStr, chain: &CStr, data: &[u8], write: impl FnOnce(Rule<'_>) -> Rule<'_>) {
    let mut operation = batch.request().set_create().op_newrule_do(header);
    let attributes = operation.encode().push_table(table).push_chain(chain).push_userdata(data);
    let _ = write(Rule(attributes.nested_expressions())).0.end_nested();
}

impl Rule<'_> {
    fn load(self, base: PayloadBase, offset: u32, length: u32, register: u32) -> Self {
        let payload = self.0.nested_elem().nested_data_payload().push_dreg(register).push_base(base as u32);
        Rule(payload.push_offset(offset).push_len(length).end_nested().end_nested())
    }

    fn meta(self, key: MetaKeys, register: u32) -> Self {
        Rule(self.0.nested_elem().nested_data_meta().push_dreg(register).push_key(key as u32).end_nested().end_nested())
    }

    fn set(self, register: u32, value: &[u8]) -> Self {
        let immediate = self.0.nested_elem().nested_data_immediate().push_dreg(register);
        Rule(immediate.nested_data().push_value(value).end_nested().end_nested().end_nested())
    }

    fn compare(self, register: u32, value: &[u8], operator: CmpOps) -> Self {
        let compare = self.0.nested_elem().nested_data_cmp().push_sreg(register).push_op(operator as u32);
        Rule(compare.nested_data().push_value(value).end_nested().end_nested().end_nested())
    }

    fn mask(self, register: u32, mask: &[u8; 4]) -> Self {
        let bitwise = self.0.nested_elem().nested_data_bitwise().push_sreg(register).push_dreg(register).push_len(4);
        let bitwise = bitwise.nested_mask().push_value(mask).end_nested().nested_xor().push_value(&[0; 4]).end_nested();
        Rule(bitwise.end_nested().end_nested())
    }

    fn verdict(self, code: VerdictCode) -> Self {
        let data = self.0.nested_elem().nested_data_immediate().push_dreg(VERDICT).nested_data();
        Rule(data.nested_verdict().push_code(code as u32).end_nested().end_nested().end_nested().end_nested())
    }

    /// Looks the key up, into `into` when it is a map. Two of the attributes are written by hand: netlink-bindings 0.3 numbers
    /// those after the name as if the set's id came second; in the kernel it comes last.
    fn look_up(self, set: &CStr, into: Option<u32>) -> Self {
        const FROM_REGISTER: u16 = 2;
        const INTO_REGISTER: u16 = 3;
        let mut lookup = self.0.nested_elem().nested_data_lookup().push_set(set);
        for (attribute, register) in [(FROM_REGISTER, Some(KEY)), (INTO_REGISTER, into)] {
            if let Some(register) = register {
                push_header(lookup.as_vec_mut(), attribute, 4);
                lookup.as_vec_mut().extend_from_slice(&register.to_be_bytes());
            }
        }
        Rule(lookup.end_nested().end_nested())
    }

    /// Goes on when the address is in the range.
    pub(crate) fn within(self, field: Field, range: Cidr) -> Self {
        self.address(field, range, CmpOps::Eq)
    }

    /// Goes on when the address is outside the range.
    pub(crate) fn outside(self, field: Field, range: Cidr) -> Self {
        self.address(field, range, CmpOps::Neq)
    }

    fn address(self, field: Field, range: Cidr, operator: CmpOps) -> Self {
        let loaded = self.load(PayloadBase::NetworkHeader, field.offset(), 4, SCRATCH);
        loaded.mask(SCRATCH, &range.mask().octets()).compare(SCRATCH, &range.base().octets(), operator)
    }

    /// Goes on when the link's name is another.
    pub(crate) fn link_is_not(self, way: Way, name: &str) -> Self {
        let mut padded = [0; 16];
        let length = name.len().min(15);
        padded[..length].copy_from_slice(&name.as_bytes()[..length]);
        self.link(way, &padded)
    }

    /// Goes on when the link's name begins otherwise.
    pub(crate) fn link_begins_otherwise(self, way: Way, prefix: &str) -> Self {
        self.link(way, prefix.as_bytes())
    }

    fn link(self, way: Way, name: &[u8]) -> Self {
        let key = match way {
            Way::In => MetaKeys::Iifname,
            Way::Out => MetaKeys::Oifname,
        };
        // A 16-byte value takes a whole 128-bit register.
        const WIDE: u32 = 1;
        self.meta(key, WIDE).compare(WIDE, name, CmpOps::Neq)
    }

    /// Goes on when the destination is (or isn't) an address of this machine.
    pub(crate) fn destination_local(self, wanted: bool) -> Self {
        let fib = self.0.nested_elem().nested_data_fib().push_dreg(SCRATCH).push_result(ADDRESS_TYPE);
        let operator = if wanted { CmpOps::Eq } else { CmpOps::Neq };
        Rule(fib.push_flags(FibFlags::Daddr as u32).end_nested().end_nested()).compare(SCRATCH, &LOCAL.to_ne_bytes(), operator)
    }

    /// Goes on when the packet fits no connection.
    pub(crate) fn of_no_connection(self) -> Self {
        const INVALID: u32 = 1;
        let state = self.0.nested_elem().nested_data_ct().push_dreg(SCRATCH).push_key(CtKeys::State as u32).end_nested().end_nested();
        Rule(state).mask(SCRATCH, &INVALID.to_ne_bytes()).compare(SCRATCH, &[0; 4], CmpOps::Neq)
    }

    /// Goes on for IPv4, in a table that sees both.
    pub(crate) fn of_ipv4(self) -> Self {
        const NFPROTO_IPV4: u8 = 2;
        self.meta(MetaKeys::Nfproto, SCRATCH).compare(SCRATCH, &[NFPROTO_IPV4], CmpOps::Eq)
    }

    /// Goes on for TCP.
    pub(crate) fn tcp(self) -> Self {
        self.meta(MetaKeys::L4Proto, SCRATCH).compare(SCRATCH, &[PROTOCOL_TCP], CmpOps::Eq)
    }

    /// Goes on when an endpoint was put in the place of the destination.
    pub(crate) fn redirected(self) -> Self {
        const DESTINATION_CHANGED: u32 = 0x20;
        let status = self.0.nested_elem().nested_data_ct().push_dreg(SCRATCH).push_key(CtKeys::Status as u32).end_nested().end_nested();
        Rule(status).mask(SCRATCH, &DESTINATION_CHANGED.to_ne_bytes()).compare(SCRATCH, &[0; 4], CmpOps::Neq)
    }

    /// Loads destination, protocol and port as a key; for a node port the address is 0.0.0.0.
    pub(crate) fn load_portal(self, node_port: bool) -> Self {
        let address =
            if node_port { self.set(KEY, &Ipv4Addr::UNSPECIFIED.octets()) } else { self.load(PayloadBase::NetworkHeader, Field::Destination.offset(), 4, KEY) };
        address.meta(MetaKeys::L4Proto, KEY + 1).load(PayloadBase::TransportHeader, 2, 2, KEY + 2)
    }

    /// Loads source and destination as a key.
    pub(crate) fn load_pair(self) -> Self {
        self.load(PayloadBase::NetworkHeader, Field::Source.offset(), 4, KEY).load(PayloadBase::NetworkHeader, Field::Destination.offset(), 4, KEY + 1)
    }

    /// Draws a slot below `count` behind the portal's key.
    pub(crate) fn draw_slot(self, count: u32) -> Self {
        // netlink-bindings 0.3 writes this one register in the machine's byte order; the kernel wants the network's.
        Rule(
            self.0
                .nested_elem()
                .nested_data_numgen()
                .push_dreg((KEY + 3).to_be())
                .push_modulus(count)
                .push_type(RANDOM)
                .push_offset(0)
                .end_nested()
                .end_nested(),
        )
    }

    /// Goes on when the key is in the set.
    pub(crate) fn in_set(self, set: &CStr) -> Self {
        self.look_up(set, None)
    }

    /// Goes where the map says for the key.
    pub(crate) fn go_by_map(self, map: &CStr) -> Self {
        self.look_up(map, Some(VERDICT))
    }

    /// Sends the connection to the address and port that the map has for the key.
    pub(crate) fn redirect_by_map(self, map: &CStr) -> Self {
        let nat = self.look_up(map, Some(KEY)).0.nested_elem().nested_data_nat().push_type(DESTINATION_NAT).push_family(FAMILY_IPV4);
        Rule(nat.push_reg_addr_min(KEY).push_reg_proto_min(KEY + 1).end_nested().end_nested())
    }

    /// Lets the connection come from another address.
    pub(crate) fn come_from(self, address: Ipv4Addr) -> Self {
        let set = self.set(KEY, &address.octets());
        Rule(set.0.nested_elem().nested_data_nat().push_type(SOURCE_NAT).push_family(FAMILY_IPV4).push_reg_addr_min(KEY).end_nested().end_nested())
    }

    /// Lets the connection come from the address of the link it leaves by.
    pub(crate) fn masquerade(self) -> Self {
        Rule(self.0.nested_elem().push_name(c"masq").end_nested())
    }

    /// Counts what comes here.
    pub(crate) fn counted(self) -> Self {
        Rule(self.0.nested_elem().nested_data_counter().end_nested().end_nested())
    }

    /// Lets the packet pass this chain.
    pub(crate) fn accept(self) -> Self {
        self.verdict(VerdictCode::Accept)
    }

    /// Drops the packet without a word.
    pub(crate) fn drop(self) -> Self {
        self.verdict(VerdictCode::Drop)
    }

    /// Answers TCP with a reset.
    pub(crate) fn reset(self) -> Self {
        Rule(self.0.nested_elem().nested_data_reject().push_type(RejectTypes::TcpRst as u32).end_nested().end_nested())
    }

    /// Answers that nobody is at that port.
    pub(crate) fn unreachable(self) -> Self {
        let reject = self.0.nested_elem().nested_data_reject().push_type(RejectTypes::IcmpUnreach as u32);
        Rule(reject.push_icmp_code(PORT_UNREACHABLE).end_nested().end_nested())
    }
}
