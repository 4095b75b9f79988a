//! The embedded back end's file: kill -9, two openers, other versions, a full disk.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use redb::{Database, TableDefinition};
use strake_state::{Embedded, Expect, Revision, State, StateError};

use crate::contract::put;

/// Names the file that the re-executed test binary writes to. See [`child_that_writes`].
const CHILD: &str = "STRAKE_STATE_TEST_CHILD";

fn spawn(path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "file::child_that_writes", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Not a test by itself: the body of the process that the tests below kill. Writes without end, and says each acknowledged revision.
#[test]
fn child_that_writes() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let state = Embedded::open(Path::new(&path)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for round in 0.. {
            let writes: Vec<_> = (0..20)
                .map(|slot| state.put_if(&format!("a/{slot}"), Expect::Any, Box::new(move |revision| Bytes::from(format!("{round}@{revision}")))))
                .collect();
            for write in writes {
                let entry = write.await.unwrap();
                writeln!(std::io::stdout(), "acknowledged {} {} {}", entry.key, entry.revision, String::from_utf8_lossy(&entry.value)).unwrap();
            }
        }
    });
}

#[test]
fn a_kill_while_the_file_is_made_leaves_none_or_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    for life in 0..40_u64 {
        let path = folder.path().join(life.to_string());
        let mut child = spawn(&path);
        // At another moment each time, from before it is begun until it is written to.
        while !folder.path().join(format!("{life}.new")).exists() && !path.exists() && child.try_wait().unwrap().is_none() {}
        std::thread::sleep(std::time::Duration::from_micros(life * 130));
        child.kill().unwrap();
        child.wait().unwrap();
        let state = Embedded::open(&path).unwrap_or_else(|error| panic!("life {life}: {error:?}"));
        assert!(!folder.path().join(format!("{life}.new")).exists());
        drop(state);
        // What was made empty by something else has nothing to lose.
        std::fs::File::create(&path).unwrap();
        Embedded::open(&path).unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut newest = Revision(0);
    for lives in 1..=3_u64 {
        let mut child = spawn(&path);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = std::collections::HashMap::new();
        for line in lines.map_while(Result::ok).filter(|line| line.contains("acknowledged")) {
            let mut words = line.split_whitespace().skip_while(|word| *word != "acknowledged").skip(1);
            let (key, revision, value) = (words.next().unwrap().to_owned(), words.next().unwrap().parse::<u64>().unwrap(), words.next().unwrap().to_owned());
            acknowledged.insert(key, (revision, value));
            if revision > newest.0 + 300 * lives {
                // Killed in the middle of its writes; lines that it said before are still read.
                let _ = child.kill();
            }
        }
        child.wait().unwrap();
        assert_eq!(acknowledged.len(), 20);
        let state = Embedded::open(&path).unwrap();
        for (key, (revision, value)) in acknowledged {
            let entry = state.get(&key).unwrap();
            assert!(entry.revision.0 >= revision, "{key}: {} < {revision}", entry.revision);
            assert!(entry.revision.0 > revision || *entry.value == *value.as_bytes());
            newest = newest.max(entry.revision);
        }
        assert_eq!(state.revision(), newest, "the counter goes on where it stopped");
        assert!(matches!(state.watch("", Revision(1)), Err(StateError::Compacted { .. })), "events of a former life are not invented");
    }
}

#[tokio::test]
async fn a_second_opener_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let first = Embedded::open(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = Embedded::open(&path).unwrap_err();
    assert_eq!(error.to_string(), format!("the state in {} is in use by another process", path.display()));
    first.close();
    assert!(matches!(put(&first, "a/1", Expect::Any, "x").await, Err(StateError::Closed)));
    Embedded::open(&path).unwrap();
}

#[tokio::test]
async fn a_reopened_file_holds_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let first = Embedded::open(&path).unwrap();
    put(&first, "a/1", Expect::Any, "x").await.unwrap();
    put(&first, "a/2", Expect::Any, "y").await.unwrap();
    first.delete_if("a/2", Expect::Any, Box::new(|_, last| last.value.clone())).await.unwrap();
    let (listing, revision) = (first.list("", None, 0).entries, first.revision());
    drop(first);
    let second = Embedded::open(&path).unwrap();
    assert_eq!((second.list("", None, 0).entries, second.revision()), (listing, revision));
    assert_eq!(revision, Revision(3), "the revision of a removal counts after it too");
}

