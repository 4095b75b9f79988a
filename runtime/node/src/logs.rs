//! Reading containers' logs: files in the CRI format, rotated by their monitors, followed as they grow.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use inotify::{Inotify, WatchMask};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::NodeError;

/// Which part of a container's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The container's name.
    pub container: String,
    /// Go on as lines come, until the container ends.
    pub follow: bool,
    /// The last so many lines.
    pub tail_lines: Option<u64>,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<i64>,
    /// Only lines since then.
    pub since_time: Option<Timestamp>,
    /// The container's life before its last restart.
    pub previous: bool,
    /// Each line opens with its RFC 3339 time and a space.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
}

/// The bytes of a log as they come.
pub type LogStream = BoxStream<'static, Result<Bytes, NodeError>>;

const BLOCK: usize = 64 * 1024;
/// Blocks read ahead of the reader.
const AHEAD: usize = 8;
/// Without inotify, a followed file is looked at so often.
const LOOK: Duration = Duration::from_millis(200);
/// Of the last lines in a termination message.
const MOST_LAST_LINES: usize = 80;
const MOST_LAST_BYTES: usize = 2048;

/// A log to be read.
pub(crate) struct Log {
    /// The newest file; the rotated ones are beside it, `.1` the one before.
    pub path: PathBuf,
    pub options: LogOptions,
}

impl Log {
    /// The bytes; `ended` says whether the container is over. It is asked before each last look, so that no line is lost.
    pub(crate) fn stream(self, ended: impl Fn() -> bool + Send + 'static) -> LogStream {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let container = self.options.container.clone();
        // A thread of its own: reading blocks, and a reader who is slow must not hold up others.
        let thread = std::thread::Builder::new().name("strake-log".to_owned()).spawn(move || {
            let mut output = Output { sender, left: self.options.limit_bytes };
            if let Err(Stop::Failed(source)) = self.copy(&mut output, &ended) {
                let _ = output.sender.blocking_send(Err(NodeError::Stream { container: self.options.container.clone(), source }));
            }
        });
        match thread {
            Ok(_) => futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) }).boxed(),
            Err(source) => futures::stream::once(async move { Err(NodeError::Stream { container, source }) }).boxed(),
        }
    }

    fn copy(&self, output: &mut Output, ended: &impl Fn() -> bool) -> Result<(), Stop> {
        let since = since(&self.options, Timestamp::now());
        let mut writer = Formatter { since, timestamps: self.options.timestamps, mid_line: false, rest: Vec::new() };
        let mut files = open_all(&self.path)?;
        if let Some(lines) = self.options.tail_lines {
            seek_to_last(&mut files, lines)?;
        }
        let Some((last, older)) = files.split_last_mut() else { return Ok(()) };
        for file in older {
            drain(file, &mut writer, output)?;
        }
        drain(last, &mut writer, output)?;
        if self.options.follow {
            let last = files.pop().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            self.follow(last, &mut writer, output, ended)?;
        }
        Ok(())
    }

    fn follow(&self, mut file: File, writer: &mut Formatter, output: &mut Output, ended: &impl Fn() -> bool) -> Result<(), Stop> {
        let mut bell = Bell::new(&self.path);
        loop {
            let over = ended();
            drain(&mut file, writer, output)?;
            match open(&self.path) {
                // The file was rotated: what it still got was read above, the new one goes on.
                Ok(fresh) if fresh.metadata()?.ino() != file.metadata()?.ino() => {
                    drain(&mut file, writer, output)?;
                    file = fresh;
                    continue;
                }
                _ => {}
            }
            if over || output.sender.is_closed() {
                return Ok(());
            }
            bell.wait();
        }
    }
}

/// Why copying stopped early.
enum Stop {
    /// The reader has enough, or has gone.
    Enough,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Failed(error)
    }
}

struct Output {
    sender: mpsc::Sender<Result<Bytes, NodeError>>,
    left: Option<u64>,
}

impl Output {
    fn send(&mut self, mut bytes: Vec<u8>) -> Result<(), Stop> {
        if let Some(left) = &mut self.left {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        if !bytes.is_empty() && self.sender.blocking_send(Ok(Bytes::from(bytes))).is_err() {
            return Err(Stop::Enough);
        }
        if self.left == Some(0) { Err(Stop::Enough) } else { Ok(()) }
    }
}

/// Says when to look again: the file has grown, or some time has passed (the container may have ended without a word).
struct Bell {
    inotify: Option<Inotify>,
}

impl Bell {
    fn new(path: &Path) -> Self {
        let watched = || -> io::Result<Inotify> {
            let inotify = Inotify::init()?;
            let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
            inotify.watches().add(folder, WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO)?;
            Ok(inotify)
        };
        // The number of instances is limited: without one, the file is looked at now and then.
        Bell { inotify: watched().ok() }
    }

