//! ADD of local archives: told by content, unpacked by the store's extractor, which trusts nothing in them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use strake_store::{ExtractOptions, Limits, Links, decompress, extract};

use super::owner::Owner;
use super::source::{Selection, Source};
use crate::StepError;
use crate::tree::{Kind, Root};

const BLOCK: usize = 512;

/// Whether ADD unpacks a selection.
///
/// # Errors
/// When it cannot be opened.
pub fn is_archive(source: &Source, selection: &Selection) -> Result<bool, StepError> {
    // Opening a pipe or a device does something: they are copied as they are.
    if selection.top.kind != Kind::File {
        return Ok(false);
    }
    let file = open(source, selection)?;
    let mut header = Vec::new();
    // A stream that only looks compressed is a file like any other.
    let read = decompress(file, Limits::default()).and_then(|(_, stream)| stream.take(BLOCK as u64).read_to_end(&mut header));
    Ok(read.is_ok() && is_tar_header(&header))
}

/// Unpacks a selection into the directory `into`, which exists.
pub fn unpack(source: &Source, selection: &Selection, root: &Root, into: &Path, owner: Option<Owner>) -> Result<(), StepError> {
    let file = open(source, selection)?;
    let failed = |error: io::Error| StepError::ReadArchive { path: shown(selection), source: error };
    let (_, stream) = decompress(file, Limits::default()).map_err(failed)?;
    let options = ExtractOptions {
        destination: into.to_owned(),
        chown: owner.map(|owner| (owner.uid, owner.gid)),
        links: Links::WithinRoot,
        ..ExtractOptions::default()
    };
    extract(stream, root.fd(), &options).map(drop).map_err(|error| StepError::Unpack { path: shown(selection), source: error })
}

fn shown(selection: &Selection) -> String {
    selection.top.path.display().to_string()
}

fn open(source: &Source, selection: &Selection) -> Result<File, StepError> {
    source.root.open_file(&selection.top.path).map_err(|error| StepError::ReadArchive { path: shown(selection), source: error })
}

/// A tar has no magic that all writers agree on, but each header carries its own checksum.
fn is_tar_header(block: &[u8]) -> bool {
    if block.len() < BLOCK || block.iter().all(|byte| *byte == 0) {
        return false;
    }
    let text = String::from_utf8_lossy(&block[148..156]);
    let Ok(expected) = u64::from_str_radix(text.trim_matches(|c: char| c == ' ' || c == '\0'), 8) else { return false };
    let sum: u64 = block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum();
    sum == expected
}

#[cfg(test)]
mod tests {
    use super::is_tar_header;

    #[test]
    fn tars_are_known_by_their_checksum() {
        let mut header = tar_header();
        assert!(is_tar_header(&header));
        header[0] ^= 1;
        assert!(!is_tar_header(&header));
        assert!(!is_tar_header(&[0; 512]));
        assert!(!is_tar_header(b"short"));
    }

    fn tar_header() -> [u8; 512] {
        let mut header = [0_u8; 512];
        header[..4].copy_from_slice(b"file");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }
}
