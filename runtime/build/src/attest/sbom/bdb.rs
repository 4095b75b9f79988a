//! As much of the hash form of Berkeley DB's files (versions 4 to 6, "page.h" as its documentation has it) as it takes to read all values: rpm's headers in
//! `Packages`, as distributions kept them until 2021.

/// What every hash database has in its first page, in the byte order of the machine that made it.
const MAGIC: u32 = 0x0006_1561;
/// Where the table of a page's items begins.
const HEAD_BYTES: usize = 26;
/// Kinds of pages.
const HASH_UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const HASH: u8 = 13;
/// Kinds of items: in its page, and in pages of its own.
const HERE: u8 = 1;
const ELSEWHERE: u8 = 3;

/// The values of all keys but 0, which is a counter: rpm's headers, in the order of their pages.
pub(super) fn blobs(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let file = File::open(bytes).ok_or("it is not a hash database of Berkeley DB")?;
    if file.encrypted {
        return Err("the database is encrypted".to_owned());
    }
    file.blobs().ok_or_else(|| "the database is damaged".to_owned())
}

struct File<'b> {
    bytes: &'b [u8],
    /// Numbers have their greatest byte first.
    big: bool,
    page_bytes: usize,
    encrypted: bool,
}

impl<'b> File<'b> {
    fn open(bytes: &'b [u8]) -> Option<Self> {
        let magic: [u8; 4] = bytes.get(12..16)?.try_into().ok()?;
        let big = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (MAGIC, _) => false,
            (_, MAGIC) => true,
            _ => return None,
        };
        let mut file = File { bytes, big, page_bytes: 0, encrypted: *bytes.get(24)? != 0 };
        file.page_bytes = file.long(bytes, 20).filter(|size| size.is_power_of_two() && (512..=65536).contains(size))?;
        Some(file)
    }

    fn short(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let bytes: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(usize::from(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }))
    }

    fn long(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let bytes: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        usize::try_from(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }).ok()
    }

    fn page(&self, number: usize) -> Option<&'b [u8]> {
        let start = number.checked_mul(self.page_bytes)?;
        self.bytes.get(start..start.checked_add(self.page_bytes)?)
    }

    fn blobs(&self) -> Option<Vec<Vec<u8>>> {
        let count = self.bytes.len() / self.page_bytes;
        // Each page holds a part of one item at most: one that is met again is met in a circle, or for another item's sake.
        let (mut left, mut found) = (count, Vec::new());
        for page in (1..count).filter_map(|number| self.page(number)) {
            // Pages that are free, or hold parts of items, are met from elsewhere or not at all.
            if !matches!(page[HEAD_BYTES - 1], HASH | HASH_UNSORTED) {
                continue;
            }
            for pair in 0..self.short(page, 20)? / 2 {
                let key = self.item(page, 2 * pair, &mut left)?;
                if key.iter().any(|byte| *byte != 0) {
                    found.push(self.item(page, 2 * pair + 1, &mut left)?);
                }
            }
        }
        Some(found)
    }

    /// The item of that number in a page. Items fill it from its end.
    fn item(&self, page: &[u8], number: usize, left: &mut usize) -> Option<Vec<u8>> {
        let place = |number: usize| self.short(page, HEAD_BYTES + 2 * number);
        let end = if number == 0 { page.len() } else { place(number - 1)? };
        let item = page.get(place(number)?..end)?;
        match *item.first()? {
            HERE => Some(item[1..].to_vec()),
            ELSEWHERE => self.overflow(self.long(item, 4)?, self.long(item, 8)?, left),
            // Several values of one key: rpm has none.
            _ => None,
        }
    }

    /// An item of that length, whose first part is in that page.
    fn overflow(&self, first: usize, length: usize, left: &mut usize) -> Option<Vec<u8>> {
        let (mut number, mut whole) = (first, Vec::new());
        while whole.len() < length {
            *left = left.checked_sub(1)?;
            let page = self.page(number).filter(|page| page[HEAD_BYTES - 1] == OVERFLOW)?;
            // Where other pages say how far their items reach, these say how long their part is.
            let part = self.short(page, 22).filter(|part| *part > 0)?;
            whole.extend_from_slice(page.get(HEAD_BYTES..HEAD_BYTES.checked_add(part)?)?);
            number = self.long(page, 16)?;
        }
        (whole.len() == length).then_some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Distribution;
    use super::super::rpm::{self, tests::header};
    use super::{ELSEWHERE, HASH, HEAD_BYTES, HERE, MAGIC, OVERFLOW, blobs};

    /// A database that Berkeley DB 5.3 itself made (`db5.3_load`), pages of 512 bytes: key 0 with a counter, keys 1 to 16 with 1, 71, 141, … times their number.
    const DATABASE: &[u8] = include_bytes!("packages.bdb");
    const PAGE: usize = 512;

    #[test]
    fn values_are_read_from_their_page_and_from_pages_of_their_own() {
        let mut rows = blobs(DATABASE).expect("read");
        rows.sort();
        assert_eq!(rows.len(), 16, "without the counter");
        for (row, number) in rows.iter().zip(1_usize..) {
            assert_eq!(row.len(), number * 70 - 69, "row {number}");
            assert!(row.iter().all(|byte| usize::from(*byte) == number), "row {number}");
        }
    }

    /// A database of one page of pairs, and pages of one value, in either byte order.
    fn made(big: bool, small: &[u8], large: &[u8]) -> Vec<u8> {
        let short = |number: usize| if big { (number as u16).to_be_bytes() } else { (number as u16).to_le_bytes() };
        let long = |number: usize| if big { (number as u32).to_be_bytes() } else { (number as u32).to_le_bytes() };
        let parts: Vec<&[u8]> = large.chunks(PAGE - HEAD_BYTES).collect();
        let mut file = vec![0; PAGE * (2 + parts.len())];
        let mut set = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        set(12, &long(MAGIC as usize));
        set(20, &long(PAGE));
        let elsewhere = [&[ELSEWHERE, 0, 0, 0][..], &long(2), &long(large.len())].concat();
        let here = |bytes: &[u8]| [&[HERE], bytes].concat();
        let items = [here(&long(0)), here(&long(2)), here(&long(1)), here(small), here(&long(2)), elsewhere];
        let mut end = PAGE;
        for (number, item) in items.iter().enumerate() {
            end -= item.len();
            set(PAGE + HEAD_BYTES + 2 * number, &short(end));
            set(PAGE + end, item);
        }
        set(PAGE + 20, &short(items.len()));
        set(PAGE + 25, &[HASH]);
        for (number, part) in parts.iter().enumerate() {
            let at = PAGE * (2 + number);
            set(at + 16, &long(if number + 1 == parts.len() { 0 } else { 3 + number }));
            set(at + 22, &short(part.len()));
            set(at + 25, &[OVERFLOW]);
            set(at + HEAD_BYTES, part);
        }
        file
    }

    #[test]
    fn headers_are_packages_in_either_byte_order() {
        let (bash, mut kernel) = (header("bash", "4.4", "20.el8", None), header("kernel", "4.18", "348.el8", Some(1)));
        // More than a header needs is no harm, and makes it long.
        kernel.extend(vec![7; 1500]);
        let centos = Distribution { id: "centos".to_owned(), version: "8".to_owned() };
        for big in [false, true] {
            let headers = blobs(&made(big, &bash, &kernel)).expect("read");
            assert_eq!(headers, [bash.clone(), kernel.clone()]);
            let found: Vec<String> = headers.iter().filter_map(|header| rpm::package(header, &centos)).map(|package| package.purl).collect();
            assert_eq!(
                found,
                ["pkg:rpm/centos/bash@4.4-20.el8?arch=x86_64&distro=centos-8", "pkg:rpm/centos/kernel@4.18-348.el8?arch=x86_64&distro=centos-8&epoch=1"]
            );
        }
    }

    #[test]
    fn damage_is_an_error_and_never_a_circle() {
        for bytes in [&b""[..], &[0; 512], b"not a database at all, and long enough to be looked at twice"] {
            assert_eq!(blobs(bytes).expect_err("nothing"), "it is not a hash database of Berkeley DB");
        }
        for cut in (0..DATABASE.len()).step_by(97) {
            let _ = blobs(&DATABASE[..cut]);
        }
        for bits in [0xff, 1, 0x80] {
            for place in 0..DATABASE.len() {
                let mut bytes = DATABASE.to_vec();
                bytes[place] ^= bits;
                let read = blobs(&bytes).map_or(0, |rows| rows.iter().map(Vec::len).sum());
                assert!(read <= 2 * DATABASE.len(), "{place}: {read} bytes out of {}", DATABASE.len());
            }
        }
        // A chain that leads back to its own beginning.
        let mut circle = made(false, b"small", &[9; 1500]);
        circle[PAGE * 4 + 16] = 2;
        assert_eq!(blobs(&circle).expect_err("no end"), "the database is damaged");
        let mut encrypted = made(false, b"small", b"large");
        encrypted[24] = 1;
        assert_eq!(blobs(&encrypted).expect_err("cannot be read"), "the database is encrypted");
    }
}
