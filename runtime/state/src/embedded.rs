//! A state in one file. One thread writes: it takes all writes that wait, commits them together, and only then makes them readable and answers.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use crate::board::{Board, Effect, Write, decide};
use crate::{Ack, Encode, EncodeLast, Entry, Expect, Listing, Revision, State, StateError, Watch};

/// The layout of the tables below. Raise it when they change.
const FORMAT: u64 = 1;
/// Most writes that share one commit.
const GROUP: usize = 512;
/// Pages that redb keeps. Reads come from our own memory, so this only serves writing.
const CACHE_BYTES: usize = 8 << 20;

const OBJECTS: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("objects");
const FACTS: TableDefinition<&str, u64> = TableDefinition::new("facts");

struct Request {
    key: Box<str>,
    expect: Expect,
    write: Write,
    answer: oneshot::Sender<Result<Entry, StateError>>,
}

/// Objects in a file, readable in memory.
#[derive(Debug)]
pub struct Embedded {
    board: Arc<Board>,
    requests: Mutex<Option<Sender<Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    /// Opens the state in the file `path`, or makes an empty one that only its owner can read. The folder must exist.
    ///
    /// # Errors
    /// [`StateError::InUse`] when another process has it open, [`StateError::Format`] when a different version wrote it, and
    /// [`StateError::Open`] or [`StateError::Load`] when the file cannot be used.
    pub fn open(path: &Path) -> Result<Embedded, StateError> {
        let disk = Disk::open(path)?;
        let (entries, revision) = disk.load()?;
        let board = Arc::new(Board::new(entries, revision));
        let (requests, waiting) = channel();
        let mut writer = Writer { disk: Some(disk), path: path.to_owned(), board: board.clone(), doubtful: Vec::new() };
        let thread = std::thread::Builder::new().name("state-writer".to_owned()).spawn(move || writer.run(&waiting));
        let thread = thread.map_err(|source| StateError::Open { path: path.to_owned(), source: Arc::new(redb::Error::Io(source)) })?;
        Ok(Embedded { board, requests: Mutex::new(Some(requests)), writer: Mutex::new(Some(thread)) })
    }