#[test]
fn another_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    drop(Embedded::open(&path).unwrap());
    let database = Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(TableDefinition::<&str, u64>::new("facts")).unwrap().insert("format", 99).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = Embedded::open(&path).unwrap_err();
    assert!(matches!(error, StateError::Format { found: 99, supported: 1, .. }), "{error}");
}

#[test]
fn a_file_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    std::fs::write(&path, "not a state at all, and rather long for that matter".repeat(400)).unwrap();
    assert!(matches!(Embedded::open(&path).unwrap_err(), StateError::Open { .. }));
    assert!(matches!(Embedded::open(&folder.path().join("no/such/folder")).unwrap_err(), StateError::Open { .. }));
}

/// Fills a 3 MB tmpfs in a private mount namespace, frees room, and expects writing to go on with nothing half done.
#[test]
fn a_full_disk_fails_the_write_and_nothing_else() {
    const INSIDE: &str = "STRAKE_STATE_TEST_FULL";
    if let Some(folder) = std::env::var_os(INSIDE) {
        return fill(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=6m tmpfs \"$1\" || exit 77; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(folder.path()).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "file::a_full_disk_fails_the_write_and_nothing_else", "--nocapture"]).env(INSIDE, folder.path());
    let status = command.status();
    match status.map(|status| status.code()) {
        Ok(Some(0)) => {}
        Ok(Some(77 | 1)) | Err(_) if !rustix::process::geteuid().is_root() => eprintln!("SKIPPED: a full disk needs root, for a mount namespace"),
        other => panic!("{other:?}"),
    }
}

fn fill(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![0_u8; 2 << 20]).unwrap();
    let state = Embedded::open(&folder.join("state")).unwrap();
    runtime.block_on(async {
        let mut written = 0;
        let error = loop {
            let text = "x".repeat(100_000);
            match put(&state, &format!("a/{written:03}"), Expect::Absent, &text).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 100, "6 MB do not hold this");
        };
        assert!(matches!(error, StateError::Commit { .. }), "{error}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("No space left"), "{cause}");
        assert_eq!((state.list("a/", None, 0).entries.len(), state.revision()), (written, Revision(written as u64)), "reads go on");
        std::fs::remove_file(&ballast).unwrap();
        put(&state, "a/after", Expect::Absent, "y").await.expect("there is room again");
        let before = state.list("", None, 0).entries;
        drop(state);
        let again = Embedded::open(&folder.join("state")).unwrap();
        assert_eq!(again.list("", None, 0).entries, before, "the disk holds what memory said");
    });
}

/// Damages the file at many places, one at a time. What opens must hold what was written; what does not must say so, and never panic.
#[tokio::test]
async fn a_damaged_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let state = Embedded::open(&path).unwrap();
    for index in 0..200 {
        put(&state, &format!("a/{index:03}"), Expect::Absent, &"x".repeat(500)).await.unwrap();
    }
    let expected = state.list("", None, 0).entries;
    drop(state);
    let sound = std::fs::read(&path).unwrap();
    let (mut refused, mut opened) = (0, 0);
    for place in (0..sound.len()).step_by(sound.len() / 150) {
        let mut damaged = sound.clone();
        for byte in damaged.iter_mut().skip(place).take(16) {
            *byte ^= 0x5a;
        }
        std::fs::write(&path, &damaged).unwrap();
        match Embedded::open(&path) {
            Ok(state) => {
                assert!(state.list("", None, 0).entries == expected, "damage at {place} of {} went unnoticed", sound.len());
                opened += 1;
            }
            Err(StateError::Open { .. } | StateError::Load { .. } | StateError::Format { .. }) => refused += 1,
            Err(other) => panic!("damage at {place}: {other}"),
        }
    }
    assert!(refused > 10 && opened > 0, "{refused} refused, {opened} opened");
}
