//! Which commit is meant, given what the repository has.

use std::collections::BTreeMap;

use semver::Version;
use strake_kinds::validate::sync::range;

use crate::{Reason, Reference, Tag, Trouble, short};

/// What a repository has: full names of references (`HEAD`, `refs/heads/main`, `refs/tags/v1`), each with its commit. A tag with a message stands for its
/// commit.
pub type Refs = BTreeMap<String, String>;

/// A commit that is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its id.
    pub commit: String,
    /// The tag that it was chosen by.
    pub tag: Option<String>,
    /// The branch that it was chosen by.
    pub branch: Option<String>,
}

impl Head {
    /// `main@0123456789ab`, `v1.2.0@0123456789ab`.
    pub fn shown(&self) -> String {
        match self.tag.as_ref().or(self.branch.as_ref()) {
            Some(name) => format!("{name}@{}", short(&self.commit)),
            None => short(&self.commit).to_owned(),
        }
    }
}

/// Chooses. The same references give the same commit, whatever was chosen before; only a tag that means something else than what it was `locked` to is
/// refused, unless this commit was `accepted`: who moves a tag changes what runs without a trace.
///
/// # Errors
/// [`Reason::ReferenceMissing`], [`Reason::NoVersionFits`], [`Reason::TagMoved`].
pub fn choose(reference: &Reference, refs: &Refs, locked: Option<&Tag>, accepted: Option<&str>) -> Result<Head, Trouble> {
    let missing = |what: &str, name: &str| {
        let prefix = if what == "tag" { "refs/tags/" } else { "refs/heads/" };
        let mut known: Vec<&str> = refs.keys().filter_map(|full| full.strip_prefix(prefix)).collect();
        let more = known.len().saturating_sub(8);
        known.truncate(8);
        let list = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Trouble::new(Reason::ReferenceMissing, format!("the repository has no {what} `{name}`: {list}{more}"))
    };
    let branch = |name: &str| refs.get(&format!("refs/heads/{name}")).map(|commit| Head { commit: commit.clone(), tag: None, branch: Some(name.to_owned()) });
    let tag = |name: &str| refs.get(&format!("refs/tags/{name}")).map(|commit| Head { commit: commit.clone(), tag: Some(name.to_owned()), branch: None });
    let head = match reference {
        Reference::Head => {
            let commit = refs.get("HEAD").ok_or_else(|| Trouble::new(Reason::ReferenceMissing, "the repository has no HEAD: nothing was pushed to it yet"))?;
            Head { commit: commit.clone(), tag: None, branch: Some("HEAD".to_owned()) }
        }
        Reference::Branch(name) => branch(name).ok_or_else(|| missing("branch", name))?,
        Reference::Tag(name) => tag(name).ok_or_else(|| missing("tag", name))?,
        Reference::Name(name) => branch(name).or_else(|| tag(name)).ok_or_else(|| missing("branch", name))?,
        Reference::Commit(commit) => Head { commit: commit.clone(), tag: None, branch: None },
        Reference::Semver(text) => highest(text, refs)?,
    };
    match (&head.tag, locked) {
        (Some(name), Some(locked)) if locked.name == *name && locked.revision != head.commit && accepted != Some(head.commit.as_str()) => {
            let (was, is) = (short(&locked.revision), short(&head.commit));
            let message = format!(
                "the tag {name} was {was} and now is {is}: a tag that moves is not followed. Make a new tag, or accept this one with `strake sync now --accept-moved-tag`"
            );
            Err(Trouble { reason: Reason::TagMoved, message, detail: head.commit.clone() })
        }
        _ => Ok(head),
    }
}

/// The highest version in a range among the tags; of equal ones (`v1.0.0`, `1.0.0`) the first name.
fn highest(text: &str, refs: &Refs) -> Result<Head, Trouble> {
    let ranges = range(text).map_err(|error| Trouble::new(Reason::InvalidSpec, format!("`{text}`: {error}")))?;
    let tags = refs.iter().filter_map(|(full, commit)| Some((full.strip_prefix("refs/tags/")?, commit)));
    let versions: Vec<(Version, &str, &String)> =
        tags.filter_map(|(name, commit)| Some((Version::parse(name.strip_prefix('v').unwrap_or(name)).ok()?, name, commit))).collect();
    let fitting = versions.iter().filter(|(version, ..)| ranges.iter().any(|range| range.matches(version)));
    let best = fitting.max_by(|(a, a_name, _), (b, b_name, _)| a.cmp(b).then(b_name.cmp(a_name)));
    let Some((_, name, commit)) = best else {
        let list: Vec<&str> = versions.iter().map(|(_, name, _)| *name).rev().take(8).collect();
        let known = if list.is_empty() { "it has no tags that are versions".to_owned() } else { format!("it has {}", list.join(", ")) };
        return Err(Trouble::new(Reason::NoVersionFits, format!("no tag of the repository is in `{text}`: {known}")));
    };
    Ok(Head { commit: (*commit).clone(), tag: Some((*name).to_owned()), branch: None })
}
