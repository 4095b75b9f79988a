//! One tar entry as bytes: a ustar header, with a PAX header before it where ustar has no room.

use std::io::{self, Write};

use tar::{EntryType, Header};

/// Size of a tar block.
pub(crate) const BLOCK: usize = 512;
/// Largest number in a 7-digit octal field.
const MAX_OCTAL_7: u64 = 0o7_777_777;
/// Largest number in an 11-digit octal field.
const MAX_OCTAL_11: u64 = 0o77_777_777_777;
/// Longest name or link target of a plain header.
const MAX_NAME: usize = 100;

/// What one entry says, content apart.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Relative to the root; a directory's ends in `/`.
    pub path: Vec<u8>,
    pub kind: EntryType,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Length of the content that follows.
    pub size_bytes: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Target of a hard or symbolic link.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// An entry without content, link, device or attributes.
    pub(crate) fn new(path: Vec<u8>, kind: EntryType, mode: u32, owner: (u32, u32), mtime: i64) -> Self {
        Entry { path, kind, mode, uid: owner.0, gid: owner.1, size_bytes: 0, mtime, link: Vec::new(), device: (0, 0), xattrs: Vec::new() }
    }

    /// Writes the header blocks.
    pub(crate) fn write_header(&self, out: &mut impl Write) -> io::Result<()> {
        let records = self.pax_records();
        if !records.is_empty() {
            let mut header = Header::new_ustar();
            set_name(&mut header, &self.pax_name());
            header.set_entry_type(EntryType::XHeader);
            header.set_mode(0o644);
            header.set_size(records.len() as u64);
            finish(&mut header, (0, 0), 0);
            out.write_all(header.as_bytes())?;
            out.write_all(&records)?;
            pad(out, records.len() as u64)?;
        }
        let mut header = Header::new_ustar();
        set_name(&mut header, &self.path);
        set_link(&mut header, &self.link);
        header.set_entry_type(self.kind);
        header.set_mode(self.mode & 0o7777);
        header.set_size(if self.size_bytes > MAX_OCTAL_11 { 0 } else { self.size_bytes });
        if matches!(self.kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(self.device.0)?;
            header.set_device_minor(self.device.1)?;
        }
        finish(&mut header, (self.uid, self.gid), self.mtime);
        out.write_all(header.as_bytes())
    }

    fn pax_name(&self) -> Vec<u8> {
        let trimmed = self.path.strip_suffix(b"/").unwrap_or(&self.path);
        let base = trimmed.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let mut name = b"PaxHeaders.0/".to_vec();
        name.extend_from_slice(&base[..base.len().min(MAX_NAME - name.len())]);
        name
    }

    /// The PAX records, in one fixed order.
    fn pax_records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        if self.path.len() > MAX_NAME {
            record(&mut records, b"path", &self.path);
        }
        if self.link.len() > MAX_NAME {
            record(&mut records, b"linkpath", &self.link);
        }
        if self.size_bytes > MAX_OCTAL_11 {
            record(&mut records, b"size", self.size_bytes.to_string().as_bytes());
        }
        if u64::from(self.uid) > MAX_OCTAL_7 {
            record(&mut records, b"uid", self.uid.to_string().as_bytes());
        }
        if u64::from(self.gid) > MAX_OCTAL_7 {
            record(&mut records, b"gid", self.gid.to_string().as_bytes());
        }
        if !(0..=MAX_OCTAL_11 as i64).contains(&self.mtime) {
            record(&mut records, b"mtime", self.mtime.to_string().as_bytes());
        }
        for (name, value) in &self.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        records
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + decimal_digits(length) {
        length = rest + decimal_digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |digits| digits as usize + 1)
}

fn fill(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

fn set_name(header: &mut Header, name: &[u8]) {
    if let Some(ustar) = header.as_ustar_mut() {
        fill(&mut ustar.name, name);
    }
}

fn set_link(header: &mut Header, link: &[u8]) {
    if let Some(ustar) = header.as_ustar_mut() {
        fill(&mut ustar.linkname, link);
    }
}

/// Owner, time and checksum: the last of them over all that was set before.
fn finish(header: &mut Header, owner: (u32, u32), mtime: i64) {
    let small = |number: u32| if u64::from(number) > MAX_OCTAL_7 { 0 } else { u64::from(number) };
    header.set_uid(small(owner.0));
    header.set_gid(small(owner.1));
    header.set_mtime(u64::try_from(mtime).ok().filter(|seconds| *seconds <= MAX_OCTAL_11).unwrap_or(0));
    header.set_cksum();
}

/// Fills the content's last block.
pub(crate) fn pad(out: &mut impl Write, size_bytes: u64) -> io::Result<()> {
    let over = (size_bytes % BLOCK as u64) as usize;
    if over == 0 { Ok(()) } else { out.write_all(&[0; BLOCK][over..]) }
}

#[cfg(test)]
mod tests {
    use super::{Entry, record};
    use std::io::Read;
    use tar::EntryType;

    #[test]
    fn a_records_length_counts_its_own_digits() {
        for size in [1, 80, 88, 89, 90, 91, 985, 986, 987, 988, 9980] {
            let mut out = Vec::new();
            record(&mut out, b"path", &vec![b'x'; size]);
            let said: usize = std::str::from_utf8(&out).unwrap().split_once(' ').unwrap().0.parse().unwrap();
            assert_eq!(said, out.len());
        }
    }

    #[test]
    fn another_reader_understands_long_names_and_attributes() {
        let mut entry = Entry::new(vec![b'n'; 150], EntryType::Regular, 0o4755, (3_000_000, 7), 1_700_000_000);
        entry.size_bytes = 3;
        entry.xattrs.push((b"user.note".to_vec(), b"a\0c=".to_vec()));
        let mut out = Vec::new();
        entry.write_header(&mut out).unwrap();
        out.extend_from_slice(b"abc");
        super::pad(&mut out, 3).unwrap();
        out.extend_from_slice(&[0; 1024]);
        let mut archive = tar::Archive::new(out.as_slice());
        let mut read = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(read.path_bytes().len(), 150);
        assert_eq!(read.header().mode().unwrap(), 0o4755);
        let pax: Vec<(String, Vec<u8>)> =
            read.pax_extensions().unwrap().unwrap().map(Result::unwrap).map(|x| (x.key().unwrap().to_owned(), x.value_bytes().to_vec())).collect();
        assert!(pax.contains(&("uid".into(), b"3000000".to_vec())));
        assert!(pax.contains(&("SCHILY.xattr.user.note".into(), b"a\0c=".to_vec())));
        let mut content = String::new();
        read.read_to_string(&mut content).unwrap();
        assert_eq!(content, "abc");
    }
}
