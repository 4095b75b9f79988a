//! The contract: what any back end must do. A new one adds a line to `each!`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strake_state::{Embedded, Entry, Expect, Memory, Revision, State, StateError, Watch};

/// Runs each test once per back end.
macro_rules! each {
    ($($name:ident)*) => {
        mod memory { $(#[tokio::test] async fn $name() { super::$name(std::sync::Arc::new(super::Memory::new())).await; })* }
        mod embedded { $(#[tokio::test] async fn $name() {
            let folder = tempfile::tempdir().unwrap();
            super::$name(std::sync::Arc::new(super::Embedded::open(&folder.path().join("state")).unwrap())).await;
        })* }
    };
}

each! {
    a_value_embeds_its_revision
    a_create_needs_absence
    an_update_needs_the_revision_it_read
    a_delete_shows_the_last_bytes
    keys_list_in_order_and_in_pages
    a_watch_resumes_without_holes
    a_watch_sees_only_its_prefix
    a_forgotten_or_future_revision_is_refused
    a_slow_watcher_is_closed_and_blocks_nobody
    one_of_many_racers_wins
    a_dropped_future_still_writes
}

pub async fn put(state: &dyn State, key: &str, expect: Expect, text: &str) -> Result<Entry, StateError> {
    let text = text.to_owned();
    state.put_if(key, expect, Box::new(move |revision| Bytes::from(format!("{text}@{revision}")))).await
}

async fn delete(state: &dyn State, key: &str, expect: Expect) -> Result<Entry, StateError> {
    state.delete_if(key, expect, Box::new(|revision, last| Bytes::from(format!("{} gone@{revision}", String::from_utf8_lossy(&last.value))))).await
}

async fn next(watch: &mut Watch) -> String {
    let event = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("an event comes").expect("the watch is open");
    let before = event.previous.as_ref().map_or("nothing".to_owned(), |entry| String::from_utf8_lossy(&entry.value).into_owned());
    format!("{}{} {} was {before}", if event.removed { "-" } else { "+" }, event.key, String::from_utf8_lossy(&event.value))
}

async fn a_value_embeds_its_revision(state: Arc<dyn State>) {
    assert_eq!(state.revision(), Revision(0));
    let entry = put(&*state, "a/1", Expect::Absent, "x").await.unwrap();
    assert_eq!((entry.revision, &*entry.value), (Revision(1), &b"x@1"[..]));
    assert_eq!(state.get("a/1"), Some(entry));
    assert_eq!(state.revision(), Revision(1));
    assert_eq!(state.get("a/2"), None);
}

async fn a_create_needs_absence(state: Arc<dyn State>) {
    let first = put(&*state, "a/1", Expect::Absent, "x").await.unwrap();
    match put(&*state, "a/1", Expect::Absent, "y").await {
        Err(StateError::Conflict { key, current }) => assert_eq!((key.as_str(), current), ("a/1", Some(first))),
        other => panic!("{other:?}"),
    }
    assert_eq!(state.revision(), Revision(1), "a refused write takes no number");
    delete(&*state, "a/1", Expect::Any).await.unwrap();
    assert_eq!(put(&*state, "a/1", Expect::Absent, "z").await.unwrap().revision, Revision(3));
}

async fn an_update_needs_the_revision_it_read(state: Arc<dyn State>) {
    let first = put(&*state, "a/1", Expect::Any, "x").await.unwrap();
    let second = put(&*state, "a/1", Expect::Revision(first.revision), "y").await.unwrap();
    assert!(matches!(put(&*state, "a/1", Expect::Revision(first.revision), "z").await, Err(StateError::Conflict { .. })));
    assert!(matches!(put(&*state, "a/2", Expect::Revision(first.revision), "z").await, Err(StateError::Conflict { current: None, .. })));
    assert!(matches!(delete(&*state, "a/1", Expect::Revision(first.revision)).await, Err(StateError::Conflict { .. })));
    assert_eq!(state.get("a/1"), Some(second));
}

async fn a_delete_shows_the_last_bytes(state: Arc<dyn State>) {
    let first = put(&*state, "a/1", Expect::Absent, "x").await.unwrap();
    let mut watch = state.watch("a/", first.revision).unwrap();
    let last = delete(&*state, "a/1", Expect::Revision(first.revision)).await.unwrap();
    assert_eq!((last.revision, &*last.value), (Revision(2), &b"x@1 gone@2"[..]));
    assert_eq!(state.get("a/1"), None);
    assert_eq!(next(&mut watch).await, "-a/1 x@1 gone@2 was x@1");
    assert!(matches!(delete(&*state, "a/1", Expect::Any).await, Err(StateError::Conflict { current: None, .. })));
}

async fn keys_list_in_order_and_in_pages(state: Arc<dyn State>) {
    for key in ["b/1", "a/3", "a/1", "ab/1", "a/2"] {
        put(&*state, key, Expect::Absent, key).await.unwrap();
    }
    let keys = |prefix: &str, after: Option<&str>, limit| {
        let listing = state.list(prefix, after, limit);
        assert_eq!(listing.revision, Revision(5));
        (listing.entries.iter().map(|entry| entry.key.to_string()).collect::<Vec<_>>().join(" "), listing.remaining)
    };
    assert_eq!(keys("a/", None, 0), ("a/1 a/2 a/3".to_owned(), 0));
    assert_eq!(keys("a/", None, 2), ("a/1 a/2".to_owned(), 1));
    assert_eq!(keys("a/", Some("a/2"), 2), ("a/3".to_owned(), 0));
    assert_eq!(keys("a/", Some("a/15"), 0), ("a/2 a/3".to_owned(), 0), "a page continues even where its last key has gone");
    assert_eq!(keys("", None, 0).0, "a/1 a/2 a/3 ab/1 b/1");
    assert_eq!(keys("c/", None, 0), (String::new(), 0));
}

async fn a_watch_resumes_without_holes(state: Arc<dyn State>) {
    put(&*state, "a/1", Expect::Any, "x").await.unwrap();
    put(&*state, "a/1", Expect::Any, "y").await.unwrap();
    let mut from_start = state.watch("a/", Revision(0)).unwrap();
    let mut from_one = state.watch("a/", Revision(1)).unwrap();
    let mut from_now = state.watch("a/", state.revision()).unwrap();
    put(&*state, "a/2", Expect::Any, "z").await.unwrap();
    assert_eq!(next(&mut from_start).await, "+a/1 x@1 was nothing");
    assert_eq!(next(&mut from_start).await, "+a/1 y@2 was x@1");
    assert_eq!(next(&mut from_one).await, "+a/1 y@2 was x@1");
    for watch in [&mut from_start, &mut from_one, &mut from_now] {
        assert_eq!(next(watch).await, "+a/2 z@3 was nothing");
        assert!(watch.try_next().is_none());
    }
}

async fn a_watch_sees_only_its_prefix(state: Arc<dyn State>) {
    let mut watch = state.watch("a/", Revision(0)).unwrap();
    for key in ["b/1", "ab/1", "a/1"] {
        put(&*state, key, Expect::Any, "x").await.unwrap();
    }
    assert_eq!(next(&mut watch).await, "+a/1 x@3 was nothing");
    assert!(watch.try_next().is_none());
}

async fn a_forgotten_or_future_revision_is_refused(state: Arc<dyn State>) {
    let refused = |after| matches!(state.watch("a/", after), Err(StateError::Compacted { .. }));
    assert!(refused(Revision(1)), "the future");
    let mut last = Vec::new();
    for round in 0..20 {
        let writes: Vec<_> = (0..500).map(|_| state.put_if("a/1", Expect::Any, Box::new(|_| Bytes::from_static(b"x")))).collect();
        for write in writes {
            last.push(write.await.unwrap().revision);
        }
        assert_eq!(last.len(), (round + 1) * 500);
    }
    assert!(refused(Revision(0)));
    // The last acknowledgement may come before its event is remembered: it is the one that has the last revision.
    let newest = state.revision();
    let mut watch = state.watch("a/", Revision(newest.0 - 4096)).expect("4096 events are remembered");
    while tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("an event comes").unwrap().revision < newest {}
    assert!(watch.try_next().is_none());
}

async fn a_slow_watcher_is_closed_and_blocks_nobody(state: Arc<dyn State>) {
    let mut slow = state.watch("a/", Revision(0)).unwrap();
    let mut quick = state.watch("a/", Revision(0)).unwrap();
    let mut seen = 0;
    for _ in 0..4000 {
        put(&*state, "a/1", Expect::Any, "x").await.unwrap();
        while quick.try_next().is_some() {
            seen += 1;
        }
        if slow.is_closed() {
            break;
        }
    }
    assert!(slow.is_closed());
    let mut read = 0;
    while slow.next().await.is_some() {
        read += 1;
    }
    assert!(read > 100, "what was queued can still be read: {read}");
    while seen < state.revision().0 {
        tokio::time::timeout(Duration::from_secs(60), quick.next()).await.unwrap().unwrap();
        seen += 1;
    }
}

async fn one_of_many_racers_wins(state: Arc<dyn State>) {
    let base = put(&*state, "a/1", Expect::Any, "x").await.unwrap().revision;
    let racers: Vec<_> = (0..64)
        .map(|_| {
            tokio::spawn({
                let state = state.clone();
                async move { put(&*state, "a/1", Expect::Revision(base), "y").await.is_ok() }
            })
        })
        .collect();
    let mut winners = 0;
    for racer in racers {
        winners += usize::from(racer.await.unwrap());
    }
    assert_eq!(winners, 1);
    assert_eq!(state.revision(), Revision(2));
}

async fn a_dropped_future_still_writes(state: Arc<dyn State>) {
    drop(state.put_if("a/1", Expect::Any, Box::new(|_| Bytes::from_static(b"x"))));
    put(&*state, "a/2", Expect::Any, "y").await.unwrap();
    assert!(state.get("a/1").is_some());
}
