//! Ranges of addresses and which pod has which: pure, rebuilt from the pods that exist.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::NetworkError;

/// A range of IPv4 addresses, `10.42.0.0/24`; the host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    base: u32,
    prefix: u8,
}

impl Cidr {
    /// A range; host bits of `base` are cleared, a prefix over 32 is taken as 32.
    pub const fn new(base: Ipv4Addr, prefix: u8) -> Self {
        let prefix = if prefix > 32 { 32 } else { prefix };
        Cidr { base: base.to_bits() & mask(prefix), prefix }
    }

    /// The first address: the range's own.
    pub const fn base(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base)
    }

    /// Bits of the network part.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The netmask as an address.
    pub const fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.prefix))
    }

    /// The address at an offset, when it is inside.
    pub fn nth(self, offset: u32) -> Option<Ipv4Addr> {
        let address = Ipv4Addr::from_bits(self.base.checked_add(offset)?);
        self.contains(address).then_some(address)
    }

    /// Whether an address is inside.
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.base
    }

    /// The last address: the broadcast address of a subnet.
    pub const fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base | !mask(self.prefix))
    }
}

const fn mask(prefix: u8) -> u32 {
    if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError::ReadCidr { text: text.to_owned() };
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(wrong)?;
        let cidr = Cidr::new(address, prefix);
        if cidr.base() == address { Ok(cidr) } else { Err(wrong()) }
    }
}

/// Which pod has which address. The network's own address, the node's (the first host) and the last are never given out.
///
/// Addresses are handed out in turn, so that one just freed rests as long as possible: a client with an old answer should
/// meet nobody rather than a stranger.
#[derive(Clone, Debug)]
pub struct AddressPool {
    cidr: Cidr,
    owners: BTreeMap<Ipv4Addr, String>,
    next: u32,
}

impl AddressPool {
    /// An empty pool over a node's range.
    pub fn new(cidr: Cidr) -> Self {
        AddressPool { cidr, owners: BTreeMap::new(), next: 2 }
    }

    /// The address the node itself has in its range.
    pub fn node_address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.cidr.base().to_bits().wrapping_add(1))
    }

    /// How many pods the range holds.
    pub fn capacity(&self) -> u32 {
        (self.cidr.last().to_bits() - self.cidr.base().to_bits()).saturating_sub(2)
    }

    /// Notes that a pod found after a restart has an address.
    ///
    /// # Errors
    /// When the address isn't the range's to give, or another pod has it.
    pub fn adopt(&mut self, pod: &str, address: Ipv4Addr) -> Result<(), NetworkError> {
        if !self.gives(address) {
            return Err(NetworkError::AddressOutside { address, cidr: self.cidr.to_string() });
        }
        match self.owners.get(&address) {
            Some(owner) if owner != pod => Err(NetworkError::AddressTaken { address, owner: owner.clone() }),
            _ => {
                self.owners.insert(address, pod.to_owned());
                self.next = self.next.max(address.to_bits() - self.cidr.base().to_bits() + 1);
                Ok(())
            }
        }
    }

    /// The pod's address: the one it has, or a free one.
    ///
    /// # Errors
    /// When none is free.
    pub fn allocate(&mut self, pod: &str) -> Result<Ipv4Addr, NetworkError> {
        if let Some(address) = self.of(pod) {
            return Ok(address);
        }
        let count = self.capacity();
        for step in 0..count {
            let offset = 2 + (self.next.saturating_sub(2).wrapping_add(step)) % count;
            let Some(address) = self.cidr.nth(offset) else { continue };
            if let Entry::Vacant(free) = self.owners.entry(address) {
                free.insert(pod.to_owned());
                self.next = offset + 1;
                return Ok(address);
            }
        }
        Err(NetworkError::AddressesExhausted { cidr: self.cidr.to_string(), count })
    }

    /// Gives a pod's address back; returns it when there was one.
    pub fn release(&mut self, pod: &str) -> Option<Ipv4Addr> {
        let address = self.of(pod)?;
        self.owners.remove(&address);
        Some(address)
    }

    /// A pod's address.
    pub fn of(&self, pod: &str) -> Option<Ipv4Addr> {
        self.owners.iter().find(|(_, owner)| *owner == pod).map(|(address, _)| *address)
    }

    fn gives(&self, address: Ipv4Addr) -> bool {
        self.cidr.contains(address) && address != self.cidr.base() && address != self.cidr.last() && address != self.node_address()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_strictly() {
        let cidr: Cidr = "10.42.0.0/24".parse().unwrap();
        assert_eq!(cidr.to_string(), "10.42.0.0/24");
        assert_eq!(cidr.mask(), Ipv4Addr::new(255, 255, 255, 0));
        assert!(cidr.contains(Ipv4Addr::new(10, 42, 0, 255)));
        assert!(!cidr.contains(Ipv4Addr::new(10, 42, 1, 0)));
        for wrong in ["10.42.0.0", "10.42.0.1/24", "10.42.0.0/33", "x/8", ""] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_given_in_turn_and_rest_when_freed() {
        let mut pool = AddressPool::new("10.42.0.0/29".parse().unwrap());
        assert_eq!(pool.capacity(), 5);
        let first = pool.allocate("a").unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 42, 0, 2));
        assert_eq!(pool.allocate("a").unwrap(), first, "asking twice gives the same");
        assert_eq!(pool.release("a"), Some(first));
        assert_eq!(pool.allocate("b").unwrap(), Ipv4Addr::new(10, 42, 0, 3), "not the one just freed");
        for pod in ["c", "d", "e", "f"] {
            pool.allocate(pod).unwrap();
        }
        assert_eq!(pool.of("f"), Some(first), "round again");
        assert!(matches!(pool.allocate("g"), Err(NetworkError::AddressesExhausted { count: 5, .. })));
    }

    #[test]
    fn adoption_refuses_what_is_not_the_pods() {
        let mut pool = AddressPool::new("10.42.0.0/24".parse().unwrap());
        pool.adopt("a", Ipv4Addr::new(10, 42, 0, 9)).unwrap();
        pool.adopt("a", Ipv4Addr::new(10, 42, 0, 9)).unwrap();
        assert!(matches!(pool.adopt("b", Ipv4Addr::new(10, 42, 0, 9)), Err(NetworkError::AddressTaken { .. })));
        for address in [Ipv4Addr::new(10, 42, 0, 0), Ipv4Addr::new(10, 42, 0, 1), Ipv4Addr::new(10, 42, 0, 255), Ipv4Addr::new(10, 43, 0, 9)] {
            assert!(matches!(pool.adopt("b", address), Err(NetworkError::AddressOutside { .. })), "{address}");
        }
        assert_eq!(pool.allocate("b").unwrap(), Ipv4Addr::new(10, 42, 0, 10));
    }

    proptest::proptest! {
        #[test]
        fn no_two_pods_ever_share(turns in proptest::collection::vec((0u8..12, proptest::bool::ANY), 0..200)) {
            let mut pool = AddressPool::new("10.42.0.0/28".parse().unwrap());
            let mut held: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
            for (pod, take) in turns {
                let pod = pod.to_string();
                if take {
                    let address = pool.allocate(&pod).unwrap();
                    proptest::prop_assert!(held.iter().all(|(other, theirs)| *other == pod || *theirs != address));
                    held.insert(pod, address);
                } else {
                    proptest::prop_assert_eq!(pool.release(&pod), held.remove(&pod));
                }
            }
        }
    }
}
