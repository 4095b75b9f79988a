//! Headers of an rpm database: a table of tags, then their values (rpm's "RPM package file format", without its magic).

use super::super::purl::package_purl;
use super::{Distribution, Package};

/// Gives the headers of a database's bytes, or says why it cannot.
pub(super) type Database = fn(&[u8]) -> Result<Vec<Vec<u8>>, String>;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
const INT32: u32 = 4;
const ENTRY_BYTES: usize = 16;

/// A number of four bytes, the greatest first.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Type and value of a tag.
fn value(header: &[u8], wanted: u32) -> Option<(u32, &[u8])> {
    let count = (word(header, 0)? as usize).min(header.len() / ENTRY_BYTES);
    let data = count.checked_mul(ENTRY_BYTES)?.checked_add(8)?;
    let entry = (0..count).map(|number| 8 + number * ENTRY_BYTES).find(|at| word(header, *at) == Some(wanted))?;
    let (kind, offset) = (word(header, entry + 4)?, word(header, entry + 8)? as usize);
    Some((kind, header.get(data.checked_add(offset)?..)?))
}

fn text(header: &[u8], tag: u32) -> String {
    let bytes = value(header, tag).map_or(&[][..], |(_, bytes)| bytes);
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// The package that a header describes; keys of signers are kept as packages too, but are none.
pub(super) fn package(header: &[u8], distribution: &Distribution) -> Option<Package> {
    let (name, number, release) = (text(header, NAME), text(header, VERSION), text(header, RELEASE));
    if name.is_empty() || number.is_empty() || name == "gpg-pubkey" {
        return None;
    }
    let version = if release.is_empty() { number } else { format!("{number}-{release}") };
    let epoch =
        value(header, EPOCH).filter(|(kind, _)| *kind == INT32).and_then(|(_, bytes)| word(bytes, 0)).map(|epoch| epoch.to_string()).unwrap_or_default();
    let qualifiers = [("arch", text(header, ARCH)), ("distro", distribution.qualifier()), ("epoch", epoch)];
    let qualifiers: Vec<(&str, &str)> = qualifiers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let purl = package_purl("rpm", &[&distribution.id], &name, &version, &qualifiers);
    Some(Package { name, version, purl, license: text(header, LICENSE), supplier: text(header, VENDOR) })
}

#[cfg(test)]
pub(super) mod tests {
    use super::{ARCH, Distribution, EPOCH, INT32, NAME, RELEASE, VERSION, package};

    /// A header with these texts, and an epoch.
    pub fn header(name: &str, version: &str, release: &str, epoch: Option<u32>) -> Vec<u8> {
        let (mut table, mut data) = (Vec::new(), Vec::new());
        let mut tags: Vec<(u32, u32, Vec<u8>)> = [(NAME, name), (VERSION, version), (RELEASE, release), (ARCH, "x86_64")]
            .iter()
            .map(|(tag, text)| (*tag, 6, [text.as_bytes(), &[0]].concat()))
            .collect();
        tags.extend(epoch.map(|epoch| (EPOCH, INT32, epoch.to_be_bytes().to_vec())));
        for (tag, kind, bytes) in &tags {
            for word in [*tag, *kind, data.len() as u32, 1] {
                table.extend(word.to_be_bytes());
            }
            data.extend(bytes);
        }
        [(tags.len() as u32).to_be_bytes().to_vec(), (data.len() as u32).to_be_bytes().to_vec(), table, data].concat()
    }

    #[test]
    fn headers_become_packages_and_damaged_ones_do_not() {
        let fedora = Distribution { id: "fedora".to_owned(), version: "41".to_owned() };
        let bash = header("bash", "5.2", "1.fc41", Some(2));
        let found = package(&bash, &fedora).expect("a package");
        assert_eq!(found.purl, "pkg:rpm/fedora/bash@5.2-1.fc41?arch=x86_64&distro=fedora-41&epoch=2");
        assert_eq!(package(&header("gpg-pubkey", "1", "1", None), &fedora), None);
        for cut in 0..bash.len() {
            // Whatever is cut off, it ends well.
            let _ = package(&bash[..cut], &fedora);
        }
        assert_eq!(package(&[0xff; 64], &fedora), None);
    }
}
