//! Copies that differ little from the one before: only what differs is written, and the layer before shows through below it. The layer's digest is that of
//! the whole, so nobody can tell how it was made.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;
use strake_oci::{Digest, Hasher};
use strake_plan::{Copy, CopySource, Op, StepIndex};
use strake_store::{Draft, KinLine};

use super::direct::is_number;
use super::{Selection, Source, SourceOrigin};
use crate::StepError;
use crate::cache::{Content, Decided, Reads, key};
use crate::session::Session;
use crate::tree::{Entry, Kind};

/// Copies of fewer files are made in full: that takes no time.
const FEWEST: usize = 16;
/// A variation differs in one file of so many at most: what shows through stays on disk as long as it does.
const SHARE: usize = 4;

/// Letters for the kinds of files in a record.
const DIRECTORY: u8 = b'd';
const FILE: u8 = b'f';
const LINK: u8 = b'l';
const OTHER: u8 = b'o';

/// What a copy of one directory of a context is remembered by; nothing for copies of another form.
pub(crate) fn lines(source: &Source, selections: &[Selection], contents: &[Option<Content>], decided: Decided<'_>) -> Option<Vec<KinLine>> {
    let [selection] = selections else { return None };
    let fits = source.origin == SourceOrigin::Context && selection.top.is_dir() && selection.below.len() >= FEWEST;
    if !fits || contents.len() != selection.below.len() || selection.below.iter().any(|entry| entry.links > 1 && !entry.is_dir()) {
        return None;
    }
    Some(selection.below.par_iter().zip(contents).map(|(entry, content)| line(entry, content.as_ref(), decided)).collect())
}

fn line(entry: &Entry, content: Option<&Content>, decided: Decided<'_>) -> KinLine {
    let (kind, detail): (u8, &[u8]) = match &entry.kind {
        Kind::Directory => (DIRECTORY, b""),
        Kind::File => (FILE, content.map_or(b"", |content| content.as_slice())),
        Kind::Link(text) => (LINK, text.as_encoded_bytes()),
        Kind::Fifo | Kind::CharacterDevice(_) | Kind::BlockDevice(_) | Kind::Socket => (OTHER, b""),
    };
    let mode = decided.mode.map_or(entry.mode, |change| change.apply(entry.mode, entry.is_dir()));
    let mut rest = blake3::Hasher::new();
    rest.update(&[kind, u8::from(entry.implied)]).update(&mode.to_le_bytes()).update(detail);
    let path = blake3::hash(entry.relative.as_os_str().as_encoded_bytes());
    let (path, rest) = (path.as_bytes(), rest.finalize());
    KinLine { path: std::array::from_fn(|place| path[place]), rest: std::array::from_fn(|place| rest.as_bytes()[place]), kind }
}

/// The places of what is new or differs; nothing when something is gone, has become of another kind, or when too much differs.
fn differences(before: &[KinLine], now: &[KinLine]) -> Option<Vec<usize>> {
    let known: HashMap<[u8; 16], &KinLine> = before.iter().map(|line| (line.path, line)).collect();
    let (mut places, mut found) = (Vec::new(), 0);
    for (place, line) in now.iter().enumerate() {
        match known.get(&line.path) {
            Some(same) if *same == line => found += 1,
            Some(other) if other.kind == line.kind && line.kind != OTHER => {
                found += 1;
                places.push(place);
            }
            Some(_) => return None,
            None => places.push(place),
        }
    }
    (found == before.len() && known.len() == before.len() && places.len() * SHARE <= now.len()).then_some(places)
}

/// Under what the last full copy of a step is remembered: its definition and what it stands on, without the content.
pub(crate) fn kin_key(session: &Session<'_>, index: StepIndex) -> Option<Digest> {
    let op = &session.plan.step(index).op;
    let Op::Copy(Copy { from: CopySource::Context { .. }, inline, chown, parents: false, add: None, also, .. }) = op else { return None };
    // Names are looked up in the file system that is copied onto, which a variation does not show.
    let by_number = chown.as_ref().is_none_or(|chown| is_number(&chown.0));
    if !inline.is_empty() || !also.is_empty() || !by_number {
        return None;
    }
    let mut hasher = Hasher::default();
    hasher.field(b"strake kin 1");
    hasher.field(key(op, session.source_date_epoch(), &|step| session.chain(step), Reads::ByResult { contexts: None }).as_bytes());
    Some(hasher.finish())
}

/// A layer in the making on the one that the step made before.
pub(crate) struct Variation {
    pub draft: Draft,
    /// The layer that shows through.
    pub of: Digest,
    /// What is to be written.
    pub selections: Vec<Selection>,
}

/// Begins a variation. Nothing when the step made no layer before, or it would differ too much.
pub(crate) fn begin(session: &Session<'_>, index: StepIndex, copy: &Copy) -> Result<Option<Variation>, StepError> {
    if session.plan.step(index).origin.no_cache {
        return Ok(None);
    }
    let Some(now) = session.prepared(index).lines else { return Ok(None) };
    let Some((of, before)) = kin_key(session, index).and_then(|key| session.store.kin(&key)) else { return Ok(None) };
    let Some(places) = differences(&before, &now) else { return Ok(None) };
    let selected = session.selected(index, &copy.from, &copy.sources)?;
    let [selection] = selected.as_slice() else { return Ok(None) };
    let parent = session.chain(copy.parent);
    let draft = session.store.begin_variation(&of, parent.as_ref()).map_err(|source| StepError::Store { source })?;
    Ok(draft.map(|draft| Variation { draft, of, selections: vec![only(selection, &places)] }))
}

/// Those entries, with the directories that they are in.
fn only(selection: &Selection, places: &[usize]) -> Selection {
    let wanted: HashSet<usize> = places.iter().copied().collect();
    let above: HashSet<&Path> = places.iter().flat_map(|place| selection.below[*place].relative.ancestors().skip(1)).collect();
    let entries = selection.below.iter().enumerate();
    let kept = entries.filter(|(place, entry)| wanted.contains(place) || (entry.is_dir() && above.contains(&*entry.relative)));
    Selection { name: selection.name.clone(), top: selection.top.clone(), below: kept.map(|(_, entry)| entry.clone()).collect() }
}

#[cfg(test)]
mod tests {
    use super::{FILE, OTHER, differences};
    use strake_store::KinLine;

    fn line(path: u8, rest: u8, kind: u8) -> KinLine {
        KinLine { path: [path; 16], rest: [rest; 15], kind }
    }

    #[test]
    fn only_what_is_new_or_differs_and_only_when_nothing_is_gone() {
        let before: Vec<KinLine> = (0..20).map(|number| line(number, 0, FILE)).collect();
        let changed = |change: &dyn Fn(&mut Vec<KinLine>)| {
            let mut now = before.clone();
            change(&mut now);
            differences(&before, &now)
        };
        assert_eq!(changed(&|_| {}), Some(vec![]));
        assert_eq!(changed(&|now| now[7].rest = [1; 15]), Some(vec![7]));
        assert_eq!(changed(&|now| now.insert(3, line(99, 0, OTHER))), Some(vec![3]));
        assert_eq!(
            changed(&|now| {
                now.remove(3);
            }),
            None,
            "a file that is gone"
        );
        assert_eq!(changed(&|now| now[3] = line(3, 0, OTHER)), None, "a file that is something else");
        assert_eq!(changed(&|now| now.iter_mut().take(6).for_each(|line| line.rest = [1; 15])), None, "too much");
    }
}
