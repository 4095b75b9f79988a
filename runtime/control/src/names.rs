//! Names that are computed and not drawn: the same owner and the same content always give the same name.

use serde::Serialize;

/// Letters and digits that cannot spell a word: no vowels, none of `0 1 3`.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a, 64 bits.
pub(crate) fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    // The low bits of FNV are weak: fold the high ones in.
    hash ^ (hash >> 29) ^ (hash >> 47)
}

/// `count` letters that spell a hash.
pub(crate) fn letters(mut hash: u64, count: usize) -> String {
    let mut text = String::with_capacity(count);
    for _ in 0..count {
        text.push(char::from(SAFE[usize::try_from(hash % 27).unwrap_or(0)]));
        hash /= 27;
    }
    text
}

/// The hash of anything that can be written as JSON, in ten letters: `pod-template-hash`.
pub(crate) fn content_hash(content: &impl Serialize, salt: i32) -> String {
    let text = serde_json::to_string(content).unwrap_or_default();
    letters(hash(&[text.as_bytes(), &salt.to_le_bytes()]), 10)
}

/// `<base>-<five letters>` for the dependent number `slot` of an owner. Long bases are cut, so that the name stays a name.
pub(crate) fn dependent(base: &str, owner_uid: &str, slot: u64) -> String {
    const LONGEST_BASE: usize = 63 - 6;
    let base = base.get(..LONGEST_BASE.min(base.len())).unwrap_or(base).trim_end_matches(['-', '.']);
    format!("{base}-{}", letters(hash(&[owner_uid.as_bytes(), &slot.to_le_bytes()]), 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_repeatable_and_spread() {
        let names: std::collections::BTreeSet<String> = (0..1000).map(|slot| dependent("web", "uid-1", slot)).collect();
        assert!(names.len() >= 999, "{}", names.len());
        assert_eq!(dependent("web", "uid-1", 7), dependent("web", "uid-1", 7));
        assert_ne!(dependent("web", "uid-1", 7), dependent("web", "uid-2", 7));
        assert!(dependent(&"long-".repeat(40), "u", 0).len() <= 63);
    }

    #[test]
    fn content_hashes_tell_contents_and_salts_apart() {
        assert_eq!(content_hash(&[1, 2], 0), content_hash(&[1, 2], 0));
        assert_ne!(content_hash(&[1, 2], 0), content_hash(&[1, 3], 0));
        assert_ne!(content_hash(&[1, 2], 0), content_hash(&[1, 2], 1));
    }
}