    fn wait(&mut self) {
        let Some(inotify) = &mut self.inotify else { return std::thread::sleep(LOOK) };
        let mut wanted = [rustix::event::PollFd::new(&*inotify, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::try_from(LOOK.as_nanos()).unwrap_or(0) };
        let rang = rustix::event::poll(&mut wanted, Some(&limit)).is_ok_and(|count| count > 0);
        if rang {
            let mut buffer = [0; 4096];
            let _ = inotify.read_events(&mut buffer);
        }
    }
}

/// Opens a log; a link in its place, put there by whomever, is refused.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits()).unwrap_or(0);
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "a log is an ordinary file")) }
}

fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// The files of a log, the oldest first.
fn open_all(path: &Path) -> io::Result<Vec<File>> {
    let mut files: Vec<File> = (1..).map_while(|number| open(&rotated(path, number)).ok()).collect();
    files.reverse();
    match open(path) {
        Ok(file) => files.push(file),
        // Between a rotation's two renames, or before the first line.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !files.is_empty() => {}
        Err(error) => return Err(error),
    }
    Ok(files)
}

/// Removes a log and its rotated files.
pub(crate) fn remove(path: &Path) {
    let _ = fs::remove_file(path);
    for number in 1.. {
        if fs::remove_file(rotated(path, number)).is_err() {
            return;
        }
    }
}

/// Puts the files' positions so that what follows is the last `lines` lines.
fn seek_to_last(files: &mut Vec<File>, lines: u64) -> io::Result<()> {
    let mut left = lines;
    for at in (0..files.len()).rev() {
        let found = seek_back(&mut files[at], left)?;
        left -= found;
        if left == 0 {
            files.drain(..at);
            return Ok(());
        }
    }
    Ok(())
}

/// Puts one file's position before its last `lines` lines (or at its beginning) and gives how many lines follow.
fn seek_back(file: &mut File, lines: u64) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(0);
    }
    let mut found = 0;
    let mut buffer = vec![0; BLOCK];
    while end > 0 {
        let size = usize::try_from(end.min(BLOCK as u64)).unwrap_or(BLOCK);
        let start = end - size as u64;
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut buffer[..size])?;
        for at in (0..size).rev().filter(|at| buffer[*at] == b'\n') {
            // A line begins after the feed that ends the one before it.
            let begins = start + at as u64 + 1;
            if begins < file.metadata()?.len() {
                found += 1;
                if found == lines {
                    file.seek(SeekFrom::Start(begins))?;
                    return Ok(found);
                }
            }
        }
        end = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(if file.metadata()?.len() > 0 { found + 1 } else { 0 })
}

fn since(options: &LogOptions, now: Timestamp) -> Option<Timestamp> {
    options.since_time.or_else(|| options.since_seconds.map(|seconds| now - jiff::SignedDuration::from_secs(seconds)))
}

fn drain(file: &mut File, writer: &mut Formatter, output: &mut Output) -> Result<(), Stop> {
    let mut buffer = vec![0; BLOCK];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        output.send(writer.push(&buffer[..read]))?;
    }
}

/// From lines of the CRI format (`time stream F|P text`) to what was printed.
struct Formatter {
    since: Option<Timestamp>,
    timestamps: bool,
    /// A partial line is being put together: no second time in its middle.
    mid_line: bool,
    /// The beginning of a line whose end wasn't read yet.
    rest: Vec<u8>,
}

impl Formatter {
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut input = std::mem::take(&mut self.rest);
        input.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(length) = input[from..].iter().position(|byte| *byte == b'\n') {
            self.line(&input[from..from + length], &mut out);
            from += length + 1;
        }
        self.rest = input.split_off(from);
        out
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(_stream), Some(tag)) = (parts.next(), parts.next(), parts.next()) else { return };
        let text = parts.next().unwrap_or_default();
        if let Some(since) = self.since
            && std::str::from_utf8(time).ok().and_then(|time| time.parse::<Timestamp>().ok()).is_some_and(|time| time < since)
        {
            return;
        }
        if self.timestamps && !self.mid_line {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        out.extend_from_slice(text);
        self.mid_line = tag.first() == Some(&b'P');
        if !self.mid_line {
            out.push(b'\n');
        }
    }
}

