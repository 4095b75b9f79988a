//! As much of SQLite's file format ("Database File Format") as it takes to read one column of one table: rpm's packages.

/// What every database begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";
const TABLE: &str = "Packages";
const INTERIOR: u8 = 0x05;
const LEAF: u8 = 0x0d;
/// Trees are not deeper, unless they go round in circles.
const MAX_DEPTH: usize = 32;

/// The `blob` column of the table `Packages`: rpm's headers.
pub(super) fn blobs(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let file = File::open(bytes).ok_or("it is not an SQLite database")?;
    let damaged = || "the database is damaged".to_owned();
    let schema = file.rows(1).ok_or_else(damaged)?;
    let table = schema.iter().find(|row| row.first() == Some(&Value::Text("table".to_owned())) && row.get(1) == Some(&Value::Text(TABLE.to_owned())));
    let Some(Value::Number(page)) = table.and_then(|row| row.get(3)) else { return Err(format!("it has no table {TABLE}")) };
    let rows = usize::try_from(*page).ok().and_then(|page| file.rows(page)).ok_or_else(damaged)?;
    let blob = |row: Vec<Value>| row.into_iter().rev().find_map(|value| if let Value::Blob(bytes) = value { Some(bytes) } else { None });
    Ok(rows.into_iter().filter_map(blob).collect())
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Nothing,
    Number(i64),
    Text(String),
    Blob(Vec<u8>),
}

struct File<'b> {
    bytes: &'b [u8],
    page_bytes: usize,
    /// What of a page holds content.
    usable: usize,
}

impl<'b> File<'b> {
    fn open(bytes: &'b [u8]) -> Option<Self> {
        if bytes.get(..16)? != MAGIC {
            return None;
        }
        let page_bytes = match u16::from_be_bytes([*bytes.get(16)?, *bytes.get(17)?]) {
            1 => 65536,
            size => usize::from(size),
        };
        let usable = page_bytes.checked_sub(usize::from(*bytes.get(20)?)).filter(|usable| *usable >= 480)?;
        Some(File { bytes, page_bytes, usable })
    }

    fn page(&self, number: usize) -> Option<&'b [u8]> {
        let start = number.checked_sub(1)?.checked_mul(self.page_bytes)?;
        self.bytes.get(start..start.checked_add(self.page_bytes)?)
    }

    /// The rows of the table whose tree begins at a page.
    fn rows(&self, page: usize) -> Option<Vec<Vec<Value>>> {
        let mut rows = Vec::new();
        // A page that is met more often than there are pages is met in a circle.
        let mut left = self.bytes.len() / self.page_bytes + 1;
        self.tree(page, 0, &mut left, &mut rows)?;
        Some(rows)
    }

    fn tree(&self, number: usize, depth: usize, left: &mut usize, rows: &mut Vec<Vec<Value>>) -> Option<()> {
        *left = left.checked_sub(1)?;
        let page = self.page(number).filter(|_| depth < MAX_DEPTH)?;
        // The first page begins with the file's header.
        let head = if number == 1 { 100 } else { 0 };
        let count = usize::from(short(page, head + 3)?);
        let cells = head + if *page.get(head)? == INTERIOR { 12 } else { 8 };
        for cell in 0..count {
            let at = usize::from(short(page, cells + 2 * cell)?);
            match *page.get(head)? {
                INTERIOR => self.tree(long(page, at)?, depth + 1, left, rows)?,
                LEAF => rows.push(record(&self.payload(page, at)?)?),
                _ => return None,
            }
        }
        if *page.get(head)? == INTERIOR {
            self.tree(long(page, head + 8)?, depth + 1, left, rows)?;
        }
        Some(())
    }

    /// A cell's content, which may go on in other pages.
    fn payload(&self, page: &[u8], at: usize) -> Option<Vec<u8>> {
        let (length, used) = varint(page, at)?;
        let (_, more) = varint(page, at + used)?;
        let (start, length) = (at + used + more, usize::try_from(length).ok().filter(|length| *length <= self.bytes.len())?);
        let most = self.usable - 35;
        if length <= most {
            return Some(page.get(start..start + length)?.to_vec());
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let wanted = least + (length - least) % (self.usable - 4);
        let here = if wanted <= most { wanted } else { least };
        let mut payload = page.get(start..start + here)?.to_vec();
        let mut next = long(page, start + here)?;
        while payload.len() < length {
            let overflow = self.page(next)?;
            let piece = (length - payload.len()).min(self.usable - 4);
            payload.extend_from_slice(overflow.get(4..4 + piece)?);
            next = long(overflow, 0)?;
        }
        Some(payload)
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

/// A number of one to nine bytes, and how many they are.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut number = 0_u64;
    for place in 0..9 {
        let byte = u64::from(*bytes.get(at + place)?);
        if place == 8 {
            return Some((number << 8 | byte, 9));
        }
        number = number << 7 | (byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, place + 1));
        }
    }
    None
}

/// The values of a row: their types first, then their bytes.
fn record(payload: &[u8]) -> Option<Vec<Value>> {
    let (head, mut at) = varint(payload, 0)?;
    let (head, mut body, mut values) = (usize::try_from(head).ok()?, usize::try_from(head).ok()?, Vec::new());
    while at < head {
        let (kind, used) = varint(payload, at)?;
        at += used;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            kind => usize::try_from((kind - 12) / 2).ok()?,
        };
        let bytes = payload.get(body..body.checked_add(length)?)?;
        body += length;
        values.push(match kind {
            1..=6 => Value::Number(bytes.iter().enumerate().fold(0, |number, (place, byte)| {
                let byte = if place == 0 { i64::from(*byte as i8) } else { i64::from(*byte) };
                number << 8 | byte
            })),
            8 => Value::Number(0),
            9 => Value::Number(1),
            kind if kind >= 12 && kind % 2 == 0 => Value::Blob(bytes.to_vec()),
            kind if kind >= 13 => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
            _ => Value::Nothing,
        });
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::{blobs, varint};

    /// A database that SQLite itself made: the table `Packages(hnum INTEGER PRIMARY KEY, blob BLOB)` with 40 rows of up to 1,560 bytes, pages of 512 bytes.
    const DATABASE: &[u8] = include_bytes!("packages.sqlite");

    #[test]
    fn rows_are_read_through_interior_and_overflow_pages() {
        let rows = blobs(DATABASE).expect("read");
        assert_eq!(rows.len(), 40);
        for (number, row) in rows.iter().enumerate() {
            assert_eq!(row.len(), number * 40, "row {number}");
            assert!(row.iter().all(|byte| usize::from(*byte) == number), "row {number}");
        }
    }

    #[test]
    fn damage_is_an_error_and_never_a_circle() {
        assert!(blobs(b"SQLite format 3\0").is_err());
        assert!(blobs(&[]).is_err());
        for cut in (0..DATABASE.len()).step_by(997) {
            let _ = blobs(&DATABASE[..cut]);
        }
        for place in (0..DATABASE.len()).step_by(101) {
            let mut bytes = DATABASE.to_vec();
            bytes[place] ^= 0xff;
            let _ = blobs(&bytes);
        }
    }

    #[test]
    fn numbers_have_up_to_nine_bytes() {
        assert_eq!(varint(&[0x81, 0x00], 0), Some((128, 2)));
        assert_eq!(varint(&[0xff; 9], 0), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0x80], 0), None);
    }
}
