//! rpm's own database form (`Packages.db`, as SUSE has it): a table of slots, then blobs in blocks of 16 bytes.

/// `RpmP`, `Slot` and `BlbS`, the lowest byte first.
const DATABASE: &[u8] = b"RpmP";
const SLOT: &[u8] = b"Slot";
const BLOB: &[u8] = b"BlbS";
const PAGE_BYTES: usize = 4096;
const BLOCK_BYTES: usize = 16;
/// The table's header takes the place of this many slots.
const FIRST_SLOT: usize = 2;

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize)
}

/// The blobs of all slots in use.
pub(super) fn blobs(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if bytes.get(..4) != Some(DATABASE) {
        return Err("it is not an rpm database".to_owned());
    }
    let pages = word(bytes, 12).unwrap_or(0);
    let end = pages.saturating_mul(PAGE_BYTES).min(bytes.len());
    let mut found = Vec::new();
    let mut at = FIRST_SLOT * BLOCK_BYTES;
    while at + BLOCK_BYTES <= end {
        let number = word(bytes, at + 4).unwrap_or(0);
        if bytes.get(at..at + 4) == Some(SLOT) && number != 0 {
            found.push(blob(bytes, word(bytes, at + 8).unwrap_or(0), number).ok_or_else(|| format!("its package {number} is damaged"))?);
        }
        at += BLOCK_BYTES;
    }
    Ok(found)
}

fn blob(bytes: &[u8], block: usize, number: usize) -> Option<Vec<u8>> {
    let at = block.checked_mul(BLOCK_BYTES)?;
    if bytes.get(at..at.checked_add(4)?)? != BLOB || word(bytes, at + 4)? != number {
        return None;
    }
    let (start, length) = (at + BLOCK_BYTES, word(bytes, at + 12)?);
    Some(bytes.get(start..start.checked_add(length)?)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::blobs;

    #[test]
    fn slots_lead_to_blobs() {
        let mut bytes = vec![0; 4096 + 64];
        bytes[..4].copy_from_slice(b"RpmP");
        bytes[12] = 1;
        bytes[32..36].copy_from_slice(b"Slot");
        bytes[36] = 7;
        bytes[40..44].copy_from_slice(&256_u32.to_le_bytes());
        bytes[48..52].copy_from_slice(b"Slot");
        let blob = 4096;
        bytes[blob..blob + 4].copy_from_slice(b"BlbS");
        bytes[blob + 4] = 7;
        bytes[blob + 12] = 5;
        bytes[blob + 16..blob + 21].copy_from_slice(b"hello");
        assert_eq!(blobs(&bytes), Ok(vec![b"hello".to_vec()]));
        bytes[blob + 4] = 8;
        assert!(blobs(&bytes).is_err(), "another package's blob");
        assert!(blobs(b"no").is_err());
    }
}
