//! PAX records, read strictly: what two readers could understand differently is refused (CVE-2025-62518 and its kin).

use super::reader::TarError;

/// What extended headers say about the next entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size_bytes: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    /// Seconds and nanoseconds.
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Major and minor version of GNU's sparse format.
    pub sparse: (Option<u64>, Option<u64>),
    pub sparse_name: Option<Vec<u8>>,
    pub sparse_size_bytes: Option<u64>,
}

impl Pax {
    /// Adds the records of one extended header.
    pub(crate) fn parse(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        while !bytes.is_empty() {
            let (key, value, rest) = split_record(bytes)?;
            self.set(key, value)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Adds the records of a global header; those that would move or resize every later entry are refused.
    pub(crate) fn parse_global(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        let mut global = Pax::default();
        global.parse(bytes)?;
        if global.path.is_some() || global.link.is_some() || global.size_bytes.is_some() || global.sparse != (None, None) {
            return Err(TarError::Extended { reason: "a global header may not set path, linkpath or size" });
        }
        self.mtime = global.mtime.or(self.mtime);
        self.uid = global.uid.or(self.uid);
        self.gid = global.gid.or(self.gid);
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        match key {
            b"path" => self.path = Some(name(value)?),
            b"linkpath" => self.link = Some(name(value)?),
            b"size" => set_once(&mut self.size_bytes, number(value)?)?,
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.major" => self.sparse.0 = Some(number(value)?),
            b"GNU.sparse.minor" => self.sparse.1 = Some(number(value)?),
            b"GNU.sparse.name" => self.sparse_name = Some(name(value)?),
            b"GNU.sparse.realsize" => set_once(&mut self.sparse_size_bytes, number(value)?)?,
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(TarError::Extended { reason: "sparse files in GNU's PAX formats before 1.0 are not supported" });
            }
            _ => {
                if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.").filter(|attribute| !attribute.is_empty()) {
                    self.xattrs.retain(|(known, _)| known != attribute);
                    self.xattrs.push((attribute.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// A size said twice differently is a trap, not an update.
fn set_once(field: &mut Option<u64>, value: u64) -> Result<(), TarError> {
    match field.replace(value) {
        Some(before) if before != value => Err(TarError::Extended { reason: "two records give different sizes" }),
        _ => Ok(()),
    }
}

type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn split_record(bytes: &[u8]) -> Result<Record<'_>, TarError> {
    let malformed = || TarError::Extended { reason: "a record is not `LENGTH KEY=VALUE` and a line feed" };
    let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or_else(malformed)?;
    let length = usize::try_from(number(&bytes[..space])?).map_err(|_| malformed())?;
    if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return Err(malformed());
    }
    let body = &bytes[space + 1..length - 1];
    let equals = body.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or_else(malformed)?;
    Ok((&body[..equals], &body[equals + 1..], &bytes[length..]))
}

fn name(value: &[u8]) -> Result<Vec<u8>, TarError> {
    if value.is_empty() || value.contains(&0) {
        return Err(TarError::Extended { reason: "a name is empty or contains a zero byte" });
    }
    Ok(value.to_vec())
}

/// Decimal digits only: no sign, no blank.
pub(crate) fn number(value: &[u8]) -> Result<u64, TarError> {
    let text = std::str::from_utf8(value).ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or(TarError::Extended { reason: "a number is not decimal" })
}

/// `[-]SECONDS[.FRACTION]`.
fn time(value: &[u8]) -> Result<(i64, u32), TarError> {
    let malformed = || TarError::Extended { reason: "a time is not decimal seconds" };
    let text = std::str::from_utf8(value).map_err(|_| malformed())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| malformed())?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    let nanos: u32 = format!("{fraction:0<9}")[..9].parse().map_err(|_| malformed())?;
    // A file's nanoseconds count forward from the second below.
    if whole.starts_with('-') && nanos > 0 { Ok((seconds - 1, 1_000_000_000 - nanos)) } else { Ok((seconds, nanos)) }
}

#[cfg(test)]
mod tests {
    use super::Pax;

    #[test]
    fn reads_times_and_refuses_traps() {
        let read = |bytes: &[u8]| {
            let mut pax = Pax::default();
            pax.parse(bytes).map(|()| pax)
        };
        assert_eq!(read(b"20 mtime=1234.56789\n").unwrap().mtime, Some((1234, 567_890_000)));
        assert_eq!(read(b"14 mtime=-1.5\n").unwrap().mtime, Some((-2, 500_000_000)));
        for trap in [
            b"10 size=1\n10 size=2\n".as_slice(),
            b"11 size=+1x\n",
            b"99 path=a\n",
            b"8 path=a\n",
            b"11 path=a\0b\n",
            b"8 =abcd\n",
            b" path=a\n",
            b"27 GNU.sparse.numblocks=100\n",
        ] {
            assert!(read(trap).is_err(), "{:?}", String::from_utf8_lossy(trap));
        }
        assert!(Pax::default().parse_global(b"11 path=a/b\n").is_err());
    }
}
