//! Network addresses in CIDR notation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Arguments, Function, Host, MANY, row};
use crate::value::Value;

type Answer = Result<Value, String>;

pub(super) const TABLE: &[Function] =
    &[row("cidrhost", 2, 2, host), row("cidrnetmask", 1, 1, netmask), row("cidrsubnet", 3, 3, subnet), row("cidrsubnets", 2, MANY, subnets)];

/// A network: its first address as a number of `width` bits, and how many of them are fixed.
struct Net {
    first: u128,
    prefix: u32,
    width: u32,
}

impl Net {
    fn parse(text: &str) -> Result<Net, String> {
        let wrong = || format!("`{text}` is no network: expected ADDRESS/BITS");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let (number, width) = match address.parse().map_err(|_| wrong())? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let prefix: u32 = prefix.parse().ok().filter(|prefix| *prefix <= width).ok_or_else(wrong)?;
        Ok(Net { first: number & !ones(width - prefix), prefix, width })
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.width == 32 { IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))) } else { IpAddr::V6(Ipv6Addr::from(number)) }
    }

    /// The network of `bits` more fixed bits, with `number` in them.
    fn within(&self, bits: u32, number: u128) -> Result<Net, String> {
        let prefix = self.prefix.checked_add(bits).filter(|prefix| *prefix <= self.width);
        let prefix = prefix.ok_or_else(|| format!("{bits} more bits do not fit behind /{}", self.prefix))?;
        if number > ones(bits) {
            return Err(format!("{bits} bits do not number network {number}"));
        }
        let shift = self.width - prefix;
        let part = if shift == 128 { 0 } else { number << shift };
        Ok(Net { first: self.first | part, prefix, width: self.width })
    }

    fn text(&self) -> Value {
        format!("{}/{}", self.address(self.first), self.prefix).into()
    }
}

/// A number whose lowest `bits` bits are set.
fn ones(bits: u32) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

fn host(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let (net, number) = (Net::parse(&arguments.text(0)?)?, arguments.whole(1)?);
    let all = ones(net.width - net.prefix);
    let place = u128::from(number.unsigned_abs());
    if if number < 0 { place > all.saturating_add(1) } else { place > all } {
        return Err(format!("the network has no host {number}"));
    }
    let part = if number < 0 { all - (place - 1) } else { place };
    Ok(net.address(net.first | part).to_string().into())
}

fn netmask(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let net = Net::parse(&arguments.text(0)?)?;
    if net.width != 32 {
        return Err("only IPv4 networks have a mask".to_owned());
    }
    Ok(net.address(ones(32) & !ones(32 - net.prefix)).to_string().into())
}

fn bits(arguments: &Arguments<'_>, place: usize) -> Result<u32, String> {
    u32::try_from(arguments.whole(place)?).map_err(|_| format!("argument {} must be a number of bits", place + 1))
}

fn subnet(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let number = u128::try_from(arguments.whole(2)?).map_err(|_| "the number must not be negative".to_owned())?;
    Ok(Net::parse(&arguments.text(0)?)?.within(bits(arguments, 1)?, number)?.text())
}

/// Networks of different sizes, one behind the other, each at a multiple of its own size.
fn subnets(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let net = Net::parse(&arguments.text(0)?)?;
    let (mut found, mut next) = (Vec::new(), Some(net.first));
    let end = net.first | ones(net.width - net.prefix);
    for place in 1..arguments.len() {
        let prefix = net.within(bits(arguments, place)?, 0)?.prefix;
        let size = ones(net.width - prefix);
        let start = next.and_then(|next| next.checked_add(size)).map(|at| at & !size);
        let start = start.filter(|start| start | size <= end).ok_or_else(|| format!("there is no room for a network of /{prefix}"))?;
        found.push(Net { first: start, prefix, width: net.width }.text());
        next = (start | size).checked_add(1);
    }
    Ok(Value::List(found))
}
