//! What our kernel objects are called, so that they can be found again after a crash.

/// Names derived from an instance's tag. The empty tag gives the plain names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The link that holds the node's addresses and leads nowhere.
    pub holder: String,
    /// The nftables table.
    pub table: String,
    /// How every host end of a pod's link begins: no other program's link and no other instance's does.
    pub link_prefix: String,
}

/// What a pod's link says it is, in its alias; the pod's uid follows.
pub(crate) const ALIAS: &str = "strake pod ";

impl Names {
    /// The names of the instance `tag`. Link names hold at most 15 bytes, so of a long tag only the first 8 show.
    pub fn new(tag: &str) -> Self {
        let shown: String = tag.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let suffix = if shown.is_empty() { String::new() } else { format!("-{shown}") };
        let holder = if shown.is_empty() { "strake0".to_owned() } else { format!("strake{suffix}") };
        Names { holder, table: format!("strake{suffix}"), link_prefix: format!("stk{:02x}", fnv(tag) & 0xff) }
    }

    /// The host end of a pod's link: the prefix and ten hexadecimal digits, 15 bytes in all.
    pub fn link(&self, pod: &str) -> String {
        format!("{}{:010x}", self.link_prefix, fnv(pod) & 0xff_ffff_ffff)
    }
}

/// FNV-1a: stable over versions and machines, which a hash of the standard library isn't.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_link_and_differ_by_tag() {
        let plain = Names::new("");
        assert_eq!((plain.holder.as_str(), plain.table.as_str()), ("strake0", "strake"));
        let other = Names::new("a-very-long-tag");
        assert_ne!(plain.link_prefix, other.link_prefix);
        for names in [plain, other] {
            assert!(names.holder.len() <= 15 && names.link("0b7c2f5e-uid").len() == 15, "{names:?}");
        }
    }
}
