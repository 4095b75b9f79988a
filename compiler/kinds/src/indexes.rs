//! Lists of a Job's indexes, as `status.completedIndexes` has them: `1,3-5,7`.

use std::collections::BTreeSet;

/// Reads `1,3-5,7`. Empty text is no index.
///
/// # Errors
/// What is wrong, for people.
pub fn parse(text: &str) -> Result<BTreeSet<u32>, String> {
    const MOST: u32 = 1_000_000;
    let mut found = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number < MOST).ok_or_else(|| format!("{text:?} is no index"));
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if last < first || found.last().is_some_and(|known| *known >= first) {
            return Err(format!("{part:?} is not in order: write indexes as 1,3-5,7"));
        }
        found.extend(first..=last);
    }
    Ok(found)
}

/// Writes `1,3-5,7`.
pub fn write(indexes: &BTreeSet<u32>) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for index in indexes {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => parts.push((*index, *index)),
        }
    }
    // Two neighbours are written apart, as controllers do.
    let part = |(first, last): &(u32, u32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::{parse, write};

    #[test]
    fn lists_are_read_and_written_alike() {
        for text in ["", "0", "1,3-5,7", "0,1", "2-4,8,9"] {
            assert_eq!(parse(text).map(|indexes| write(&indexes)).as_deref(), Ok(text));
        }
        for wrong in ["a", "3-1", "5,2", "1-", "4294967296", "0-4000000000"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
