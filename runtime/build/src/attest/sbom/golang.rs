//! Programs made by Go: their modules stand in the section `.go.buildinfo` (Go's `debug/buildinfo`).

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::Package;
use super::locks::go_module;

/// What the section begins with.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Set when the texts follow in the section itself, as they do since Go 1.18.
const INLINE: u8 = 2;
const HEADER_BYTES: usize = 32;
/// What is around the list of modules, to find it by.
const MARK_BYTES: usize = 16;
/// A section longer than this is no build information.
const MAX_BYTES: u64 = 16 << 20;

/// The modules of a program; `None` when it is not one that Go made.
pub(super) fn modules(file: &File) -> Option<Vec<Package>> {
    let section = section(file, b".go.buildinfo")?;
    // It is aligned to 16 bytes, and need not stand at the beginning.
    let start = (0..section.len()).step_by(16).find(|at| section[*at..].starts_with(MAGIC))?;
    if *section.get(start + 15)? & INLINE == 0 {
        return None;
    }
    let (version, next) = counted(&section, start + HEADER_BYTES)?;
    let (list, _) = counted(&section, next)?;
    let list = list.get(MARK_BYTES..list.len().checked_sub(MARK_BYTES)?)?;
    let mut packages = listed(&String::from_utf8_lossy(list));
    let version = String::from_utf8_lossy(version);
    packages.push(go_module("stdlib", version.split(' ').next().unwrap_or_default().trim_start_matches("go")));
    Some(packages)
}

/// `mod` and `dep` lines; `=>` replaces what stood before it. A program built from a work tree has no version of its own.
fn listed(text: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        match words[..] {
            ["mod" | "dep", module, version, ..] => packages.push(go_module(module, if version == "(devel)" { "" } else { version })),
            ["=>", module, version, ..] => {
                packages.pop();
                packages.push(go_module(module, version));
            }
            _ => {}
        }
    }
    packages
}

/// Bytes behind their length.
fn counted(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (mut length, mut shift, mut next) = (0_usize, 0, at);
    loop {
        let byte = *bytes.get(next)?;
        next += 1;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
    let end = next.checked_add(length)?;
    Some((bytes.get(next..end)?, end))
}

/// A section of a 64-bit ELF program by its name.
fn section(file: &File, wanted: &[u8]) -> Option<Vec<u8>> {
    let head = read(file, 0, 64)?;
    if head.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let little = head[5] == 1;
    let number = |bytes: &[u8]| {
        bytes.iter().enumerate().fold(0_u64, |sum, (place, byte)| {
            let shift = if little { place } else { bytes.len() - 1 - place };
            sum | u64::from(*byte) << (8 * shift)
        })
    };
    let (table, size, count, names) = (number(&head[40..48]), number(&head[58..60]), number(&head[60..62]), number(&head[62..64]));
    if size < 64 || names >= count {
        return None;
    }
    let rows = read(file, table, size.checked_mul(count)?)?;
    let row = |place: u64| rows.get((place * size) as usize..((place + 1) * size) as usize);
    let place = |row: &[u8]| (number(&row[24..32]), number(&row[32..40]));
    let (offset, length) = place(row(names)?);
    let texts = read(file, offset, length)?;
    let found = (0..count).filter_map(row).find(|row| {
        let at = number(&row[..4]) as usize;
        texts.get(at..).is_some_and(|text| text.starts_with(wanted) && text.get(wanted.len()) == Some(&0))
    })?;
    let (offset, length) = place(found);
    read(file, offset, length)
}

fn read(file: &File, offset: u64, length: u64) -> Option<Vec<u8>> {
    if length > MAX_BYTES {
        return None;
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::{HEADER_BYTES, INLINE, MAGIC, modules};

    fn words(values: &[(u64, usize)]) -> Vec<u8> {
        values.iter().flat_map(|(value, width)| value.to_le_bytes()[..*width].to_vec()).collect()
    }

    /// An ELF file with a table of section names and one section.
    fn program(section: &[u8]) -> Vec<u8> {
        let names = b"\0.go.buildinfo\0";
        let (names_at, section_at) = (64_u64, 64 + names.len() as u64);
        let table = section_at + section.len() as u64;
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(40, 0);
        bytes.extend(words(&[(table, 8), (0, 4), (64, 2), (0, 2), (0, 2), (64, 2), (2, 2), (0, 2)]));
        bytes.extend_from_slice(names);
        bytes.extend_from_slice(section);
        for (name, offset, length) in [(0, names_at, names.len() as u64), (1, section_at, section.len() as u64)] {
            let mut row = words(&[(name, 4), (0, 4), (0, 8), (0, 8), (offset, 8), (length, 8)]);
            row.resize(64, 0);
            bytes.extend(row);
        }
        bytes
    }

    fn of(bytes: &[u8]) -> Option<Vec<String>> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        modules(&file).map(|found| found.into_iter().map(|package| package.purl).collect())
    }

    #[test]
    fn modules_are_read_from_programs() {
        let list = "path\texample.org/a/cmd\nmod\texample.org/a\t(devel)\t\ndep\tgithub.com/x/y\tv1.2.3\th1:z=\ndep\told.org/q\tv1.0.0\n=>\tnew.org/q\tv2.0.0\th1:y=\nbuild\t-x=y\n";
        let mut section = MAGIC.to_vec();
        section.push(8);
        section.push(INLINE);
        section.resize(HEADER_BYTES, 0);
        let list = format!("{}{list}{}", "0".repeat(16), "1".repeat(16));
        for text in ["go1.22.1 X:none", &list] {
            let length = text.len();
            section.extend(if length < 128 { vec![length as u8] } else { vec![(length & 0x7f) as u8 | 0x80, (length >> 7) as u8] });
            section.extend(text.as_bytes());
        }
        let whole = program(&section);
        let expected = ["pkg:golang/example.org/a", "pkg:golang/github.com/x/y@v1.2.3", "pkg:golang/new.org/q@v2.0.0", "pkg:golang/stdlib@1.22.1"];
        assert_eq!(of(&whole).expect("modules"), expected);
        for cut in 0..whole.len() {
            let _ = of(&whole[..cut]);
        }
        assert_eq!(of(b"#!/bin/sh\n"), None);
    }
}
