//! The container's log file, in the format that kubelet and every log shipper read: `time stream tag text`.
//!
//! A line longer than 16 KiB is split: every part but the last has the tag `P`, the last `F`. Output that ends without a line feed is `P` too,
//! so that the text can be given back byte for byte.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest text in one entry.
const MAX_ENTRY_BYTES: usize = 16 * 1024;

/// Where the text came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A log file with rotation: `path` is the current file, `path.1` the one before it, and so on.
#[derive(Debug)]
pub(crate) struct LogWriter {
    path: PathBuf,
    max_bytes: u64,
    max_files: u32,
    file: Option<File>,
    size_bytes: u64,
    pending: [Vec<u8>; 2],
    entries: Vec<u8>,
    clock: Clock,
}

impl LogWriter {
    /// Opens the file for appending; a symbolic link in its place is refused. `max_bytes` 0 never rotates; `max_files` counts the current one.
    pub(crate) fn open(path: &Path, max_bytes: u64, max_files: u32) -> io::Result<Self> {
        let (file, size_bytes) = open(path)?;
        let pending = [Vec::new(), Vec::new()];
        let path = path.to_owned();
        Ok(LogWriter { path, max_bytes, max_files, file: Some(file), size_bytes, pending, entries: Vec::new(), clock: Clock::default() })
    }

    /// Takes output as it arrived at `now_ns`; whole lines are written, the rest waits. Text that the disk has no room for is lost: the
    /// container is never held up by its log.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8], now_ns: i64) {
        let mut pending = std::mem::take(&mut self.pending[stream as usize]);
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
            self.split(stream, &mut pending, &rest[..at], now_ns);
            self.entry(stream, b'F', &pending, now_ns);
            pending.clear();
            rest = &rest[at + 1..];
        }
        self.split(stream, &mut pending, rest, now_ns);
        self.pending[stream as usize] = pending;
        self.flush();
    }

    /// Writes what waits for a line feed that will not come.
    pub(crate) fn finish(&mut self, now_ns: i64) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = std::mem::take(&mut self.pending[stream as usize]);
            if !pending.is_empty() {
                self.entry(stream, b'P', &pending, now_ns);
            }
        }
        self.flush();
    }

    /// Appends to what waits, writing full parts.
    fn split(&mut self, stream: Stream, pending: &mut Vec<u8>, mut text: &[u8], now_ns: i64) {
        while pending.len() + text.len() > MAX_ENTRY_BYTES {
            let (head, tail) = text.split_at(MAX_ENTRY_BYTES - pending.len());
            pending.extend_from_slice(head);
            self.entry(stream, b'P', pending, now_ns);
            pending.clear();
            text = tail;
        }
        pending.extend_from_slice(text);
    }

    fn entry(&mut self, stream: Stream, tag: u8, text: &[u8], now_ns: i64) {
        self.clock.append(&mut self.entries, now_ns);
        self.entries.extend_from_slice(match stream {
            Stream::Stdout => b" stdout ",
            Stream::Stderr => b" stderr ",
        });
        self.entries.extend_from_slice(&[tag, b' ']);
        self.entries.extend_from_slice(text);
        self.entries.push(b'\n');
        if self.max_bytes != 0 && self.size_bytes + self.entries.len() as u64 >= self.max_bytes {
            self.flush();
            self.rotate();
        }
    }

    fn flush(&mut self) {
        if self.file.is_none() {
            // An earlier rotation could not open the new file: try again now that something is to be written.
            if let Ok((file, size_bytes)) = open(&self.path) {
                (self.file, self.size_bytes) = (Some(file), size_bytes);
            }
        }
        if let Some(file) = &mut self.file
            && file.write_all(&self.entries).is_ok()
        {
            self.size_bytes += self.entries.len() as u64;
        }
        self.entries.clear();
    }

    fn rotate(&mut self) {
        let name = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let kept = self.max_files.saturating_sub(1);
        if kept == 0 {
            let _ = fs::remove_file(&self.path);
        } else {
            for number in (1..kept).rev() {
                let _ = fs::rename(name(number), name(number + 1));
            }
            let _ = fs::rename(&self.path, name(1));
        }
        self.file = None;
        if let Ok((file, size_bytes)) = open(&self.path) {
            (self.file, self.size_bytes) = (Some(file), size_bytes);
        }
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)?;
    let size_bytes = file.metadata()?.len();
    Ok((file, size_bytes))
}