    fn send(&self, key: &str, expect: Expect, write: Write) -> Ack {
        let (answer, answered) = oneshot::channel();
        let request = Request { key: key.into(), expect, write, answer };
        if let Some(requests) = &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            // When the writer is gone the answer's sender is dropped with the request, which reads as Closed below.
            let _ = requests.send(request);
        }
        Box::pin(async move { answered.await.unwrap_or(Err(StateError::Closed)) })
    }

    /// Commits what waits, ends every watch and closes the file. Later writes fail with [`StateError::Closed`]; reads still answer.
    pub fn close(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
            && writer.join().is_err()
        {
            tracing::error!("the thread that writes the state panicked");
        }
        self.board.close();
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

impl State for Embedded {
    fn revision(&self) -> Revision {
        self.board.revision()
    }

    fn get(&self, key: &str) -> Option<Entry> {
        self.board.get(key)
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Listing {
        self.board.list(prefix, after, limit)
    }

    fn put_if(&self, key: &str, expect: Expect, encode: Encode) -> Ack {
        self.send(key, expect, Write::Put(encode))
    }

    fn delete_if(&self, key: &str, expect: Expect, encode: EncodeLast) -> Ack {
        self.send(key, expect, Write::Delete(encode))
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StateError> {
        self.board.watch(prefix, after)
    }
}

struct Writer {
    /// `None` after a failed commit, until the file opens again.
    disk: Option<Disk>,
    path: PathBuf,
    board: Arc<Board>,
    /// Effects of failed commits, of which it is not known whether they reached the disk; the next commit takes them back.
    doubtful: Vec<Effect>,
}

impl Writer {
    fn run(&mut self, waiting: &Receiver<Request>) {
        while let Ok(first) = waiting.recv() {
            let group: Vec<Request> = std::iter::once(first).chain(waiting.try_iter()).take(GROUP).collect();
            self.write(group);
        }
    }

    /// Decides each request in turn, each seeing the ones before it, and commits them as one.
    fn write(&mut self, group: Vec<Request>) {
        let mut effects: Vec<Effect> = Vec::with_capacity(group.len());
        let mut answers = Vec::with_capacity(group.len());
        let mut written: HashMap<Box<str>, Option<Entry>> = HashMap::new();
        let mut next = self.board.revision();
        for Request { key, expect, write, answer } in group {
            let current = written.get(&key).cloned().unwrap_or_else(|| self.board.get(&key));
            let result = decide(&key, current.as_ref(), expect, write, Revision(next.0 + 1)).map(|effect| {
                next = effect.entry.revision;
                let entry = effect.entry.clone();
                written.insert(key, (!effect.removed).then(|| entry.clone()));
                effects.push(effect);
                entry
            });
            answers.push((answer, result));
        }
        let committed = if effects.is_empty() { Ok(()) } else { self.commit(&effects) };
        match committed {
            Ok(()) => {
                self.board.apply(&effects);
                for (answer, result) in answers {
                    // A writer that no longer waits has no use for the answer.
                    let _ = answer.send(result);
                }
                self.board.publish(effects);
            }
            Err(error) => {
                tracing::error!(%error, source = std::error::Error::source(&error).map(tracing::field::display), "a group of writes failed");
                self.disk = None;
                self.doubtful.append(&mut effects);
                for (answer, _) in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn commit(&mut self, effects: &[Effect]) -> Result<(), StateError> {
        let disk = match self.disk.take() {
            Some(disk) => disk,
            None => Disk::open(&self.path)?,
        };
        let outcome = disk.commit(&self.doubtful, effects);
        self.disk = Some(disk);
        outcome.map_err(|source| StateError::Commit { path: self.path.clone(), source: Arc::new(source) })?;
        self.doubtful.clear();
        Ok(())
    }
}

struct Disk {
    path: PathBuf,
    database: Database,
}

impl Disk {
    /// Opens the file, or makes one. A new one gets its name when it is whole and on the disk: a kill in between must not leave a half that nobody can open.
    fn open(path: &Path) -> Result<Disk, StateError> {
        // Nothing was ever in an empty one.
        if std::fs::metadata(path).is_ok_and(|found| found.len() > 0) {
            return Disk::open_file(path);
        }
        let failed = |source| StateError::Open { path: path.to_owned(), source: Arc::new(redb::Error::Io(source)) };
        let beside = PathBuf::from([path.as_os_str(), OsStr::new(".new")].into_iter().collect::<OsString>());
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let made = Disk::open_file(&beside).and_then(|disk| disk.mark().map_err(|source| StateError::Open { path: path.to_owned(), source: Arc::new(source) }));
        let moved = made.and_then(|()| std::fs::rename(&beside, path).and_then(|()| sync_folder(path)).map_err(failed));
        if moved.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        moved?;
        Disk::open_file(path)
    }

    fn open_file(path: &Path) -> Result<Disk, StateError> {
        let failed = |source: redb::Error| StateError::Open { path: path.to_owned(), source: Arc::new(source) };
        let file = open_private(path).map_err(|source| failed(redb::Error::Io(source)))?;
        // The whole file is read anyway: what it holds is held against its checksums, so that a damaged disk is noticed and not served.
        let database = FileBackend::new(file)
            .and_then(|backend| Database::builder().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).create_with_backend(backend));
        let database = database.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StateError::InUse { path: path.to_owned() },
            other => failed(other.into()),
        })?;
        Ok(Disk { path: path.to_owned(), database })
    }

    fn load(&self) -> Result<(BTreeMap<Arc<str>, Entry>, Revision), StateError> {
        let failed = |source: redb::Error| StateError::Load { path: self.path.clone(), source: Arc::new(source) };
        let facts = self.facts().map_err(failed)?;
        match facts.get("format").copied() {
            None => self.mark().map_err(failed)?,
            Some(FORMAT) => {}
            Some(found) => return Err(StateError::Format { path: self.path.clone(), found, supported: FORMAT }),
        }
        let entries = self.objects().map_err(failed)?;
        let newest = entries.values().map(|entry| entry.revision).max().unwrap_or_default();
        let revision = facts.get("revision").copied().map_or(newest, |stored| newest.max(Revision(stored)));
        Ok((entries, revision))
    }

    fn facts(&self) -> Result<HashMap<String, u64>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(FACTS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(HashMap::new()),
            Err(error) => return Err(error.into()),
        };
        let mut facts = HashMap::new();
        for row in table.iter()? {
            let (name, value) = row?;
            facts.insert(name.value().to_owned(), value.value());
        }
        Ok(facts)
    }

    /// Makes the tables of a new file and writes down their format.
    fn mark(&self) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        write.open_table(FACTS)?.insert("format", FORMAT)?;
        write.open_table(OBJECTS)?;
        write.commit()?;
        Ok(())
    }

    fn objects(&self) -> Result<BTreeMap<Arc<str>, Entry>, redb::Error> {
        let table = self.database.begin_read()?.open_table(OBJECTS)?;
        let mut rows = Vec::new();
        for row in table.iter()? {
            let (key, value) = row?;
            let key: Arc<str> = Arc::from(key.value());
            let (revision, bytes) = value.value();
            rows.push((key.clone(), Entry { key, revision: Revision(revision), value: Bytes::copy_from_slice(bytes) }));
        }
        Ok(rows.into_iter().collect())
    }

    fn commit(&self, undo: &[Effect], effects: &[Effect]) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let mut objects = write.open_table(OBJECTS)?;
            for effect in undo.iter().rev() {
                match &effect.previous {
                    Some(entry) => objects.insert(&*entry.key, (entry.revision.0, &*entry.value))?,
                    None => objects.remove(&*effect.entry.key)?,
                };
            }
            for Effect { entry, removed, .. } in effects {
                match removed {
                    true => objects.remove(&*entry.key)?,
                    false => objects.insert(&*entry.key, (entry.revision.0, &*entry.value))?,
                };
            }
            if let Some(last) = effects.last() {
                write.open_table(FACTS)?.insert("revision", last.entry.revision.0)?;
            }
        }
        write.commit()?;
        Ok(())
    }
}

/// Makes a name that was just given in the file's folder survive a loss of power.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn open_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