/// The last lines of a log, as a termination message takes them.
pub(crate) fn last_lines(path: &Path) -> Option<String> {
    let mut files = open_all(path).ok()?;
    seek_to_last(&mut files, MOST_LAST_LINES as u64).ok()?;
    let mut formatter = Formatter { since: None, timestamps: false, mid_line: false, rest: Vec::new() };
    let mut text = Vec::new();
    for mut file in files {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        text.extend(formatter.push(&bytes));
    }
    let start = text.len().saturating_sub(MOST_LAST_BYTES);
    (!text.is_empty()).then(|| String::from_utf8_lossy(&text[start..]).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn entry(second: u32, tag: char, text: &str) -> String {
        format!("2026-11-21T10:00:{second:02}.000000000Z stdout {tag} {text}\n")
    }

    async fn read(path: &Path, options: LogOptions) -> String {
        let log = Log { path: path.to_owned(), options };
        let parts: Vec<_> = log.stream(|| true).collect().await;
        parts.into_iter().map(|part| String::from_utf8(part.unwrap().to_vec()).unwrap()).collect()
    }

    fn sample() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        fs::write(rotated(&path, 2), entry(1, 'F', "one")).unwrap();
        fs::write(rotated(&path, 1), entry(2, 'F', "two") + &entry(3, 'P', "thr")).unwrap();
        fs::write(&path, entry(3, 'F', "ee") + &entry(4, 'F', "")).unwrap();
        (folder, path)
    }

    #[tokio::test]
    async fn rotated_files_are_one_log() {
        let (_folder, path) = sample();
        assert_eq!(read(&path, LogOptions::default()).await, "one\ntwo\nthree\n\n");
        assert_eq!(read(&path, LogOptions { limit_bytes: Some(6), ..LogOptions::default() }).await, "one\ntw");
        let stamped = read(&path, LogOptions { timestamps: true, tail_lines: Some(3), ..LogOptions::default() }).await;
        assert_eq!(stamped, "2026-11-21T10:00:03.000000000Z three\n2026-11-21T10:00:04.000000000Z \n");
        let since = Some("2026-11-21T10:00:03Z".parse().unwrap());
        assert_eq!(read(&path, LogOptions { since_time: since, ..LogOptions::default() }).await, "three\n\n");
        assert_eq!(last_lines(&path).unwrap(), "one\ntwo\nthree\n\n");
        remove(&path);
        assert!(!path.exists() && !rotated(&path, 1).exists() && !rotated(&path, 2).exists());
    }

    #[tokio::test]
    async fn the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let many: String = (0..5000).map(|n| entry(1, 'F', &format!("line {n} {}", "x".repeat(40)))).collect();
        fs::write(&path, many).unwrap();
        for (lines, first) in [(1, "line 4999"), (7, "line 4993"), (4999, "line 1 "), (5000, "line 0 "), (9999, "line 0 ")] {
            let text = read(&path, LogOptions { tail_lines: Some(lines), ..LogOptions::default() }).await;
            assert!(text.starts_with(first), "{lines}: {}", &text[..20]);
            assert_eq!(text.lines().count() as u64, lines.min(5000));
        }
        assert_eq!(read(&path, LogOptions { tail_lines: Some(0), ..LogOptions::default() }).await, "");
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_a_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        let parts: Vec<_> = Log { path, options: LogOptions::default() }.stream(|| true).collect().await;
        assert!(matches!(parts.as_slice(), [Err(NodeError::Stream { .. })]), "{parts:?}");
    }

    #[tokio::test]
    async fn following_sees_growth_rotation_and_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        fs::write(&path, entry(1, 'F', "first")).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&over);
        let log = Log { path: path.clone(), options: LogOptions { follow: true, ..LogOptions::default() } };
        let mut stream = log.stream(move || asked.load(Ordering::SeqCst));
        let next = async |stream: &mut LogStream| String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
        assert_eq!(next(&mut stream).await, "first\n");
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(entry(2, 'F', "second").as_bytes()).unwrap();
        assert_eq!(next(&mut stream).await, "second\n");
        fs::rename(&path, rotated(&path, 1)).unwrap();
        fs::write(&path, entry(3, 'F', "third")).unwrap();
        assert_eq!(next(&mut stream).await, "third\n");
        over.store(true, Ordering::SeqCst);
        assert!(stream.next().await.is_none());
    }
}