/// RFC 3339 with nanoseconds in UTC; the part up to the second is kept, since lines come in bursts.
#[derive(Debug, Default)]
struct Clock {
    second: Option<i64>,
    text: Vec<u8>,
}

impl Clock {
    fn append(&mut self, out: &mut Vec<u8>, now_ns: i64) {
        let (second, nanos) = (now_ns.div_euclid(1_000_000_000), now_ns.rem_euclid(1_000_000_000));
        if self.second != Some(second) {
            let (year, month, day) = civil(second.div_euclid(86_400));
            let of_day = second.rem_euclid(86_400);
            let (hour, minute, second_of_minute) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
            self.text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second_of_minute:02}.").into_bytes();
            self.second = Some(second);
        }
        out.extend_from_slice(&self.text);
        let mut digits = *b"000000000Z";
        let mut left = nanos;
        for digit in digits[..9].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        out.extend_from_slice(&digits);
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar: years begin in March, so that the leap day is last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_763_726_400_000_000_042; // 2025-11-21T12:00:00.000000042Z

    fn writer(dir: &tempfile::TempDir, max_bytes: u64, max_files: u32) -> (PathBuf, LogWriter) {
        let path = dir.path().join("0.log");
        (path.clone(), LogWriter::open(&path, max_bytes, max_files).unwrap())
    }

    #[test]
    fn lines_have_time_stream_and_tag() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut log) = writer(&dir, 0, 1);
        log.push(Stream::Stdout, b"one\ntw", NOON);
        log.push(Stream::Stderr, b"oops\n", NOON + 1);
        log.push(Stream::Stdout, b"o\n\nend", NOON + 2);
        log.finish(NOON + 3);
        let text = fs::read_to_string(path).unwrap();
        let expected = "2025-11-21T12:00:00.000000042Z stdout F one\n2025-11-21T12:00:00.000000043Z stderr F oops\n2025-11-21T12:00:00.000000044Z stdout F two\n\
                        2025-11-21T12:00:00.000000044Z stdout F \n2025-11-21T12:00:00.000000045Z stdout P end\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn long_lines_are_split_at_16_kib() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut log) = writer(&dir, 0, 1);
        let line = vec![b'x'; 2 * MAX_ENTRY_BYTES + 5];
        log.push(Stream::Stdout, &line[..100], NOON);
        log.push(Stream::Stdout, &line[100..], NOON);
        log.push(Stream::Stdout, b"\n", NOON);
        log.push(Stream::Stdout, &vec![b'y'; MAX_ENTRY_BYTES], NOON);
        log.push(Stream::Stdout, b"\n", NOON);
        let text = fs::read_to_string(path).unwrap();
        let parts: Vec<(&str, usize)> = text.lines().map(|line| line.splitn(4, ' ').collect::<Vec<_>>()).map(|parts| (parts[2], parts[3].len())).collect();
        assert_eq!(parts, [("P", MAX_ENTRY_BYTES), ("P", MAX_ENTRY_BYTES), ("F", 5), ("F", MAX_ENTRY_BYTES)]);
    }

    #[test]
    fn rotation_keeps_so_many_files() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut log) = writer(&dir, 100, 3);
        for number in 0..12 {
            log.push(Stream::Stdout, format!("line {number:02}\n").as_bytes(), NOON);
        }
        log.finish(NOON);
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.1", "0.log.2"]);
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let all = read("0.log.2") + &read("0.log.1") + &read("0.log");
        let lines: Vec<&str> = all.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert!(lines.len() >= 5 && lines.is_sorted() && lines.last() == Some(&"11"), "{lines:?}");
        assert!(fs::metadata(&path).unwrap().len() <= 100);
    }

    #[test]
    fn a_link_in_place_of_the_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/shadow", dir.path().join("0.log")).unwrap();
        assert!(LogWriter::open(&dir.path().join("0.log"), 0, 1).is_err());
    }

    #[test]
    fn the_calendar() {
        for (days, date) in
            [(0, (1970, 1, 1)), (-1, (1969, 12, 31)), (11_016, (2000, 2, 29)), (19_782, (2024, 2, 29)), (19_783, (2024, 3, 1)), (47_541, (2100, 3, 1))]
        {
            assert_eq!(civil(days), date);
        }
    }
}
